# SPDX-License-Identifier: Apache-2.0
"""p2pd-install's own look at signed metadata."""

import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from p2pd.installer.disk import Disk
from p2pd.installer.verification import Verifier
from signing.errors import (
    BadInput,
    ContentMismatch,
    Expired,
    NotListed,
    NotSigned,
    RolledBack,
    SigningError,
    SourceUnavailable,
)
from signing.recall import RecallList
from signing.trust import TrustClient
from tests.p2pd.installer.failing_disk import FullDisk
from tests.p2pd.installer.made_releases import MadeRelease, make_release
from tests.p2pd.installer.signed_mirror import SignedMirror

NOW = datetime(2030, 1, 1, tzinfo=UTC)


class Clock:
    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def release(tmp_path: Path) -> MadeRelease:
    return make_release(tmp_path / "made", "1.0", 10)


@pytest.fixture
def mirror(tmp_path: Path, release: MadeRelease) -> SignedMirror:
    mirror = SignedMirror(tmp_path / "mirror", NOW)
    mirror.sign(release)
    return mirror


def open_verifier(tmp_path: Path, mirror: SignedMirror, clock: Clock, disk: Disk | None = None) -> Verifier:
    directory = tmp_path / "trust"
    directory.mkdir(exist_ok=True)
    verifier = Verifier(directory, disk or Disk(), now=clock)
    verifier.prepare(mirror.root)
    return verifier


@pytest.fixture
def verifier(tmp_path: Path, mirror: SignedMirror, clock: Clock) -> Verifier:
    return open_verifier(tmp_path, mirror, clock)


def test_a_signed_release_is_read(verifier: Verifier, mirror: SignedMirror, release: MadeRelease) -> None:
    manifest = verifier.verify("tool", "1.0", mirror.directory)
    assert manifest == release.manifest
    assert verifier.recall_of(release.sha256) is None


def test_nothing_is_kept_but_metadata_and_recalls(
    verifier: Verifier, mirror: SignedMirror, release: MadeRelease, tmp_path: Path
) -> None:
    mirror.recall(release)
    verifier.verify("tool", "1.0", mirror.directory)
    before = sorted(tmp_path.joinpath("trust").rglob("*"))
    assert {path.name for path in tmp_path.joinpath("trust").iterdir()} == {"metadata", "recalls"}
    verifier.verify("tool", "1.0", mirror.directory)
    assert sorted(tmp_path.joinpath("trust").rglob("*")) == before


def test_what_is_not_listed_is_refused(verifier: Verifier, mirror: SignedMirror) -> None:
    with pytest.raises(NotListed):
        verifier.verify("tool", "2.0", mirror.directory)


def test_expired_metadata_is_refused(verifier: Verifier, mirror: SignedMirror, clock: Clock) -> None:
    clock.now += timedelta(days=31)
    with pytest.raises(Expired):
        verifier.verify("tool", "1.0", mirror.directory)


def test_one_release_key_alone_signs_nothing(verifier: Verifier, mirror: SignedMirror, tmp_path: Path) -> None:
    mirror.repository.signers["patches"].pop()
    mirror.sign(make_release(tmp_path / "made", "1.1", 11))
    with pytest.raises(NotSigned):
        verifier.verify("tool", "1.1", mirror.directory)


def test_superseded_metadata_is_refused(
    verifier: Verifier, mirror: SignedMirror, release: MadeRelease, tmp_path: Path
) -> None:
    old = tmp_path / "old"
    shutil.copytree(mirror.directory, old)
    mirror.recall(release)
    verifier.verify("tool", "1.0", mirror.directory)
    with pytest.raises(RolledBack):
        verifier.verify("tool", "1.0", old)


def test_an_empty_mirror_gives_nothing(verifier: Verifier, tmp_path: Path) -> None:
    for mirror in (tmp_path / "absent", tmp_path):
        with pytest.raises(SourceUnavailable):
            verifier.verify("tool", "1.0", mirror)


def test_a_withheld_recall_list_stops_everything(
    verifier: Verifier, mirror: SignedMirror, release: MadeRelease
) -> None:
    mirror.recall(release)
    shutil.rmtree(mirror.directory / "targets/recalls")
    with pytest.raises(SourceUnavailable):
        verifier.verify("tool", "1.0", mirror.directory)


def test_a_recall_is_remembered_by_the_next_process_when_everything_has_expired(
    verifier: Verifier, mirror: SignedMirror, release: MadeRelease, clock: Clock, tmp_path: Path
) -> None:
    mirror.recall(release)
    verifier.verify("tool", "1.0", mirror.directory)
    clock.now += timedelta(days=1_000)
    recall = open_verifier(tmp_path, mirror, clock).recall_of(release.sha256)
    assert recall is not None
    assert recall.why == "it eats disks"


def test_recalls_are_learned_without_a_release(
    verifier: Verifier, mirror: SignedMirror, release: MadeRelease, tmp_path: Path
) -> None:
    mirror.recall(release)
    shutil.rmtree(mirror.directory / "targets/patches")
    verifier.learn_recalls(mirror.directory)
    assert verifier.recall_of(release.sha256) is not None
    assert open_verifier(tmp_path, mirror, Clock()).recall_of(release.sha256) is not None, "durably"


