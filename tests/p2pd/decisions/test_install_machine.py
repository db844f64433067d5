# SPDX-License-Identifier: Apache-2.0
"""Walks the table of install states, and the rules about what is never tried again."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pd.decisions.install_machine import TRANSITIONS, Event, IllegalTransitionError, quarantines, step
from signing.reasons import Reason, is_passing
from signing.report import InstallState


def test_the_good_way_leads_from_fetching_to_committed() -> None:
    state = InstallState.FETCHING
    for event in (
        Event.BYTES_ON_DISK,
        Event.DIGEST_MATCHED,
        Event.FALLBACK_HELD,
        Event.INSTALL_BEGUN,
        Event.INSTALLED,
        Event.PROVED_HEALTHY,
    ):
        state = step(state, event)
    assert state is InstallState.COMMITTED


def test_a_release_that_fails_probation_goes_back() -> None:
    state = step(InstallState.PROBATION, Event.PROVED_UNHEALTHY)
    assert step(state, Event.RESTORED) is InstallState.ROLLED_BACK


def test_a_recall_undoes_a_committed_release_but_not_one_that_went_back_already() -> None:
    assert step(InstallState.COMMITTED, Event.RECALLED) is InstallState.ROLLING_BACK
    with pytest.raises(IllegalTransitionError, match="'recalled' while 'rolled_back'"):
        step(InstallState.ROLLED_BACK, Event.RECALLED)


@given(st.sampled_from(InstallState), st.sampled_from(Event))
def test_what_is_not_in_the_table_is_refused(state: InstallState, event: Event) -> None:
    if (state, event) in TRANSITIONS:
        assert step(state, event) is TRANSITIONS[state, event]
    else:
        with pytest.raises(IllegalTransitionError):
            step(state, event)


@given(st.lists(st.sampled_from(Event), max_size=30))
def test_nothing_is_ever_committed_without_passing_every_gate(events: list[Event]) -> None:
    """Any sequence of events: probation is reached only through hash, reservation and install, in that order."""
    state, path = InstallState.FETCHING, [InstallState.FETCHING]
    for event in events:
        try:
            state = step(state, event)
        except IllegalTransitionError:
            continue
        path.append(state)
    gates = [
        InstallState.STAGED,
        InstallState.VERIFIED,
        InstallState.RESERVED,
        InstallState.INSTALLING,
        InstallState.PROBATION,
    ]
    if InstallState.COMMITTED in path:
        before = path[: path.index(InstallState.COMMITTED)]
        assert before == [InstallState.FETCHING, *gates]


@pytest.mark.parametrize("state", [state for state in InstallState if not state.is_final])
def test_every_state_that_is_not_final_has_a_way_on(state: InstallState) -> None:
    assert any(before is state for before, _ in TRANSITIONS)


@pytest.mark.parametrize("reason", [*Reason, None])
def test_a_rollback_quarantines_and_passing_failures_do_not(reason: Reason | None) -> None:
    assert quarantines(InstallState.ROLLING_BACK, reason)
    assert quarantines(InstallState.ROLLED_BACK, reason)
    assert quarantines(InstallState.FAILED, reason) is (not is_passing(reason))
    assert not quarantines(InstallState.COMMITTED, reason)
