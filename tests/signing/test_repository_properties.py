# SPDX-License-Identifier: Apache-2.0
"""Whatever administrators and the coordinator do in whatever order: clients always refresh, and see just what was
published; versions only grow, and what was once published under a version never changes.
"""

import shutil
import tempfile
from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from securesystemslib.signer import CryptoSigner

from signing.errors import BadInput, NotSigned
from signing.repository import Repository
from signing.roles import ROLES
from tests.signing.fleet import AUTHORITY, POLICY, Client, Fleet, read

STAGEABLE = {
    "patches": ["patches/p/1/manifest", "patches/p/2/manifest"],
    "policies": ["policies/fleet"],
    "recalls": ["recalls/list"],
    "targets": ["trust/default.pem", "trust/lab.pem"],
}
SITES = ["schedules/berlin", "schedules/paris"]

role_and_path = st.sampled_from([(role, path) for role, paths in STAGEABLE.items() for path in paths])
contents = st.sampled_from([b"a", b"b", b"c"])


class Authoring(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.scratch = Path(tempfile.mkdtemp())
        self.fleet = Fleet(self.scratch / "repository")
        self.client = Client(self.scratch / "client", repository=self.fleet.directory, root=self.fleet.root_bytes)
        self.published: dict[str, dict[str, bytes]] = {
            "patches": {},
            "policies": dict(POLICY),
            "recalls": {},
            "targets": dict(AUTHORITY),
            "schedules": {},
        }
        self.staged: dict[str, dict[str, bytes]] = {}
        self.signed: dict[str, set[int]] = {}
        self.files: dict[str, bytes] = {}
        self.versions = dict.fromkeys(ROLES, 0)

    def teardown(self) -> None:
        shutil.rmtree(self.scratch)

    @property
    def repository(self) -> Repository:
        return self.fleet.repository

    @rule(entry=role_and_path, content=contents)
    def stage(self, entry: tuple[str, str], content: bytes) -> None:
        role, path = entry
        self.repository.stage(role, {path: content}, now=self.fleet.now)
        staged = self.published[role] | {path: content}
        if self.staged.get(role) != staged:
            self.signed[role] = set()
        self.staged[role] = staged

    @rule(entry=role_and_path)
    def withdraw(self, entry: tuple[str, str]) -> None:
        role, path = entry
        if path not in self.published[role]:
            try:
                self.repository.stage(role, {}, remove=[path], now=self.fleet.now)
            except BadInput:
                return
            raise AssertionError("removed what was not there")
        self.repository.stage(role, {}, remove=[path], now=self.fleet.now)
        staged = {name: data for name, data in self.published[role].items() if name != path}
        if self.staged.get(role) != staged:
            self.signed[role] = set()
        self.staged[role] = staged

    @precondition(lambda self: self.staged)
    @rule(data=st.data())
    def sign(self, data: st.DataObject) -> None:
        role = data.draw(st.sampled_from(sorted(self.staged)))
        signers = self.fleet.signers[role]
        index = data.draw(st.integers(0, len(signers) - 1))
        try:
            count = self.repository.sign(role, signers[index])
        except BadInput:
            assert index in self.signed[role]
            return
        self.signed[role].add(index)
        assert count == (len(self.signed[role]), len(signers))

    @precondition(lambda self: self.staged)
    @rule(data=st.data())
    def publish(self, data: st.DataObject) -> None:
        roles = data.draw(st.sets(st.sampled_from(sorted(self.staged)), min_size=1))
        complete = all(len(self.signed[role]) == len(self.fleet.signers[role]) for role in roles)
        before = self.repository.timestamp_version()
        try:
            self.fleet.publish(*roles)
        except NotSigned:
            assert not complete
            assert self.repository.timestamp_version() == before
            return
        assert complete
        for role in roles:
            self.published[role] = self.staged.pop(role)
            del self.signed[role]

    @precondition(lambda self: self.staged)
    @rule(data=st.data())
    def discard(self, data: st.DataObject) -> None:
        role = data.draw(st.sampled_from(sorted(self.staged)))
        self.repository.discard(role)
        del self.staged[role], self.signed[role]

    @rule(site=st.sampled_from(SITES), content=contents)
    def put_online(self, site: str, content: bytes) -> None:
        self.fleet.put_online({site: content})
        self.published["schedules"][site] = content

    @rule(hours=st.integers(1, 11))
    def a_coordinators_day_passes(self, hours: int) -> None:
        self.fleet.wait(hours=hours)
        self.fleet.renew()

    @rule()
    def prune(self) -> None:
        self.repository.prune(now=self.fleet.now)

    @precondition(lambda self: not self.staged)
    @rule(role=st.sampled_from(sorted(ROLES)))
    def rotate(self, role: str) -> None:
        fresh = [CryptoSigner.generate_ed25519() for _ in self.fleet.signers[role]]
        at_hand = [signer for signers in self.fleet.signers.values() for signer in signers] + fresh
        self.fleet.signers[role] = fresh
        online = self.fleet.online("schedules", "snapshot", "timestamp")
        keys = [signer.public_key for signer in fresh]
        self.repository.rotate(role, keys, signers=at_hand, **online, now=self.fleet.now)

    @rule()
    def another_process_takes_over(self) -> None:
        self.fleet.repository = Repository(self.fleet.directory)

    @invariant()
    def clients_see_just_what_was_published(self) -> None:
        updater = self.client.refresh(self.fleet.now)
        paths = [path for paths in STAGEABLE.values() for path in paths] + SITES
        seen = {path: content for path in paths if (content := read(updater, path)) is not None}
        assert seen == {path: content for targets in self.published.values() for path, content in targets.items()}

    @invariant()
    def versions_grow_and_published_files_never_change(self) -> None:
        files = {path.name: path.read_bytes() for path in (self.fleet.directory / "metadata").glob("[0-9]*.json")}
        assert not [name for name, data in files.items() if self.files.get(name, data) != data]
        for name in sorted(files.keys() - self.files.keys(), key=lambda name: int(name.split(".")[0])):
            version, role, _ = name.split(".")
            assert int(version) > self.versions[role], f"{name} came after version {self.versions[role]}"
            self.versions[role] = int(version)
        self.files |= files

    @invariant()
    def what_is_pending_is_what_was_staged(self) -> None:
        for pending in self.repository.pending():
            changes = self.staged[pending.role].items() ^ self.published[pending.role].items()
            assert {path for path, _ in changes} == {*pending.put, *pending.removed}
        assert {pending.role for pending in self.repository.pending()} == set(self.staged)


Authoring.TestCase.settings = settings(
    max_examples=12, stateful_step_count=15, deadline=None, suppress_health_check=list(HealthCheck)
)
TestAuthoring = Authoring.TestCase
