# SPDX-License-Identifier: Apache-2.0
"""Who cannot have a lab is told what is missing."""

import os

import pytest

from bench.lab import commands
from bench.lab.commands import LabError, find
from bench.lab.network import why_not_available


def test_plain_users_are_told_why_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert why_not_available.__wrapped__() == "network namespaces need root"


@pytest.mark.parametrize(
    ("command", "package"), [("ip", "iproute2"), ("tc", "iproute2"), ("nft", "nftables"), ("sysctl", "procps")]
)
def test_a_missing_command_is_named_with_its_package(
    monkeypatch: pytest.MonkeyPatch, command: str, package: str
) -> None:
    monkeypatch.setattr(commands, "_SYSTEM_PATHS", "/nonexistent")
    with pytest.raises(LabError, match=rf"there is no `{command}` command \(Debian: {package}\)"):
        find(command)


@pytest.mark.root
@pytest.mark.usefixtures("possible")
def test_a_batch_that_fails_names_its_line() -> None:
    with pytest.raises(LabError, match=r"(?s)Cannot find device.*\(link set nosuch0 up\)"):
        commands.batch("ip", ["link show lo", "link set nosuch0 up", "link show lo"])
