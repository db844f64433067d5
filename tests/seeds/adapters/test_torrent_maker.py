# SPDX-License-Identifier: Apache-2.0
"""Torrents that are the same wherever they are made, and carry nothing but what they must."""

from datetime import UTC, datetime
from pathlib import Path

import libtorrent as lt
import pytest

from p2pd.host.torrent_file import MAX_PIECES, is_piece_size, read_torrent
from seeds.adapters.torrent_maker import (
    LEAST_PIECE_BYTES,
    USUAL_PIECE_BYTES,
    USUAL_PIECES,
    make_torrent,
    piece_bytes_for,
)
from signing.bounds import MAX_PAYLOAD_BYTES
from signing.devices import SegmentAuthority
from signing.errors import BadInput

AUTHORITY = SegmentAuthority.create("office", now=datetime(2026, 3, 2, tzinfo=UTC))
CA = AUTHORITY.certificate_pem


@pytest.fixture
def payload(tmp_path: Path) -> Path:
    file = tmp_path / "0123abcd"
    file.write_bytes(bytes(range(256)) * 4_000)
    return file


def test_the_file_is_named_after_the_segment_whatever_its_own_name(payload: Path) -> None:
    made = make_torrent(payload, name="office", segment_ca_pem=CA)
    facts = read_torrent(made.torrent, where="t", size=payload.stat().st_size, info_hash=made.info_hash)
    assert (facts.name, facts.ca_pem, facts.piece_bytes) == ("office", CA, made.piece_bytes)


def test_the_same_payload_gives_the_same_torrent_elsewhere(payload: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere" / "another-name"
    elsewhere.parent.mkdir()
    elsewhere.write_bytes(payload.read_bytes())
    elsewhere.chmod(0o755)
    assert make_torrent(payload, name="office", segment_ca_pem=CA) == make_torrent(
        elsewhere, name="office", segment_ca_pem=CA
    )


def test_each_segment_has_a_torrent_of_its_own(payload: Path) -> None:
    lab = SegmentAuthority.create("lab", now=datetime(2026, 3, 2, tzinfo=UTC))
    office = make_torrent(payload, name="office", segment_ca_pem=CA)
    assert make_torrent(payload, name="lab", segment_ca_pem=lab.certificate_pem).info_hash != office.info_hash
    assert make_torrent(payload, name="office", segment_ca_pem=lab.certificate_pem).info_hash != office.info_hash


def test_libtorrent_reads_it_as_a_private_ssl_torrent_of_version_2(payload: Path) -> None:
    made = make_torrent(payload, name="office", segment_ca_pem=CA)
    info = lt.load_torrent_buffer(made.torrent).ti
    assert info is not None
    assert info.priv()
    assert info.info_hashes().has_v2()
    assert not info.info_hashes().has_v1()
    assert str(info.info_hashes().v2) == made.info_hash
    assert info.ssl_cert() == CA.decode()


def test_a_payload_behind_a_link_is_read(payload: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(payload)
    direct = make_torrent(payload, name="office", segment_ca_pem=CA)
    assert make_torrent(tmp_path / "link", name="office", segment_ca_pem=CA) == direct


def test_progress_is_told_piece_by_piece(payload: Path) -> None:
    told: list[tuple[int, int]] = []
    make_torrent(
        payload,
        name="office",
        segment_ca_pem=CA,
        piece_bytes=262_144,
        on_progress=lambda done, total: told.append((done, total)),
    )
    assert told == [(done, 4) for done in range(1, 5)]


@pytest.mark.parametrize(
    "size", [1, 2**20, 2**25, 2**26, 2**26 + 1, 2**27, 2**30, 4 * 2**30, 4 * 2**30 + 1, 10 * 2**30, MAX_PAYLOAD_BYTES]
)
def test_pieces_grow_with_the_payload_and_never_get_too_many(size: int) -> None:
    piece_bytes = piece_bytes_for(size)
    assert is_piece_size(piece_bytes)
    assert -(-size // piece_bytes) <= MAX_PIECES
    if piece_bytes > USUAL_PIECE_BYTES:
        assert -(-size // (piece_bytes // 2)) > MAX_PIECES, "no larger than needed"
    elif piece_bytes > LEAST_PIECE_BYTES:
        assert size > piece_bytes * USUAL_PIECES // 2, "as many pieces as usual"


def test_what_cannot_be_a_payload_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    for path in (tmp_path / "empty", tmp_path / "missing", tmp_path):
        with pytest.raises(BadInput, match=str(path)):
            make_torrent(path, name="office", segment_ca_pem=CA)


@pytest.mark.parametrize("name", ["", "../office", "Office", "a/b", "büro"])
def test_a_segment_must_be_a_name(name: str, payload: Path) -> None:
    with pytest.raises(BadInput, match="segment"):
        make_torrent(payload, name=name, segment_ca_pem=CA)


@pytest.mark.parametrize("piece_bytes", [1, 100_000, 2**30])
def test_pieces_of_an_impossible_size_are_refused(piece_bytes: int, payload: Path) -> None:
    with pytest.raises(BadInput, match="choose 32768"):
        make_torrent(payload, name="office", segment_ca_pem=CA, piece_bytes=piece_bytes)


@pytest.mark.parametrize("ca", [b"", b"no certificate", CA + CA])
def test_the_authority_must_be_one_certificate(ca: bytes, payload: Path) -> None:
    with pytest.raises(BadInput, match="cert"):
        make_torrent(payload, name="office", segment_ca_pem=ca)
