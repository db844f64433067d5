# SPDX-License-Identifier: Apache-2.0
"""A small race of real daemons in a real lab."""

from dataclasses import dataclass
from functools import cached_property

import pytest

from bench.contenders.p2pd import P2pd
from bench.lab.network import why_not_available
from bench.lab.topology import LinkSpec, SiteSpec, Topology
from bench.race import racecourse
from bench.scenes import MB, Scene
from bench.summary import is_finished, payload_copies, summaries

PORT = LinkSpec(up=100 * MB, down=100 * MB)
PAYLOAD_BYTES = 2 * MB


@dataclass(frozen=True, kw_only=True)
class SmallScene(Scene):
    """Three hosts and the origin on one LAN."""

    @cached_property
    def topology(self) -> Topology:
        return Topology(origin=PORT, sites=(SiteSpec(name="lan", hosts=3, lan=PORT),))


@pytest.mark.root
def test_p2pd_brings_a_payload_to_three_hosts() -> None:
    reason = why_not_available()
    if reason is not None:
        pytest.skip(reason)
    seen: list[int] = []
    scene = SmallScene(name="small", what="three hosts", topology_name="", payload_bytes=PAYLOAD_BYTES)
    with racecourse(scene) as course:
        run = course.run(P2pd(), on_look=lambda _seconds, finished: seen.append(len(finished)))
    assert is_finished(run)
    assert set(run.finished) == {"lan-1", "lan-2", "lan-3"}
    assert seen == sorted(seen)
    assert seen[-1] == 3
    assert run.payload_bytes >= PAYLOAD_BYTES
    assert run.origin_payload_bytes is not None
    assert run.payload_bytes <= run.origin_payload_bytes <= 3 * run.payload_bytes
    assert run.link_bytes["origin"][0] >= run.origin_payload_bytes, "what left the origin passed its link"
    for name, cost in run.endpoints.items():
        assert run.link_bytes[name][1] >= run.payload_bytes, "whoever has it got it over its own link"
        assert cost.cpu_seconds > 0
        assert cost.peak_rss_bytes > 20 * MB
    (summary,) = summaries([run])
    assert summary.ratio.median >= 1, "nobody is faster than the link"
    assert summary.copies.median == payload_copies(run)
