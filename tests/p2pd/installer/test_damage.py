# SPDX-License-Identifier: Apache-2.0
"""What the disk does to us: damaged slots and stores, full disks, operations that fail."""

import errno
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from p2pd.installer.disk import Disk
from p2pd.installer.journal import Phase
from p2pd.installer.refusal import InstallRefused
from signing.errors import BadInput
from signing.reasons import Reason
from tests.p2pd.installer.failing_disk import FullDisk
from tests.p2pd.installer.made_releases import (
    FIRST_FILES,
    SECOND_FILES,
    Endpoint,
    MadeRelease,
    make_release,
)


@pytest.fixture
def first(tmp_path: Path) -> MadeRelease:
    return make_release(tmp_path / "made", "1.0", 10, FIRST_FILES)


@pytest.fixture
def second(tmp_path: Path) -> MadeRelease:
    return make_release(tmp_path / "made", "1.1", 11, SECOND_FILES)


@pytest.fixture
def endpoint(tmp_path: Path, first: MadeRelease) -> Endpoint:
    endpoint = Endpoint(tmp_path / "endpoint")
    endpoint.install(first, commit=True)
    return endpoint


def slot_of(endpoint: Endpoint, release: MadeRelease) -> Path:
    (slot,) = (endpoint.current.parent / "slots").glob(f"*-{release.sha256[:12]}*")
    return slot


@pytest.mark.parametrize("damage", ["changed", "more", "gone"])
def test_a_rollback_to_a_damaged_slot_unpacks_it_again(
    endpoint: Endpoint, first: MadeRelease, second: MadeRelease, damage: str
) -> None:
    endpoint.install(second)
    slot = slot_of(endpoint, first)
    if damage == "changed":
        (slot / "readme").write_bytes(b"evil!\n")
    elif damage == "more":
        (slot / "bin/sh").write_bytes(b"evil")
    else:
        shutil.rmtree(slot)
    endpoint.products.rollback("tool", second.sha256)
    assert endpoint.in_use() == FIRST_FILES
    assert endpoint.slots() == [endpoint.current.resolve().name]


@pytest.mark.parametrize("file", ["transport", "manifest"])
def test_a_rollback_to_what_cannot_be_verified_is_refused(
    endpoint: Endpoint, first: MadeRelease, second: MadeRelease, file: str
) -> None:
    endpoint.install(second)
    stored = endpoint.directory / "state/releases/tool" / first.sha256 / file
    stored.write_bytes(stored.read_bytes()[:-1] + b"?")
    for _ in "again":
        with pytest.raises(InstallRefused, match="cannot be verified") as refused:
            endpoint.products.rollback("tool", second.sha256)
        assert refused.value.reason is Reason.ROLLBACK_FAILED
        assert endpoint.in_use() == SECOND_FILES
        (record,) = endpoint.products.records()
        assert record.phase is Phase.PROBATION


@pytest.mark.parametrize("file", ["transport", "manifest"])
def test_a_rollback_to_what_is_gone_is_refused_for_good(
    endpoint: Endpoint, first: MadeRelease, second: MadeRelease, file: str
) -> None:
    endpoint.install(second)
    (endpoint.directory / "state/releases/tool" / first.sha256 / file).unlink()
    with pytest.raises(InstallRefused, match=f"{file}.*No such file") as refused:
        endpoint.products.rollback("tool", second.sha256)
    assert refused.value.reason is Reason.ROLLBACK_FAILED
    assert endpoint.in_use() == SECOND_FILES


