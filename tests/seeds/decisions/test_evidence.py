# SPDX-License-Identifier: Apache-2.0
"""Only what speaks about the release counts against it, and every device is counted once."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seeds.decisions.evidence import SILENT, Standing, failing, standing, tally
from seeds.decisions.fleet_step import settle
from seeds.records import UNDONE, Device, Rollout, RolloutState, Said
from signing.policy import Policy, Ring
from signing.reasons import PASSING, Reason
from signing.report import InstallState

anything = st.builds(
    Said, state=st.sampled_from(InstallState), reason=st.none() | st.sampled_from(Reason), forgiven=st.booleans()
)
ONE_RING = Policy(version=1, segments=("office",), rings=(Ring(name="everyone"),))
RUNNING = Rollout(
    manifest_sha256="0" * 64,
    product="tzdata",
    version="1",
    release_counter=1,
    segments=("office",),
    state=RolloutState.RUNNING,
    open_rings=1,
)
DEVICE = Device(
    device="pc-1",
    segment="office",
    site="paris",
    public_pem=b"",
    token_sha256="",
    enrolled_at=0,
    certificate_expires=0,
)


def state_after(said: Said) -> RolloutState:
    """Of a rollout to one device, when that has said `said`."""
    (rollout,) = settle(ONE_RING, (DEVICE,), (RUNNING,), {RUNNING.manifest_sha256: {"pc-1": said}}, now=0).rollouts
    return rollout.state


@pytest.mark.parametrize("reason", sorted(PASSING))
def test_passing_trouble_of_one_endpoint_halts_nothing(reason: Reason) -> None:
    said = Said(state=InstallState.FAILED, reason=reason)
    assert standing(said) is Standing.PENDING
    assert state_after(said) is RolloutState.RUNNING


@pytest.mark.parametrize("reason", [None, *sorted(set(Reason) - PASSING - {Reason.RECALLED})])
def test_any_other_failure_halts(reason: Reason | None) -> None:
    assert state_after(Said(state=InstallState.FAILED, reason=reason)) is RolloutState.HALTED


@pytest.mark.parametrize(
    "named",
    [
        "disk_full",
        "storage_failed",
        "superseded",
        "rollout_halted",
        "ring_not_open",
        "metadata_expired",
        "metadata_unreachable",
        "busy",
        "installer_unreachable",
        "origin_unreachable",
        "fallback_missing",
        "payload_missing",
    ],
)
def test_these_reasons_pass(named: str) -> None:
    assert Reason(named) in PASSING


@pytest.mark.parametrize(
    "named",
    [
        "health_check_failed",
        "install_failed",
        "rollback_failed",
        "payload_mismatch",
        "torrent_mismatch",
        "document_malformed",
    ],
)
def test_these_reasons_speak_about_the_release(named: str) -> None:
    assert Reason(named) not in PASSING


@pytest.mark.parametrize("state", [InstallState.ROLLING_BACK, InstallState.ROLLED_BACK])
def test_going_back_counts_whatever_the_reason_unless_a_recall_asked_for_it(state: InstallState) -> None:
    for reason in (None, Reason.HEALTH_CHECK_FAILED, Reason.DISK_FULL):
        assert state_after(Said(state=state, reason=reason)) is RolloutState.HALTED
    assert state_after(Said(state=state, reason=Reason.RECALLED)) is RolloutState.RUNNING


@given(said=anything)
def test_an_attempt_under_way_counts_neither_way_and_only_failures_are_forgiven(said: Said) -> None:
    place = standing(said)
    assert (place is Standing.COMMITTED) == (said.state is InstallState.COMMITTED)
    if place in (Standing.FAILED, Standing.FORGIVEN):
        assert said.state in UNDONE
        assert (place is Standing.FORGIVEN) == said.forgiven


@given(said=st.dictionaries(st.sampled_from("abcdef"), anything))
def test_every_device_is_counted_once(said: dict[str, Said]) -> None:
    counted = tally("abcdef", said)
    assert sum(words.total() for words in counted.values()) == 6
    assert counted[Standing.PENDING][SILENT] == 6 - len(said)
    assert counted[Standing.FAILED].total() == len(failing(said))


def test_the_tally_gives_the_reason_or_else_the_state() -> None:
    said = {
        "a": Said(state=InstallState.FAILED, reason=Reason.DISK_FULL),
        "b": Said(state=InstallState.FETCHING),
        "c": Said(state=InstallState.ROLLED_BACK, reason=Reason.HEALTH_CHECK_FAILED),
        "d": Said(state=InstallState.COMMITTED),
        "stranger": Said(state=InstallState.COMMITTED),
    }
    counted = tally("abcde", said)
    assert counted[Standing.PENDING] == {"disk_full": 1, "fetching": 1, SILENT: 1}
    assert counted[Standing.FAILED] == {"health_check_failed": 1}
    assert counted[Standing.COMMITTED] == {"committed": 1}
