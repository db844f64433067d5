# SPDX-License-Identifier: Apache-2.0
"""Zips as real tools write them, and what a wheel says of itself."""

import io
import stat
import zipfile
from pathlib import Path

import pytest

from seeds.adapters.sources import zip_archive
from seeds.adapters.sources.opening import Source, open_source
from signing.errors import BadInput
from tests.hostile.zips import DEFLATED, ZipMember, zip_of

METADATA = b"""Metadata-Version: 2.1
Name: Some.Package_name
Version: 1.2.3
Summary: What it does \x1b[31m in a line
Requires-Dist: one>=1
Requires-Dist: two; extra == "x"

The description: it
Version: 9
"""


def contents(source: Source) -> dict[str, bytes | None]:
    return {entry.path: b"".join(entry.read()) if entry.kind.name == "FILE" else None for entry in source.entries}


def opened(data: bytes, place: Path) -> tuple[Source, dict[str, bytes | None]]:
    (place / "a.zip").write_bytes(data)
    with open_source(place / "a.zip", place) as source:
        return source, contents(source)


def test_modes_and_links_come_from_unix_attributes(tmp_path: Path) -> None:
    source, _ = opened(
        zip_of(
            ZipMember(name="run", mode=stat.S_IFREG | 0o755),
            ZipMember(name="no_mode", mode=0),
            ZipMember(name="link", data=b"run", mode=stat.S_IFLNK | 0o777),
        ),
        tmp_path,
    )
    facts = {entry.path: (entry.kind.name, entry.executable, entry.target) for entry in source.entries}
    assert facts == {
        "run": ("FILE", True, ""),
        "no_mode": ("FILE", False, ""),
        "link": ("SYMLINK", False, "run"),
    }


class Pipe(io.RawIOBase):
    """A file that cannot seek, so that zipfile writes sizes behind the data."""

    def __init__(self) -> None:
        self.data = bytearray()

    def writable(self) -> bool:
        return True

    def write(self, data: bytes) -> int:  # type: ignore[override]  # typeshed: any buffer
        self.data += data
        return len(data)


@pytest.mark.parametrize("zip64", [False, True])
def test_sizes_may_follow_the_data(tmp_path: Path, zip64: bool) -> None:
    pipe = Pipe()
    with zipfile.ZipFile(pipe, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("f", "w", force_zip64=zip64) as f:
        f.write(b"streamed " * 1000)
    assert opened(bytes(pipe.data), tmp_path)[1] == {"f": b"streamed " * 1000}


def test_zip64_sizes_are_read(tmp_path: Path) -> None:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive, archive.open("f", "w", force_zip64=True) as member:
        member.write(b"large, in theory")
    assert opened(file.getvalue(), tmp_path)[1] == {"f": b"large, in theory"}


@pytest.mark.parametrize("flags", [0, 0x800])
def test_utf8_names_need_no_flag(tmp_path: Path, flags: int) -> None:
    assert opened(zip_of(ZipMember(name="été/日", flags=flags)), tmp_path)[1] == {"été": None, "été/日": b"x"}


def test_large_member_is_inflated_in_pieces(tmp_path: Path) -> None:
    data = bytes(5 << 20) + b"end"
    (tmp_path / "a.zip").write_bytes(zip_of(ZipMember(name="zeros", data=data, method=DEFLATED)))
    with open_source(tmp_path / "a.zip", tmp_path) as source:
        chunks = list(source.entries[0].read())
    assert b"".join(chunks) == data
    assert max(map(len, chunks)) <= 1 << 20


def test_private_files_are_counted_as_a_loss(tmp_path: Path) -> None:
    source, _ = opened(zip_of(ZipMember(name="secret", mode=stat.S_IFREG | 0o600)), tmp_path)
    assert source.suggested.ignored == ("files that not everybody could read, and now can: 1, first 'secret'",)


def test_wheel_says_what_it_is(tmp_path: Path) -> None:
    source, _ = opened(zip_of(ZipMember(name="p-1.dist-info/METADATA", data=METADATA, method=DEFLATED)), tmp_path)
    assert source.suggested.product == "some-package-name"
    assert source.suggested.version == "1.2.3"
    assert source.suggested.depends == 'one>=1, two; extra == "x"'
    assert source.suggested.summary == "What it does [31m in a line"


@pytest.mark.parametrize(
    "names", [(), ("a.dist-info/METADATA", "b.dist-info/METADATA"), ("deep/a.dist-info/METADATA",)]
)
def test_other_zips_say_nothing(tmp_path: Path, names: tuple[str, ...]) -> None:
    members = [ZipMember(name=name, data=METADATA) for name in (*names, "file")]
    source, _ = opened(zip_of(*members), tmp_path)
    assert (source.suggested.product, source.suggested.version) == (None, None)


def test_central_directory_is_bounded_before_it_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zip_archive, "MAX_CENTRAL_DIRECTORY_BYTES", 4000)
    assert len(opened(zip_of(*(ZipMember(name=f"{index}") for index in range(20))), tmp_path)[1]) == 20
    with pytest.raises(BadInput, match="central directory of more than 4000 bytes"):
        opened(zip_of(*(ZipMember(name=f"{index}") for index in range(200))), tmp_path)
