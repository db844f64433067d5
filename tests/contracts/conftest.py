# SPDX-License-Identifier: Apache-2.0
"""Fixtures of the tests of any `Swarm`: each runs on the fake, and on libtorrent over loopback."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import count
from pathlib import Path

import pytest

from p2pd.ports import Endpoint, Swarm
from signing.devices import SegmentAuthority
from tests.contracts.swarms import HOST, OpenSwarm, open_real
from tests.fakes.fake_swarm import open_fake_swarm_network
from tests.fakes.segment import Payload, create_authority, make_payload


@pytest.fixture
def authority() -> SegmentAuthority:
    return create_authority()


@pytest.fixture
def payload(tmp_path: Path, authority: SegmentAuthority) -> Payload:
    return make_payload(tmp_path, authority)


@pytest.fixture(params=["fake", "libtorrent"])
async def open_swarm(request: pytest.FixtureRequest, authority: SegmentAuthority) -> AsyncIterator[OpenSwarm]:
    """Starts a swarm for the device of the given name."""
    if request.param == "libtorrent":
        yield lambda device: open_real(authority, device)
    else:
        ports = count(7_000)
        async with open_fake_swarm_network(pieces_per_second=1_000) as network:

            @asynccontextmanager
            async def open_fake(device: str) -> AsyncIterator[Swarm]:
                yield network.join(Endpoint(host=HOST, port=next(ports)), device)

            yield open_fake
