# SPDX-License-Identifier: Apache-2.0
"""The canonical tar: readable by anybody, written the same for ever."""

import hashlib
import io
import shutil
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from seeds.adapters.canonical_tar import tar_bytes, tar_size
from seeds.adapters.sources.entries import Entry, EntryKind
from signing.errors import BadInput


def file(path: str, data: bytes = b"", *, executable: bool = False, size: int | None = None) -> Entry:
    def read() -> Iterator[bytes]:
        return iter((data[:3], data[3:]))

    return Entry(path, EntryKind.FILE, executable, len(data) if size is None else size, "", read)


ENTRIES = (
    Entry("d", EntryKind.DIRECTORY),
    file("d/" + "é" * 60, b"not ASCII"),
    file("d/" + "n" * 100, bytes(512)),
    file("d/run", b"#!", executable=True),
    Entry("link", EntryKind.SYMLINK, target="d/" + "n" * 100),
    file("plain", b"text"),
)


def test_bytes_are_these_for_ever() -> None:
    # If this fails, every payload that was ever signed would be built with another hash: change the test last.
    data = b"".join(tar_bytes(ENTRIES, "here"))
    assert hashlib.sha256(data).hexdigest() == "71b0290d223aeee25be0b40f11b71f9ad292f954b136106be9908fe4bb0b21f1"


def test_size_is_known_before_anything_is_read() -> None:
    assert tar_size(ENTRIES) == len(b"".join(tar_bytes(ENTRIES, "here")))


def test_tarfile_reads_back_what_went_in() -> None:
    with tarfile.open(fileobj=io.BytesIO(b"".join(tar_bytes(ENTRIES, "here"))), mode="r:") as archive:
        members = archive.getmembers()
        run = archive.extractfile("d/run")
        assert run is not None
        assert run.read() == b"#!"
    assert [member.name for member in members] == [entry.path for entry in ENTRIES]
    assert [member.linkname for member in members if member.issym()] == ["d/" + "n" * 100]
    assert {oct(member.mode) for member in members if member.isfile()} == {"0o644", "0o755"}
    assert {(member.mtime, member.uid, member.gid, member.uname, member.gname) for member in members} == {
        (0, 0, 0, "", "")
    }


@pytest.mark.skipif(shutil.which("tar") is None, reason="needs the tar program")
def test_tar_program_extracts_it(tmp_path: Path) -> None:
    (tmp_path / "payload.tar").write_bytes(b"".join(tar_bytes(ENTRIES, "here")))
    (tmp_path / "out").mkdir()
    command = ["tar", "-C", str(tmp_path / "out"), "-xf", str(tmp_path / "payload.tar")]
    result = subprocess.run(command, check=False, capture_output=True, text=True, env={"LC_ALL": "C.UTF-8"})
    assert (result.returncode, result.stderr) == (0, "")
    assert (tmp_path / "out" / "link").read_bytes() == bytes(512)
    assert (tmp_path / "out" / ("d/" + "é" * 60)).read_bytes() == b"not ASCII"


def test_size_of_8_gib_goes_into_a_pax_header() -> None:
    huge = file("huge", size=8**11)
    headers = next(iter(tar_bytes((huge,), "here")))
    parsed = tarfile.TarFile(fileobj=io.BytesIO(headers + bytes(1024))).firstmember  # type: ignore[attr-defined]  # typeshed leaves it out
    assert parsed.size == 8**11
    assert tar_size((huge,)) == len(headers) + 8**11 + 1024


@pytest.mark.parametrize(("declared", "relation"), [(3, "more"), (5, "fewer")])
def test_file_of_another_size_than_declared_is_refused(declared: int, relation: str) -> None:
    with pytest.raises(BadInput, match=f"here: 'lie': has {relation} bytes than the {declared}"):
        b"".join(tar_bytes((file("lie", b"four", size=declared),), "here"))


def test_reading_stops_at_the_first_byte_too_many() -> None:
    def endless() -> Iterator[bytes]:
        while True:
            yield b"x" * 10

    with pytest.raises(BadInput, match="has more bytes"):
        b"".join(tar_bytes((Entry("bomb", EntryKind.FILE, size=25, read=endless),), "here"))
