# SPDX-License-Identifier: Apache-2.0
"""The files in deploy/ fit each other and the code's own defaults."""

import re
from dataclasses import fields, replace
from pathlib import Path

import pytest

from p2pd.config import AgentConfig, SwarmConfig
from p2pd.host.config_file import load_config
from p2pd.installer.config import InstallerConfig
from seeds.commands.context import CREDENTIAL
from signing.budgets import Budgets, Rates

DEPLOY = Path(__file__).parents[2] / "deploy"
UNITS = ("p2pd", "p2pd-install", "p2p-coordinator")


def _settings(unit: str) -> dict[str, list[str]]:
    """All settings of a unit, sections aside: none of ours stands in two of them."""
    found: dict[str, list[str]] = {}
    for key, value in re.findall(r"^(\w+)=(.*)$", (DEPLOY / f"{unit}.service").read_text(), re.MULTILINE):
        found.setdefault(key, []).append(value)
    return found


def test_the_example_of_the_daemon_shows_every_default() -> None:
    example = load_config(AgentConfig, DEPLOY / "p2pd.toml")
    assert replace(example, interfaces=("eth0",)) == AgentConfig(interfaces=("eth0",))
    named = re.findall(r"^(\w+) =", (DEPLOY / "p2pd.toml").read_text(), re.MULTILINE)
    tables = {"swarm", "budgets", "rates", "hours", "network"}  # hours and network: none by default
    classes = (AgentConfig, SwarmConfig, Budgets, Rates)
    keys = [field.name for cls in classes for field in fields(cls) if field.name not in tables]
    assert sorted(named) == sorted(keys)


def test_the_two_daemons_meet_at_one_socket_and_one_root() -> None:
    daemon = load_config(AgentConfig, DEPLOY / "p2pd.toml")
    installer = load_config(InstallerConfig, DEPLOY / "p2pd-install.toml")
    assert daemon.installer_socket == installer.socket
    assert daemon.initial_root == installer.initial_root
    assert _settings("p2pd-install")["ConditionPathExists"] == [installer.initial_root]


def test_directories_are_where_the_units_put_them() -> None:
    daemon = load_config(AgentConfig, DEPLOY / "p2pd.toml")
    unit = _settings("p2pd")
    assert [f"/var/lib/{name}" for name in unit["StateDirectory"]] == [daemon.state_dir]
    assert [f"/run/{name}" for name in unit["RuntimeDirectory"]] == [str(Path(daemon.control_socket).parent)]
    assert unit["ConditionPathExists"] == [f"{daemon.state_dir}/identity/enrolment.json"]


@pytest.mark.parametrize("unit", UNITS)
def test_a_units_user_and_state_are_made_by_the_snippets(unit: str) -> None:
    settings = _settings(unit)
    users = "".join(path.read_text() for path in (DEPLOY / "sysusers.d").iterdir())
    directories = "".join(path.read_text() for path in (DEPLOY / "tmpfiles.d").iterdir())
    (user,) = settings["User"]
    assert user == "root" or re.search(rf"^u {user} ", users, re.MULTILINE)
    (state,) = settings["StateDirectory"]
    assert re.search(rf"^d /var/lib/{state} +0700 {user} ", directories, re.MULTILINE)


def test_the_coordinator_finds_the_passphrase_that_its_unit_loads() -> None:
    (credential,) = _settings("p2p-coordinator")["LoadCredential"]
    assert credential.partition(":")[0] == CREDENTIAL


def test_the_installer_has_no_network_and_the_daemon_no_privilege() -> None:
    installer, daemon = _settings("p2pd-install"), _settings("p2pd")
    assert installer["PrivateNetwork"] == ["yes"]
    assert installer["RestrictAddressFamilies"] == ["AF_UNIX"]
    assert installer["CapabilityBoundingSet"] == ["CAP_DAC_READ_SEARCH"]
    assert daemon["CapabilityBoundingSet"] == [""]
    assert daemon["NoNewPrivileges"] == installer["NoNewPrivileges"] == ["yes"]
