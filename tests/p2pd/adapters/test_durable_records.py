# SPDX-License-Identifier: Apache-2.0
"""What the agent remembers across a power cut: journal, spool, payloads, identity."""

import errno
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import trio

from p2pd.adapters.identity_files import Enrolment, IdentityFiles
from p2pd.adapters.journal_files import JournalFiles
from p2pd.adapters.payload_files import SPARE_BYTES, PayloadFiles
from p2pd.adapters.report_spool import ReportSpool
from p2pd.host.atomic_file import write_atomically
from p2pd.ports import PayloadStoreFull
from p2pd.ports_control import Attempt, ProductRecord, StorageFailed
from signing.devices import DeviceKey
from signing.durable_file import unfinished_name
from signing.envelope import open_envelope
from signing.errors import BadInput
from signing.reasons import Reason
from signing.report import InstallState, Report

KEY = DeviceKey.generate()
RUN = trio.to_thread.run_sync
ATTEMPT = Attempt(
    product="app",
    version="2",
    release_counter=2,
    manifest_sha256="a" * 64,
    manifest=b"\x00manifest",
    state=InstallState.PROBATION,
    began=1_800_000_000,
    reason=Reason.HEALTH_CHECK_FAILED,
    previous_version="1",
    seconds=1.5,
)


def report(sequence: int) -> Report:
    return Report(
        device="desk-1",
        sequence=sequence,
        time=1,
        product="app",
        version="2",
        manifest_sha256="a" * 64,
        state=InstallState.COMMITTED,
    )


def saying(detail: str) -> Callable[[int], Report]:
    return lambda sequence: replace(report(sequence), detail=detail)


async def test_a_record_is_there_for_the_next_process(tmp_path: Path) -> None:
    record = ProductRecord(attempt=ATTEMPT, quarantined=("b" * 64,))
    await JournalFiles(tmp_path / "journal", RUN).load()
    await JournalFiles(tmp_path / "journal", RUN).save("lib/../x", record)
    assert await JournalFiles(tmp_path / "journal", RUN).load() == {"lib/../x": record}
    assert {path.name for path in tmp_path.iterdir()} == {"journal"}


@pytest.mark.parametrize("damage", [b"", b"\xc1", b"\x81\xa7unknown\x01"])
async def test_a_damaged_record_is_set_aside_and_the_others_are_read(tmp_path: Path, damage: bytes) -> None:
    journal = JournalFiles(tmp_path, RUN)
    await journal.save("good", ProductRecord())
    (tmp_path / "bad.record").write_bytes(damage)
    assert await journal.load() == {"good": ProductRecord()}
    assert (tmp_path / "bad.unreadable").read_bytes() == damage


async def test_reports_wait_in_order_and_go_one_by_one(tmp_path: Path) -> None:
    spool = ReportSpool(tmp_path / "spool", KEY, RUN)
    for _ in range(3):
        await spool.append(report)
    waiting = await spool.oldest(2)
    assert [sequence for sequence, _ in waiting] == [1, 2]
    assert open_envelope(Report, waiting[0][1], KEY.public_pem, where="spool") == report(1)
    await spool.discard(1)
    assert [sequence for sequence, _ in await spool.oldest(9)] == [2, 3]


async def test_a_sequence_number_is_never_used_twice_even_after_all_reports_are_gone(tmp_path: Path) -> None:
    for expected in (1, 2, 3):
        spool = ReportSpool(tmp_path, KEY, RUN)
        await spool.append(report)
        assert [sequence for sequence, _ in await spool.oldest(9)] == [expected]
        await spool.discard(expected)


async def test_products_that_report_at_once_get_numbers_of_their_own(tmp_path: Path) -> None:
    spool = ReportSpool(tmp_path, KEY, RUN)
    async with trio.open_nursery() as nursery:
        for _ in range(30):
            nursery.start_soon(spool.append, report)
    waiting = await spool.oldest(99)
    assert [sequence for sequence, _ in waiting] == list(range(1, 31))
    for sequence, envelope in waiting:
        assert open_envelope(Report, envelope, KEY.public_pem, where="spool").sequence == sequence


