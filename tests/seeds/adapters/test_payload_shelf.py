# SPDX-License-Identifier: Apache-2.0
"""Only bytes that are what the manifest says get onto the shelf, and they are looked at again before they are served."""

import errno
import hashlib
import os
from pathlib import Path

import pytest

from seeds.adapters.payload_shelf import PayloadShelf
from signing.errors import BadInput, ContentMismatch
from signing.manifest import Content

DATA = b"transport" * 1_000
CONTENT = Content(sha256=hashlib.sha256(DATA).hexdigest(), size=len(DATA))


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "built.zst"
    path.write_bytes(DATA)
    return path


@pytest.fixture
def payloads(tmp_path: Path) -> Path:
    return tmp_path / "payloads"


@pytest.fixture
def shelf(payloads: Path) -> PayloadShelf:
    return PayloadShelf(payloads)


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def test_a_file_goes_from_staged_to_served(shelf: PayloadShelf, source: Path, payloads: Path) -> None:
    shelf.stage(source, CONTENT)
    assert names(payloads) == [".staged"]
    shelf.serve(CONTENT)
    shelf.serve(CONTENT)
    shelf.unstage(CONTENT)
    shelf.unstage(CONTENT)
    assert names(payloads / ".staged") == []
    assert (payloads / CONTENT.sha256).read_bytes() == DATA


def test_editing_the_original_changes_nothing(shelf: PayloadShelf, source: Path, payloads: Path) -> None:
    shelf.stage(source, CONTENT)
    source.write_bytes(b"evil")
    shelf.serve(CONTENT)
    assert (payloads / CONTENT.sha256).read_bytes() == DATA


@pytest.mark.parametrize("other", [DATA[:-1], DATA + b"x", b"y" + DATA[1:], b""])
def test_other_bytes_are_not_staged(shelf: PayloadShelf, source: Path, payloads: Path, other: bytes) -> None:
    source.write_bytes(other)
    with pytest.raises(ContentMismatch):
        shelf.stage(source, CONTENT)
    assert names(payloads / ".staged") == []


def test_a_staged_file_that_was_damaged_is_not_served(shelf: PayloadShelf, source: Path, payloads: Path) -> None:
    shelf.stage(source, CONTENT)
    (payloads / ".staged" / CONTENT.sha256).write_bytes(b"z" * len(DATA))
    with pytest.raises(ContentMismatch):
        shelf.serve(CONTENT)
    assert names(payloads) == [".staged"]


def test_a_served_file_that_was_damaged_is_noticed(shelf: PayloadShelf, source: Path, payloads: Path) -> None:
    shelf.stage(source, CONTENT)
    shelf.serve(CONTENT)
    (payloads / CONTENT.sha256).write_bytes(b"z" * len(DATA))
    with pytest.raises(ContentMismatch):
        shelf.serve(CONTENT)


def test_what_is_missing_is_named(shelf: PayloadShelf, source: Path) -> None:
    with pytest.raises(BadInput, match="build the release again"):
        shelf.serve(CONTENT)
    source.unlink()
    with pytest.raises(BadInput, match=r"built\.zst"):
        shelf.stage(source, CONTENT)


def test_a_full_disk_is_said_in_words_and_leaves_nothing(
    shelf: PayloadShelf, source: Path, payloads: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run_full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", run_full)
    with pytest.raises(BadInput, match="No space left on device; free some space"):
        shelf.stage(source, CONTENT)
    assert names(payloads / ".staged") == []
