# SPDX-License-Identifier: Apache-2.0
"""How any `Swarm` fills a file with pieces, checked on the fake and on libtorrent over loopback."""

from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path

import pytest
import trio

from p2pd.piece_set import PieceSet
from p2pd.ports import peer_id_of
from signing.devices import SegmentAuthority
from signing.errors import BadInput
from tests.contracts.swarms import WAIT_SECONDS, OpenSwarm, endpoint, until
from tests.fakes.segment import Payload, is_complete, make_payload


async def test_a_new_transfer_knows_its_torrent_and_has_nothing(
    open_swarm: OpenSwarm, payload: Payload, tmp_path: Path
) -> None:
    async with open_swarm("pc-1") as swarm, swarm.transfer(payload.spec(tmp_path / "pc-1")) as transfer:
        progress = transfer.progress()
    assert (progress.piece_count, progress.total_bytes) == (payload.piece_count, len(payload.data))
    assert progress.piece_bytes == len(payload.piece(0))
    assert not progress.have
    assert not progress.peers_have
    assert progress.peers == ()
    assert progress.bytes_lan == 0
    assert not progress.is_complete


async def test_pieces_from_elsewhere_fill_the_file(open_swarm: OpenSwarm, payload: Payload, tmp_path: Path) -> None:
    async with open_swarm("pc-1") as swarm, swarm.transfer(payload.spec(tmp_path / "pc-1")) as transfer:
        for index in range(payload.piece_count):
            assert await transfer.add_piece(index, payload.piece(index))
            assert index in transfer.progress().have
        progress = await until(transfer, is_complete)
        assert (tmp_path / "pc-1" / "office").read_bytes() == payload.data
    assert progress.bytes_lan == 0, "what was handed over did not come from the LAN"


async def test_a_wrong_piece_is_refused_and_a_right_one_still_welcome(
    open_swarm: OpenSwarm, payload: Payload, tmp_path: Path
) -> None:
    right = payload.piece(3)
    wrong = [right[:-1] + bytes([right[-1] ^ 1]), right[:-1], right + b"x", b"", payload.piece(4)]
    async with open_swarm("pc-1") as swarm, swarm.transfer(payload.spec(tmp_path / "pc-1")) as transfer:
        for data in wrong:
            assert not await transfer.add_piece(3, data)
        assert not transfer.progress().have
        assert await transfer.add_piece(3, right)
        assert await transfer.add_piece(3, right), "handing it over again changes nothing"
        assert not await transfer.add_piece(3, wrong[0]), "nor does a wrong one that is there already"
        assert list(transfer.progress().have) == [3]


async def test_a_piece_that_is_not_in_the_torrent_is_a_bug(
    open_swarm: OpenSwarm, payload: Payload, tmp_path: Path
) -> None:
    async with open_swarm("pc-1") as swarm, swarm.transfer(payload.spec(tmp_path / "pc-1")) as transfer:
        for index in (-1, payload.piece_count):
            with pytest.raises(IndexError):
                await transfer.add_piece(index, b"x")


async def test_pieces_may_be_handed_over_side_by_side(open_swarm: OpenSwarm, payload: Payload, tmp_path: Path) -> None:
    async with open_swarm("pc-1") as swarm, swarm.transfer(payload.spec(tmp_path / "pc-1")) as transfer:
        with trio.fail_after(WAIT_SECONDS):
            async with trio.open_nursery() as nursery:
                for index in [*range(payload.piece_count), 0, 0]:  # the first one three times at once
                    nursery.start_soon(transfer.add_piece, index, payload.piece(index))
        await until(transfer, is_complete)


async def test_only_what_peers_sent_counts_as_lan(open_swarm: OpenSwarm, payload: Payload, tmp_path: Path) -> None:
    async with (
        open_swarm("pc-1") as swarm_1,
        open_swarm("pc-2") as swarm_2,
        swarm_1.transfer(payload.put(tmp_path / "pc-1")),
        swarm_2.transfer(payload.spec(tmp_path / "pc-2")) as leech,
    ):
        for index in range(4):
            assert await leech.add_piece(index, payload.piece(index))
        leech.connect(endpoint(swarm_1))
        progress = await until(leech, is_complete)
    assert progress.bytes_lan == len(payload.data) - sum(len(payload.piece(index)) for index in range(4))


async def test_pieces_pass_on_from_peer_to_peer(open_swarm: OpenSwarm, payload: Payload, tmp_path: Path) -> None:
    """Nobody has all of it at first, the third peer knows only the second, and that one is told of nobody."""
    async with AsyncExitStack() as stack:
        swarms, transfers = [], []
        for number in range(3):
            swarm = await stack.enter_async_context(open_swarm(f"pc-{number}"))
            swarms.append(swarm)
            spec = payload.spec(tmp_path / f"pc-{number}")
            transfers.append(await stack.enter_async_context(swarm.transfer(spec)))
        first, _, third = transfers
        first.connect(endpoint(swarms[1]))
        third.connect(endpoint(swarms[1]))
        for index in range(payload.piece_count):
            assert await (first if index % 2 else third).add_piece(index, payload.piece(index))
        for transfer in transfers:
            await until(transfer, is_complete)
    for number in range(3):
        assert (tmp_path / f"pc-{number}" / "office").read_bytes() == payload.data


