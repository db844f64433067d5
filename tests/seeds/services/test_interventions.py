# SPDX-License-Identifier: Apache-2.0
"""What administrators do by hand is one audited transaction, and is refused when it makes no sense."""

from dataclasses import replace

import pytest

from seeds.adapters.store import Store
from seeds.records import Rollout, RolloutState
from seeds.services.interventions import remove_device, resume_rollout
from signing.errors import BadInput
from signing.reasons import Reason
from signing.report import InstallState
from tests.seeds.fleet_kit import Endpoint
from tests.seeds.services.conftest import NOW

HALTED = Rollout(
    manifest_sha256="1" * 64,
    product="tzdata",
    version="1",
    release_counter=1,
    segments=("office",),
    state=RolloutState.HALTED,
    open_rings=1,
    reason=Reason.ERROR_GATE,
)


def resume(store: Store, version: str = "1", *, why: str = "the lab was on fire") -> tuple[str, ...]:
    return resume_rollout(store, "tzdata", version, who="alice", why=why, now=NOW)[1]


def report(store: Store, name: str, state: InstallState, reason: Reason | None = None) -> None:
    endpoint = Endpoint(name)
    said = replace(endpoint.report(state, manifest_sha256=HALTED.manifest_sha256), reason=reason)
    with store.writing() as transaction:
        transaction.put_device(endpoint.as_record())
        transaction.add_report(said, enrolment=1, envelope=b"", received_at=NOW)


@pytest.fixture
def halted(store: Store) -> Store:
    with store.writing() as transaction:
        transaction.put_rollout(HALTED)
    return store


def test_failures_seen_so_far_are_forgiven_and_it_is_written_down(halted: Store) -> None:
    report(halted, "pc-1", InstallState.ROLLED_BACK, Reason.HEALTH_CHECK_FAILED)
    report(halted, "pc-2", InstallState.FAILED, Reason.DISK_FULL)
    report(halted, "pc-3", InstallState.COMMITTED)
    assert resume(halted) == ("pc-1",)
    with halted.reading() as transaction:
        (asked,) = transaction.resumptions()
        said = transaction.said([HALTED.manifest_sha256])[HALTED.manifest_sha256]
        (event,) = transaction.audit_of("release tzdata 1")
        assert transaction.rollouts() == (HALTED,)  # the coordinator moves it, nobody else
    assert asked.manifest_sha256 == HALTED.manifest_sha256
    assert {name: words.forgiven for name, words in said.items()} == {"pc-1": True, "pc-2": False, "pc-3": False}
    assert (event.who, event.what) == ("alice", "rollout resumed")
    assert event.detail == "the lab was on fire; forgiven: pc-1"


def test_asking_again_forgives_what_failed_meanwhile(halted: Store) -> None:
    report(halted, "pc-1", InstallState.FAILED, Reason.INSTALL_FAILED)
    assert resume(halted) == ("pc-1",)
    report(halted, "pc-2", InstallState.FAILED, Reason.INSTALL_FAILED)
    assert resume(halted, why="") == ("pc-2",)
    with halted.reading() as transaction:
        newest, _ = transaction.audit_of("release tzdata 1")
    assert newest.detail == "no reason given; forgiven: pc-2"


def test_an_audit_event_names_some_and_counts_the_rest(halted: Store) -> None:
    for number in range(25):
        report(halted, f"pc-{number:02}", InstallState.FAILED, Reason.INSTALL_FAILED)
    assert len(resume(halted)) == 25
    with halted.reading() as transaction:
        (event,) = transaction.audit_of("release tzdata 1")
    assert event.detail.endswith("pc-19 and 5 more")


@pytest.mark.parametrize(
    ("rollouts", "version", "words"),
    [
        ((HALTED,), "2", "tzdata 2: has no rollout; see `p2pctl rollout list`"),
        ((replace(HALTED, state=RolloutState.RUNNING),), "1", "tzdata 1: is running, not halted"),
        (
            (HALTED, replace(HALTED, manifest_sha256="2" * 64, version="2", release_counter=2)),
            "1",
            "tzdata 1: was replaced by 2",
        ),
    ],
)
def test_what_cannot_go_on_is_refused_and_nothing_is_written(
    store: Store, rollouts: tuple[Rollout, ...], version: str, words: str
) -> None:
    with store.writing() as transaction:
        for rollout in rollouts:
            transaction.put_rollout(rollout)
    with pytest.raises(BadInput, match=words):
        resume(store, version)
    with store.reading() as transaction:
        assert transaction.resumptions() == ()
        assert transaction.audit_of(f"release tzdata {version}") == ()


def test_a_device_is_forgotten_once(store: Store) -> None:
    report(store, "pc-1", InstallState.COMMITTED)
    assert remove_device(store, "pc-1", who="alice", why="", now=NOW).device == "pc-1"
    with pytest.raises(BadInput, match="pc-1: is no device of this fleet; see `p2pctl device list`"):
        remove_device(store, "pc-1", who="alice", why="", now=NOW)
    with store.reading() as transaction:
        (event,) = transaction.audit_of("device pc-1")
        assert transaction.said([HALTED.manifest_sha256]) == {HALTED.manifest_sha256: {}}
    assert (event.who, event.what, event.detail) == ("alice", "removed", "no reason given")