@pytest.mark.parametrize("file", ["transport", "manifest"])
def test_a_disk_that_does_not_give_the_fallback_back_is_no_proof_of_damage(
    endpoint: Endpoint, second: MadeRelease, file: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    third = make_release(second.transport.parent, "1.2", 12, {"readme": b"third\n"})
    endpoint.install(second, commit=True)
    with monkeypatch.context() as patch:
        unreadable(patch, endpoint.directory / "state/releases/tool" / second.sha256 / file)
        with pytest.raises(InstallRefused, match="Input/output error") as refused:
            endpoint.install(third)
        assert refused.value.reason is Reason.STORAGE_FAILED
    endpoint.install(third)
    with monkeypatch.context() as patch:
        unreadable(patch, endpoint.directory / "state/releases/tool" / second.sha256 / file)
        with pytest.raises(InstallRefused, match="Input/output error") as refused:
            endpoint.products.rollback("tool", third.sha256)
        assert refused.value.reason is Reason.STORAGE_FAILED
    endpoint.products.rollback("tool", third.sha256)
    assert endpoint.in_use() == SECOND_FILES


def unreadable(patch: pytest.MonkeyPatch, file: Path) -> None:
    """Nobody can open `file` any more."""
    path_open, os_open = Path.open, os.open

    def refuse(path: object) -> None:
        if path == file:
            raise OSError(errno.EIO, os.strerror(errno.EIO), str(file))

    def open_path(path: Path, *arguments: Any, **more: Any) -> Any:
        refuse(path)
        return path_open(path, *arguments, **more)

    def open_descriptor(path: Any, *arguments: Any, **more: Any) -> int:
        refuse(path)
        return os_open(path, *arguments, **more)

    patch.setattr(Path, "open", open_path)
    patch.setattr(os, "open", open_descriptor)


def test_a_slot_that_the_disk_does_not_give_back_is_unpacked_again(
    endpoint: Endpoint, first: MadeRelease, second: MadeRelease, monkeypatch: pytest.MonkeyPatch
) -> None:
    endpoint.install(second)
    old = slot_of(endpoint, first)
    with monkeypatch.context() as patch:
        unreadable(patch, old)
        endpoint.products.rollback("tool", second.sha256)
    assert endpoint.in_use() == FIRST_FILES
    assert endpoint.current.resolve() != old


def test_a_commit_that_cannot_be_written_down_can_be_asked_again(endpoint: Endpoint, second: MadeRelease) -> None:
    endpoint.install(second)
    with pytest.raises(InstallRefused) as refused:
        Endpoint(endpoint.directory, BrokenDisk("tool.json")).products.commit("tool", second.sha256)
    assert refused.value.reason is Reason.STORAGE_FAILED
    with pytest.raises(InstallRefused) as refused:
        Endpoint(endpoint.directory, FullDisk(0)).products.commit("tool", second.sha256)
    assert refused.value.reason is Reason.DISK_FULL
    endpoint.products.commit("tool", second.sha256)
    (record,) = endpoint.products.records()
    assert record.phase is Phase.IDLE


def test_a_rollback_cut_short_whose_target_is_damaged_meanwhile_leaves_the_candidate_in_use(
    endpoint: Endpoint, first: MadeRelease, second: MadeRelease
) -> None:
    endpoint.install(second)
    (record,) = endpoint.products.records()
    endpoint.journal.write(record.rolling_back(record.previous))
    (endpoint.directory / "state/releases/tool" / first.sha256 / "transport").write_bytes(b"damaged")
    again = Endpoint(endpoint.directory)
    again.products.recover()
    (record,) = again.products.records()
    assert record.phase is Phase.PROBATION
    assert again.in_use() == SECOND_FILES


def test_a_link_that_was_changed_by_hand_is_put_right(endpoint: Endpoint, second: MadeRelease, tmp_path: Path) -> None:
    endpoint.current.unlink()
    endpoint.current.symlink_to(tmp_path)
    Endpoint(endpoint.directory).products.recover()
    assert endpoint.in_use() == FIRST_FILES


def test_a_damaged_record_stops_its_product_and_no_other(
    endpoint: Endpoint, first: MadeRelease, tmp_path: Path
) -> None:
    other = make_release(tmp_path / "other", "3.0", 3, product="other")
    endpoint.products.install(other.manifest, other.transport)
    (endpoint.directory / "state/journal/other.json").write_text('{"product": "other", "installer": "slot", "pha')
    again = Endpoint(endpoint.directory)
    again.products.recover()
    with pytest.raises(BadInput, match=r"other\.json: is damaged .* restore it from a backup"):
        again.products.rollback("other", other.sha256)
    assert [record.product for record in again.products.records()] == ["tool"]
    assert again.products.rollback("tool", "f" * 64) is not None
    assert again.in_use() == FIRST_FILES


@pytest.mark.parametrize("files", range(7))
def test_a_full_disk_refuses_and_leaves_nothing(
    endpoint: Endpoint, second: MadeRelease, tmp_path: Path, files: int
) -> None:
    before = endpoint.listing()
    full = Endpoint(endpoint.directory, FullDisk(files))
    with pytest.raises(InstallRefused, match="no space left") as refused:
        full.install(second)
    assert refused.value.reason is Reason.DISK_FULL
    again = Endpoint(endpoint.directory)
    again.products.recover()
    assert again.listing() == before
    assert again.in_use() == FIRST_FILES
    again.install(second, commit=True)
    assert again.in_use() == SECOND_FILES


def test_how_many_files_an_install_creates(endpoint: Endpoint, second: MadeRelease) -> None:
    """Seven until it is in use, so that the test above has met each of them on a full disk."""
    disk = FullDisk(100)
    Endpoint(endpoint.directory, disk).install(second)
    assert 100 - disk.left == 1 + 2 + len(SECOND_FILES) + 1, "record, manifest and transport, files, record"


def test_too_little_room_is_seen_before_anything_is_unpacked(
    endpoint: Endpoint, second: MadeRelease, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = endpoint.listing()
    room = shutil.disk_usage(endpoint.directory)._replace(free=second.manifest.manifest.payload.size - 1)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: room)
    with pytest.raises(InstallRefused) as refused:
        endpoint.install(second)
    assert refused.value.reason is Reason.DISK_FULL
    assert endpoint.listing() == before


class BrokenDisk(Disk):
    """Cannot rename one kind of name."""

    def __init__(self, name: str) -> None:
        self.name = name

    def rename(self, source: Path, target: Path) -> None:
        """See Disk."""
        if target.name == self.name:
            raise PermissionError(1, "Operation not permitted", str(target))
        super().rename(source, target)


def test_a_switch_that_fails_is_undone(endpoint: Endpoint, second: MadeRelease) -> None:
    before = endpoint.listing()
    broken = Endpoint(endpoint.directory, BrokenDisk("current"))
    with pytest.raises(InstallRefused) as refused:
        broken.install(second)
    assert refused.value.reason is Reason.STORAGE_FAILED
    again = Endpoint(endpoint.directory)
    again.products.recover()
    (record,) = again.products.records()
    assert (again.in_use(), record.phase) == (FIRST_FILES, Phase.IDLE)
    assert again.listing() == before


def test_a_switch_back_that_fails_is_resumed(endpoint: Endpoint, second: MadeRelease) -> None:
    endpoint.install(second)
    with pytest.raises(InstallRefused) as refused:
        Endpoint(endpoint.directory, BrokenDisk("current")).products.rollback("tool", second.sha256)
    assert refused.value.reason is Reason.STORAGE_FAILED
    assert endpoint.in_use() == SECOND_FILES
    Endpoint(endpoint.directory).products.recover()
    assert endpoint.in_use() == FIRST_FILES


def test_a_slot_that_is_gone_is_healed_by_the_next_release(endpoint: Endpoint, second: MadeRelease) -> None:
    shutil.rmtree(endpoint.current.resolve())
    endpoint.products.recover()
    endpoint.install(second)
    endpoint.products.rollback("tool", second.sha256)
    assert endpoint.in_use() == FIRST_FILES


def test_what_cannot_be_removed_is_no_failure(
    endpoint: Endpoint, second: MadeRelease, monkeypatch: pytest.MonkeyPatch
) -> None:
    third = make_release(second.transport.parent, "1.2", 12, {"readme": b"third\n"})
    endpoint.install(second, commit=True)
    endpoint.install(third)

    def refuse(path: Path) -> None:
        raise PermissionError(1, "Operation not permitted", str(path))

    with monkeypatch.context() as patch:
        patch.setattr(endpoint.disk, "remove_tree", refuse)
        endpoint.products.commit("tool", third.sha256)
    assert len(endpoint.slots()) == 3
    Endpoint(endpoint.directory).products.recover()
    assert len(endpoint.slots()) == 2


def test_a_full_disk_while_a_damaged_fallback_is_unpacked_again(
    endpoint: Endpoint, first: MadeRelease, second: MadeRelease
) -> None:
    endpoint.install(second)
    (slot_of(endpoint, first) / "readme").write_bytes(b"evil!\n")
    slots = endpoint.slots()
    with pytest.raises(InstallRefused) as refused:
        Endpoint(endpoint.directory, FullDisk(1)).products.rollback("tool", second.sha256)
    assert refused.value.reason is Reason.DISK_FULL
    assert (endpoint.in_use(), endpoint.slots()) == (SECOND_FILES, slots)
    endpoint.products.rollback("tool", second.sha256)
    assert endpoint.in_use() == FIRST_FILES
