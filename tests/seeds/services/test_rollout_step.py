# SPDX-License-Identifier: Apache-2.0
"""A step turns what is published and reported into rollouts and signed schedules, and survives being cut short."""

import errno
from dataclasses import replace
from pathlib import Path

import pytest

from seeds.adapters.store import Store
from seeds.fleet import Fleet
from seeds.records import RolloutState
from seeds.services.interventions import remove_device, resume_rollout
from seeds.services.rollout_step import RolloutStep
from seeds.services.rollouts import RolloutsStalled, StepOutcome
from seeds.signers import open_online_keys
from signing.codec import decode, encode
from signing.edition_news import decode_news, news_name
from signing.errors import KeyUnavailable
from signing.reasons import Reason
from signing.report import InstallState, Measured
from signing.schedule import Schedule
from tests.seeds.fleet_kit import ONLINE, Administrator, Endpoint, build
from tests.seeds.services.conftest import SetClock


class Scene:
    """A fleet with three endpoints in Paris, and an administrator."""

    def __init__(self, fleet: Fleet, workshop: Path, store: Store, clock: SetClock) -> None:
        self.fleet = fleet
        self.store = store
        self.clock = clock
        self.workshop = workshop
        self.admin = Administrator(fleet, workshop)
        self.repository = self.admin.repository
        clock.time = self.repository.expiries()["timestamp"].timestamp() - 80_000
        self.keys = open_online_keys(fleet, self.repository, ONLINE)
        self.step = RolloutStep(store=store, repository=self.repository, keys=self.keys, clock=clock)
        self.endpoints = [Endpoint(name) for name in ("a", "b", "c")]
        with store.writing() as transaction:
            for endpoint in self.endpoints:
                transaction.put_device(endpoint.as_record())

    def say(self, endpoint: Endpoint, state: InstallState, manifest_sha256: str, reason: Reason | None = None) -> None:
        report = replace(endpoint.report(state, manifest_sha256=manifest_sha256), reason=reason)
        with self.store.writing() as transaction:
            transaction.add_report(report, enrolment=1, envelope=b"", received_at=1)

    def schedule(self, site: str = "paris") -> Schedule:
        data = self.repository.read_target("schedules", f"schedules/{site}")
        assert data is not None
        return decode(Schedule, data, where="test")

    def history(self, version: str) -> list[str]:
        """What the audit trail says about a release, oldest first."""
        with self.store.reading() as transaction:
            return [event.what for event in reversed(transaction.audit_of(f"release tzdata {version}"))]

    def halt(self) -> tuple[str, str]:
        """Release a version that fails on its canary; its digest, and the canary."""
        manifest = self.admin.release("1", 1)
        self.step()
        (canary,) = self.schedule().offers[0].drafted
        self.say(self.endpoint(canary.device), InstallState.ROLLED_BACK, manifest, Reason.HEALTH_CHECK_FAILED)
        self.step()
        assert self.schedule().offers[0].halted is Reason.ERROR_GATE
        return manifest, canary.device

    def endpoint(self, name: str) -> Endpoint:
        return next(endpoint for endpoint in self.endpoints if endpoint.name == name)


@pytest.fixture
def scene(fleet: Fleet, tmp_path: Path, store: Store, clock: SetClock) -> Scene:
    return Scene(fleet, tmp_path / "workshop", store, clock)


def test_a_site_has_a_schedule_before_there_is_any_release(scene: Scene) -> None:
    before = scene.repository.timestamp_version()
    outcome = scene.step()
    assert outcome.timestamp_version == before + 1
    assert [member.device for member in scene.schedule().members] == ["a", "b", "c"]
    assert scene.schedule().offers == ()


def test_a_release_travels_ring_by_ring_on_signed_commits(scene: Scene) -> None:
    manifest = scene.admin.release("1", 1)
    scene.step()
    (offer,) = scene.schedule().offers
    (canary,) = offer.drafted
    assert (offer.manifest_sha256, offer.open_rings, offer.halted) == (manifest, 1, None)

    scene.say(scene.endpoint(canary.device), InstallState.PROBATION, manifest)
    scene.step()
    assert scene.schedule().offers[0].open_rings == 1
    scene.say(scene.endpoint(canary.device), InstallState.COMMITTED, manifest)
    scene.step()
    assert scene.schedule().offers[0].open_rings == 2
    for endpoint in scene.endpoints:
        scene.say(endpoint, InstallState.COMMITTED, manifest)
    (rollout,) = scene.step().rollouts
    assert rollout.state is RolloutState.COMPLETE
    with scene.store.reading() as transaction:
        told = [event.what for event in transaction.audit_of("release tzdata 1")]
    assert told == ["rollout complete, 2 rings open", "rollout running, 2 rings open", "rollout running, 1 rings open"]


