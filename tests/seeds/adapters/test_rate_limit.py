# SPDX-License-Identifier: Apache-2.0
"""Each source has its own bucket, and no flood of sources takes more memory."""

from hypothesis import given
from hypothesis import strategies as st

from seeds.adapters.rate_limit import SourceLimiter


def test_a_burst_is_granted_and_then_a_steady_rate() -> None:
    limiter = SourceLimiter(per_second=0.5, burst=3)
    assert [limiter.wait_seconds("192.0.2.1", 0) for _ in range(4)] == [0, 0, 0, 2.0]
    assert limiter.wait_seconds("192.0.2.1", 1) == 1.0
    assert limiter.wait_seconds("192.0.2.1", 2) == 0
    assert limiter.wait_seconds("192.0.2.1", 2) > 0


def test_sources_do_not_spend_each_others_tokens() -> None:
    limiter = SourceLimiter(per_second=1, burst=1)
    assert limiter.wait_seconds("192.0.2.1", 0) == 0
    assert limiter.wait_seconds("192.0.2.2", 0) == 0


def test_one_subscribers_ipv6_addresses_are_one_source() -> None:
    limiter = SourceLimiter(per_second=1, burst=1)
    assert limiter.wait_seconds("2001:db8:1:2::1", 0) == 0
    assert limiter.wait_seconds("2001:db8:1:2:ffff::9", 0) > 0
    assert limiter.wait_seconds("2001:db8:1:3::1", 0) == 0


def test_an_ipv4_address_is_the_same_in_ipv6_clothes() -> None:
    limiter = SourceLimiter(per_second=1, burst=1)
    assert limiter.wait_seconds("192.0.2.1", 0) == 0
    assert limiter.wait_seconds("::ffff:192.0.2.1", 0) > 0


def test_the_table_forgets_the_quietest_source() -> None:
    limiter = SourceLimiter(per_second=1, burst=1, max_sources=2)
    for address in ("192.0.2.1", "192.0.2.2", "192.0.2.1", "192.0.2.3"):
        limiter.wait_seconds(address, 0)
    assert len(limiter) == 2
    assert limiter.wait_seconds("192.0.2.1", 0) > 0  # still remembered
    assert limiter.wait_seconds("192.0.2.2", 0) == 0  # forgotten, so it starts afresh


@given(st.lists(st.floats(0, 10), max_size=60))
def test_no_pattern_of_requests_gets_more_than_burst_and_rate(gaps: list[float]) -> None:
    limiter, now, granted = SourceLimiter(per_second=2, burst=5), 0.0, 0
    for gap in gaps:
        now += gap
        granted += limiter.wait_seconds("192.0.2.1", now) == 0
    assert granted <= 5 + 2 * now + 1e-6
