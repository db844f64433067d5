# SPDX-License-Identifier: Apache-2.0
"""No hostile archive becomes a payload, in whatever it is wrapped; each refusal names the archive and leaves nothing."""

import bz2
import gzip
import lzma
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard

from seeds.adapters.payload_builder import build_payload
from signing.errors import BadInput
from tests.hostile.archives import GOOD, hostile_tars, malformed_tars, tar, tar_member
from tests.hostile.debs import deb, hostile_debs
from tests.hostile.zips import ZipMember, hostile_zips, zip_of

TARS = hostile_tars() | malformed_tars()
ARCHIVES = (
    {f"tar-{name}": data for name, data in TARS.items()}
    | {f"zip-{name}": data for name, data in hostile_zips().items()}
    | {f"deb-{name}": data for name, data in hostile_debs().items()}
)
PACK: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "bzip2": bz2.compress,
    "xz": lzma.compress,
    "zstd": zstandard.compress,
}


def refusal(tmp_path: Path, data: bytes) -> str:
    """What a build of `data` is refused with."""
    archive, out = tmp_path / "archive", tmp_path / "out"
    archive.write_bytes(data)
    with pytest.raises(BadInput) as caught:
        build_payload(archive, out)
    assert list(out.iterdir()) == []
    return str(caught.value)


@pytest.mark.parametrize("name", ARCHIVES)
def test_archive_is_refused_by_its_name(tmp_path: Path, name: str) -> None:
    assert refusal(tmp_path, ARCHIVES[name]).startswith(f"{tmp_path / 'archive'}: ")


@pytest.mark.parametrize("codec", PACK)
@pytest.mark.parametrize("name", ["parent_escape", "size_beyond_end", "cut_in_data", "nothing", "no_end_marker"])
def test_tar_is_refused_through_every_codec(tmp_path: Path, name: str, codec: str) -> None:
    refusal(tmp_path, PACK[codec](TARS[name]))


# In a package an absolute link means the package's own root: there it is no attack.
@pytest.mark.parametrize("name", TARS.keys() - {"symlink_absolute"})
def test_tar_is_refused_inside_of_a_package(tmp_path: Path, name: str) -> None:
    refusal(tmp_path, deb(TARS[name]))


@pytest.mark.parametrize("codec", PACK)
def test_cut_compressed_tar_is_refused(tmp_path: Path, codec: str) -> None:
    packed = PACK[codec](ARCHIVES["tar-members_after_the_end"] + bytes(range(256)) * 400)
    assert "truncated" in refusal(tmp_path, packed[: len(packed) // 2])


@pytest.mark.parametrize("codec", PACK)
def test_damaged_compressed_tar_is_refused(tmp_path: Path, codec: str) -> None:
    packed = bytearray(PACK[codec](tar(GOOD)))
    packed[len(packed) // 2 :] = b"\xff" * (len(packed) // 2 + 1)
    refusal(tmp_path, bytes(packed))


@pytest.mark.parametrize("codec", ["bzip2", "xz", "zstd"])  # deflate cannot: its ratio ends at 1,032
def test_decompression_bomb_is_stopped_early(tmp_path: Path, codec: str) -> None:
    assert "decompresses to more than 1100 times" in refusal(tmp_path, PACK[codec](bytes(100 << 20)))


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (tar(tar_member("su\x1b[31m", mode=0o4755)), r"\x1b[31m"),
        (zip_of(ZipMember(name="a\x1b[31m/../b")), r"\x1b[31m"),
    ],
)
def test_hostile_names_are_printed_harmlessly(tmp_path: Path, data: bytes, problem: str) -> None:
    message = refusal(tmp_path, data)
    assert problem in message
    assert message.isprintable()


@pytest.mark.parametrize("data", [b"", b"plain text, no archive\n", bytes(100), b"\x7fELF" + bytes(600)])
def test_what_is_no_archive_is_told_what_would_be(tmp_path: Path, data: bytes) -> None:
    assert "name a directory, a wheel or zip, a tar" in refusal(tmp_path, data)
