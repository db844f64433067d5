# SPDX-License-Identifier: Apache-2.0
"""Deltas and bases that are not what was signed: refused with a reason, and nothing is left behind."""

import hashlib
import math
import os
import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import zstandard

from p2pd.adapters import rebuild_process, rebuilding
from p2pd.adapters.rebuild_process import RebuildProcess
from p2pd.host.delta_file import MAGIC, Window, make_patch, pack
from p2pd.ports_control import StorageFailed
from p2pd.ports_delta import Base, Rebuild, RebuildFailed
from signing.manifest import Content
from signing.reasons import Reason

OLD = random.Random(1).randbytes(20_000)  # noqa: S311 (content for tests)
NEW = OLD[:9_000] + b"what is new" * 50 + OLD[9_500:]


def content(data: bytes) -> Content:
    return Content(sha256=hashlib.sha256(data).hexdigest(), size=len(data))


def delta_between(old: bytes, new: bytes) -> bytes:
    return MAGIC + pack(Window(0, len(old), len(new), make_patch(old, new)))


def a_rebuild(directory: Path, *, is_compressed: bool = False, delta: bytes | None = None) -> Rebuild:
    """What an honest agent asks for, with its files in place; `delta` counts as the signed one."""
    delta = delta_between(OLD, NEW) if delta is None else delta
    (directory / "base").write_bytes(zstandard.ZstdCompressor().compress(OLD) if is_compressed else OLD)
    (directory / "delta").write_bytes(delta)
    return Rebuild(
        base=Base(path=directory / "base", content=content(OLD), is_compressed=is_compressed),
        delta=directory / "delta",
        delta_content=content(delta),
        result=directory / "result" / "office",
        payload=content(NEW),
    )


def left_behind(work: Rebuild) -> list[Path]:
    return list(work.result.parent.iterdir()) if work.result.parent.exists() else []


@pytest.mark.parametrize("is_compressed", [False, True])
async def test_an_honest_delta_makes_the_payload(tmp_path: Path, is_compressed: bool) -> None:
    work = a_rebuild(tmp_path, is_compressed=is_compressed)
    await RebuildProcess().rebuild(work)
    assert work.result.read_bytes() == NEW
    assert left_behind(work) == [work.result]
    await RebuildProcess().rebuild(work)  # again, over what is there
    assert work.result.read_bytes() == NEW