async def test_a_full_spool_drops_its_oldest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("p2pd.adapters.report_spool.MAX_SPOOLED", 3)
    spool = ReportSpool(tmp_path, KEY, RUN)
    for _ in range(5):
        await spool.append(report)
    assert [sequence for sequence, _ in await spool.oldest(9)] == [3, 4, 5]


def spool_at(directory: Path, *, unix: float = 1_800_000_000.0) -> ReportSpool:
    return ReportSpool(directory, KEY, RUN, read_unix=lambda: unix)


async def sequences(spool: ReportSpool) -> list[int]:
    return [sequence for sequence, _ in await spool.oldest(99)]


@pytest.mark.parametrize("damage", [b"", b"12x", b"-1", b"9" * 30, b"9" * 40, str(2**53).encode()])
async def test_a_damaged_number_goes_back_to_none_that_was_used(tmp_path: Path, damage: bytes) -> None:
    spool = spool_at(tmp_path)
    await spool.append(report)
    (tmp_path / "next-sequence").write_bytes(damage)
    for _ in range(2):
        await spool.append(report)
    first, second, third = await sequences(spool)
    assert first == 1
    assert second >= 1_800_000_000_000
    assert third == second + 1
    assert (tmp_path / "next-sequence.unreadable").read_bytes() == damage
    (tmp_path / "next-sequence").write_bytes(b"?")
    later = spool_at(tmp_path, unix=1_800_001_000.0)  # also when nothing is spooled that would tell
    for sequence in (first, second, third):
        await later.discard(sequence)
    await later.append(report)
    assert (await sequences(later))[0] > third


@pytest.mark.parametrize("damage", [b"", b"{", b"[]", b'{"payload": ' + b"9" * 50_000])
async def test_a_damaged_report_is_set_aside_and_the_others_go(tmp_path: Path, damage: bytes) -> None:
    spool = spool_at(tmp_path)
    for _ in range(3):
        await spool.append(report)
    damaged = tmp_path / "0000000000000002.report"
    damaged.write_bytes(damage)
    assert [sequence for sequence, _ in await spool.oldest(2)] == [1, 3]
    assert await spool.count() == 2
    assert damaged.with_suffix(".unreadable").read_bytes() == damage


@pytest.mark.parametrize("name", ["x.report", "1.report", "9999999999999999.report", "0000000000000000.report"])
async def test_a_file_that_is_named_otherwise_is_set_aside(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"{}")
    spool = spool_at(tmp_path)
    await spool.append(report)
    assert await sequences(spool) == [1]
    assert (tmp_path / name).with_suffix(".unreadable").is_file()


async def test_reports_move_to_numbers_far_above_and_keep_their_order(tmp_path: Path) -> None:
    spool = spool_at(tmp_path)
    for detail in ("a", "b", "c"):
        await spool.append(saying(detail))
    start = await spool.renumber(2)
    assert start >= 1_800_000_000_000
    assert await sequences(spool) == [1, start, start + 1]
    told = [open_envelope(Report, envelope, KEY.public_pem, where="spool") for _, envelope in await spool.oldest(9)]
    assert [(one.sequence, one.detail) for one in told] == [(1, "a"), (start, "b"), (start + 1, "c")]
    await spool.append(report)
    assert (await sequences(spool))[-1] == start + 2


