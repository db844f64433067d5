# SPDX-License-Identifier: Apache-2.0
"""Compressed streams: all of what honest tools write is read; what needs too much is refused before it gets it."""

import bz2
import gzip
import lzma
from collections.abc import Callable
from functools import partial
from pathlib import Path

import psutil
import pytest
import zstandard

from seeds.adapters.sources import compression
from seeds.adapters.sources.compression import check_ratio, codec_of, spooled
from seeds.adapters.sources.region import open_file
from signing.errors import BadInput

TEXT = b"".join(b"%d bottles\n" % index for index in range(100_000))
PACK: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "bzip2": bz2.compress,
    "xz": partial(lzma.compress, preset=0),
    "zstd": zstandard.compress,
}


def unpacked(packed: bytes, place: Path, *, max_bytes: int = 1 << 30) -> bytes:
    (place / "packed").write_bytes(packed)
    with open_file(place / "packed") as region:
        codec = codec_of(region)
        assert codec is not None
        with spooled(region, codec, place, max_bytes=max_bytes) as plain:
            assert [entry.name for entry in place.iterdir()] == ["packed"], "the spool has no name"
            return plain.read_at(0, plain.size)


@pytest.mark.parametrize("codec", PACK)
def test_stream_comes_back_whole(tmp_path: Path, codec: str) -> None:
    assert unpacked(PACK[codec](TEXT), tmp_path) == TEXT


@pytest.mark.parametrize("codec", PACK)
def test_several_streams_in_a_row_are_one(tmp_path: Path, codec: str) -> None:
    # pigz, pbzip2, pxz and pzstd write such files.
    assert unpacked(PACK[codec](TEXT) + PACK[codec](b"and more"), tmp_path) == TEXT + b"and more"


@pytest.mark.parametrize("zeros", [4, 1 << 20, (1 << 20) + 4])
def test_padding_between_and_after_xz_streams_is_skipped(tmp_path: Path, zeros: int) -> None:
    padded = lzma.compress(b"one") + bytes(zeros) + lzma.compress(b"two") + bytes(zeros)
    assert unpacked(padded, tmp_path) == b"onetwo"


@pytest.mark.parametrize("codec", ["gzip", "bzip2", "xz"])
def test_cut_stream_is_refused(tmp_path: Path, codec: str) -> None:
    # A cut zstd stream gives what there is; the tar inside has no end then.
    with pytest.raises(BadInput, match=f"is no readable {codec} stream"):
        unpacked(PACK[codec](TEXT)[:-20], tmp_path)


@pytest.mark.parametrize("codec", ["gzip", "xz", "zstd"])
def test_garbage_after_the_stream_is_refused(tmp_path: Path, codec: str) -> None:
    with pytest.raises(BadInput, match=f"is no readable {codec} stream"):
        unpacked(PACK[codec](TEXT) + b"garbage", tmp_path)


@pytest.mark.parametrize("codec", PACK)
def test_size_is_bounded(tmp_path: Path, codec: str) -> None:
    with pytest.raises(BadInput, match="decompresses to more than 2000 bytes"):
        unpacked(PACK[codec](TEXT), tmp_path, max_bytes=2000)


def test_memory_of_xz_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compression, "MAX_XZ_MEMORY_BYTES", 1 << 20)
    with pytest.raises(BadInput, match="no readable xz stream"):
        unpacked(lzma.compress(TEXT), tmp_path)


def test_memory_of_zstd_is_bounded(tmp_path: Path) -> None:
    parameters = zstandard.ZstdCompressionParameters.from_level(3, window_log=28)
    compressor = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    with pytest.raises(BadInput, match="no readable zstd stream"):
        unpacked(compressor.compress(TEXT) + compressor.flush(), tmp_path)


def test_xz_at_its_strongest_is_within_bounds(tmp_path: Path) -> None:
    assert unpacked(lzma.compress(b"small", preset=9 | lzma.PRESET_EXTREME), tmp_path) == b"small"


def test_ratio_is_of_no_interest_while_small() -> None:
    check_ratio("here", packed=1, unpacked=64 << 20)
    with pytest.raises(BadInput, match="1100 times its 1 bytes"):
        check_ratio("here", packed=1, unpacked=(64 << 20) + 1)
    check_ratio("here", packed=1 << 20, unpacked=1100 << 20)


def test_nothing_stays_open(tmp_path: Path) -> None:
    before = psutil.Process().num_fds()
    with pytest.raises(BadInput):
        unpacked(gzip.compress(TEXT)[:-20], tmp_path)
    assert psutil.Process().num_fds() == before
