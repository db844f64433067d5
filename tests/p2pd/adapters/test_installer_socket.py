# SPDX-License-Identifier: Apache-2.0
"""The socket adapter where p2pd-install is away, or says what nobody understands; the rest is in the contract tests."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio

from p2pd.adapters.installer_socket import InstallerSocket
from p2pd.host.control_socket import ControlRefused, serve_requests
from p2pd.ports import InstalledRelease, InstallerFailure, InstallPhase
from signing.reasons import Reason

RELEASE = {"version": "1.0", "release_counter": 1, "manifest_sha256": "a" * 64, "installed_at": 7}


class Answering:
    """A socket that gives one answer to everything."""

    def __init__(self, path: Path, answer: Mapping[str, Any] | Exception) -> None:
        self.path = path
        self.asked: list[tuple[str, Mapping[str, Any]]] = []
        self._answer = answer

    async def handle(self, verb: str, arguments: Mapping[str, Any]) -> Mapping[str, Any]:
        self.asked.append((verb, arguments))
        if isinstance(self._answer, Exception):
            raise self._answer
        return self._answer


async def start(nursery: trio.Nursery, path: Path, answer: Mapping[str, Any] | Exception) -> InstallerSocket:
    await nursery.start(partial(serve_requests, path, Answering(path, answer).handle))
    return InstallerSocket(path)


async def test_nobody_there(tmp_path: Path) -> None:
    with pytest.raises(InstallerFailure, match="is the daemon running") as failure:
        await InstallerSocket(tmp_path / "s").status()
    assert failure.value.reason is Reason.INSTALLER_UNREACHABLE


@pytest.mark.parametrize(
    "answer",
    [
        {},
        {"products": []},
        {"products": {"tool": {}}},
        {"products": {"tool": {"active": 1, "previous": None, "pending": None, "phase": "idle", "slot": None}}},
        {"products": {"tool": {"active": None, "previous": None, "pending": None, "phase": "odd", "slot": None}}},
    ],
)
async def test_answers_that_make_no_sense(tmp_path: Path, nursery: trio.Nursery, answer: dict[str, Any]) -> None:
    installer = await start(nursery, tmp_path / "s", answer)
    with pytest.raises(InstallerFailure) as failure:
        await installer.status()
    assert failure.value.reason is Reason.INSTALLER_UNREACHABLE


async def test_a_newer_installer_may_tell_more(tmp_path: Path, nursery: trio.Nursery) -> None:
    product = {"active": {**RELEASE, "mood": "good"}, "previous": None, "pending": None, "phase": "idle", "slot": "/s"}
    installer = await start(nursery, tmp_path / "s", {"products": {"tool": {**product, "more": 1}}, "uptime": 3})
    told = (await installer.status())["tool"]
    assert told.active == InstalledRelease(version="1.0", release_counter=1, manifest_sha256="a" * 64, installed_at=7)
    assert (told.phase, told.slot) == (InstallPhase.IDLE, Path("/s"))


@pytest.mark.parametrize(
    ("refused", "reason"),
    [(Reason.DISK_FULL, Reason.DISK_FULL), (None, Reason.INSTALLER_UNREACHABLE)],
)
async def test_refusals_keep_reason_and_words(
    tmp_path: Path, nursery: trio.Nursery, refused: Reason | None, reason: Reason
) -> None:
    installer = await start(nursery, tmp_path / "s", ControlRefused(refused, "no room on /dev/sda"))
    with pytest.raises(InstallerFailure, match="no room on /dev/sda") as failure:
        await installer.rollback(product="tool", manifest_sha256="a" * 64, mirror=Path("/m"))
    assert failure.value.reason is reason


async def test_requests_are_those_of_the_protocol(tmp_path: Path, nursery: trio.Nursery) -> None:
    answering = Answering(tmp_path / "s", {"slot": "/slots/1", "previous": None, "active": None})
    await nursery.start(partial(serve_requests, answering.path, answering.handle))
    installer = InstallerSocket(answering.path)
    await installer.install(product="tool", version="1.0", mirror=Path("/m"), transport=Path("/t"))
    await installer.commit(product="tool", manifest_sha256="a" * 64)
    assert await installer.rollback(product="tool", manifest_sha256="a" * 64, mirror=Path("/m")) is None
    release = {"product": "tool", "manifest_sha256": "a" * 64}
    assert answering.asked == [
        ("install", {"product": "tool", "version": "1.0", "mirror": "/m", "transport": "/t"}),
        ("commit", release),
        ("rollback", {**release, "mirror": "/m"}),
    ]
