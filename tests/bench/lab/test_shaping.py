# SPDX-License-Identifier: Apache-2.0
"""Shaping: queues as long as asked, and frames that fit them."""

from hypothesis import given
from hypothesis import strategies as st

from bench.lab.shaping import largest_frame, qdisc, queue_bytes
from bench.lab.topology import MAX_QUEUE_MS, MAX_RATE, MIN_RATE, LinkSpec

rates = st.integers(MIN_RATE, MAX_RATE)
queues = st.floats(1, MAX_QUEUE_MS)


def test_a_queue_is_as_long_as_its_milliseconds() -> None:
    assert queue_bytes(100_000_000, 50) == 625_000
    assert qdisc("eth0", 100_000_000, 50) == (
        "qdisc replace dev eth0 root tbf rate 100000000bit burst 73728 limit 625000"
    )
    assert qdisc("eth0", None, 50) == "qdisc replace dev eth0 root pfifo limit 10000"


@given(st.lists(st.builds(LinkSpec, up=rates, down=st.none() | rates, queue_ms=queues), min_size=1, max_size=5))
def test_every_queue_takes_several_of_the_largest_frames(links: list[LinkSpec]) -> None:
    frame = largest_frame(links)
    assert 16_384 <= frame <= 65_536
    for link in links:
        for rate in (link.up, link.down):
            if rate is not None:
                assert queue_bytes(rate, link.queue_ms) >= 2 * frame


def test_nothing_makes_frames_smaller_where_nothing_is_slow() -> None:
    assert largest_frame([LinkSpec(), LinkSpec(up=50_000_000, down=None)]) == 65_536
    assert largest_frame([LinkSpec(up=10_000_000, down=10_000_000)]) == 16_384
