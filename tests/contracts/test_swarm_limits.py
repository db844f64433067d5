# SPDX-License-Identifier: Apache-2.0
"""How any `Swarm` keeps one transfer to a rate, checked on the fake and on libtorrent over loopback."""

from pathlib import Path

import pytest
import trio

from tests.contracts.swarms import OpenSwarm, endpoint, until
from tests.fakes.segment import Payload, is_complete

SECONDS = 1.0  # what the limit makes of a payload that takes a few hundredths


@pytest.mark.parametrize("whose", ["giver", "taker"])
async def test_a_transfer_is_kept_to_its_limit_until_that_is_lifted(
    open_swarm: OpenSwarm, payload: Payload, tmp_path: Path, whose: str
) -> None:
    async with (
        open_swarm("pc-1") as swarm_1,
        open_swarm("pc-2") as swarm_2,
        swarm_1.transfer(payload.put(tmp_path / "pc-1")) as giver,
        swarm_2.transfer(payload.spec(tmp_path / "pc-2")) as taker,
    ):
        rate = len(payload.data) // 10
        if whose == "giver":
            giver.limit(upload=rate, download=None)
        else:
            taker.limit(upload=None, download=rate)
        taker.connect(endpoint(swarm_1))
        await until(taker, lambda now: now.bytes_lan > 0)
        await trio.sleep(SECONDS)
        assert taker.progress().bytes_lan < len(payload.data) / 2
        giver.limit(upload=None, download=None)
        taker.limit(upload=None, download=None)
        began = trio.current_time()
        await until(taker, is_complete)
        assert trio.current_time() - began < 10 * SECONDS
