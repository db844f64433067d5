# SPDX-License-Identifier: Apache-2.0
"""Facts of torrents that libtorrent made, and pieces checked against them. Hostile torrents: tests/hostile."""

import random
from pathlib import Path

import pytest

from p2pd.host.torrent_file import MAX_PIECE_BYTES, is_piece_size, read_torrent
from seeds.adapters.torrent_maker import make_torrent
from signing.devices import SegmentAuthority
from tests.fakes.segment import create_authority

BLOCK = 16_384


@pytest.fixture(scope="module")
def authority() -> SegmentAuthority:
    return create_authority()


@pytest.mark.parametrize("piece_bytes", [BLOCK, 4 * BLOCK])
@pytest.mark.parametrize(
    "size",
    [1, BLOCK - 1, BLOCK, BLOCK + 1, 3 * BLOCK, 4 * BLOCK - 1, 4 * BLOCK, 4 * BLOCK + 1, 9 * BLOCK, 21 * BLOCK + 7],
)
def test_every_piece_matches_itself_and_nothing_else(
    size: int, piece_bytes: int, authority: SegmentAuthority, tmp_path: Path
) -> None:
    data = random.Random(size).randbytes(size)  # noqa: S311 (reproducible, not secret)
    (tmp_path / "payload").write_bytes(data)
    made = make_torrent(
        tmp_path / "payload", name="office", segment_ca_pem=authority.certificate_pem, piece_bytes=piece_bytes
    )
    facts = read_torrent(made.torrent, where="t", name="office", size=size, info_hash=made.info_hash)
    assert facts.piece_bytes == piece_bytes
    assert facts.piece_count == -(-size // piece_bytes)
    assert facts.ca_pem == authority.certificate_pem
    for index in range(facts.piece_count):
        piece = data[index * piece_bytes : (index + 1) * piece_bytes]
        assert facts.piece_size(index) == len(piece)
        assert facts.piece_matches(index, piece)
        assert not facts.piece_matches(index, piece[:-1] + bytes([piece[-1] ^ 1]))
        assert not facts.piece_matches(index, piece[:-1])
        assert not facts.piece_matches(index, piece + b"\0")


def test_a_piece_outside_the_torrent_is_a_bug(authority: SegmentAuthority, tmp_path: Path) -> None:
    (tmp_path / "payload").write_bytes(b"x")
    made = make_torrent(tmp_path / "payload", name="office", segment_ca_pem=authority.certificate_pem)
    facts = read_torrent(made.torrent, where="t")
    for index in (-1, 1):
        with pytest.raises(IndexError):
            facts.piece_matches(index, b"x")


@pytest.mark.parametrize(
    ("size", "allowed"),
    [
        (0, False),
        (-BLOCK, False),
        (BLOCK // 2, False),
        (BLOCK, True),
        (BLOCK + 1, False),
        (3 * BLOCK, False),
        (MAX_PIECE_BYTES, True),
        (2 * MAX_PIECE_BYTES, False),
    ],
)
def test_piece_sizes_are_powers_of_two_within_bounds(size: int, allowed: bool) -> None:
    assert is_piece_size(size) is allowed
