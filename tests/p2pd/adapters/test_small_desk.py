# SPDX-License-Identifier: Apache-2.0
"""What a mirror spends on small payloads: a few places for each asker, and a batch of each answer."""

import hashlib
from collections.abc import Mapping, Sequence
from contextlib import aclosing
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing
from trio.testing import MockClock

from p2pd.adapters.lan_mirror import mirror_app
from p2pd.adapters.small_frames import MOST_ANSWERED
from p2pd.adapters.small_peers import BATCH_BYTES, GATHER_SECONDS, MAX_WAITING, MAX_WAITING_EACH, SmallDesk
from p2pd.adapters.small_shelf import SmallShelfFiles
from p2pd.ports_control import StorageFailed
from p2pd.ports_small import PeerBusy
from signing.manifest import SMALL_BYTES

DIGEST = hashlib.sha256(b"one").hexdigest()


@pytest.fixture
def shelf(tmp_path: Path) -> SmallShelfFiles:
    return SmallShelfFiles(tmp_path / "payloads", "office", trio.to_thread.run_sync)


def payloads(count: int, size: int) -> dict[str, bytes]:
    return {hashlib.sha256(data).hexdigest(): data for data in (bytes([number]) * size for number in range(count))}


async def test_places_are_kept_for_others_and_given_back(shelf: SmallShelfFiles) -> None:
    desk, digest = SmallDesk(shelf), DIGEST
    shelf.expect(digest)
    async with trio.open_nursery() as greedy:
        for _ in range(MAX_WAITING_EACH):
            greedy.start_soon(partial(desk.wait, [digest], 30.0, asker="greedy"))
        await trio.testing.wait_all_tasks_blocked()
        with pytest.raises(PeerBusy):
            await desk.wait([digest], 30.0, asker="greedy")
        await desk.wait([digest], 0.01, asker="honest")
        greedy.cancel_scope.cancel()
    await desk.wait([digest], 0.01, asker="greedy")


async def test_what_follows_soon_leaves_with_the_first(shelf: SmallShelfFiles, autojump_clock: MockClock) -> None:
    """Everything that is expected is waited for a moment, and no longer than until it has come."""
    desk, (first, second, third) = SmallDesk(shelf), payloads(3, 100)
    for digest in (first, second):
        shelf.expect(digest)

    async def wait(*wanted: str) -> float:
        began = trio.current_time()
        await desk.wait(wanted, 30.0, asker="pc")
        return trio.current_time() - began

    async def bring(number: int, seconds: float) -> None:
        await trio.sleep(seconds)
        shelf._hold(list(payloads(3, 100))[number : number + 1])  # without a disk, whose threads take real time

    async with trio.open_nursery() as nursery:
        nursery.start_soon(bring, 0, 5.0)
        nursery.start_soon(bring, 1, 5.1)
        assert await wait(first, second) == pytest.approx(5.1)
    assert await wait(first, second) == 0
    assert await wait(first, third) == 0, "what nobody expects is not waited for"
    shelf.expect(third)
    assert await wait(first, third) == pytest.approx(GATHER_SECONDS)
    await desk.wait([first, third], 0, asker="pc")


async def test_who_may_not_wait_gets_what_is_there(shelf: SmallShelfFiles) -> None:
    desk, (first, second) = SmallDesk(shelf), payloads(2, 100)
    await shelf.put({first: payloads(2, 100)[first]})
    shelf.expect(second)
    async with trio.open_nursery() as greedy:
        for _ in range(MAX_WAITING_EACH):
            greedy.start_soon(partial(desk.wait, [second], 30.0, asker="greedy"))
        await trio.testing.wait_all_tasks_blocked()
        await desk.wait([first, second], 30.0, asker="greedy")
        with pytest.raises(PeerBusy):
            await desk.wait([second], 30.0, asker="greedy")
        greedy.cancel_scope.cancel()