async def test_what_peers_have_is_seen_as_it_grows(open_swarm: OpenSwarm, payload: Payload, tmp_path: Path) -> None:
    """A seed watches how the other fills up."""
    async with (
        open_swarm("pc-1") as swarm_1,
        open_swarm("pc-2") as swarm_2,
        swarm_1.transfer(payload.spec(tmp_path / "pc-1")) as other,
        swarm_2.transfer(payload.put(tmp_path / "pc-2")) as watcher,
    ):
        watcher.connect(endpoint(swarm_1))
        await until(watcher, lambda now: now.peers == (peer_id_of("pc-1"),))
        await until(other, is_complete)
        await until(watcher, lambda now: len(now.peers_have) == now.piece_count)
        await until(watcher, lambda now: len(now.spread) == now.piece_count)


async def test_what_is_said_to_be_on_disk_is_there(open_swarm: OpenSwarm, payload: Payload, tmp_path: Path) -> None:
    spec = payload.spec(tmp_path / "pc-1")
    async with open_swarm("pc-1") as swarm, swarm.transfer(spec) as transfer:
        file = tmp_path / "pc-1" / "office"
        for index in range(payload.piece_count):
            assert await transfer.add_piece(index, payload.piece(index))
            for piece in transfer.progress().on_disk:
                size = len(payload.piece(0))
                assert file.read_bytes()[piece * size : (piece + 1) * size] == payload.piece(piece)
        progress = await until(transfer, is_complete)
        assert len(progress.on_disk) == progress.piece_count


async def test_good_pieces_on_disk_are_kept_and_bad_ones_are_not(
    open_swarm: OpenSwarm, payload: Payload, tmp_path: Path
) -> None:
    spec = payload.put(tmp_path / "pc-1")
    file = tmp_path / "pc-1" / "office"
    damaged = bytearray(payload.data)
    damaged[5 * len(payload.piece(0))] ^= 1
    file.write_bytes(damaged[:-1])
    async with open_swarm("pc-1") as swarm, swarm.transfer(spec) as transfer:
        progress = transfer.progress()
        assert list(PieceSet.first(progress.piece_count) - progress.have) == [5, payload.piece_count - 1]
        assert not progress.is_complete
        for index in (5, payload.piece_count - 1):
            assert await transfer.add_piece(index, payload.piece(index))
        await until(transfer, is_complete)
    assert file.read_bytes() == payload.data


async def test_a_complete_file_needs_no_peers(open_swarm: OpenSwarm, payload: Payload, tmp_path: Path) -> None:
    async with open_swarm("pc-1") as swarm, swarm.transfer(payload.put(tmp_path / "pc-1")) as transfer:
        progress = await until(transfer, is_complete)
    assert len(progress.have) == progress.piece_count
    assert progress.bytes_lan == 0


async def test_a_file_that_is_too_long_is_cut(open_swarm: OpenSwarm, payload: Payload, tmp_path: Path) -> None:
    spec = payload.put(tmp_path / "pc-1")
    with (tmp_path / "pc-1" / "office").open("ab") as file:
        file.write(b"appended")
    async with open_swarm("pc-1") as swarm, swarm.transfer(spec) as transfer:
        await until(transfer, is_complete)
    assert (tmp_path / "pc-1" / "office").read_bytes() == payload.data


async def test_a_transfer_goes_on_where_it_was_left(open_swarm: OpenSwarm, payload: Payload, tmp_path: Path) -> None:
    spec = payload.spec(tmp_path / "pc-1")
    async with open_swarm("pc-1") as swarm:
        for first in (0, 4, 8):
            async with swarm.transfer(spec) as transfer:
                assert len(transfer.progress().have) == first
                for index in range(first, first + 4):
                    assert await transfer.add_piece(index, payload.piece(index))
        async with swarm.transfer(spec) as transfer:
            await until(transfer, is_complete)


async def test_two_torrents_travel_at_once(
    open_swarm: OpenSwarm, payload: Payload, authority: SegmentAuthority, tmp_path: Path
) -> None:
    other = make_payload(tmp_path, authority, seed=2)
    async with (
        open_swarm("pc-1") as swarm_1,
        open_swarm("pc-2") as swarm_2,
        swarm_1.transfer(payload.put(tmp_path / "pc-1" / "a")),
        swarm_1.transfer(other.put(tmp_path / "pc-1" / "b")),
        swarm_2.transfer(payload.spec(tmp_path / "pc-2" / "a")) as leech_a,
        swarm_2.transfer(other.spec(tmp_path / "pc-2" / "b")) as leech_b,
    ):
        leech_a.connect(endpoint(swarm_1))
        leech_b.connect(endpoint(swarm_1))
        await until(leech_a, is_complete)
        await until(leech_b, is_complete)
        assert (tmp_path / "pc-2" / "a" / "office").read_bytes() == payload.data
        assert (tmp_path / "pc-2" / "b" / "office").read_bytes() == other.data


async def test_another_torrent_than_the_spec_says_is_refused(
    open_swarm: OpenSwarm, payload: Payload, authority: SegmentAuthority, tmp_path: Path
) -> None:
    other = make_payload(tmp_path, authority, seed=2).spec(tmp_path / "pc-1")
    spec = payload.spec(tmp_path / "pc-1")
    wrong = [
        replace(spec, info_hash=other.info_hash),
        replace(spec, name="lab"),
        replace(spec, torrent=spec.torrent[:-1]),
    ]
    async with open_swarm("pc-1") as swarm:
        for bad in wrong:
            with pytest.raises(BadInput):
                async with swarm.transfer(bad):
                    pytest.fail("it was carried")


async def test_what_goes_wrong_inside_comes_out_as_it_is(
    open_swarm: OpenSwarm, payload: Payload, tmp_path: Path
) -> None:
    with pytest.raises(ZeroDivisionError):
        async with open_swarm("pc-1") as swarm, swarm.transfer(payload.spec(tmp_path / "pc-1")):
            raise ZeroDivisionError
