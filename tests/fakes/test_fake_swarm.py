# SPDX-License-Identifier: Apache-2.0
"""What the fake swarm does beyond the contract: rates on a virtual clock, cut cables, dead nodes, other segments."""

from collections.abc import Callable
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from p2pd.ports import Endpoint, PayloadStoreFull, Transfer, TransferProgress, peer_id_of
from tests.fakes.fake_swarm import open_fake_swarm_network
from tests.fakes.segment import Payload, create_authority, enrol, is_complete, make_payload

PC_1, PC_2, PC_3 = (Endpoint(host=f"10.0.0.{number}", port=7_000) for number in (1, 2, 3))


@pytest.fixture
def payload(tmp_path: Path) -> Payload:
    return make_payload(tmp_path, create_authority())


@pytest.fixture
def autojump() -> MockClock:
    return MockClock(autojump_threshold=0)


async def until(transfer: Transfer, condition: Callable[[TransferProgress], bool]) -> TransferProgress:
    with trio.fail_after(60):
        while not condition(transfer.progress()):
            await transfer.changed()
    return transfer.progress()


async def test_pieces_take_the_time_that_the_network_says(
    autojump: MockClock, payload: Payload, tmp_path: Path
) -> None:
    async with open_fake_swarm_network(pieces_per_second=4) as network:
        one, two = network.join(PC_1, "pc-1"), network.join(PC_2, "pc-2")
        async with (
            one.transfer(payload.put(tmp_path / "pc-1")),
            two.transfer(payload.spec(tmp_path / "pc-2")) as leech,
        ):
            began = trio.current_time()
            leech.connect(PC_1)
            await until(leech, is_complete)
            assert trio.current_time() - began == pytest.approx(payload.piece_count / 4, abs=0.1)


async def test_a_cut_off_node_lives_on_and_comes_back(autojump: MockClock, payload: Payload, tmp_path: Path) -> None:
    async with open_fake_swarm_network(pieces_per_second=4) as network:
        one, two = network.join(PC_1, "pc-1"), network.join(PC_2, "pc-2")
        async with (
            one.transfer(payload.put(tmp_path / "pc-1")),
            two.transfer(payload.spec(tmp_path / "pc-2")) as leech,
        ):
            leech.connect(PC_1)
            await until(leech, lambda now: len(now.have) == 3)
            network.cut_off(PC_1)
            assert leech.progress().peers == ()
            await trio.sleep(100)
            assert len(leech.progress().have) == 3
            network.restore(PC_1)
            assert leech.progress().peers == (peer_id_of("pc-1"),)
            await until(leech, is_complete)


async def test_a_killed_node_stands_still_and_may_start_anew(
    autojump: MockClock, payload: Payload, tmp_path: Path
) -> None:
    async with open_fake_swarm_network(pieces_per_second=4) as network:
        one, two = network.join(PC_1, "pc-1"), network.join(PC_2, "pc-2")
        async with one.transfer(payload.put(tmp_path / "pc-1")):
            async with two.transfer(payload.spec(tmp_path / "pc-2")) as leech:
                leech.connect(PC_1)
                await until(leech, lambda now: len(now.have) == 3)
                network.kill(PC_2)
                await trio.sleep(100)
                assert len(leech.progress().have) == 3
            async with network.join(PC_2, "pc-2").transfer(payload.spec(tmp_path / "pc-2")) as leech:
                assert len(leech.progress().have) == 3
                leech.connect(PC_1)
                assert (await until(leech, is_complete)).bytes_lan < len(payload.data)


async def test_leechers_give_each_other_what_one_seed_gave_once(
    autojump: MockClock, payload: Payload, tmp_path: Path
) -> None:
    async with open_fake_swarm_network(pieces_per_second=4) as network:
        nodes = [network.join(endpoint, endpoint.host) for endpoint in (PC_1, PC_2, PC_3)]
        async with (
            nodes[0].transfer(payload.spec(tmp_path / "1")) as ambassador,
            nodes[1].transfer(payload.spec(tmp_path / "2")) as second,
            nodes[2].transfer(payload.spec(tmp_path / "3")) as third,
        ):
            second.connect(PC_1)
            third.connect(PC_2)
            for index in range(payload.piece_count):
                assert await ambassador.add_piece(index, payload.piece(index))
            for transfer in (ambassador, second, third):
                await until(transfer, is_complete)
            assert third.progress().peers == (peer_id_of(PC_2.host),)


async def test_other_segments_do_not_meet_until_the_certificate_says_so(
    autojump: MockClock, payload: Payload, tmp_path: Path
) -> None:
    async with open_fake_swarm_network() as network:
        one = network.join(PC_1, "pc-1", segments=frozenset({"office"}))
        two = network.join(PC_2, "pc-2", segments=frozenset({"lab"}))
        async with (
            one.transfer(payload.put(tmp_path / "pc-1")),
            two.transfer(payload.spec(tmp_path / "pc-2")) as leech,
        ):
            leech.connect(PC_1)
            await trio.sleep(100)
            assert leech.progress().peers == ()
            assert not leech.progress().have
            badge = enrol(create_authority("office"), "pc-2")
            two.use_certificate(badge.certificate_pem, badge.key_pem)
            await until(leech, is_complete)


async def test_a_peer_that_sends_a_wrong_piece_is_shunned(
    autojump: MockClock, payload: Payload, tmp_path: Path
) -> None:
    async with open_fake_swarm_network() as network:
        one, two = network.join(PC_1, "pc-1"), network.join(PC_2, "pc-2")
        async with (
            one.transfer(payload.put(tmp_path / "pc-1")),
            two.transfer(payload.spec(tmp_path / "pc-2")) as leech,
        ):
            (tmp_path / "pc-1" / "office").write_bytes(bytes(len(payload.data)))
            leech.connect(PC_1)
            await until(leech, lambda now: now.bytes_lan > 0)
            assert leech.progress().peers == ()
            assert not leech.progress().have


async def test_a_node_without_room_says_so(autojump: MockClock, payload: Payload, tmp_path: Path) -> None:
    async with open_fake_swarm_network() as network:
        node = network.join(PC_1, "pc-1", room_bytes=len(payload.data) - 1)
        with pytest.raises(PayloadStoreFull):
            async with node.transfer(payload.spec(tmp_path / "pc-1")):
                pytest.fail("it was carried")
