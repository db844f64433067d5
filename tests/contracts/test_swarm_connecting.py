# SPDX-License-Identifier: Apache-2.0
"""How any `Swarm` finds, watches and leaves peers, checked on the fake and on libtorrent over loopback."""

from pathlib import Path

import pytest
import trio
import trio.testing

from p2pd.piece_set import PieceSet
from p2pd.ports import Endpoint, peer_id_of
from signing.devices import SegmentAuthority
from signing.errors import BadInput
from tests.contracts.swarms import HOST, WAIT_SECONDS, OpenSwarm, endpoint, until
from tests.fakes.segment import Payload, enrol, is_complete


async def test_one_peer_gives_another_everything(open_swarm: OpenSwarm, payload: Payload, tmp_path: Path) -> None:
    async with (
        open_swarm("pc-1") as swarm_1,
        open_swarm("pc-2") as swarm_2,
        swarm_1.transfer(payload.put(tmp_path / "pc-1")) as seed,
        swarm_2.transfer(payload.spec(tmp_path / "pc-2")) as leech,
    ):
        await until(seed, is_complete)
        leech.connect(endpoint(swarm_1))
        leech.connect(endpoint(swarm_1))
        progress = await until(leech, is_complete)
        assert (tmp_path / "pc-2" / "office").read_bytes() == payload.data
        assert progress.bytes_lan == len(payload.data)
        assert len(progress.have) == progress.piece_count
        progress = await until(leech, lambda now: len(now.peers_have) == now.piece_count)
        assert progress.peers == (peer_id_of("pc-1"),)
        progress = await until(
            seed, lambda now: now.peers == (peer_id_of("pc-2"),) and len(now.peers_have) == now.piece_count
        )
        assert progress.bytes_lan == 0


async def test_a_peer_that_leaves_is_gone(open_swarm: OpenSwarm, payload: Payload, tmp_path: Path) -> None:
    async with (
        open_swarm("pc-1") as swarm_1,
        open_swarm("pc-2") as swarm_2,
        swarm_2.transfer(payload.spec(tmp_path / "pc-2")) as stays,
    ):
        async with swarm_1.transfer(payload.spec(tmp_path / "pc-1")) as leaves:
            assert await leaves.add_piece(2, payload.piece(2))
            stays.connect(endpoint(swarm_1))
            await until(stays, lambda now: 2 in now.have and 2 in now.peers_have)
        progress = await until(stays, lambda now: not now.peers)
    assert not progress.peers_have


async def test_neighbours_are_told_apart_and_measured(open_swarm: OpenSwarm, payload: Payload, tmp_path: Path) -> None:
    async with (
        open_swarm("pc-1") as swarm_1,
        open_swarm("pc-2") as swarm_2,
        swarm_1.transfer(payload.put(tmp_path / "pc-1")) as seed,
        swarm_2.transfer(payload.spec(tmp_path / "pc-2")) as leech,
    ):
        assert list(leech.neighbours()) == []
        leech.connect(endpoint(swarm_1))
        with trio.fail_after(WAIT_SECONDS):
            await seed.neighbours_changed()
            await leech.neighbours_changed()
        await until(leech, is_complete)
        await until(leech, lambda _: any(peer.bytes_in for peer in leech.neighbours()))
        (peer,) = leech.neighbours()
        assert peer.peer_id == peer_id_of("pc-1")
        assert peer.is_complete
        assert len(peer.have) == payload.piece_count
        assert peer.latency is not None
        assert 0 < peer.latency < WAIT_SECONDS
        assert peer.bytes_in <= len(payload.data)
        assert peer.bytes_out == 0
        assert leech.corruptions() == {}


