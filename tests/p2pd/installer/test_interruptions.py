# SPDX-License-Identifier: Apache-2.0
"""The interruption promise: cut anywhere, and the old or the new version is in use, whole, and the rest resumes.

Every operation of every request is cut once by a kill (what was done stays) and once by a power cut that forgets
all that was not synced; the recovery itself is cut everywhere as well.
"""

import os
import shutil
import tempfile
import unittest.mock
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from p2pd.installer.journal import Phase
from p2pd.installer.refusal import InstallRefused
from p2pd.installer.slot import SlotInstaller
from tests.p2pd.installer.failing_disk import CountingDisk, ForgetfulDisk, SimulatedPowerCut
from tests.p2pd.installer.made_releases import (
    FIRST_FILES,
    SECOND_FILES,
    THIRD_FILES,
    Endpoint,
    MadeRelease,
    make_release,
)

FOURTH_FILES = {"readme": b"fourth\n", "data/more": b"more"}

MakeDisk = Callable[[Path, int | None], CountingDisk]


def killed(attic: Path, dies_before: int | None) -> CountingDisk:
    return CountingDisk(dies_before)


def powered_off(attic: Path, dies_before: int | None) -> CountingDisk:
    return ForgetfulDisk(attic, dies_before)


@dataclass(frozen=True)
class Releases:
    first: MadeRelease
    second: MadeRelease
    third: MadeRelease
    fourth: MadeRelease


@pytest.fixture
def releases(tmp_path: Path) -> Releases:
    made = tmp_path / "made"
    return Releases(
        make_release(made, "1.0", 10, FIRST_FILES),
        make_release(made, "1.1", 11, SECOND_FILES),
        make_release(made, "1.2", 12, THIRD_FILES),
        make_release(made, "1.3", 13, FOURTH_FILES),
    )


@pytest.fixture
def runs() -> Iterator[Path]:
    """A directory for a few thousand small runs: in memory where there is such a place, for speed alone."""
    memory = Path("/dev/shm")  # noqa: S108 (a fresh directory below it)
    with tempfile.TemporaryDirectory(dir=memory if os.access(memory, os.W_OK) else None) as directory:
        yield Path(directory)


@dataclass(frozen=True)
class Story:
    """What was there before, what is asked for, and what may be in use in between and must be in the end."""

    before: Callable[[Endpoint, Releases], object]
    request: Callable[[Endpoint, Releases], object]
    old: Mapping[str, bytes] | None
    new: Mapping[str, bytes] | None
    recalled: str = ""  # field of Releases that is withdrawn all along
    attempt: Callable[[Endpoint, Releases], object] | None = None  # what is cut, if not the request


def two_committed(endpoint: Endpoint, releases: Releases) -> None:
    endpoint.install(releases.first, commit=True)
    endpoint.install(releases.second, commit=True)


def third_on_probation(endpoint: Endpoint, releases: Releases) -> None:
    two_committed(endpoint, releases)
    endpoint.install(releases.third)


def third_on_probation_and_second_damaged(endpoint: Endpoint, releases: Releases) -> None:
    third_on_probation(endpoint, releases)
    (slot,) = (endpoint.current.parent / "slots").glob("11-*")
    (slot / "readme").write_bytes(b"damaged\n")


def first_on_probation(endpoint: Endpoint, releases: Releases) -> None:
    endpoint.install(releases.first)


def third_abandoned_for_the_fourth(endpoint: Endpoint, releases: Releases) -> None:
    third_on_probation(endpoint, releases)
    endpoint.install(releases.fourth)


def install_third_in_vain(endpoint: Endpoint, releases: Releases) -> None:
    install_in_vain(endpoint, releases.third)


def install_fourth_in_vain(endpoint: Endpoint, releases: Releases) -> None:
    install_in_vain(endpoint, releases.fourth)


def install_in_vain(endpoint: Endpoint, release: MadeRelease) -> None:
    """The switch fails, and what was prepared is taken back."""

    def rename(source: Path, target: Path) -> None:
        if target.name == "current":
            raise PermissionError(1, "Operation not permitted", str(target))
        type(endpoint.disk).rename(endpoint.disk, source, target)

    with unittest.mock.patch.object(endpoint.disk, "rename", rename), pytest.raises(InstallRefused):
        endpoint.install(release)


