# SPDX-License-Identifier: Apache-2.0
"""Unpacking: what comes out of good payloads, and that nothing comes of hostile ones."""

import errno
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard

from p2pd.installer.disk import Disk
from p2pd.installer.extract import extract, matches
from p2pd.installer.payload_stream import MAX_HEADER_BYTES
from p2pd.installer.refusal import UnsafePayload
from signing.errors import ContentMismatch
from signing.trust import VerifiedPayload, verify_payload
from tests.hostile.archives import DIRECTORY, SYMLINK, hostile_tars, malformed_tars, pax_header, tar, tar_member
from tests.p2pd.installer.made_releases import (
    FIRST_FILES,
    Endpoint,
    make_manifest,
    make_release,
    read_files,
    verified,
)

# Odd, but a reader that has checked the hash may take them: nothing leaves the directory, nothing is ambiguous here.
HARMLESS = {"symlink_loop", "no_end_marker"}

# A payload of no bytes cannot be signed: `Content` refuses the size.
HOSTILE = {name: data for name, data in hostile_tars().items() if data}


@pytest.fixture
def payload(tmp_path: Path) -> VerifiedPayload:
    release = make_release(tmp_path / "made")
    return verify_payload(release.manifest, release.transport)


@pytest.fixture
def slot(tmp_path: Path) -> Path:
    path = tmp_path / "around" / "slot"
    path.mkdir(parents=True, mode=0o700)
    return path


def payload_from(directory: Path, data: bytes) -> VerifiedPayload:
    release = make_release(directory, payload=data)
    return verify_payload(release.manifest, release.transport)


def test_files_links_and_modes_come_out_as_packed(payload: VerifiedPayload, slot: Path) -> None:
    extract(payload, slot, Disk())
    assert read_files(slot) == FIRST_FILES
    assert (slot / "link").readlink() == Path("readme")
    assert oct((slot / "bin/tool").stat().st_mode) == "0o100755"
    assert oct((slot / "readme").stat().st_mode) == "0o100644"
    assert oct((slot / "data").stat().st_mode) == "0o40755"
    assert oct(slot.stat().st_mode) == "0o40755"
    assert matches(payload, slot)


@pytest.mark.parametrize("umask", [0o000, 0o077])
def test_the_umask_has_no_say(payload: VerifiedPayload, slot: Path, umask: int) -> None:
    old = os.umask(umask)
    try:
        extract(payload, slot, Disk())
    finally:
        os.umask(old)
    assert matches(payload, slot)


@pytest.mark.parametrize(
    ("number", "refusal"),
    [(errno.ENAMETOOLONG, UnsafePayload), (errno.EFBIG, UnsafePayload), (errno.EIO, OSError), (errno.ENOSPC, OSError)],
)
def test_what_no_disk_here_can_hold_is_told_from_a_disk_that_fails(
    payload: VerifiedPayload, slot: Path, number: int, refusal: type[Exception]
) -> None:
    class Refusing(Disk):
        def create_file(self, name: str | Path, *, mode: int = 0o600, directory: int | None = None) -> int:
            raise OSError(number, os.strerror(number), str(name))

    with pytest.raises(refusal, match=os.strerror(number)):
        extract(payload, slot, Refusing())


def test_nobody_else_may_write_and_the_owner_always_reads(tmp_path: Path, slot: Path) -> None:
    data = tar(
        tar_member("d", kind=DIRECTORY, mode=0o077), tar_member("d/open", b"x", mode=0o777), tar_member("no", mode=0)
    )
    payload = payload_from(tmp_path, data)
    extract(payload, slot, Disk())
    modes = [oct((slot / name).stat().st_mode & 0o7777) for name in ("d", "d/open", "no")]
    assert modes == ["0o755", "0o755", "0o400"]
    assert matches(payload, slot)


def test_directories_may_be_implied_or_come_after_what_they_hold(tmp_path: Path, slot: Path) -> None:
    payload = payload_from(
        tmp_path, tar(tar_member("a/b/file", b"x"), tar_member("a", kind=DIRECTORY, mode=0o700), tar_member("a/c/x"))
    )
    extract(payload, slot, Disk())
    assert oct((slot / "a").stat().st_mode) == "0o40700"
    assert oct((slot / "a/b").stat().st_mode) == "0o40755"
    assert matches(payload, slot)


def test_long_names_and_inner_links_are_welcome(tmp_path: Path, slot: Path) -> None:
    long = "/".join(["n" * 200] * 10)
    members = [tar_member(long, b"deep"), tar_member("e/up", kind=SYMLINK, link="../" + long)]
    members += [tar_member("e/here", kind=SYMLINK, link="."), tar_member("e/slash", kind=SYMLINK, link="./here/")]
    payload = payload_from(tmp_path, tar(*members))
    extract(payload, slot, Disk())
    assert (slot / "e/here/slash/up").read_bytes() == b"deep"
    assert matches(payload, slot)


@pytest.mark.parametrize("data", HOSTILE.values(), ids=HOSTILE.keys())
def test_hostile_tars_are_refused_and_leave_nothing(tmp_path: Path, data: bytes) -> None:
    endpoint = Endpoint(tmp_path / "endpoint")
    before = endpoint.listing()
    release = make_release(tmp_path / "made", payload=data)
    with pytest.raises((UnsafePayload, ContentMismatch)):
        endpoint.products.install(release.manifest, release.transport)
    left = set(endpoint.listing()) - set(before)
    assert left == {
        "root/products/tool",
        "root/products/tool/slots",
        "state/journal/tool.json",
        "state/releases/tool",
    }
    assert not (tmp_path / "evil").exists()