def test_a_failing_canary_halts_and_the_last_good_release_is_offered(scene: Scene) -> None:
    good = scene.admin.release("1", 1)
    for endpoint in scene.endpoints:
        scene.say(endpoint, InstallState.COMMITTED, good)
    scene.step()
    bad = scene.admin.release("2", 2)
    scene.step()
    (canary,) = scene.schedule().offers[0].drafted
    scene.say(scene.endpoint(canary.device), InstallState.ROLLED_BACK, bad)
    scene.step()
    newest, fallback = scene.schedule().offers
    assert (newest.version, newest.halted, newest.open_rings) == ("2", Reason.ERROR_GATE, 1)
    assert (fallback.version, fallback.halted, fallback.open_rings) == ("1", None, 2)


def test_what_endpoints_measured_is_signed_once_and_again_only_when_it_has_changed(scene: Scene) -> None:
    manifest = scene.admin.release("1", 1)
    scene.step()
    assert scene.schedule().rates is None

    def measure(wan: float) -> None:
        for endpoint in scene.endpoints:
            measured = Measured(wan_bytes_per_s=wan, intake_bytes_per_s=wan, lan_in_bytes_per_s=8e7)
            if endpoint.name == "c":
                measured = replace(measured, intake_bytes_per_s=wan / 4)
            report = replace(endpoint.report(InstallState.STAGED, manifest_sha256=manifest), measured=measured)
            with scene.store.writing() as transaction:
                transaction.add_report(report, enrolment=1, envelope=b"", received_at=1)

    measure(6e6)
    scene.step()
    first = scene.schedule()
    assert first.rates is not None
    assert first.rates.wan_bytes_per_s == pytest.approx(6e6, rel=0.2)
    assert [member.weight for member in first.members] == [1.0, 1.0, 0.25]
    measure(5.5e6)
    before = scene.repository.timestamp_version()
    scene.step()
    assert (scene.schedule(), scene.repository.timestamp_version()) == (first, before)
    measure(2e6)
    scene.step()
    changed = scene.schedule().rates
    assert changed is not None
    assert changed.wan_bytes_per_s < first.rates.wan_bytes_per_s / 2


def test_a_full_disk_of_one_endpoint_halts_nothing_and_its_success_counts(scene: Scene) -> None:
    manifest = scene.admin.release("1", 1)
    scene.step()
    (canary,) = scene.schedule().offers[0].drafted
    scene.say(scene.endpoint(canary.device), InstallState.FAILED, manifest, Reason.DISK_FULL)
    (waiting,) = scene.step().rollouts
    assert (waiting.state, waiting.reason) == (RolloutState.RUNNING, Reason.EVIDENCE_MISSING)
    scene.say(scene.endpoint(canary.device), InstallState.COMMITTED, manifest)
    scene.step()
    assert scene.schedule().offers[0].open_rings == 2


def test_a_resumed_rollout_goes_on_with_another_canary(scene: Scene) -> None:
    manifest, first = scene.halt()
    resume_rollout(scene.store, "tzdata", "1", who="alice", why="a broken disk", now=1)
    (going,) = scene.step().rollouts
    (offer,) = scene.schedule().offers
    assert (going.state, offer.halted, offer.open_rings) == (RolloutState.RUNNING, None, 1)
    (second,) = offer.drafted
    assert second.device != first

    for device in {"a", "b", "c"} - {first}:
        scene.say(scene.endpoint(device), InstallState.COMMITTED, manifest)
    (complete,) = scene.step().rollouts
    assert complete.state is RolloutState.COMPLETE
    assert scene.history("1")[1:] == [
        "rollout halted, 1 rings open",
        "rollout resumed",
        "rollout running, 1 rings open",
        "rollout complete, 2 rings open",
    ]


def test_new_failures_halt_a_resumed_rollout_again_and_a_wish_is_good_once(scene: Scene) -> None:
    manifest, _ = scene.halt()
    resume_rollout(scene.store, "tzdata", "1", who="alice", why="", now=1)
    scene.step()
    (second,) = scene.schedule().offers[0].drafted
    scene.say(scene.endpoint(second.device), InstallState.FAILED, manifest, Reason.INSTALL_FAILED)
    for _ in range(2):
        (halted,) = scene.step().rollouts
        assert halted.state is RolloutState.HALTED


def test_a_wish_that_comes_to_nothing_is_written_down(scene: Scene) -> None:
    manifest, first = scene.halt()
    resume_rollout(scene.store, "tzdata", "1", who="alice", why="", now=1)
    for device in {"a", "b", "c"} - {first}:  # before the coordinator looks
        scene.say(scene.endpoint(device), InstallState.FAILED, manifest, Reason.INSTALL_FAILED)
    scene.step()
    assert scene.history("1")[-2:] == ["rollout resumed", "rollout halted, 1 rings open"]


def test_a_recall_outweighs_a_wish_to_go_on(scene: Scene) -> None:
    scene.halt()
    resume_rollout(scene.store, "tzdata", "1", who="alice", why="", now=1)
    scene.admin.recall("1")
    (rollout,) = scene.step().rollouts
    assert rollout.state is RolloutState.WITHDRAWN


