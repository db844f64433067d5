# SPDX-License-Identifier: Apache-2.0
"""One step of the rollouts, in a worker thread: read what is published and reported, decide, keep, sign, publish.

Killed at any instant, the next step carries on: what was decided is in the store, and schedules are compared with
what is published, not with what was meant to be.
"""

import hashlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from p2pd.host.telemetry import log
from p2pd.host.wall_clock import WallClock
from seeds.adapters.store import Store
from seeds.adapters.transaction import Transaction
from seeds.decisions.fleet_step import Settled, retire, settle, watched
from seeds.decisions.resumption import resume_asked
from seeds.decisions.rollout_machine import by_age
from seeds.decisions.schedule_plan import needs_publishing, plan_schedules
from seeds.records import AuditEvent, Device, Measurement, Resumption, Rollout, rollout_of
from seeds.services.online_keys import OnlineKeys
from seeds.services.rollouts import RolloutsStalled, StepOutcome
from signing.codec import decode, encode
from signing.errors import BadInput, SigningError
from signing.manifest import Manifest
from signing.policy import POLICY_TARGET, Policy
from signing.recall import RECALL_TARGET, RecallList
from signing.repository import Repository
from signing.repository_files import PublishedTargets
from signing.schedule import Schedule, schedule_target

_log = log(__name__)


@dataclass(frozen=True)
class _Published:
    """What the administrators signed."""

    policy: Policy
    recalls: RecallList


class RolloutStep:
    """Callable: takes one step. Not for use from two threads at once."""

    def __init__(self, *, store: Store, repository: Repository, keys: OnlineKeys, clock: WallClock) -> None:
        self._store = store
        self._repository = repository
        self._keys = keys
        self._clock = clock
        self._unreadable: set[str] = set()
        self._schedules: dict[str, Schedule | None] = {}  # as published, by site; only this class publishes any
        self._told: tuple[int, Mapping[str, int]] = (0, {})  # timestamp and roles that there are news about

    def __call__(self) -> StepOutcome:
        """Take a step. Raises RolloutsStalled or StoreUnavailable."""
        try:
            return self._step()
        except (SigningError, OSError) as problem:
            raise RolloutsStalled(f"{type(problem).__name__}: {problem}") from problem

    def _step(self) -> StepOutcome:
        published = self._read_published()
        with self._store.reading() as transaction:
            devices, known, asked = transaction.devices(), transaction.rollouts(), transaction.resumptions()
            measurements = transaction.measurements()
        resumed = resume_asked(known, {resumption.manifest_sha256 for resumption in asked})
        found = (*resumed, *self._newcomers(known))
        standing = retire(found, published.recalls)
        now = self._clock.now().timestamp()
        with self._store.reading() as transaction:
            said = transaction.said([rollout.manifest_sha256 for rollout in watched(standing)])
        # No lock is held while deciding, which takes a second in a large fleet: a report that comes in meanwhile pokes
        # us again, and nobody else writes rollouts.
        settled = settle(published.policy, devices, standing, said, now=now)
        with self._store.writing() as transaction:
            _keep(transaction, known, settled, asked, int(now))
        self._publish_schedules(published.policy, devices, settled.rollouts, measurements, now)
        self._tell_news()
        return StepOutcome(
            timestamp_version=self._repository.timestamp_version(),
            due=settled.due,
            rollouts=settled.rollouts,
            devices=devices,
        )

    def _read_published(self) -> _Published:
        policy = self._repository.read_target("policies", POLICY_TARGET)
        if policy is None:
            raise BadInput(POLICY_TARGET, "is not published", "stage, sign and publish a policy")
        recalls = self._repository.read_target("recalls", RECALL_TARGET)
        return _Published(
            policy=decode(Policy, policy, where=POLICY_TARGET),
            recalls=RecallList(version=1) if recalls is None else decode(RecallList, recalls, where=RECALL_TARGET),
        )

    def _newcomers(self, known: tuple[Rollout, ...]) -> list[Rollout]:
        """Published releases that have no rollout yet, oldest first. A release is published once and never changed."""
        seen = {(rollout.product, rollout.version) for rollout in known}
        found: list[Rollout] = []
        published = self._repository.published("patches")
        for target in published.paths:
            parts = target.split("/")
            if parts[-1] == "manifest" and tuple(parts[1:-1]) not in seen and target not in self._unreadable:
                found += self._read_release(published, target)
        return sorted(found, key=by_age)

    def _read_release(self, published: PublishedTargets, target: str) -> list[Rollout]:
        # One release that cannot be read must not hold up the others.
        try:
            data = published.read(target)
            manifest = decode(Manifest, data or b"", where=target)
        except SigningError as problem:
            self._unreadable.add(target)
            _log.error("published release cannot be read and is not rolled out", target=target, problem=str(problem))
            return []
        if data is None or manifest.target != target:
            self._unreadable.add(target)
            _log.error("published release lies under a wrong name and is not rolled out", target=target)
            return []
        return [rollout_of(manifest, hashlib.sha256(data).hexdigest())]

    def _publish_schedules(
        self,
        policy: Policy,
        devices: tuple[Device, ...],
        rollouts: tuple[Rollout, ...],
        measurements: tuple[Measurement, ...],
        now: float,
    ) -> None:
        inhabited = {device.site for device in devices}
        wanted = plan_schedules(
            policy,
            devices,
            rollouts,
            now=now,
            emptied=self._emptied_sites(inhabited),
            measurements=measurements,
            published={site: self._published_schedule(site) for site in inhabited},
        )
        news = {
            site: schedule
            for site, schedule in wanted.items()
            if needs_publishing(self._published_schedule(site), schedule, now=now)
        }
        if not news:
            return
        for site in news:
            del self._schedules[site]  # until it is known that they were published, the disk is asked again
        put = {schedule_target(site): encode(schedule) for site, schedule in news.items()}
        self._keys.put_online(self._repository, put, now=self._clock.now())
        self._schedules.update(news)
        _log.info("schedules published", sites=len(news))

    def _tell_news(self) -> None:
        """For those who are told of a new edition next; without it they ask for each file."""
        version, known = self._told
        if (newest := self._repository.timestamp_version()) == version:
            return
        try:
            self._told = newest, self._repository.write_news(known)
        except (SigningError, OSError) as problem:
            _log.warning("news of an edition not written", timestamp=newest, problem=str(problem))

    def _emptied_sites(self, inhabited: Collection[str]) -> list[str]:
        """Sites whose last endpoint was removed, and whose published schedule still names it."""
        sites = [target.removeprefix(schedule_target("")) for target in self._repository.target_paths("schedules")]
        schedules = {site: self._published_schedule(site) for site in sites if site not in inhabited}
        return [site for site, schedule in schedules.items() if schedule is not None and schedule.members]

    def _published_schedule(self, site: str) -> Schedule | None:
        if site not in self._schedules:
            self._schedules[site] = self._read_schedule(site)
        return self._schedules[site]

    def _read_schedule(self, site: str) -> Schedule | None:
        target = schedule_target(site)
        data = self._repository.read_target("schedules", target)
        try:
            return None if data is None else decode(Schedule, data, where=target)
        except BadInput as problem:
            _log.warning("published schedule cannot be read and is replaced", site=site, problem=str(problem))
            return None


