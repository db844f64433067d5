# SPDX-License-Identifier: Apache-2.0
"""The two ends of a payload agree: what `p2pctl patch build` packs, p2pd-install unpacks, file by file."""

import os
import stat
from pathlib import Path

import pytest

from p2pd.installer.disk import Disk
from p2pd.installer.extract import extract, matches
from seeds.adapters.payload_builder import build_payload
from signing.manifest import Manifest, SegmentTorrent, Transport
from signing.trust import verify_payload
from tests.p2pd.installer.made_releases import verified


def tree_with_everything(root: Path) -> Path:
    long = root / "deep" / "/".join(["n" * 150] * 5)
    long.mkdir(parents=True)
    (long / "file").write_bytes(b"at the end of a path of 760 bytes")
    (root / "empty directory").mkdir()
    (root / "empty file").touch()
    (root / "umläute ☃").write_bytes(b"x" * 512)
    (root / "-dash").write_bytes(b"y" * 513)
    (root / "a").mkdir()
    (root / "a-b").write_bytes(b"sorts between a and a/c in some orders")
    (root / "a" / "c").write_bytes(bytes(3_000_000))
    (root / "run").write_bytes(b"#!/bin/sh\n")
    (root / "run").chmod(0o755)
    (root / "private").write_bytes(b"modes are normalised")
    (root / "private").chmod(0o600)
    (root / "a" / "up").symlink_to("../run")
    (root / "a" / "here").symlink_to(".")
    (root / "far").symlink_to(long.relative_to(root) / "file")
    (root / "dangling").symlink_to("nowhere/at/all")
    return root


def describe(root: Path) -> dict[str, object]:
    """Every path below `root` with what it is; of modes, whether it may be executed."""
    found: dict[str, object] = {}
    for path in sorted(root.rglob("*")):
        name, facts = str(path.relative_to(root)), path.lstat()
        if stat.S_ISLNK(facts.st_mode):
            found[name] = f"-> {path.readlink()}"
        elif stat.S_ISDIR(facts.st_mode):
            found[name] = "directory"
        else:
            found[name] = (path.read_bytes(), bool(facts.st_mode & stat.S_IXUSR))
    return found


@pytest.mark.parametrize("umask", [0o022, 0o077])
def test_what_is_packed_is_unpacked(tmp_path: Path, umask: int) -> None:
    source, slot = tmp_path / "source", tmp_path / "slot"
    source.mkdir()
    slot.mkdir(mode=0o700)
    tree_with_everything(source)
    built = build_payload(source, tmp_path / "built")
    torrent = SegmentTorrent(segment="default", info_hash="0" * 64, target="patches/tool/1/default.torrent")
    manifest = verified(
        Manifest(
            product="tool",
            version="1",
            release_counter=1,
            payload=built.payload,
            transports=(Transport(codec="zstd", content=built.transport, torrents=(torrent,)),),
        )
    )
    payload = verify_payload(manifest, built.transport_path)
    old = os.umask(umask)
    try:
        extract(payload, slot, Disk())
    finally:
        os.umask(old)
    assert describe(slot) == describe(source)
    assert matches(payload, slot)
