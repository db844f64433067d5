# SPDX-License-Identifier: Apache-2.0
"""A writer is killed before each of its steps on the disk, and clients read between any two of them."""

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from signing.repository import Repository
from tests.signing.fleet import Client, Fleet, read
from tests.signing.test_rotation import rotate, rotation

Act = Callable[[], None]
Story = Callable[[Fleet], Act]  # prepares, and returns what is interrupted


class Killed(BaseException):
    """The process is gone: no handler may do anything about it, and none can."""


@contextmanager
def every_step(before: Callable[[int], None]) -> Iterator[None]:
    """Call `before(n)` ahead of the n-th step that changes the disk or waits for it; its own steps do not count."""
    taken = 0
    watching = True

    def watched(real: Callable[..., Any]) -> Callable[..., Any]:
        def step(*args: Any, **kwargs: Any) -> Any:
            nonlocal taken, watching
            if watching:
                taken, watching = taken + 1, False
                try:
                    before(taken)
                finally:
                    watching = True
            return real(*args, **kwargs)

        return step

    with pytest.MonkeyPatch.context() as patch:
        for owner, names in {
            Path: ("replace", "rename", "unlink", "mkdir", "rmdir", "chmod"),
            os: ("fsync",),
            tempfile: ("mkstemp", "mkdtemp"),
            shutil: ("rmtree",),
        }.items():
            for name in names:
                patch.setattr(owner, name, watched(getattr(owner, name)))
        yield


def die_at(step: int, act: Act) -> bool:
    """Whether `act` was killed ahead of that step; False: it was done before."""

    def kill(taken: int) -> None:
        if taken >= step:
            raise Killed

    try:
        with every_step(kill):
            act()
    except Killed:
        return True
    return False


def release(fleet: Fleet) -> Act:
    fleet.repository.stage(
        "patches", {"patches/p/2/manifest": b"two", "patches/p/2/default.torrent": b"torrent"}, now=fleet.now
    )
    fleet.sign("patches")
    return lambda: fleet.publish("patches")


def stage_and_sign(fleet: Fleet) -> Act:
    def act() -> None:
        fleet.repository.stage("policies", {"policies/fleet": b"two"}, now=fleet.now)
        fleet.sign("policies")

    return act


def restage(fleet: Fleet) -> Act:
    stage_and_sign(fleet)()
    return lambda: fleet.repository.stage("policies", {"policies/fleet": b"three"}, now=fleet.now)


def discard(fleet: Fleet) -> Act:
    stage_and_sign(fleet)()
    return lambda: fleet.repository.discard("policies")


def schedule(fleet: Fleet) -> Act:
    return lambda: fleet.put_online({"schedules/berlin": b"two"})


def renewal(fleet: Fleet) -> Act:
    fleet.wait(hours=13)

    def act() -> None:
        fleet.renew()

    return act


def pruning(fleet: Fleet) -> Act:
    for number in range(7):
        fleet.put_online({"schedules/paris": b"%d" % number})
    fleet.wait(hours=3)
    return lambda: fleet.repository.prune(now=fleet.now)


def rotate_root(fleet: Fleet) -> Act:
    return rotation(fleet, "root")


def rotate_targets(fleet: Fleet) -> Act:
    return rotation(fleet, "targets")


def rotate_patches(fleet: Fleet) -> Act:
    return rotation(fleet, "patches")


def rotate_schedules(fleet: Fleet) -> Act:
    return rotation(fleet, "schedules")


def rotate_snapshot(fleet: Fleet) -> Act:
    return rotation(fleet, "snapshot")


def rotate_timestamp(fleet: Fleet) -> Act:
    return rotation(fleet, "timestamp")


def replace_lost_timestamp_key(fleet: Fleet) -> Act:
    return rotation(fleet, "timestamp", keep_old=False)


WITHOUT_GAP = (
    release,
    stage_and_sign,
    restage,
    discard,
    schedule,
    renewal,
    pruning,
    rotate_root,
    rotate_targets,
    rotate_patches,
    rotate_schedules,
    rotate_snapshot,
    rotate_timestamp,
)


@pytest.fixture(autouse=True)
def no_waiting_for_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """These tests count flushes by the hundred; what a flush does is the kernel's to test."""
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


@pytest.fixture
def busy(fleet: Fleet) -> Fleet:
    """With a release and a schedule out."""
    fleet.release({"patches/p/1/manifest": b"one"})
    fleet.put_online({"schedules/berlin": b"one"})
    return fleet


def is_consistent(client: Client, fleet: Fleet) -> None:
    """All that the client's refresh promises can be read, and it is the old content or the new."""
    updater = client.refresh(fleet.now)
    assert read(updater, "patches/p/1/manifest") == b"one"
    assert read(updater, "policies/fleet") == b"policy 1"
    assert read(updater, "schedules/berlin") in (b"one", b"two")
    manifest = read(updater, "patches/p/2/manifest")
    assert (manifest, read(updater, "patches/p/2/default.torrent")) in ((None, None), (b"two", b"torrent"))


def versioned_files(fleet: Fleet) -> dict[Path, bytes]:
    metadata, targets = fleet.directory / "metadata", fleet.directory / "targets"
    files = [*metadata.glob("[0-9]*.json"), *(path for path in targets.rglob("[0-9a-f]*") if path.is_file())]
    return {path: path.read_bytes() for path in files}