def _keep(
    transaction: Transaction, known: Sequence[Rollout], settled: Settled, asked: Sequence[Resumption], now: int
) -> None:
    before = {rollout.manifest_sha256: rollout for rollout in known}
    for resumption in asked:
        transaction.drop_resumption(resumption)
    seen_to = {resumption.manifest_sha256 for resumption in asked}
    added: list[Rollout] = []
    events: list[AuditEvent] = []
    for rollout in settled.rollouts:
        earlier, was_asked = before.get(rollout.manifest_sha256), rollout.manifest_sha256 in seen_to
        if rollout == earlier and not was_asked:
            continue
        if earlier is None:
            added.append(rollout)
        else:
            transaction.put_rollout(rollout)
        if was_asked or earlier is None or (earlier.state, earlier.open_rings) != (rollout.state, rollout.open_rings):
            event = AuditEvent(
                time=now,
                who="coordinator",
                what=f"rollout {rollout.state}, {rollout.open_rings} rings open",
                subject=f"release {rollout.product} {rollout.version}",
                reason=rollout.reason,
                detail=rollout.sentence,
            )
            events.append(event)
            _log.info("rollout moved", **_facts(rollout))
    transaction.add_rollouts(added)
    transaction.add_audits(events)


def _facts(rollout: Rollout) -> dict[str, object]:
    return {
        "product": rollout.product,
        "version": rollout.version,
        "state": rollout.state,
        "open_rings": rollout.open_rings,
        "reason": rollout.reason,
        "detail": rollout.sentence,
    }
