# SPDX-License-Identifier: Apache-2.0
"""Every `Rebuilder` makes the payload, tells a bad base from a bad delta and a bad disk, and leaves nothing half done."""

import hashlib
import random
from dataclasses import replace
from pathlib import Path

import pytest

from p2pd.adapters.rebuild_process import RebuildProcess
from p2pd.host.delta_file import MAGIC, Window, make_patch, pack
from p2pd.ports_control import StorageFailed
from p2pd.ports_delta import Base, Rebuild, Rebuilder, RebuildFailed
from signing.manifest import Content
from signing.reasons import Reason
from tests.fakes.in_place_rebuilder import InPlaceRebuilder

OLD = random.Random(1).randbytes(30_000)  # noqa: S311 (content for tests)
NEW = OLD[:10_000] + b"new" + OLD[10_000:]


@pytest.fixture(params=[RebuildProcess, InPlaceRebuilder])
def rebuilder(request: pytest.FixtureRequest) -> Rebuilder:
    made: Rebuilder = request.param()
    return made


@pytest.fixture
def work(tmp_path: Path) -> Rebuild:
    delta = MAGIC + pack(Window(0, len(OLD), len(NEW), make_patch(OLD, NEW)))
    (tmp_path / "base").write_bytes(OLD)
    (tmp_path / "delta").write_bytes(delta)
    return Rebuild(
        base=Base(path=tmp_path / "base", content=content(OLD), is_compressed=False),
        delta=tmp_path / "delta",
        delta_content=content(delta),
        result=tmp_path / "results" / "office",
        payload=content(NEW),
    )


def content(data: bytes) -> Content:
    return Content(sha256=hashlib.sha256(data).hexdigest(), size=len(data))


async def test_it_makes_the_payload_as_often_as_it_is_asked(rebuilder: Rebuilder, work: Rebuild) -> None:
    for _ in range(2):
        await rebuilder.rebuild(work)
        assert work.result.read_bytes() == NEW
    assert list(work.result.parent.iterdir()) == [work.result]


async def test_another_base_is_told_from_another_delta(rebuilder: Rebuilder, work: Rebuild) -> None:
    other = content(b"another payload")
    for spoiled, reason in (
        (replace(work, base=replace(work.base, content=other)), Reason.DELTA_BASE_DIFFERS),
        (replace(work, base=replace(work.base, is_compressed=True)), Reason.DELTA_BASE_DIFFERS),
        (replace(work, delta_content=other), Reason.DELTA_FAILED),
        (replace(work, payload=content(NEW[:-1] + b"?")), Reason.DELTA_FAILED),
    ):
        with pytest.raises(RebuildFailed) as refused:
            await rebuilder.rebuild(spoiled)
        assert refused.value.reason is reason
        assert not work.result.exists()


async def test_a_result_that_is_there_outlives_a_failure(rebuilder: Rebuilder, work: Rebuild) -> None:
    await rebuilder.rebuild(work)
    work.base.path.write_bytes(b"rotten")
    with pytest.raises(RebuildFailed):
        await rebuilder.rebuild(work)
    assert work.result.read_bytes() == NEW


async def test_a_disk_that_cannot_be_written_speaks_against_nothing(rebuilder: Rebuilder, work: Rebuild) -> None:
    work.result.parent.write_bytes(b"a file in the way")
    with pytest.raises(StorageFailed) as failure:
        await rebuilder.rebuild(work)
    assert failure.value.reason is Reason.STORAGE_FAILED


async def test_a_module_in_the_working_directory_is_not_taken_for_one_of_ours(
    rebuilder: Rebuilder, work: Rebuild, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "zstandard.py").write_text("raise SystemExit('somebody put me here')")
    monkeypatch.chdir(tmp_path)
    await rebuilder.rebuild(work)
    assert work.result.read_bytes() == NEW
