# SPDX-License-Identifier: Apache-2.0
"""What a transfer tells of the links: growth that the WAN brought, and the most that the LAN did."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pd.decisions.measuring import LEAST_SECONDS, Glance, Meter
from signing.report import Measured

NOTHING = Glance(at_site=0, here=0, from_origin=0, from_peers=0, to_peers=0, peers=frozenset())
counts = st.integers(0, 2**50)


def measured(meter: Meter) -> Measured:
    found = meter.measured(origin_round_trip=None, peer_round_trips=())
    assert found is not None
    return found


def after(meter: Meter, seconds: int, glance: Glance, per_second: dict[str, int], *, since: int = 0) -> Glance:
    """So many seconds in which everything grows at its rate."""
    for second in range(since + 1, since + seconds + 1):
        grown = {name: getattr(glance, name) + rate for name, rate in per_second.items()}
        glance = replace(glance, **grown)
        meter.take(second, glance)
    return glance


def begun() -> Meter:
    meter = Meter()
    meter.take(0, NOTHING)
    return meter


def test_a_site_is_as_fast_as_it_grows_and_an_endpoint_as_what_comes_to_it() -> None:
    meter = begun()
    after(meter, 8, NOTHING, {"at_site": 6_000, "here": 3_000, "from_origin": 2_000, "from_peers": 900, "to_peers": 70})
    assert measured(meter) == Measured(
        wan_bytes_per_s=6_000,
        intake_bytes_per_s=3_000,
        origin_bytes_per_s=2_000,
        lan_in_bytes_per_s=900,
        lan_out_bytes_per_s=70,
    )


def test_what_a_new_peer_has_did_not_come_over_the_wan_just_now() -> None:
    meter = begun()
    glance = after(meter, 4, NOTHING, {"at_site": 1_000})
    meter.take(5, replace(glance, at_site=10**9, peers=frozenset([b"rich"])))
    after(meter, 4, replace(glance, at_site=10**9, peers=frozenset([b"rich"])), {"at_site": 1_000}, since=5)
    assert measured(meter).wan_bytes_per_s == 1_000


def test_a_late_joiner_measures_the_lan_alone() -> None:
    meter = Meter()
    full = replace(NOTHING, at_site=10**6, peers=frozenset([b"full"]))
    meter.take(0, full)
    after(meter, 10, full, {"here": 10**5, "from_peers": 10**5})
    assert measured(meter) == Measured(lan_in_bytes_per_s=10**5)


def test_pauses_do_not_slow_the_wan_down_nor_the_lan() -> None:
    meter = begun()
    glance = after(meter, 4, NOTHING, {"at_site": 1_000, "from_peers": 500})
    glance = after(meter, 60, glance, {}, since=4)
    after(meter, 4, glance, {"at_site": 1_000}, since=64)
    assert (measured(meter).wan_bytes_per_s, measured(meter).lan_in_bytes_per_s) == (1_000, 500)


@pytest.mark.parametrize(("seconds", "rate"), [(int(LEAST_SECONDS) - 1, None), (int(LEAST_SECONDS), 1_000)])
def test_a_moment_is_no_rate(seconds: int, rate: float | None) -> None:
    meter = begun()
    after(meter, seconds, NOTHING, {"at_site": 1_000, "from_peers": 1})
    assert measured(meter).wan_bytes_per_s == rate


def test_a_transfer_that_saw_nothing_says_nothing() -> None:
    assert Meter().measured(origin_round_trip=None, peer_round_trips=()) is None
    meter = begun()
    after(meter, 5, NOTHING, {})
    assert meter.measured(origin_round_trip=None, peer_round_trips=()) is None


def test_round_trips_are_told_by_their_middle() -> None:
    found = Meter().measured(origin_round_trip=0.02, peer_round_trips=(0.001, 0.9, 0.002))
    assert found == Measured(origin_round_trip=0.02, peer_round_trip=0.002)


@given(
    st.lists(
        st.tuples(
            st.floats(0.01, 100), st.tuples(counts, counts, counts, counts, counts), st.sets(st.binary(max_size=1))
        )
    ),
    st.none() | st.floats(-1, 1e9),
    st.lists(st.floats(-1, 1e9), max_size=4),
)
def test_whatever_is_seen_can_be_reported(
    seen: list[tuple[float, tuple[int, int, int, int, int], set[bytes]]], trip: float | None, trips: list[float]
) -> None:
    """The constructor of the report checks every bound; that nothing raises is what is tested."""
    meter, now = Meter(), 0.0
    for seconds, (at_site, here, origin, came, went), peers in seen:
        now += seconds
        meter.take(
            now,
            Glance(
                at_site=at_site, here=here, from_origin=origin, from_peers=came, to_peers=went, peers=frozenset(peers)
            ),
        )
    found = meter.measured(origin_round_trip=trip, peer_round_trips=trips)
    assert found is None or found != Measured()