async def test_what_an_ignored_peer_offers_does_not_count(
    open_swarm: OpenSwarm, payload: Payload, tmp_path: Path
) -> None:
    async with (
        open_swarm("pc-1") as swarm_1,
        open_swarm("pc-2") as swarm_2,
        swarm_1.transfer(payload.put(tmp_path / "pc-1")),
        swarm_2.transfer(payload.put(tmp_path / "pc-2")) as other,
    ):
        other.connect(endpoint(swarm_1))
        everything = PieceSet.first(payload.piece_count)
        await until(other, lambda now: now.peers_have == everything)
        other.ignore([peer_id_of("pc-1")])
        progress = await until(other, lambda now: not now.peers_have)
        assert progress.peers == (peer_id_of("pc-1"),), "it stays connected"
        other.ignore([])
        await until(other, lambda now: now.peers_have == everything)


async def test_a_peer_is_dialled_until_it_is_there(open_swarm: OpenSwarm, payload: Payload, tmp_path: Path) -> None:
    async with (
        open_swarm("pc-1") as swarm_1,
        open_swarm("pc-2") as swarm_2,
        swarm_2.transfer(payload.spec(tmp_path / "pc-2")) as leech,
    ):
        leech.connect(endpoint(swarm_1))
        await trio.testing.wait_all_tasks_blocked()
        async with swarm_1.transfer(payload.put(tmp_path / "pc-1")):
            await until(leech, is_complete)


async def test_a_certificate_may_be_renewed_but_not_mixed_up(
    open_swarm: OpenSwarm, payload: Payload, authority: SegmentAuthority, tmp_path: Path
) -> None:
    one, another = enrol(authority, "pc-1"), enrol(authority, "pc-1")
    async with (
        open_swarm("pc-1") as swarm_1,
        open_swarm("pc-2") as swarm_2,
        swarm_1.transfer(payload.put(tmp_path / "pc-1")),
        swarm_2.transfer(payload.spec(tmp_path / "pc-2")) as leech,
    ):
        with pytest.raises(BadInput, match="does not belong to the device key"):
            swarm_1.use_certificate(one.certificate_pem, another.key_pem)
        swarm_1.use_certificate(one.certificate_pem, one.key_pem)
        leech.connect(endpoint(swarm_1))
        await until(leech, is_complete)


async def test_a_swarm_that_moves_goes_on_where_it_is_found_next(
    open_swarm: OpenSwarm, payload: Payload, tmp_path: Path
) -> None:
    moved = "127.0.0.9"
    async with (
        open_swarm("pc-1") as seed,
        open_swarm("pc-2") as leech,
        seed.transfer(payload.spec(tmp_path / "pc-1")) as giving,
        leech.transfer(payload.spec(tmp_path / "pc-2")) as taking,
    ):
        assert await giving.add_piece(0, payload.piece(0))
        before = endpoint(seed)
        taking.connect(before)
        await until(taking, lambda progress: 0 in progress.have)
        await seed.listen_on([])
        await until(taking, lambda progress: not progress.peers)
        taking.connect(before)
        giving.connect(endpoint(leech))  # it has no address to dial from
        for index in range(1, payload.piece_count):
            assert await giving.add_piece(index, payload.piece(index))
        await seed.listen_on([moved])
        await until(giving, lambda progress: not progress.peers)
        assert 1 not in taking.progress().have
        taking.connect(Endpoint(host=moved, port=seed.port))
        await until(taking, lambda now: now.is_complete and now.peers == (peer_id_of("pc-1"),))


async def test_staying_where_it_is_costs_no_connection(open_swarm: OpenSwarm, payload: Payload, tmp_path: Path) -> None:
    async with (
        open_swarm("pc-1") as seed,
        open_swarm("pc-2") as leech,
        seed.transfer(payload.spec(tmp_path / "pc-1")) as giving,
        leech.transfer(payload.spec(tmp_path / "pc-2")) as taking,
    ):
        taking.connect(endpoint(seed))
        await until(taking, lambda progress: bool(progress.peers))
        await seed.listen_on([HOST])
        await leech.listen_on([HOST])
        for index in range(payload.piece_count):  # over the connection that is there: nobody dials
            assert await giving.add_piece(index, payload.piece(index))
        await until(taking, is_complete)