def corrupted(work: Rebuild) -> Rebuild:
    data = bytearray(work.base.path.read_bytes())
    data[len(data) // 2] ^= 1
    work.base.path.write_bytes(data)
    return work


def symlinked(work: Rebuild) -> Rebuild:
    """The right bytes, but through a link."""
    work.base.path.rename(work.base.path.with_name("elsewhere"))
    work.base.path.symlink_to("elsewhere")
    return work


def gone(work: Rebuild) -> Rebuild:
    work.base.path.unlink()
    return work


def a_pipe(work: Rebuild) -> Rebuild:
    work.base.path.unlink()
    os.mkfifo(work.base.path)
    return work


def a_directory(work: Rebuild) -> Rebuild:
    work.base.path.unlink()
    work.base.path.mkdir()
    return work


def longer(work: Rebuild) -> Rebuild:
    with work.base.path.open("ab") as file:
        file.write(b"x")
    return work


def another_frame(work: Rebuild) -> Rebuild:
    """A frame that goes on after the base, as a decompression bomb does."""
    frame = zstandard.ZstdCompressor().compress(OLD + bytes(50_000_000))
    work.base.path.write_bytes(frame)
    return replace(work, base=replace(work.base, is_compressed=True))


@pytest.mark.parametrize("spoil", [corrupted, symlinked, gone, a_pipe, a_directory, longer, another_frame])
def test_a_base_that_is_not_what_was_signed(tmp_path: Path, spoil: Callable[[Rebuild], Rebuild]) -> None:
    work = spoil(a_rebuild(tmp_path))
    with pytest.raises(RebuildFailed) as refused:
        rebuilding.rebuild(work)
    assert refused.value.reason is Reason.DELTA_BASE_DIFFERS
    assert left_behind(work) == []


def test_a_compressed_base_that_is_damaged(tmp_path: Path) -> None:
    work = corrupted(a_rebuild(tmp_path, is_compressed=True))
    with pytest.raises(RebuildFailed) as refused:
        rebuilding.rebuild(work)
    assert refused.value.reason is Reason.DELTA_BASE_DIFFERS


def test_a_base_that_is_swapped_meanwhile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Overwritten in place after it was hashed: the result is wrong, and never seen under its name."""
    work = a_rebuild(tmp_path)
    real = rebuilding._apply

    def swap_first(*arguments: object) -> None:
        work.base.path.write_bytes(bytes(len(OLD)))
        real(*arguments)  # type: ignore[arg-type]  # handed on as they came

    monkeypatch.setattr(rebuilding, "_apply", swap_first)
    with pytest.raises(RebuildFailed) as refused:
        rebuilding.rebuild(work)
    assert refused.value.reason is Reason.DELTA_FAILED
    assert left_behind(work) == []


def test_a_base_that_is_replaced_meanwhile_is_the_one_that_was_hashed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    work = a_rebuild(tmp_path)
    real = rebuilding._apply

    def replace_first(*arguments: object) -> None:
        work.base.path.unlink()
        work.base.path.write_bytes(b"evil")
        real(*arguments)  # type: ignore[arg-type]  # handed on as they came

    monkeypatch.setattr(rebuilding, "_apply", replace_first)
    rebuilding.rebuild(work)
    assert work.result.read_bytes() == NEW


DELTAS = {
    "for another base": delta_between(OLD[:100] + b"?" + OLD[101:], NEW),
    "for another base of another size": delta_between(OLD + b"?", NEW),
    "of another payload of the same size": delta_between(OLD, bytes(len(NEW))),
    "that makes more": delta_between(OLD, NEW + b"more"),
    "that makes less": delta_between(OLD, NEW[:-1]),
    "that is empty": MAGIC,
    "that is no delta": b"PK\x03\x04" * 50,
    "that is truncated": delta_between(OLD, NEW)[:-1],
    "with something after it": delta_between(OLD, NEW) + b"x",
    "with a bomb": MAGIC + pack(Window(0, 0, len(NEW), make_patch(b"", bytes(5_000_000)))),
}
NOISE = {
    f"{kept} bytes and noise": MAGIC
    + pack(Window(0, len(OLD), len(NEW), make_patch(OLD, NEW)[:kept] + random.Random(kept).randbytes(300)))  # noqa: S311
    for kept in (20, 40, 60)
}


@pytest.mark.parametrize("delta", DELTAS.values(), ids=DELTAS.keys())
def test_a_signed_delta_that_does_not_make_the_payload(tmp_path: Path, delta: bytes) -> None:
    """Its SHA-256 is the signed one: an honest mistake at the builder, or two stolen release keys."""
    work = a_rebuild(tmp_path, delta=delta)
    with pytest.raises(RebuildFailed) as refused:
        rebuilding.rebuild(work)
    assert refused.value.reason is Reason.DELTA_FAILED
    assert left_behind(work) == []


@pytest.mark.parametrize("delta", NOISE.values(), ids=NOISE.keys())
async def test_a_signed_patch_of_noise_costs_a_process_at_most(tmp_path: Path, delta: bytes) -> None:
    work = a_rebuild(tmp_path, delta=delta)
    with pytest.raises(RebuildFailed) as refused:
        await RebuildProcess().rebuild(work)
    assert refused.value.reason is Reason.DELTA_FAILED
    assert left_behind(work) == []


@pytest.mark.parametrize("spoil", [lambda data: data[:-1], lambda data: data[:-1] + b"?", lambda data: data + b"x"])
def test_a_delta_that_is_not_the_signed_one_is_not_looked_into(
    tmp_path: Path, spoil: Callable[[bytes], bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    work = a_rebuild(tmp_path)
    work.delta.write_bytes(spoil(work.delta.read_bytes()))
    monkeypatch.delattr(rebuilding, "windows")
    with pytest.raises(RebuildFailed, match="not the delta that was signed") as refused:
        rebuilding.rebuild(work)
    assert refused.value.reason is Reason.DELTA_FAILED


def test_a_symlinked_delta_is_refused(tmp_path: Path) -> None:
    work = a_rebuild(tmp_path)
    work.delta.rename(tmp_path / "elsewhere")
    work.delta.symlink_to("elsewhere")
    with pytest.raises(RebuildFailed, match="cannot be opened"):
        rebuilding.rebuild(work)


async def test_a_process_that_takes_too_long_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rebuild_process, "SLOWEST_BYTES_PER_SECOND", math.inf)
    with pytest.raises(RebuildFailed, match="longer than") as refused:
        await RebuildProcess(patience_seconds=0).rebuild(a_rebuild(tmp_path))
    assert refused.value.reason is Reason.DELTA_FAILED


async def test_a_process_that_dies_says_how(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shell = tmp_path / "python"
    shell.write_text("#!/bin/sh\nkill -SEGV $$\n")
    shell.chmod(0o755)
    monkeypatch.setattr("sys.executable", str(shell))
    with pytest.raises(RebuildFailed, match="SIGSEGV") as refused:
        await RebuildProcess().rebuild(a_rebuild(tmp_path))
    assert refused.value.reason is Reason.DELTA_FAILED


async def test_a_disk_that_cannot_be_written_is_nobodys_fault(tmp_path: Path) -> None:
    work = a_rebuild(tmp_path)
    work.result.parent.write_bytes(b"a file in the way")
    with pytest.raises(StorageFailed):
        await RebuildProcess().rebuild(work)


def test_what_a_kill_left_is_removed(tmp_path: Path) -> None:
    work = a_rebuild(tmp_path)
    work.result.parent.mkdir()
    (work.result.parent / ".new-abc").write_bytes(b"half")
    rebuilding.rebuild(work)
    assert left_behind(work) == [work.result]