@pytest.mark.parametrize("story", WITHOUT_GAP)
def test_a_client_may_come_between_any_two_steps(busy: Fleet, client: Client, tmp_path: Path, story: Story) -> None:
    newcomers = 0

    def look(step: int) -> None:
        nonlocal newcomers
        newcomers += 1
        newcomer = Client(tmp_path / f"newcomer-{newcomers}", repository=busy.directory, root=busy.root_bytes)
        is_consistent(client, busy)
        is_consistent(newcomer, busy)

    act = story(busy)
    with every_step(look):
        act()
    assert newcomers > 3
    is_consistent(client, busy)


@pytest.mark.parametrize("story", [*WITHOUT_GAP, replace_lost_timestamp_key])
def test_a_writer_may_be_killed_ahead_of_any_step(busy: Fleet, client: Client, tmp_path: Path, story: Story) -> None:
    is_consistent(client, busy)
    everybody = {signer.public_key.keyid: signer for signers in busy.signers.values() for signer in signers}
    act = story(busy)
    everybody |= {signer.public_key.keyid: signer for signers in busy.signers.values() for signer in signers}
    original, signers = busy.directory, dict(busy.signers)
    step = 0
    killed = True
    while killed:
        step += 1
        busy.signers = dict(signers)
        busy.directory = tmp_path / f"killed-{step}"
        shutil.copytree(original, busy.directory)
        shutil.copytree(tmp_path / "client", tmp_path / f"client-{step}", symlinks=True)
        endpoint = Client(tmp_path / f"client-{step}", repository=busy.directory, root=busy.root_bytes)
        before = versioned_files(busy)
        busy.repository = Repository(busy.directory)
        killed = die_at(step, act)

        if story is not replace_lost_timestamp_key:
            is_consistent(endpoint, busy)  # at once, before any writer has come back
        busy.repository = Repository(busy.directory)
        with busy.repository.lock():
            is_consistent(endpoint, busy)
        left = versioned_files(busy)

        # Work goes on with whatever keys are in force now, and gives no file of old another content.
        busy.signers = {role: [everybody[key.keyid] for key in busy.repository.keys_of(role)] for role in signers}
        busy.release({"patches/p/3/manifest": b"three"})
        busy.put_online({"schedules/berlin": b"two"})
        updater = endpoint.refresh(busy.now)
        assert (read(updater, "patches/p/3/manifest"), read(updater, "schedules/berlin")) == (b"three", b"two")
        after = versioned_files(busy)
        for earlier in (before, left):
            assert [path for path in earlier if after.get(path, earlier[path]) != earlier[path]] == []
    assert step > 4


def test_a_kill_while_a_fleet_is_made_leaves_nothing_or_all_of_it(fleet: Fleet, tmp_path: Path) -> None:
    step = 0
    killed = True
    while killed:
        step += 1
        place = tmp_path / f"place-{step}" / "repository"

        def create(place: Path = place) -> None:
            Repository.create(
                place,
                keys=fleet.keys(),
                thresholds={},
                signers=fleet.signers,
                targets={"policies": {"policies/fleet": b"policy 1"}},
                now=fleet.now,
            )

        killed = die_at(step, create)
        if not place.exists():
            create()
        assert Repository(place).read_target("policies", "policies/fleet") == b"policy 1"
    assert step > 20


def test_a_published_edition_that_was_not_announced_is_announced_by_the_next_writer(
    busy: Fleet, client: Client
) -> None:
    """The journal is the versioned timestamp: killed just ahead of the last rename, the publication still happens."""
    real = Path.replace

    def dies(path: Path, target: Path) -> Path:
        if target.name == "timestamp.json":
            raise Killed
        return real(path, target)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Path, "replace", dies)
        with pytest.raises(Killed):
            schedule(busy)()
    assert client.read(busy.now, "schedules/berlin") == b"one"
    with Repository(busy.directory).lock():
        pass
    assert client.read(busy.now, "schedules/berlin") == b"two"


def test_an_edition_whose_root_was_never_written_is_not_announced(busy: Fleet, client: Client) -> None:
    """Killed between the journal and the new root: the old keys stay in force, and the numbers stay taken."""
    real = Path.replace

    def dies(path: Path, target: Path) -> Path:
        if target.name == "2.root.json":
            raise Killed
        return real(path, target)

    old = busy.signers["timestamp"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Path, "replace", dies)
        with pytest.raises(Killed):
            rotate(busy, "timestamp", keep_old=False)
    busy.signers["timestamp"] = old
    taken = busy.repository.timestamp_version() + 1
    assert (busy.directory / "metadata" / f"{taken}.timestamp.json").exists()
    busy.repository = Repository(busy.directory)
    busy.put_online({"schedules/berlin": b"two"})
    assert busy.repository.timestamp_version() == taken + 1
    assert client.read(busy.now, "schedules/berlin") == b"two"


def test_a_failed_write_is_an_error_and_the_next_attempt_succeeds(busy: Fleet, client: Client) -> None:
    with pytest.MonkeyPatch.context() as patch:

        def full(descriptor: int) -> None:
            raise OSError(28, "No space left on device")

        patch.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="No space"):
            schedule(busy)()
    assert client.read(busy.now, "schedules/berlin") == b"one"
    schedule(busy)()
    assert client.read(busy.now, "schedules/berlin") == b"two"
