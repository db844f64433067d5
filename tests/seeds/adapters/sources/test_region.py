# SPDX-License-Identifier: Apache-2.0
"""Regions of files, and the reader that bounds what a parser may take."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from seeds.adapters.sources.region import CHUNK_BYTES, MeteredReader, OverBudget, Region, open_file
from signing.errors import BadInput

DATA = bytes(range(256)) * 5000


@pytest.fixture
def region(tmp_path: Path) -> Iterator[Region]:
    (tmp_path / "file").write_bytes(DATA)
    with open_file(tmp_path / "file") as opened:
        yield opened


def test_reads_end_at_the_end(region: Region) -> None:
    part = region.part(100, 50)
    assert part.read_at(0, 1000) == DATA[100:150]
    assert part.read_at(45, 10) == DATA[145:150]
    assert part.read_at(50, 10) == part.read_at(1000, 10) == b""


def test_chunks_are_bounded_and_whole(region: Region) -> None:
    chunks = list(region.chunks(1, len(DATA) - 1))
    assert b"".join(chunks) == DATA[1:]
    assert max(map(len, chunks)) <= CHUNK_BYTES


@pytest.mark.parametrize(("offset", "count"), [(-1, 1), (0, len(DATA) + 1), (len(DATA), 1), (5, -1)])
def test_part_that_is_not_inside_is_refused(region: Region, offset: int, count: int) -> None:
    with pytest.raises(BadInput, match="truncated"):
        region.part(offset, count)
    with pytest.raises(BadInput, match="truncated"):
        list(region.chunks(offset, count))


def test_named_pipe_and_directory_are_no_files(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", tmp_path):
        with pytest.raises(BadInput, match="neither a directory nor a regular file"), open_file(path):
            pass


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"gone: cannot be read \(No such file"), open_file(tmp_path / "gone"):
        pass


def test_reader_gives_no_more_than_its_budget(region: Region) -> None:
    reader = MeteredReader(region)
    with pytest.raises(OverBudget):
        reader.read(1)
    reader.allow(10)
    assert reader.read(6) == DATA[:6]
    with pytest.raises(OverBudget):
        reader.read(5)
    assert reader.read(4) == DATA[6:10]
    assert reader.tell() == 10


@pytest.mark.parametrize("size", [-2, -512, 1 << 62])
def test_reader_refuses_sizes_out_of_hostile_headers(region: Region, size: int) -> None:
    reader = MeteredReader(region)
    reader.allow(1 << 40)
    with pytest.raises(OverBudget):
        reader.read(size)


def test_reader_reads_the_rest_within_its_budget(region: Region) -> None:
    reader = MeteredReader(region)
    reader.allow(100)
    with pytest.raises(OverBudget):
        reader.read()
    reader.seek(-60, os.SEEK_END)
    assert reader.read() == DATA[-60:]
    with pytest.raises(OSError, match="before the beginning"):
        reader.seek(-1)
