# SPDX-License-Identifier: Apache-2.0
"""Files whole and by range: out of the page cache, off the disk, and of systems that cannot tell the two apart."""

import errno
import os
from collections.abc import MutableMapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from seeds.adapters import ranged_file
from seeds.adapters.ranged_file import CHUNK_BYTES, RangedFile

DATA = bytes(range(251)) * (2 * CHUNK_BYTES // 251 + 100)
ETAG = '"0123"'


class Answer:
    """What an application sent."""

    def __init__(self) -> None:
        self.status = 0
        self.headers: dict[str, str] = {}
        self.chunks: list[bytes] = []
        self.is_whole = False

    async def take(self, message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            self.headers = {name.decode(): value.decode() for name, value in message["headers"]}
            assert len(self.headers) == len(message["headers"])
        else:
            assert not self.is_whole
            self.chunks.append(message.get("body", b""))
            self.is_whole = not message.get("more_body", False)

    @property
    def body(self) -> bytes:
        return b"".join(self.chunks)


async def never() -> MutableMapping[str, Any]:
    raise AssertionError("nobody has to listen for the peer while it is served")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "file"
    path.write_bytes(DATA)
    return path


async def ask(path: Path, *, method: str = "GET", take: Any = None, **headers: str) -> Answer:
    answer = Answer()
    raw = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    scope = {"type": "http", "method": method, "headers": raw, "asgi": {"spec_version": "2.4"}}
    response = RangedFile(path, headers={"etag": ETAG}, media_type="text/plain", stat_result=path.stat())
    await response(scope, never, take or answer.take)
    return answer


@pytest.mark.parametrize(
    "question",
    [
        {},
        {"range": "bytes=0-9", "if_range": '"another"'},
        {"range": "bytes=0-9", "if_range": f"W/{ETAG}"},
        {"range": "bytes=" + ",".join(["0-1"] * 17)},  # more than anybody needs
    ],
)
async def test_the_whole_file_comes_in_few_chunks(path: Path, question: dict[str, str]) -> None:
    answer = await ask(path, **question)
    assert (answer.status, answer.is_whole, answer.body) == (200, True, DATA)
    assert answer.headers["content-length"] == str(len(DATA))
    assert len(answer.chunks) <= len(DATA) // CHUNK_BYTES + 1


@given(start=st.integers(0, len(DATA) - 1), length=st.integers(1, len(DATA) + 10))
@settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
async def test_any_range_is_of_the_file(path: Path, start: int, length: int) -> None:
    answer = await ask(path, range=f"bytes={start}-{start + length - 1}", if_range=ETAG)
    expected = DATA[start : start + length]
    assert (answer.status, answer.is_whole, answer.body) == (206, True, expected)
    assert answer.headers["content-range"] == f"bytes {start}-{start + len(expected) - 1}/{len(DATA)}"
    assert answer.headers["content-length"] == str(len(expected))
    assert max(map(len, answer.chunks)) <= CHUNK_BYTES


async def test_several_ranges_come_in_parts(path: Path) -> None:
    answer = await ask(path, range="bytes=0-1,10-11")
    assert answer.status == 206
    assert answer.headers["content-type"].startswith("multipart/byteranges")
    assert DATA[10:12] in answer.body


@pytest.mark.parametrize(
    ("asked", "status"),
    [
        (f"bytes={len(DATA)}-", 416),
        ("bytes=99999999999999999999-", 416),
        ("bytes=9-3", 400),
        ("bytes=x-y", 400),
        ("lines=0-9", 400),
    ],
)
async def test_ranges_that_make_no_sense_are_refused(path: Path, asked: str, status: int) -> None:
    assert (await ask(path, range=asked)).status == status


async def test_head_reads_nothing(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "open", None)
    answer = await ask(path, method="HEAD", range="bytes=5-9")
    assert (answer.status, answer.body, answer.headers["content-length"]) == (206, b"", "5")


async def test_an_empty_file_is_an_empty_answer(path: Path) -> None:
    path.write_bytes(b"")
    answer = await ask(path)
    assert (answer.status, answer.is_whole, answer.body) == (200, True, b"")


@pytest.mark.parametrize("code", [errno.EAGAIN, errno.EOPNOTSUPP, errno.ENOSYS])
async def test_what_is_not_in_memory_comes_off_the_disk(path: Path, monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    def not_now(*_: object) -> int:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "preadv", not_now)
    assert (await ask(path)).body == DATA


async def test_what_is_in_memory_only_in_part_comes_bit_by_bit(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def little(descriptor: int, buffers: Any, offset: int, _: int) -> int:
        piece = os.pread(descriptor, 50_000, offset)
        buffers[0][: len(piece)] = piece
        return len(piece)

    monkeypatch.setattr(os, "preadv", little)
    answer = await ask(path, range="bytes=7-200006")
    assert answer.body == DATA[7:200_007]


async def test_without_the_flag_a_thread_reads(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ranged_file, "_READ_NOW", None)
    monkeypatch.setattr(os, "preadv", None)
    assert (await ask(path)).body == DATA


async def test_a_broken_disk_is_an_error(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> int:
        raise OSError(errno.EIO, "broken")

    monkeypatch.setattr(os, "preadv", broken)
    with pytest.raises(OSError, match="broken"):
        await ask(path)


async def test_a_file_that_becomes_shorter_is_no_whole_answer(path: Path) -> None:
    answer = Answer()

    async def take(message: MutableMapping[str, Any]) -> None:
        await answer.take(message)
        os.truncate(path, 100)

    with pytest.raises(OSError, match="became shorter"):
        await ask(path, take=take)
    assert not answer.is_whole


async def test_whoever_goes_leaves_no_file_open(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[int] = []
    really_open = os.open

    def keep(name: Path, flags: int) -> int:
        opened.append(really_open(name, flags))
        return opened[-1]

    async def refuse(message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.body":
            raise ConnectionResetError

    monkeypatch.setattr(os, "open", keep)
    with pytest.raises(ConnectionResetError):
        await ask(path, take=refuse)
    [descriptor] = opened
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(descriptor)
