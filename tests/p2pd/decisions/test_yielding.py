# SPDX-License-Identifier: Apache-2.0
"""A patch leaves the link to people, and fills it when there are none: on a simulated bottleneck, without a clock."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from p2pd.decisions.yielding import LEAST_RATE, SEGMENT_WINDOW, Sample, Stance, Yielding
from tests.simulator.bottleneck import Bbr, Cubic, Link, Patch, delivered_between

RATE = 6.25e6  # 50 Mbit/s
BASES = [0.002, 0.04]
PEOPLE = [Cubic, Bbr]


@pytest.mark.parametrize("base", BASES)
@pytest.mark.parametrize("count", [1, 3, 5])
def test_alone_the_ambassadors_of_a_site_fill_the_link(base: float, count: int) -> None:
    link = Link(RATE, base)
    patches = [Patch(link, ambassadors=count, begins=0.13 * index) for index in range(count)]
    link.flows += patches
    link.run(2)
    assert sum(delivered_between(link, patches, 16)) >= 0.95 * RATE


@pytest.mark.parametrize("base", BASES)
@pytest.mark.parametrize("person_class", PEOPLE)
@pytest.mark.parametrize("count", [1, 3])
def test_a_person_keeps_nine_tenths(base: float, person_class: type[Cubic | Bbr], count: int) -> None:
    alone = Link(RATE, base)
    alone.flows.append(person_class())
    (expected,) = delivered_between(alone, alone.flows, 15)

    link = Link(RATE, base)
    person = person_class(begins=5)
    link.flows += [*(Patch(link, ambassadors=count, begins=0.13 * index) for index in range(count)), person]
    link.run(5)
    (kept,) = delivered_between(link, [person], 15)
    assert kept >= 0.9 * expected


@pytest.mark.parametrize("base", BASES)
@pytest.mark.parametrize("person_class", PEOPLE)
@pytest.mark.parametrize("count", [1, 3])
def test_a_person_who_was_there_first_keeps_nine_tenths(
    base: float, person_class: type[Cubic | Bbr], count: int
) -> None:
    link = Link(RATE, base)
    person = person_class()
    link.flows += [person, *(Patch(link, ambassadors=count, begins=5 + 0.13 * index) for index in range(count))]
    link.run(5)
    (while_found_out,) = delivered_between(link, [person], 3)
    (afterwards,) = delivered_between(link, [person], 12)
    assert afterwards >= 0.9 * RATE
    assert 3 * while_found_out + 12 * afterwards >= 0.85 * 15 * RATE


@pytest.mark.parametrize("base", BASES)
@pytest.mark.parametrize("person_class", PEOPLE)
def test_the_link_is_taken_again_when_the_person_is_gone(base: float, person_class: type[Cubic | Bbr]) -> None:
    link = Link(RATE, base)
    patch = Patch(link)
    link.flows += [patch, person_class(begins=3, ends=13)]
    link.run(8)
    assert patch.yielding.stance is Stance.YIELDING
    link.run(14)
    (rate,) = delivered_between(link, [patch], 5)
    assert rate >= 0.95 * RATE


def test_a_queue_that_is_taken_for_the_base_is_found_out_by_breathing() -> None:
    link = Link(RATE, 0.002)
    person, patch = Bbr(), Patch(link, begins=5, knows_base=False)
    link.flows += [person, patch]
    link.run(8)
    assert patch.yielding.stance is Stance.YIELDING
    (kept,) = delivered_between(link, [person], 12)
    assert kept >= 0.9 * RATE


samples = st.lists(
    st.tuples(
        st.floats(0.001, 3.0),
        st.none() | st.floats(1e-6, 5.0),
        st.integers(0, 10**8),
        st.integers(1, 64),
    ),
    min_size=1,
    max_size=120,
)


@given(samples, st.floats(1e-6, 1.0), st.integers(1, 5), st.floats(0, 2e9))
@settings(max_examples=60, deadline=None)
def test_whatever_is_measured_it_goes_on_within_bounds(
    measured: list[tuple[float, float | None, int, int]], base: float, ambassadors: int, unix: float
) -> None:
    yielding, now = Yielding(base=base, unix=unix), 100.0
    for seconds, round_trip, received, connections in measured:
        now += seconds
        sample = Sample(now=now, unix=unix + now, round_trip=round_trip, received=received, connections=connections)
        pace = yielding.observe(sample, ambassadors=ambassadors)
        assert pace.window >= connections * SEGMENT_WINDOW
        if yielding.stance is Stance.YIELDING:
            assert pace.rate is not None
            assert pace.rate >= LEAST_RATE
            assert pace.window == connections * SEGMENT_WINDOW
        else:
            assert pace.rate in (None, 0.0)


def test_after_a_rest_nobody_is_known_to_want_the_link() -> None:
    link = Link(RATE, 0.002)
    patch = Patch(link)
    link.flows += [patch, Cubic(begins=3)]
    link.run(8)
    stances = [patch.yielding.stance]
    patch.yielding.begin_anew()
    stances.append(patch.yielding.stance)
    assert stances == [Stance.YIELDING, Stance.FILLING]


@pytest.mark.parametrize("ambassadors", [1, 4])
def test_the_floor_is_one_for_the_whole_site(ambassadors: int) -> None:
    link = Link(RATE, 0.002)
    patch = Patch(link, ambassadors=ambassadors)
    link.flows += [patch, Cubic(begins=3)]
    link.run(8)
    rate = patch.paces[-1].rate
    assert rate is not None
    assert rate * ambassadors <= max(0.02 * RATE, ambassadors * LEAST_RATE)