async def test_an_answer_comes_in_batches_and_within_its_bound(shelf: SmallShelfFiles) -> None:
    """No more of it than a batch is in memory, however much was asked for."""
    many = payloads(70, SMALL_BYTES)
    many |= payloads(20, 9_000)
    await shelf.put(many)
    wanted = ["ab" * 32, *many, *reversed(many)]
    async with aclosing(SmallDesk(shelf).batches(wanted)) as batches:
        sizes = [sum(map(len, batch.values())) async for batch in batches]
    assert max(sizes) <= BATCH_BYTES
    assert MOST_ANSWERED - BATCH_BYTES < sum(sizes) <= MOST_ANSWERED
    async with aclosing(SmallDesk(shelf).batches([*reversed(many), *many])) as batches:
        few = [batch async for batch in batches][:3]
    assert [len(batch) for batch in few] == [7, 7, 6], "small ones leave together"


async def test_slow_readers_cost_a_batch_each(shelf: SmallShelfFiles, tmp_path: Path) -> None:
    """The next batch is read when the one before has left."""
    many = payloads(64, SMALL_BYTES)
    await shelf.put(many)
    reads = 0
    read = shelf.read

    async def counted(digests: Sequence[str], *, most_bytes: int) -> Mapping[str, bytes]:
        nonlocal reads
        reads += 1
        return await read(digests, most_bytes=most_bytes)

    shelf.read = counted  # type: ignore[method-assign]  # counts, and changes nothing
    leaving, left = trio.open_memory_channel[int](0)  # the application goes on when a part is taken

    async def send(message: Any) -> None:
        await leaving.send(len(message.get("body", b"")))

    async def receive() -> Any:
        return {"type": "http.request", "body": b"".join(map(bytes.fromhex, many)), "more_body": False}

    scope = {"type": "http", "method": "POST", "path": "/payloads", "query_string": b"", "headers": []}
    async with trio.open_nursery() as nursery:
        nursery.start_soon(mirror_app(tmp_path / "mirror", shelf), scope, receive, send)
        with trio.fail_after(30):
            sizes = [await left.receive() for _ in range(6)]
        assert reads <= len(sizes)
        nursery.cancel_scope.cancel()
    assert SMALL_BYTES < max(sizes) <= BATCH_BYTES + 1_000
    leaving.close()
    left.close()


async def test_a_segment_may_be_called_anything(tmp_path: Path) -> None:
    """What is being written never has the name of what is whole."""
    shelf = SmallShelfFiles(tmp_path / "payloads", "office.part", trio.to_thread.run_sync)
    await shelf.put({DIGEST: b"one"})
    assert [path.name for path in (tmp_path / "payloads" / DIGEST).iterdir()] == ["office.part"]
    (tmp_path / "payloads" / DIGEST / "office.part").rename(tmp_path / "kept")
    (tmp_path / "payloads" / DIGEST / "office.part").mkdir()  # so that the last step fails
    other = SmallShelfFiles(tmp_path / "payloads", "office.part", trio.to_thread.run_sync)
    with pytest.raises(StorageFailed):
        await other.put({DIGEST: b"one"})
    assert not other.holds(DIGEST)
    assert [path.name for path in (tmp_path / "payloads" / DIGEST).iterdir()] == ["office.part"], "nothing half written"


async def test_all_together_have_a_bound_too(shelf: SmallShelfFiles) -> None:
    desk = SmallDesk(shelf)
    shelf.expect(DIGEST)
    async with trio.open_nursery() as nursery:
        for number in range(MAX_WAITING):
            asker = f"pc-{number // MAX_WAITING_EACH}"
            nursery.start_soon(partial(desk.wait, [DIGEST], 30.0, asker=asker))
        await trio.testing.wait_all_tasks_blocked()
        with pytest.raises(PeerBusy):
            await desk.wait([DIGEST], 30.0, asker="late")
        await shelf.put({DIGEST: b"one"})  # which ends all of them
