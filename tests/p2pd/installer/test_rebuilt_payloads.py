# SPDX-License-Identifier: Apache-2.0
"""p2pd-install takes the payload itself in the transport's place, checked as strictly; a delta it never takes."""

from dataclasses import replace
from pathlib import Path

import pytest

from p2pd.host.delta_file import MAGIC, Window, make_patch, pack
from signing.errors import ContentMismatch
from signing.manifest import Delta, SegmentTorrent
from tests.hostile.archives import tar, tar_member
from tests.p2pd.installer.made_releases import (
    FIRST_FILES,
    SECOND_FILES,
    THIRD_FILES,
    Endpoint,
    MadeRelease,
    content_of,
    make_release,
    payload_of,
    verified,
)


def rebuilt(directory: Path, version: str, counter: int, files: dict[str, bytes]) -> MadeRelease:
    """A release whose payload an agent has made by a delta: the file is the tar itself."""
    release = make_release(directory, version, counter, files)
    path = directory / f"{version}.payload"
    path.write_bytes(payload_of(files))
    return replace(release, transport=path)


def test_a_rebuilt_payload_is_installed_kept_and_gone_back_to(tmp_path: Path) -> None:
    endpoint = Endpoint(tmp_path / "endpoint")
    first = rebuilt(tmp_path, "1", 1, FIRST_FILES)
    second = rebuilt(tmp_path, "2", 2, SECOND_FILES)
    endpoint.install(first, commit=True)
    assert endpoint.in_use() == FIRST_FILES
    endpoint.install(second)  # reserves the first, from the payload that was kept
    assert endpoint.in_use() == SECOND_FILES
    (tmp_path / "endpoint/root/products/tool/slots" / endpoint.slots()[0] / "readme").write_bytes(b"touched")
    endpoint.products.rollback("tool", second.sha256)
    assert endpoint.in_use() == FIRST_FILES, "unpacked afresh from the payload"
    assert endpoint.stored() == [first.sha256]


def test_what_travelled_and_what_was_rebuilt_follow_each_other(tmp_path: Path) -> None:
    endpoint = Endpoint(tmp_path / "endpoint")
    endpoint.install(make_release(tmp_path, "1", 1, FIRST_FILES), commit=True)
    endpoint.install(rebuilt(tmp_path, "2", 2, SECOND_FILES), commit=True)
    third = make_release(tmp_path, "3", 3, THIRD_FILES)
    endpoint.install(third)
    endpoint.products.rollback("tool", third.sha256)
    assert endpoint.in_use() == SECOND_FILES


@pytest.mark.parametrize("spoil", [lambda data: data[:-1], lambda data: data + b"\0", lambda data: b"?" + data[1:]])
def test_a_payload_that_is_not_the_signed_one_is_refused(tmp_path: Path, spoil: "type[bytes]") -> None:
    endpoint = Endpoint(tmp_path / "endpoint")
    release = rebuilt(tmp_path, "1", 1, FIRST_FILES)
    release.transport.write_bytes(spoil(release.transport.read_bytes()))
    with pytest.raises(ContentMismatch):
        endpoint.install(release)
    assert endpoint.in_use() is None
    assert endpoint.stored() == []


def test_a_delta_is_refused_though_it_is_signed(tmp_path: Path) -> None:
    endpoint = Endpoint(tmp_path / "endpoint")
    old, new = payload_of(FIRST_FILES), payload_of(SECOND_FILES)
    data = MAGIC + pack(Window(0, len(old), len(new), make_patch(old, new)))
    release = make_release(tmp_path, "2", 2, SECOND_FILES)
    torrent = SegmentTorrent(segment="default", info_hash="1" * 64, target="patches/tool/2/default.from-1.torrent")
    delta = Delta(codec="hdiffpatch", content=content_of(data), torrents=(torrent,), base=content_of(old))
    path = tmp_path / "delta"
    path.write_bytes(data)
    manifest = verified(replace(release.manifest.manifest, deltas=(delta,)))
    with pytest.raises(ContentMismatch):
        endpoint.products.install(manifest, path)
    assert endpoint.in_use() is None


def test_a_rebuilt_payload_is_no_less_looked_at_than_a_transport(tmp_path: Path) -> None:
    """The signed payload itself is hostile: members are checked all the same."""
    endpoint = Endpoint(tmp_path / "endpoint")
    payload = tar(tar_member("../outside", b"x"))
    release = make_release(tmp_path, payload=payload)
    path = tmp_path / "payload"
    path.write_bytes(payload)
    with pytest.raises(Exception, match="plain path"):
        endpoint.products.install(release.manifest, path)
    assert endpoint.in_use() is None