def test_what_proves_no_recalls_teaches_none_and_raises_nothing(
    verifier: Verifier, mirror: SignedMirror, release: MadeRelease, clock: Clock, tmp_path: Path
) -> None:
    old = tmp_path / "old"
    shutil.copytree(mirror.directory, old)
    verifier.learn_recalls(mirror.directory)
    mirror.recall(release)
    (tmp_path / "odd/metadata").mkdir(parents=True)
    (tmp_path / "odd/metadata/timestamp.json").write_bytes(b"[")
    forged = SignedMirror(tmp_path / "forged", NOW)
    forged.recall(release)
    for directory in (tmp_path / "absent", tmp_path / "odd", forged.directory):
        verifier.learn_recalls(directory)
        assert verifier.recall_of(release.sha256) is None
    clock.now += timedelta(days=31)
    verifier.learn_recalls(mirror.directory)
    assert verifier.recall_of(release.sha256) is None
    clock.now -= timedelta(days=31)
    for directory in (mirror.directory, old, tmp_path / "absent"):
        verifier.learn_recalls(directory)
        assert verifier.recall_of(release.sha256) is not None


def test_a_recall_counts_though_it_cannot_be_written_down(
    mirror: SignedMirror, release: MadeRelease, clock: Clock, tmp_path: Path
) -> None:
    verifier = open_verifier(tmp_path, mirror, clock, FullDisk(0))
    mirror.recall(release)
    verifier.learn_recalls(mirror.directory)
    assert verifier.recall_of(release.sha256) is not None
    assert open_verifier(tmp_path, mirror, clock).recall_of(release.sha256) is None, "it was not"


def test_recalls_are_never_taken_back(verifier: Verifier, mirror: SignedMirror, release: MadeRelease) -> None:
    mirror.recall(release)
    verifier.verify("tool", "1.0", mirror.directory)
    mirror.publish_recalls(RecallList(version=1))
    with pytest.raises(RolledBack, match="recall list"):
        verifier.verify("tool", "1.0", mirror.directory)
    assert verifier.recall_of(release.sha256) is not None


def test_another_root_is_not_taken(verifier: Verifier, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="another root"):
        verifier.prepare(SignedMirror(tmp_path / "other", NOW).root)


def test_what_a_kill_left_behind_is_removed(
    verifier: Verifier, mirror: SignedMirror, clock: Clock, tmp_path: Path
) -> None:
    litter = [tmp_path / "trust" / name for name in ("metadata/tmpabcdef", "metadata/.x.part", ".recalls.new")]
    for path in litter:
        path.touch()
    open_verifier(tmp_path, mirror, clock)
    assert not any(path.exists() for path in litter)


def refreshes(monkeypatch: pytest.MonkeyPatch) -> list[None]:
    """Grows with every refresh."""
    seen = list[None]()
    real = TrustClient.refresh

    def refresh(client: TrustClient) -> None:
        seen.append(None)
        real(client)

    monkeypatch.setattr(TrustClient, "refresh", refresh)
    return seen


def test_one_edition_is_verified_once_for_all_its_releases(
    verifier: Verifier, mirror: SignedMirror, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    counted = refreshes(monkeypatch)
    for _ in range(3):
        verifier.verify("tool", "1.0", mirror.directory)
    assert len(counted) == 1
    mirror.sign(make_release(tmp_path / "newer", "1.1", 11))
    assert verifier.verify("tool", "1.1", mirror.directory).manifest.version == "1.1"
    assert len(counted) == 2, "another timestamp is another edition"


def test_an_edition_that_expires_meanwhile_installs_nothing(
    verifier: Verifier, mirror: SignedMirror, clock: Clock
) -> None:
    verifier.verify("tool", "1.0", mirror.directory)
    clock.now += timedelta(days=31)
    for _ in range(2):
        with pytest.raises(Expired):
            verifier.verify("tool", "1.0", mirror.directory)


def test_what_failed_once_is_verified_anew(
    verifier: Verifier, mirror: SignedMirror, monkeypatch: pytest.MonkeyPatch
) -> None:
    verifier.verify("tool", "1.0", mirror.directory)
    counted = refreshes(monkeypatch)
    with pytest.raises(NotListed):
        verifier.verify("tool", "9.0", mirror.directory)
    assert counted == []
    verifier.verify("tool", "1.0", mirror.directory)
    assert len(counted) == 1


def test_a_newer_root_is_looked_at_even_under_the_same_timestamp(
    verifier: Verifier, mirror: SignedMirror, monkeypatch: pytest.MonkeyPatch
) -> None:
    verifier.verify("tool", "1.0", mirror.directory)
    counted = refreshes(monkeypatch)
    (mirror.directory / "metadata/2.root.json").write_bytes(b"{}")
    with pytest.raises(SigningError):
        verifier.verify("tool", "1.0", mirror.directory)
    assert len(counted) == 1


def test_another_directory_with_the_same_timestamp_is_another_edition(
    verifier: Verifier, mirror: SignedMirror, tmp_path: Path
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(mirror.directory, copy)
    verifier.verify("tool", "1.0", mirror.directory)
    shutil.rmtree(copy / "targets/patches")
    with pytest.raises(SourceUnavailable):
        verifier.verify("tool", "1.0", copy)


def test_bytes_that_are_exchanged_under_the_same_timestamp_are_refused(
    verifier: Verifier, mirror: SignedMirror
) -> None:
    """Metadata count as they were verified; a manifest is hashed whenever it is read."""
    verifier.verify("tool", "1.0", mirror.directory)
    for manifest in (mirror.directory / "targets/patches").rglob("*.manifest"):
        manifest.write_bytes(manifest.read_bytes().replace(b"tool", b"fool"))
    with pytest.raises(ContentMismatch):
        verifier.verify("tool", "1.0", mirror.directory)