STORIES = {
    "first install": Story(
        before=lambda endpoint, releases: None,
        request=lambda endpoint, releases: endpoint.install(releases.first),
        old=None,
        new=FIRST_FILES,
    ),
    "install over two": Story(
        before=two_committed,
        request=lambda endpoint, releases: endpoint.install(releases.third),
        old=SECOND_FILES,
        new=THIRD_FILES,
    ),
    "install whose switch fails": Story(
        before=two_committed,
        attempt=install_third_in_vain,
        request=lambda endpoint, releases: endpoint.install(releases.third),
        old=SECOND_FILES,
        new=THIRD_FILES,
    ),
    "commit": Story(
        before=third_on_probation,
        request=lambda endpoint, releases: endpoint.products.commit("tool", releases.third.sha256),
        old=THIRD_FILES,
        new=THIRD_FILES,
    ),
    "rollback": Story(
        before=third_on_probation,
        request=lambda endpoint, releases: endpoint.products.rollback("tool", releases.third.sha256),
        old=THIRD_FILES,
        new=SECOND_FILES,
    ),
    "rollback to a damaged slot": Story(
        before=third_on_probation_and_second_damaged,
        request=lambda endpoint, releases: endpoint.products.rollback("tool", releases.third.sha256),
        old=THIRD_FILES,
        new=SECOND_FILES,
    ),
    "rollback of a committed release": Story(
        before=two_committed,
        request=lambda endpoint, releases: endpoint.products.rollback("tool", releases.second.sha256),
        old=SECOND_FILES,
        new=FIRST_FILES,
    ),
    "install over a candidate": Story(
        before=third_on_probation,
        request=lambda endpoint, releases: endpoint.install(releases.fourth),
        old=THIRD_FILES,
        new=FOURTH_FILES,
    ),
    "install over a candidate whose switch fails": Story(
        before=third_on_probation,
        attempt=install_fourth_in_vain,
        request=lambda endpoint, releases: endpoint.install(releases.fourth),
        old=THIRD_FILES,
        new=FOURTH_FILES,
    ),
    "install over the first candidate": Story(
        before=first_on_probation,
        request=lambda endpoint, releases: endpoint.install(releases.second),
        old=FIRST_FILES,
        new=SECOND_FILES,
    ),
    "rollback of what replaced a candidate": Story(
        before=third_abandoned_for_the_fourth,
        request=lambda endpoint, releases: endpoint.products.rollback("tool", releases.fourth.sha256),
        old=FOURTH_FILES,
        new=SECOND_FILES,
    ),
    "rollback past a recalled release": Story(
        before=third_on_probation,
        request=lambda endpoint, releases: endpoint.products.rollback("tool", releases.third.sha256),
        old=THIRD_FILES,
        new=FIRST_FILES,
        recalled="second",
    ),
    "rollback of the first release": Story(
        before=first_on_probation,
        request=lambda endpoint, releases: endpoint.products.rollback("tool", releases.first.sha256),
        old=FIRST_FILES,
        new=None,
    ),
}


