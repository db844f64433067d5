# SPDX-License-Identifier: Apache-2.0
import dataclasses
import hashlib
from pathlib import Path

import pytest

from signing.codec import encode
from signing.errors import BadInput, ContentMismatch
from signing.manifest import Content, Delta, SegmentTorrent
from signing.verified import BegunDigest, VerifiedManifest, VerifiedPayload, reopen_committed, verify_payload
from tests.signing.fleet_documents import TRANSPORT, make_manifest


@pytest.fixture
def manifest() -> VerifiedManifest:
    data = encode(make_manifest())
    return reopen_committed(data, sha256=hashlib.sha256(data).hexdigest())


@pytest.fixture
def transport(tmp_path: Path) -> Path:
    path = tmp_path / "transport"
    path.write_bytes(TRANSPORT)
    return path


class TestTheSeal:
    def test_nobody_else_makes_a_verified_manifest(self) -> None:
        for seal in ({}, {"seal": None}, {"seal": object()}):
            with pytest.raises(TypeError, match="verification only"):
                VerifiedManifest(manifest=make_manifest(), sha256="0" * 64, data=b"", **seal)

    def test_nobody_else_makes_a_verified_payload(self, manifest: VerifiedManifest, transport: Path) -> None:
        with pytest.raises(TypeError, match="verification only"):
            VerifiedPayload(manifest=manifest, transport=manifest.manifest.transports[0], path=transport)

    def test_nobody_alters_one(self, manifest: VerifiedManifest) -> None:
        with pytest.raises(TypeError, match="verification only"):
            dataclasses.replace(manifest, manifest=make_manifest("6.6.6"))
        with pytest.raises(dataclasses.FrozenInstanceError):
            manifest.manifest = make_manifest("6.6.6")  # type: ignore[misc]  # what the test is about


class TestReopening:
    def test_gives_the_manifest_of_a_recorded_digest(self, manifest: VerifiedManifest) -> None:
        assert manifest.manifest == make_manifest()
        assert manifest.sha256 == hashlib.sha256(manifest.data).hexdigest()

    def test_refuses_bytes_of_another_digest(self, manifest: VerifiedManifest) -> None:
        with pytest.raises(ContentMismatch, match=manifest.sha256):
            reopen_committed(encode(make_manifest("2.0")), sha256=manifest.sha256)

    def test_refuses_what_is_no_manifest(self) -> None:
        with pytest.raises(BadInput):
            reopen_committed(b"junk", sha256=hashlib.sha256(b"junk").hexdigest())


class TestVerifyingAPayload:
    def test_finds_the_transport_that_the_file_is(self, manifest: VerifiedManifest, transport: Path) -> None:
        payload = verify_payload(manifest, transport)
        assert payload.transport == manifest.manifest.transports[0]
        assert payload.path == transport
        assert payload.manifest is manifest

    def test_finds_that_the_file_is_the_payload_itself(self, tmp_path: Path) -> None:
        path = tmp_path / "payload"
        path.write_bytes(b"the payload itself")
        content = Content(sha256=hashlib.sha256(path.read_bytes()).hexdigest(), size=path.stat().st_size)
        data = encode(dataclasses.replace(make_manifest(), payload=content))
        manifest = reopen_committed(data, sha256=hashlib.sha256(data).hexdigest())
        assert verify_payload(manifest, path).transport is None

    def test_refuses_a_delta_though_it_is_signed(self, tmp_path: Path) -> None:
        path = tmp_path / "delta"
        path.write_bytes(b"a delta")
        content = Content(sha256=hashlib.sha256(path.read_bytes()).hexdigest(), size=path.stat().st_size)
        torrent = SegmentTorrent(segment="default", info_hash="0" * 64, target="patches/tool/1.0/delta.torrent")
        base = Content(sha256="b" * 64, size=9)
        delta = Delta(codec="hdiffpatch", content=content, torrents=(torrent,), base=base)
        data = encode(dataclasses.replace(make_manifest(), deltas=(delta,)))
        manifest = reopen_committed(data, sha256=hashlib.sha256(data).hexdigest())
        with pytest.raises(ContentMismatch):
            verify_payload(manifest, path)

    def test_refuses_other_bytes_of_the_same_length(self, manifest: VerifiedManifest, transport: Path) -> None:
        transport.write_bytes(TRANSPORT[:-1] + b"\0")
        with pytest.raises(ContentMismatch, match="expected SHA-256"):
            verify_payload(manifest, transport)

    @pytest.mark.parametrize("data", [b"", TRANSPORT[:-1], TRANSPORT + b"\0"])
    def test_refuses_another_length_without_hashing(
        self, manifest: VerifiedManifest, transport: Path, data: bytes
    ) -> None:
        transport.write_bytes(data)
        with pytest.raises(ContentMismatch, match=f"expected {len(TRANSPORT)} or 1000 bytes, found {len(data)} bytes"):
            verify_payload(manifest, transport)

    @pytest.mark.parametrize("steps", [[0], [3], [5, 2, 9], [len(TRANSPORT)], [4, len(TRANSPORT) + 9]])
    def test_what_was_read_while_it_came_is_not_read_again(
        self, manifest: VerifiedManifest, transport: Path, steps: list[int]
    ) -> None:
        begun = BegunDigest(transport)
        for step in steps:
            begun.advance(step)
        assert begun.position == min(max(steps), len(TRANSPORT))
        assert verify_payload(manifest, transport, begun=begun).transport == manifest.manifest.transports[0]
        transport.write_bytes(TRANSPORT[:-1] + b"\0")
        if begun.position < len(TRANSPORT):
            with pytest.raises(ContentMismatch):
                verify_payload(manifest, transport, begun=begun)

    def test_a_beginning_that_was_other_when_it_was_read_costs_a_whole_read(
        self, manifest: VerifiedManifest, transport: Path
    ) -> None:
        transport.write_bytes(b"\0" + TRANSPORT[1:])
        begun = BegunDigest(transport)
        begun.advance(4)
        with pytest.raises(ContentMismatch):
            verify_payload(manifest, transport, begun=begun)
        transport.write_bytes(TRANSPORT)
        assert verify_payload(manifest, transport, begun=begun).transport == manifest.manifest.transports[0]

    def test_says_which_file_cannot_be_read(self, manifest: VerifiedManifest, tmp_path: Path) -> None:
        for path in (tmp_path / "absent", tmp_path):
            with pytest.raises(BadInput, match=str(path)):
                verify_payload(manifest, path)
