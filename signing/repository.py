# SPDX-License-Identifier: Apache-2.0
"""Author a TUF repository: stage, sign, publish, renew, rotate.

Offline roles go through three steps: `stage` writes a version without signatures into `pending/`; people `sign` it,
one after the other; `publish` moves it to where clients look, if python-tuf finds everything signed as it must be.
Online roles are signed in the step that publishes them.

All methods are synchronous. Writers lock each other out, also across processes; readers wait for nobody. Versions only
grow. Times are arguments, in UTC.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

from securesystemslib.signer import Key, Signer
from tuf.api.metadata import Metadata, TargetFile, Targets

from signing.directory_lock import DirectoryLock
from signing.edition import Edition, SignatureCount, add_signature, result_of
from signing.errors import BadInput
from signing.new_repository import write_new_repository
from signing.news_files import write_news
from signing.next_edition import OnlineSigners, next_edition, resigned
from signing.pending_files import PendingFiles
from signing.pruning import BATCH, prune
from signing.repository_files import PublishedTargets, RepositoryFiles
from signing.roles import ONLINE, ROLES, role_named
from signing.staging import PendingVersion, Staging, merged


class Repository:
    """The repository in `directory`: `metadata/` and `targets/` are served to clients, `pending/` is not."""

    def __init__(self, directory: Path) -> None:
        """Open an existing repository. Raises BadInput when there is none."""
        self._files = RepositoryFiles(directory)
        self._pending = PendingFiles(directory / "pending")
        self._staging = Staging(self._files, self._pending)
        self._lock = DirectoryLock(directory)
        self._files.timestamp()

    @classmethod
    def create(
        cls,
        directory: Path,
        *,
        keys: Mapping[str, Sequence[Key]],
        thresholds: Mapping[str, int],
        signers: Mapping[str, Sequence[Signer]],
        targets: Mapping[str, Mapping[str, bytes]],
        now: datetime,
    ) -> "Repository":
        """Make a repository in an empty or missing `directory`, with initial target files by role, and open it.

        Raises BadInput, NotSigned and KeyUnavailable, and leaves nothing behind then.
        """
        write_new_repository(directory, keys=keys, thresholds=thresholds, signers=signers, targets=targets, now=now)
        return cls(directory)

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Keep every other writer out for the block; all methods that write do so by themselves, too.

        Whatever a writer that was killed left half done is finished, or removed, first.
        """
        with self._lock.held() as outermost:
            if outermost:
                self._files.recover()
                edition = self._files.edition()
                self._pending.drop_stale({role: edition.metadata(role).signed.version for role in ROLES})
            yield

    def stage(self, role: str, put: Mapping[str, bytes], *, remove: Collection[str] = (), now: datetime) -> None:
        """Make a version of an offline role pending: the published targets with `put`, and without `remove`.

        It replaces what was pending. Signatures that were given are kept if nothing changes; without `put` and
        `remove` this renews the role's life, also the root's. Raises BadInput.
        """
        with self.lock():
            self._staging.stage(role_named(role), put, remove, self._files.edition(), now)

    def sign(self, role: str, signer: Signer) -> SignatureCount:
        """Add a signature to what is pending. Raises BadInput for a wrong key or a second time, and KeyUnavailable."""
        with self.lock():
            metadata = self._staging.signable(role_named(role).name, signer, self._files.edition())
        add_signature(metadata, signer)  # unlocked: somebody may have to touch a token
        with self.lock():
            return self._staging.add_signature(role, metadata, signer.public_key.keyid, self._files.edition())

    def pending(self) -> tuple[PendingVersion, ...]:
        """What waits for signatures, or for being published."""
        with self.lock():
            current = self._files.edition()
            return tuple(self._staging.describe(role, current) for role in self._pending.roles())

    def read_pending(self, role: str, path: str) -> bytes | None:
        """The content that a pending version gives a target, for whoever is asked to sign it; None: no such target."""
        return self.read_pending_each(role, [path]).get(path)

    def read_pending_each(self, role: str, paths: Iterable[str]) -> dict[str, bytes]:
        """What `read_pending` says of each path, but for those that are no targets; the role is read once."""
        with self.lock():
            targets = self._pending.metadata(role_named(role).name).signed.targets
            found = {path: targets[path] for path in paths if path in targets}
            return {path: self._read_pending(target) for path, target in found.items()}

    def _read_pending(self, target: TargetFile) -> bytes:
        data = self._pending.read_target(target)
        return self._files.read_target(target) if data is None else data

    def discard(self, role: str) -> None:
        """Take back what is pending. Raises BadInput when nothing is."""
        with self.lock():
            self._pending.discard(role_named(role).name)

    def publish(
        self,
        roles: Collection[str],
        *,
        snapshot: Signer,
        timestamp: Signer,
        now: datetime,
        schedules: Signer | None = None,
        outgoing: Sequence[Signer] = (),
    ) -> None:
        """Publish what is pending of `roles`, all at once, with a new snapshot and timestamp.

        `schedules` is needed when the schedules role gets new keys: its content is signed again. `outgoing` are
        signers of keys that a new root takes away. Raises NotSigned, and changes nothing, unless afterwards every role
        is signed as it must be; BadInput when nothing is pending, or its life is over already.
        """
        with self.lock():
            current = self._files.edition()
            changed = {role: self._pending.metadata(role_named(role).name) for role in roles}
            for role, metadata in changed.items():
                if now >= metadata.signed.expires:
                    where = str(self._pending.path_of(role))
                    raise BadInput(where, f"expired at {metadata.signed.expires} while it waited", "stage it again")
            targets = self._new_targets(current, changed)
            delegator = changed["targets"].signed if "targets" in changed else current.delegator("schedules")
            if schedules and not result_of(delegator, "schedules", current.roles["schedules"]):
                changed["schedules"] = self._resigned_schedules(current, schedules, now)
            signers = OnlineSigners(snapshot=snapshot, timestamp=timestamp, outgoing=outgoing)
            self._install(current, changed, targets, signers, now)
            self._pending.remove(roles)

    def put_online(
        self,
        put: Mapping[str, bytes],
        *,
        remove: Collection[str] = (),
        schedules: Signer,
        snapshot: Signer,
        timestamp: Signer,
        now: datetime,
    ) -> None:
        """Publish schedules: put some, remove some, keep the rest. Raises as `publish` does."""
        with self.lock():
            current = self._files.edition()
            published = current.roles["schedules"].signed
            content = Metadata(Targets(targets=merged(ROLES["schedules"], published, put, remove), expires=now))
            version = self._files.newest_version("schedules") + 1
            metadata = resigned("schedules", content, schedules, version=version, now=now)
            targets = {self._files.target_file(metadata.signed.targets[path]): data for path, data in put.items()}
            signers = OnlineSigners(snapshot=snapshot, timestamp=timestamp)
            self._install(current, {"schedules": metadata}, targets, signers, now)

    def renew(self, *, schedules: Signer, snapshot: Signer, timestamp: Signer, now: datetime) -> tuple[str, ...]:
        """Sign online roles with less than half of their life left again, and those that must follow them.

        Returns the names of the roles that have a new version now.
        """
        with self.lock():
            current = self._files.edition()
            due = {role for role in ONLINE if current.expires(role) - now < ROLES[role].lifetime / 2}
            if not due:
                return ()
            changed = {}
            if "schedules" in due:
                changed["schedules"] = self._resigned_schedules(current, schedules, now)
                due.add("snapshot")
            signers = OnlineSigners(snapshot=snapshot, timestamp=timestamp)
            self._install(current, changed, {}, signers, now, new_snapshot="snapshot" in due)
            return tuple(role for role in ONLINE if role in due | {"timestamp"})

    def stage_rotation(
        self, role: str, keys: Sequence[Key], *, threshold: int | None = None, now: datetime
    ) -> tuple[str, ...]:
        """Make it pending that `keys` alone speak for `role`, and return the roles that are to be signed for that.

        A new root wants the old and the new threshold of root keys, delegations want the targets role's keys, and an
        offline role wants its new keys on its own metadata. Without `threshold` the old one stays. Publish all of the
        returned roles at once.
        """
        with self.lock():
            return self._staging.stage_keys(role_named(role), keys, threshold, self._files.edition(), now)

    def rotate(
        self,
        role: str,
        keys: Sequence[Key],
        *,
        signers: Sequence[Signer],
        schedules: Signer | None = None,
        snapshot: Signer,
        timestamp: Signer,
        threshold: int | None = None,
        now: datetime,
    ) -> None:
        """`stage_rotation`, `sign` and `publish` in one go, when all keys are at hand.

        `signers` holds all who must sign, of old keys and new; the online ones are those that are valid afterwards.
        When the signers of replaced snapshot and timestamp keys are among `signers`, no client sees a gap. Raises
        NotSigned when some are missing; what was staged stays pending then.
        """
        with self.lock():
            to_sign = self.stage_rotation(role, keys, threshold=threshold, now=now)
            for name in to_sign:
                self._sign_with_all(name, signers)
            self.publish(
                to_sign, snapshot=snapshot, timestamp=timestamp, schedules=schedules, outgoing=signers, now=now
            )

    def write_news(self, known: Mapping[str, int]) -> dict[str, int]:
        """Put what changed since the versions `known` into one file for clients: see `signing.edition_news`.

        Returns the versions of the published roles that sign targets; all that is `known` after the first time.
        """
        with self.lock():
            return write_news(self._files, known)

    def prune(self, *, now: datetime) -> None:
        """Remove superseded editions that no client can be reading any more; publishing does so now and then, too."""
        with self.lock():
            prune(self._files, now=now)

    def read_target(self, role: str, path: str) -> bytes | None:
        """The published content of a target; None if the role has none of that path. Raises ContentMismatch."""
        target = self._published(role).targets.get(path)
        return None if target is None else self._files.read_target(target)

    def published(self, role: str) -> PublishedTargets:
        """One look at a role: reading a thousand of its targets then reads its metadata once, not a thousand times."""
        return PublishedTargets(self._published(role).targets, self._files)

    def target_paths(self, role: str) -> tuple[str, ...]:
        """The published targets of a role, sorted."""
        return tuple(sorted(self._published(role).targets))

    def timestamp_version(self) -> int:
        """Grows with every publication, whatever was published."""
        version: int = self._files.timestamp().signed.version
        return version

    def expiries(self) -> dict[str, datetime]:
        """When each role's published metadata ends its life."""
        edition = self._files.edition()
        return {role: edition.expires(role) for role in ROLES}

    def keys_of(self, role: str) -> list[Key]:
        """The public keys that speak for a role now."""
        return self._files.edition().keys_of(role_named(role).name)

    def threshold(self, role: str) -> int:
        """How many of them must sign."""
        return self._files.edition().terms(role_named(role).name).threshold

    def _published(self, role: str) -> Targets:
        if not role_named(role).signs_targets:
            raise BadInput(f"role {role}", "signs no targets")
        return self._files.edition().roles[role].signed

    def _new_targets(self, current: Edition, changed: Mapping[str, Metadata[Any]]) -> dict[Path, bytes]:
        """What pending targets bring, all of it read and checked before anything is moved."""
        new = {}
        for role, metadata in changed.items():
            if role == "root":
                continue
            known = current.roles[role].signed.targets
            for path, target in metadata.signed.targets.items():
                if target == known.get(path):
                    continue
                data = self._pending.read_target(target)
                if data is None:
                    where = str(self._pending.path_of(role))
                    raise BadInput(where, f"the content of target {path!r} is not beside it", "stage it again")
                new[self._files.target_file(target)] = data
        return new

    def _resigned_schedules(self, current: Edition, signer: Signer, now: datetime) -> Metadata[Targets]:
        version = self._files.newest_version("schedules") + 1
        return resigned("schedules", current.roles["schedules"], signer, version=version, now=now)

    def _sign_with_all(self, role: str, signers: Sequence[Signer]) -> None:
        for signer in signers:
            for judgement in self._staging.judge(role, self._pending.metadata(role), self._files.edition()):
                if signer.public_key.keyid in judgement.unsigned:
                    self.sign(role, signer)
                    break

    def _install(
        self,
        current: Edition,
        changed: Mapping[str, Metadata[Any]],
        targets: Mapping[Path, bytes],
        signers: OnlineSigners,
        now: datetime,
        *,
        new_snapshot: bool = True,
    ) -> None:
        versions = {role: self._files.newest_version(role) + 1 for role in ("snapshot", "timestamp")}
        edition = next_edition(current, changed, signers=signers, versions=versions, now=now, new_snapshot=new_snapshot)
        announced = {"snapshot", "timestamp"} if new_snapshot else {"timestamp"}
        self._files.install(edition, changed=changed.keys() | announced, targets=targets)
        prune(self._files, now=now, at_least=BATCH)
