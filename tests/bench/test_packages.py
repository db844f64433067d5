# SPDX-License-Identifier: Apache-2.0
"""Installing what contenders need, without starting or changing anything else."""

import os
from pathlib import Path

import pytest

from bench import packages
from bench.contenders import all as contenders
from bench.lab import programs
from signing.errors import BadInput


def test_within_nothing_starts_and_afterwards_all_is_as_before(tmp_path: Path) -> None:
    policy = tmp_path / "policy-rc.d"
    with packages.nothing_starts(policy):
        assert os.access(policy, os.X_OK)
        assert policy.read_text().endswith("exit 101\n")
    assert not policy.exists()


def test_a_policy_of_the_machine_is_not_touched(tmp_path: Path) -> None:
    policy = tmp_path / "policy-rc.d"
    policy.write_text("its own")
    with packages.nothing_starts(policy):
        assert policy.read_text() == "its own"
    assert policy.read_text() == "its own"


def test_the_policy_goes_when_installing_fails(tmp_path: Path) -> None:
    policy = tmp_path / "policy-rc.d"
    with pytest.raises(RuntimeError, match="no network"), packages.nothing_starts(policy):
        raise RuntimeError("no network")
    assert not policy.exists()


def test_who_may_not_install_is_told_what_to_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    packages.install([])
    with pytest.raises(BadInput, match="sudo apt-get install aria2 uftp"):
        packages.install(["aria2", "uftp"])


def test_missing_packages_are_named_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contenders, "find", lambda program: None if "tracker" in program else "/usr/bin/x")
    assert contenders.missing_packages(contenders.CONTENDERS.values()) == ["opentracker"]


def test_programs_are_found_where_only_root_looks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "daemon"
    program.touch(mode=0o755)
    monkeypatch.setattr(programs, "_SYSTEM_PATHS", str(tmp_path))
    assert programs.found("daemon") == str(program)
    with pytest.raises(BadInput, match="is not installed"):
        programs.found("no-such-daemon")