async def test_a_move_that_was_cut_short_is_mended_by_the_next(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("p2pd.adapters.report_spool.MOST_TOGETHER", 1)  # a file each
    spool = spool_at(tmp_path)
    for detail in ("a", "b", "c", "d"):
        await spool.append(saying(detail))
    with monkeypatch.context() as patch:
        patch.setattr("p2pd.adapters.report_spool.write_atomically", FullAfter(3))
        with pytest.raises(StorageFailed) as failed:
            await spool.renumber(1)
    assert failed.value.reason is Reason.DISK_FULL
    assert len(await sequences(spool)) == 6
    start = await spool.renumber(1)
    told = [open_envelope(Report, envelope, KEY.public_pem, where="spool") for _, envelope in await spool.oldest(9)]
    assert [(one.sequence - start, one.detail) for one in told] == [(0, "a"), (1, "b"), (2, "c"), (3, "d")]


@pytest.mark.parametrize("writes", [0, 1])
async def test_what_a_full_disk_does_not_take_is_not_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, writes: int
) -> None:
    spool = spool_at(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr("p2pd.adapters.report_spool.write_atomically", FullAfter(writes))
        with pytest.raises(StorageFailed) as failed:
            await spool.append(report)
    assert failed.value.reason is Reason.DISK_FULL
    assert await spool.count() == 0
    await spool.append(report)
    assert await sequences(spool) == [1 + writes]


async def test_what_is_reported_at_once_is_one_file_and_goes_one_by_one(tmp_path: Path) -> None:
    spool = spool_at(tmp_path)
    await spool.append(*[saying(str(number)) for number in range(5)])
    assert reports_in(tmp_path) == ["0000000000000001.report"]
    await spool.discard(1, 2, 3)
    assert await sequences(spool) == [4, 5]
    assert await spool.count() == 2
    await spool.append(report)
    await spool.discard(4, 5)
    assert reports_in(tmp_path) == ["0000000000000006.report"]
    assert await sequences(spool) == [6]


async def test_a_daemon_that_starts_anew_tells_again_what_lies_beside_what_waits(tmp_path: Path) -> None:
    """The coordinator takes a repeat for one; what was lost it could not know."""
    spool = spool_at(tmp_path)
    await spool.append(*[saying(str(number)) for number in range(3)])
    await spool.discard(1)
    later = spool_at(tmp_path)
    assert await sequences(later) == [1, 2, 3]
    await later.append(report)
    assert await sequences(later) == [1, 2, 3, 4]


async def test_one_damaged_line_costs_one_report(tmp_path: Path) -> None:
    spool = spool_at(tmp_path)
    await spool.append(*[saying(str(number)) for number in range(3)])
    file = tmp_path / "0000000000000001.report"
    lines = file.read_bytes().splitlines()
    damaged = b"\n".join([lines[0], b"{", lines[2]])
    file.write_bytes(damaged)
    later = spool_at(tmp_path)
    assert await sequences(later) == [1, 3]
    await later.discard(1, 3)
    assert file.with_suffix(".unreadable").read_bytes() == damaged
    assert reports_in(tmp_path) == []


async def test_more_than_fits_a_file_goes_into_several(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("p2pd.adapters.report_spool.MOST_TOGETHER", 4)
    spool = spool_at(tmp_path)
    async with trio.open_nursery() as nursery:
        for count in (1, 3, 3, 2, 4, 1):
            nursery.start_soon(spool.append, *[report] * count)
    assert await sequences(spool) == list(range(1, 15))
    assert await sequences(spool_at(tmp_path)) == list(range(1, 15))
    with pytest.raises(ValueError, match="at most 4"):
        await spool.append(*[report] * 5)


async def test_records_that_are_saved_at_once_are_all_there(tmp_path: Path) -> None:
    journal = JournalFiles(tmp_path, RUN)
    records = {f"app-{number}": ProductRecord(quarantined=(f"{number:064d}",)) for number in range(200)}
    async with trio.open_nursery() as nursery:
        for product, record in records.items():
            nursery.start_soon(journal.save, product, record)
    assert await JournalFiles(tmp_path, RUN).load() == records


async def test_a_record_that_cannot_be_written_fails_alone(tmp_path: Path) -> None:
    journal, failed = JournalFiles(tmp_path, RUN), list[str]()
    unfinished_name(tmp_path / "b.record").mkdir()  # in the way of this one only

    async def save(product: str) -> None:
        try:
            await journal.save(product, ProductRecord())
        except StorageFailed:
            failed.append(product)

    async with trio.open_nursery() as nursery:
        for product in ("a", "b", "c"):
            nursery.start_soon(save, product)
    assert failed == ["b"]
    assert set(await journal.load()) == {"a", "c"}


async def test_what_a_kill_left_of_a_record_is_no_record_and_in_nobodys_way(tmp_path: Path) -> None:
    journal = JournalFiles(tmp_path, RUN)
    await journal.save("app", ProductRecord())
    unfinished = unfinished_name(tmp_path / "app.record")
    unfinished.write_bytes(b"half a rec")
    await journal.save("app", ProductRecord(attempt=ATTEMPT))
    unfinished.write_bytes(b"half a rec")
    assert await JournalFiles(tmp_path, RUN).load() == {"app": ProductRecord(attempt=ATTEMPT)}
    assert [path.name for path in tmp_path.iterdir()] == ["app.record"]


def reports_in(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.glob("*.report"))


class FullAfter:
    """A disk with room for so many more files."""

    def __init__(self, writes: int) -> None:
        self._left = writes

    def __call__(self, path: Path, data: bytes) -> None:
        if self._left == 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        self._left -= 1
        write_atomically(path, data)


async def test_room_is_asked_for_before_the_first_byte(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = PayloadFiles(tmp_path, RUN)
    free = SPARE_BYTES + 1_000_000
    monkeypatch.setattr("shutil.disk_usage", _disk_with(free))
    await store.make_room("a" * 64, 1_000_000)
    with pytest.raises(PayloadStoreFull) as full:
        await store.make_room("a" * 64, 1_000_001)
    assert full.value.reason is Reason.DISK_FULL


async def test_what_lies_there_already_needs_no_room_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = PayloadFiles(tmp_path, RUN)
    store.directory("a" * 64).mkdir()
    (store.directory("a" * 64) / "default").write_bytes(b"x" * 1_000_000)
    monkeypatch.setattr("shutil.disk_usage", _disk_with(SPARE_BYTES + 10_000))
    await store.make_room("a" * 64, 1_000_000)


async def test_only_wanted_payloads_stay(tmp_path: Path) -> None:
    store = PayloadFiles(tmp_path, RUN)
    for digest in ("a" * 64, "b" * 64):
        store.directory(digest).mkdir()
        (store.directory(digest) / "default").write_bytes(b"x")
    (tmp_path / "litter").write_bytes(b"x")
    await store.retain(frozenset({"a" * 64}))
    assert await store.has("a" * 64, "default")
    assert {path.name for path in tmp_path.iterdir()} == {"a" * 64}
    await store.discard("a" * 64)
    await store.discard("a" * 64)
    assert not await store.has("a" * 64, "default")


def test_a_digest_that_is_a_path_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="64 lower-case hexadecimal"):
        PayloadFiles(tmp_path, RUN).directory("../../etc")


def test_the_device_key_is_for_its_owner_only(tmp_path: Path) -> None:
    files = IdentityFiles(tmp_path)
    enrolment = Enrolment(
        device="desk-1", segment="default", site="main", url="https://a.example", agent_url="https://b.example"
    )
    assert not files.is_enrolled()
    with pytest.raises(BadInput, match="p2pd enroll"):
        files.load_enrolment()
    files.save(enrolment, key=KEY, certificate=b"c", segment_ca=b"s", coordinator_ca=b"o")
    assert files.load_enrolment() == enrolment
    assert files.key.stat().st_mode & 0o777 == 0o600
    assert files.load_key().public_pem == KEY.public_pem


def _disk_with(free: int) -> Callable[[Path], Any]:
    class Usage:
        def __init__(self) -> None:
            self.free = free

    return lambda _: Usage()