class Rehearsal:
    """Plays one story over and over from the same beginning, with another cut each time."""

    def __init__(self, directory: Path, story: Story, releases: Releases, make_disk: MakeDisk) -> None:
        self._directory = directory
        self._story = story
        self._releases = releases
        self._make_disk = make_disk
        self._beginning = directory / "beginning"
        story.before(Endpoint(self._beginning, CountingDisk()), releases)
        uncut = self._endpoint(self._fresh(), CountingDisk())
        story.request(uncut, releases)
        self._tidy = normal(uncut.listing())

    def cut_before(self, operation: int) -> Path | None:
        """The directory after the cut; None when the request has no such operation."""
        directory = self._fresh()
        disk = self._make_disk(self._directory / "attic", operation)
        try:
            (self._story.attempt or self._story.request)(self._endpoint(directory, disk), self._releases)
        except SimulatedPowerCut:
            return directory
        return None

    def cut_after_the_answer(self) -> Path:
        """The directory after a cut that comes when the request has been answered."""
        directory = self._fresh()
        disk = self._make_disk(self._directory / "attic", None)
        self._story.request(self._endpoint(directory, disk), self._releases)
        disk.lose_power()
        return directory

    def cut_recovery_before(self, directory: Path, operation: int) -> Path | None:
        """The same for a recovery over a copy of `directory`."""
        copy = self._copy(directory)
        disk = self._make_disk(self._directory / "attic", operation)
        try:
            self._endpoint(copy, disk).products.recover()
        except SimulatedPowerCut:
            return copy
        return None

    def check(self, directory: Path) -> None:
        """A new process over `directory` finds old or new, whole, and brings the request to its end."""
        story, endpoint = self._story, self._endpoint(directory, CountingDisk())
        before = endpoint.in_use()
        assert before in (story.old, story.new), "before recovery"
        endpoint.products.recover()
        after = endpoint.in_use()
        assert after in (story.old, story.new), "after recovery"
        assert after == story.new or before == story.old, "a switch that was made is not taken back"
        self._check_records(endpoint)
        story.request(endpoint, self._releases)
        assert endpoint.in_use() == story.new
        self._check_records(endpoint)
        assert normal(endpoint.listing()) == self._tidy, "litter, or something missing"

    def _check_records(self, endpoint: Endpoint) -> None:
        for record in endpoint.products.records():
            assert record.phase in (Phase.IDLE, Phase.PROBATION)
            installer = SlotInstaller(endpoint.current.parent, endpoint.disk)
            assert installer.active() == (record.active.slot if record.active else None)
            for release in (record.active, record.previous):
                if release is not None:
                    payload = endpoint.store.reopen("tool", release)
                    damaged = self._story.before is third_on_probation_and_second_damaged
                    assert installer.is_intact(payload, release.slot) or (damaged and release is record.previous)
            assert endpoint.stored() == sorted(release.manifest_sha256 for release in record.retained)
            assert endpoint.slots() == sorted(release.slot for release in record.retained)

    def _endpoint(self, directory: Path, disk: CountingDisk) -> Endpoint:
        endpoint = Endpoint(directory, disk)
        if self._story.recalled:
            endpoint.recalls.withdrawn.add(getattr(self._releases, self._story.recalled).sha256)
        return endpoint

    def _fresh(self) -> Path:
        return self._copy(self._beginning)

    def _copy(self, source: Path) -> Path:
        shutil.rmtree(self._directory / "attic", ignore_errors=True)
        number = sum(1 for _ in self._directory.glob("run-*"))
        target = self._directory / f"run-{number}"
        if source.exists():
            shutil.copytree(source, target, symlinks=True)
        return target


def normal(listing: list[str]) -> list[str]:
    """The listing without the number that a slot gets when its name was taken."""
    return sorted(path.replace(".2/", "/").removesuffix(".2") for path in listing)


def cuts(rehearsal: Rehearsal) -> Iterator[Path]:
    operation = 0
    while (directory := rehearsal.cut_before(operation)) is not None:
        yield directory
        operation += 1
    assert operation >= 3, "the request has durable steps"


@pytest.mark.parametrize("make_disk", [killed, powered_off])
@pytest.mark.parametrize("story", STORIES.values(), ids=STORIES.keys())
def test_a_cut_anywhere_leaves_old_or_new_and_resumes(
    runs: Path, releases: Releases, story: Story, make_disk: MakeDisk
) -> None:
    rehearsal = Rehearsal(runs, story, releases, make_disk)
    for directory in cuts(rehearsal):
        rehearsal.check(directory)
        shutil.rmtree(directory)


@pytest.mark.parametrize("make_disk", [killed, powered_off])
@pytest.mark.parametrize("story", STORIES.values(), ids=STORIES.keys())
def test_what_was_answered_stays_done(runs: Path, releases: Releases, story: Story, make_disk: MakeDisk) -> None:
    rehearsal = Rehearsal(runs, story, releases, make_disk)
    directory = rehearsal.cut_after_the_answer()
    assert Endpoint(directory, CountingDisk()).in_use() == story.new
    rehearsal.check(directory)


@pytest.mark.parametrize("make_disk", [killed, powered_off])
@pytest.mark.parametrize(
    "name",
    [
        "install over two",
        "install over a candidate",
        "rollback to a damaged slot",
        "rollback past a recalled release",
        "rollback of the first release",
    ],
)
def test_a_cut_anywhere_in_the_recovery_does_no_harm(
    runs: Path, releases: Releases, name: str, make_disk: MakeDisk
) -> None:
    rehearsal = Rehearsal(runs, STORIES[name], releases, make_disk)
    for directory in cuts(rehearsal):
        operation = 0
        while (again := rehearsal.cut_recovery_before(directory, operation)) is not None:
            rehearsal.check(again)
            shutil.rmtree(again)
            operation += 1