@pytest.mark.parametrize(("name", "data"), malformed_tars().items(), ids=malformed_tars().keys())
def test_malformed_tars_are_refused_or_harmless(tmp_path: Path, slot: Path, name: str, data: bytes) -> None:
    payload = payload_from(tmp_path, data)
    if name in HARMLESS:
        extract(payload, slot, Disk())
        assert matches(payload, slot)
    else:
        with pytest.raises(UnsafePayload):
            extract(payload, slot, Disk())
    assert os.listdir(slot.parent) == ["slot"]  # noqa: PTH208 (names are what is asked for)


def test_a_refusal_names_the_member_and_escapes_what_terminals_obey(tmp_path: Path, slot: Path) -> None:
    payload = payload_from(tmp_path, tar(tar_member("../\x1b[2Jevil", b"x")))
    with pytest.raises(UnsafePayload, match=r"payload of tool 1: member '\.\./\\x1b\[2Jevil': is not a plain path"):
        extract(payload, slot, Disk())


def test_headers_are_bounded_however_they_are_split(tmp_path: Path, slot: Path) -> None:
    many = [pax_header({b"comment": b"x" * 1_000}) for _ in range(MAX_HEADER_BYTES // 1_000)]
    with pytest.raises(UnsafePayload, match="headers are larger"):
        extract(payload_from(tmp_path, tar(*many, tar_member("a", b"x"))), slot, Disk())


def test_a_decompression_bomb_stops_at_the_signed_size(tmp_path: Path, slot: Path) -> None:
    bomb = tar_member("zeros", declared_size=1 << 30) + bytes(1 << 20)
    transport = zstandard.ZstdCompressor().compress(bomb + bytes(64 << 20))
    path = tmp_path / "bomb"
    path.write_bytes(transport)
    payload = verify_payload(verified(make_manifest(bomb, transport)), path)
    with pytest.raises(ContentMismatch):
        extract(payload, slot, Disk())
    assert (slot / "zeros").stat().st_size <= len(bomb)


def test_a_transport_that_is_not_zstd_is_refused(tmp_path: Path, slot: Path) -> None:
    path = tmp_path / "raw"
    path.write_bytes(b"no zstd frame")
    payload = verify_payload(verified(make_manifest(b"whatever", b"no zstd frame")), path)
    with pytest.raises(UnsafePayload, match="cannot be decompressed"):
        extract(payload, slot, Disk())


def test_a_frame_that_wants_too_much_memory_is_refused(tmp_path: Path, slot: Path) -> None:
    parameters = zstandard.ZstdCompressionParameters(window_log=28, write_content_size=0)
    data = tar(tar_member("a", b"x"))
    compressor = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    transport = compressor.compress(data) + compressor.flush()
    path = tmp_path / "wide"
    path.write_bytes(transport)
    payload = verify_payload(verified(make_manifest(data, transport)), path)
    with pytest.raises(UnsafePayload, match="cannot be decompressed"):
        extract(payload, slot, Disk())


def _replace_by_link(slot: Path) -> None:
    (slot / "readme").rename(slot.parent / "moved")
    (slot / "readme").symlink_to("../moved")


def _replace_directory_by_link(slot: Path) -> None:
    (slot / "data").rename(slot.parent / "moved")
    (slot / "data").symlink_to("../moved")


def _replace_by_pipe(slot: Path) -> None:
    (slot / "readme").unlink()
    os.mkfifo(slot / "readme")


def _replace_by_directory(slot: Path) -> None:
    (slot / "readme").unlink()
    (slot / "readme").mkdir()


def _relink(slot: Path) -> None:
    (slot / "link").unlink()
    (slot / "link").symlink_to("bin/tool")


def _turn_link_into_file(slot: Path) -> None:
    (slot / "link").unlink()
    (slot / "link").write_bytes(b"first\n")


DAMAGES: dict[str, Callable[[Path], object]] = {
    "one bit of a file": lambda slot: (slot / "readme").write_bytes(b"fIrst\n"),
    "a file is longer": lambda slot: (slot / "readme").write_bytes(b"first\n\n"),
    "a file is cut": lambda slot: os.truncate(slot / "data/big", 100),
    "a file is gone": lambda slot: (slot / "readme").unlink(),
    "a directory is gone": lambda slot: shutil.rmtree(slot / "data"),
    "a file more": lambda slot: (slot / "data/more").touch(),
    "a hidden directory more": lambda slot: (slot / ".more").mkdir(),
    "a link more": lambda slot: (slot / "more").symlink_to("readme"),
    "a mode": lambda slot: (slot / "bin/tool").chmod(0o4755),
    "a directory's mode": lambda slot: (slot / "data").chmod(0o777),
    "the slot's mode": lambda slot: slot.chmod(0o777),
    "a file became a link": _replace_by_link,
    "a directory became a link": _replace_directory_by_link,
    "a file became a pipe": _replace_by_pipe,
    "a file became a directory": _replace_by_directory,
    "a link leads elsewhere": _relink,
    "a link became a file": _turn_link_into_file,
    "everything": shutil.rmtree,
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES.keys())
def test_every_difference_is_seen(payload: VerifiedPayload, slot: Path, damage: Callable[[Path], object]) -> None:
    extract(payload, slot, Disk())
    damage(slot)
    assert not matches(payload, slot)


@pytest.mark.skipif(os.geteuid() != 0, reason="giving files away needs root")
def test_a_file_of_another_owner_is_seen(payload: VerifiedPayload, slot: Path) -> None:
    extract(payload, slot, Disk())
    os.chown(slot / "readme", 65_534, 65_534)
    assert not matches(payload, slot)
