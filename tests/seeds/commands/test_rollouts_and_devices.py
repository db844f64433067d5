# SPDX-License-Identifier: Apache-2.0
"""`p2pctl rollout`, `device` and `status` as an administrator types them, with and without a coordinator."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from seeds.adapters.store import Store
from seeds.cli import main
from seeds.fleet import Fleet
from seeds.records import Rollout, RolloutState
from signing.reasons import Reason
from signing.report import InstallState
from tests.seeds.fleet_kit import Endpoint

HALTED = Rollout(
    manifest_sha256="0" * 64,
    product="tzdata",
    version="2",
    release_counter=2,
    segments=("office",),
    state=RolloutState.HALTED,
    open_rings=1,
    reason=Reason.ERROR_GATE,
    sentence="ring canary: 1 of 1 failed",
)
OLDER = replace(HALTED, manifest_sha256="1" * 64, version="1", release_counter=1, state=RolloutState.COMPLETE)

WORDS: dict[str, tuple[InstallState, Reason | None]] = {
    "pc-1": (InstallState.ROLLED_BACK, Reason.HEALTH_CHECK_FAILED),
    "pc-2": (InstallState.FAILED, Reason.DISK_FULL),
    "pc-3": (InstallState.FETCHING, None),
    "pc-4": (InstallState.COMMITTED, None),
}

P2pctl = Callable[..., Result]


@pytest.fixture
def p2pctl(fleet: Fleet) -> P2pctl:
    """Runs one command on a fleet whose rollout halted."""
    with Store(fleet.database) as store, store.writing() as transaction:
        for rollout in (OLDER, HALTED):
            transaction.put_rollout(rollout)
        transaction.put_device(Endpoint("pc-5").as_record())
        transaction.put_device(Endpoint("lab-1").as_record(segment="lab"))
        for name, (state, reason) in WORDS.items():
            endpoint = Endpoint(name)
            transaction.put_device(endpoint.as_record())
            report = replace(endpoint.report(state, version="2"), reason=reason)
            transaction.add_report(report, enrolment=1, envelope=b"", received_at=1)

    def run(*argv: str | Path) -> Result:
        environment = {"P2PCTL_FLEET": str(fleet.directory), "COLUMNS": "200", "USER": "alice", "SUDO_USER": None}
        return CliRunner().invoke(main, [str(argument) for argument in argv], env=environment, catch_exceptions=False)

    return run


def ok(result: Result) -> Any:
    assert result.exit_code == 0, result.output + result.stderr
    return json.loads(result.stdout)


def refused(result: Result, *words: str) -> None:
    assert result.exit_code == 2, result.output
    assert len(result.stderr.strip().splitlines()) == 1
    for word in words:
        assert word in result.stderr


@pytest.mark.parametrize("command", [("status",), ("rollout", "list")])
def test_no_device_waits_or_fails_without_a_reason(p2pctl: P2pctl, command: tuple[str, ...]) -> None:
    told = p2pctl(*command).stdout
    assert "1 committed" in told
    assert "1 failed: health_check_failed 1" in told
    assert "3 pending: disk_full 1, fetching 1, silent 1" in told
    assert "ring canary: 1 of 1 failed" in told


def test_nobody_waits_for_devices_that_an_older_release_never_reached(p2pctl: P2pctl) -> None:
    older, newest = ok(p2pctl("rollout", "list", "--json"))
    assert (older["version"], older["standings"]) == ("1", {})
    assert newest["standings"] == {
        "committed": {"committed": 1},
        "failed": {"health_check_failed": 1},
        "pending": {"disk_full": 1, "fetching": 1, "silent": 1},
    }
    assert ok(p2pctl("status", "--json"))["rollouts"] == [older, newest]


def test_a_fleet_without_rollouts_says_what_to_do(fleet: Fleet) -> None:
    result = CliRunner().invoke(main, ["--fleet", str(fleet.directory), "rollout", "list"])
    assert "p2pctl patch build" in result.stdout


def test_a_rollout_is_resumed_by_name_and_by_somebody(p2pctl: P2pctl, fleet: Fleet) -> None:
    assert ok(p2pctl("rollout", "resume", "tzdata", "2", "--why", "a broken disk", "--json")) == {
        "product": "tzdata",
        "version": "2",
        "manifest_sha256": "0" * 64,
        "forgiven": ["pc-1"],
        "why": "a broken disk",
        "served": None,
    }
    assert "1 forgiven: health_check_failed 1" in p2pctl("status").stdout
    with Store(fleet.database) as store, store.reading() as transaction:
        (event,) = transaction.audit_of("release tzdata 2")
        assert len(transaction.resumptions()) == 1
    assert (event.who, event.detail) == ("alice", "a broken disk; forgiven: pc-1")

    told = p2pctl("rollout", "resume", "tzdata", "2").stdout
    assert "resumed: tzdata 2; forgiven: nobody" in told
    assert "no coordinator answers now" in told


def test_only_what_halted_is_resumed(p2pctl: P2pctl) -> None:
    refused(p2pctl("rollout", "resume", "tzdata", "1"), "tzdata 1: is complete, not halted", "p2pctl rollout list")
    refused(p2pctl("rollout", "resume", "tzdata", "9"), "tzdata 9: has no rollout")


def test_devices_are_listed(p2pctl: P2pctl) -> None:
    listed = ok(p2pctl("device", "list", "--json"))
    assert [device["device"] for device in listed] == ["lab-1", "pc-1", "pc-2", "pc-3", "pc-4", "pc-5"]
    assert (listed[0]["segment"], listed[0]["site"]) == ("lab", "paris")
    assert "2033-05-18" in p2pctl("device", "list").stdout


def test_a_removed_device_is_in_no_list_and_no_evidence(p2pctl: P2pctl, fleet: Fleet) -> None:
    removed = ok(p2pctl("device", "remove", "pc-1", "--why", "stolen", "--json"))
    assert (removed["device"], removed["why"], removed["served"]) == ("pc-1", "stolen", None)
    assert "pc-1" not in p2pctl("device", "list").stdout
    facts = ok(p2pctl("status", "--json"))
    assert "pc-1" not in {device["device"] for device in facts["devices"]}
    assert "failed" not in facts["rollouts"][1]["standings"]
    refused(p2pctl("device", "remove", "pc-1"), "pc-1", "no device of this fleet", "p2pctl device list")
    with Store(fleet.database) as store, store.reading() as transaction:
        (event,) = transaction.audit_of("device pc-1")
    assert (event.who, event.what, event.detail) == ("alice", "removed", "stolen")

    told = p2pctl("device", "remove", "pc-2").stdout
    assert "removed: pc-2" in told
    assert "2033-05-18; it cannot be renewed" in told


def test_an_empty_fleet_says_how_devices_join(fleet: Fleet) -> None:
    result = CliRunner().invoke(main, ["--fleet", str(fleet.directory), "device", "list"])
    assert "p2pctl enroll-token" in result.stdout