def test_a_removed_device_leaves_schedules_and_drafts(scene: Scene) -> None:
    scene.admin.release("1", 1)
    scene.step()
    (first,) = scene.schedule().offers[0].drafted
    remove_device(scene.store, first.device, who="alice", why="lost", now=1)
    scene.step()
    schedule = scene.schedule()
    assert first.device not in {member.device for member in schedule.members}
    (second,) = schedule.offers[0].drafted
    assert second.device != first.device


def test_a_site_that_lost_its_last_device_is_told_so_once(scene: Scene) -> None:
    with scene.store.writing() as transaction:
        transaction.put_device(Endpoint("d").as_record(site="rome"))
    scene.step()
    assert [member.device for member in scene.schedule("rome").members] == ["d"]
    remove_device(scene.store, "d", who="alice", why="lost", now=1)
    version = scene.step().timestamp_version
    assert scene.schedule("rome").members == ()
    scene.clock.time += 10
    assert scene.step().timestamp_version == version


def test_a_recall_withdraws(scene: Scene) -> None:
    scene.admin.release("1", 1)
    scene.step()
    scene.admin.recall("1")
    scene.step()
    (offer,) = scene.schedule().offers
    assert offer.halted is Reason.WITHDRAWN


def test_a_newer_release_supersedes_one_that_is_under_way(scene: Scene) -> None:
    scene.admin.release("1", 1)
    scene.step()
    scene.admin.release("2", 2)
    first, second = scene.step().rollouts
    assert (first.state, first.reason) == (RolloutState.SUPERSEDED, Reason.SUPERSEDED)
    assert second.state is RolloutState.RUNNING
    assert [offer.version for offer in scene.schedule().offers] == ["2"]


def test_nothing_new_publishes_nothing_until_half_of_the_schedules_life_is_gone(scene: Scene) -> None:
    version = scene.step().timestamp_version
    scene.clock.time += 43_199
    assert scene.step().timestamp_version == version
    scene.clock.time += 1
    assert scene.step().timestamp_version == version + 1
    assert scene.schedule().issued == int(scene.clock.time)


def test_a_step_cut_short_before_publishing_is_made_good_by_the_next(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene.step()
    manifest = scene.admin.release("1", 1)

    def fail(*_: object, **__: object) -> None:
        raise KeyUnavailable("the HSM is unplugged")

    with monkeypatch.context() as patch:
        patch.setattr(type(scene.repository), "put_online", fail)
        with pytest.raises(RolloutsStalled, match="unplugged"):
            scene.step()
    with scene.store.reading() as transaction:
        (kept,) = transaction.rollouts()
    assert kept.open_rings == 1
    assert scene.schedule().offers == ()

    restarted = RolloutStep(store=scene.store, repository=scene.repository, keys=scene.keys, clock=scene.clock)
    for step in (scene.step, restarted):
        outcome: StepOutcome = step()
        assert scene.schedule().offers[0].manifest_sha256 == manifest
    assert outcome.rollouts == (kept,)


def test_a_release_that_cannot_be_read_holds_up_no_other(scene: Scene) -> None:
    good = build(scene.workshop, "1", 1).manifest
    put = {
        "patches/broken/1/manifest": b"junk",
        "patches/misplaced/1/manifest": encode(good),
        good.target: encode(good),
    }
    scene.repository.stage("patches", put, now=scene.clock.now())
    scene.admin.sign("patches")
    (snapshot,), (timestamp,) = scene.admin.signers("snapshot"), scene.admin.signers("timestamp")
    scene.repository.publish(["patches"], snapshot=snapshot, timestamp=timestamp, now=scene.clock.now())
    for _ in range(2):
        (rollout,) = scene.step().rollouts
        assert (rollout.product, rollout.version) == ("tzdata", "1")


def test_without_a_policy_nothing_moves(scene: Scene) -> None:
    scene.repository.stage("policies", {}, remove=["policies/fleet"], now=scene.clock.now())
    scene.admin.sign("policies")
    scene.admin.publish("policies")
    with pytest.raises(RolloutsStalled, match="is not published"):
        scene.step()


def test_each_edition_that_is_told_has_news(scene: Scene) -> None:
    first = scene.step().timestamp_version
    scene.admin.release("1", 1)
    second = scene.step().timestamp_version
    assert second == first + 2  # the release, then its schedule
    news = decode_news((scene.fleet.repository / "metadata" / news_name(second)).read_bytes())
    roles = {name.split(".")[1] for name in news.metadata if name != "timestamp.json"}
    assert roles == {"snapshot", "patches", "schedules"}
    assert sorted(name.rpartition(".")[2] for name in news.targets) == ["manifest", "paris", "torrent"]


def test_a_disk_that_takes_no_news_stops_no_rollout(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    def is_full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "no space left on device")

    monkeypatch.setattr("signing.news_files.replace_whole", is_full)
    scene.admin.release("1", 1)
    version = scene.step().timestamp_version
    assert len(scene.schedule().offers) == 1
    path = scene.fleet.repository / "metadata" / news_name(version)
    assert not path.exists()
    monkeypatch.undo()
    scene.step()
    assert path.exists()
