# SPDX-License-Identifier: Apache-2.0
"""The operator's guide and the code say the same: codes, keys, options, metrics, defaults."""

import re
from collections.abc import Iterator
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any

import click
import pytest
from prometheus_client import CollectorRegistry

from p2pd.cli import main as p2pd
from p2pd.config import AgentConfig, SwarmConfig
from p2pd.host.config_file import load_config
from p2pd.host.http_bounds import REFUSALS
from p2pd.host.supervise import RESTARTS
from p2pd.installer.__main__ import main as p2pd_install
from p2pd.installer.config import InstallerConfig
from p2pd.services.metrics import AgentMetrics
from seeds.adapters.metrics import CoordinatorMetrics
from seeds.cli import main as p2pctl
from seeds.config import CoordinatorConfig
from signing.budgets import Budgets, NetworkGates, Rates
from signing.manifest import CommandCheck, HealthPlan, HttpCheck, TcpCheck
from signing.policy import Gate, Limits, Policy, Ring
from signing.reasons import Reason, explain

ROOT = Path(__file__).parents[2]
GUIDE = (ROOT / "docs" / "operators-guide.md").read_text()


def _section(title: str) -> str:
    """The text below a heading, up to the next heading of its rank or a higher one."""
    rank, _, _ = title.partition(" ")
    after = GUIDE.split(f"\n{title}\n", 1)[1]
    return re.split(rf"\n#{{1,{len(rank)}}} ", after, maxsplit=1)[0]


def _rows(text: str) -> dict[str, list[str]]:
    """The rows of all tables in `text`, by each name in backquotes in their first cell."""
    found: dict[str, list[str]] = {}
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")] if line.startswith("|") else []
        for name in re.findall(r"`([^`]+)`", cells[0]) if cells else []:
            found[name] = cells[1:]
    return found


def _default_of(cell: str) -> str:
    return cell.strip("`").replace(",", "")


def test_every_reason_code_stands_in_the_table_with_its_sentence_and_no_other_does() -> None:
    told = {code: cells[0] for code, cells in _rows(_section("## Reason codes")).items()}
    assert told == {reason.value: explain(reason) for reason in Reason}


_POLICY_LIMITS = {"limits.budgets.": Budgets, "limits.budgets.rates.": Rates, "limits.network.": NetworkGates}


@pytest.mark.parametrize(
    ("title", "keys"),
    [
        ("### p2pd.toml", {"": AgentConfig, "swarm.": SwarmConfig, "budgets.": Budgets, "budgets.rates.": Rates}),
        ("### p2pd-install.toml", {"": InstallerConfig}),
        ("### fleet.toml", {"": CoordinatorConfig}),
        ("### Policy", {"": Policy, "rings.": Ring, "rings.gate.": Gate, "limits.": Limits, **_POLICY_LIMITS}),
    ],
)
def test_every_key_of_a_configuration_is_told_with_its_default(title: str, keys: dict[str, type[Any]]) -> None:
    told = _rows(_section(title))
    expected = {
        prefix + field.name: field
        for prefix, cls in keys.items()
        for field in fields(cls)
        if f"{prefix}{field.name}." not in keys
        or field.default is MISSING  # a table of keys with defaults: they are told
    }
    assert set(told) == set(expected)
    for name, field in expected.items():
        default = _default_of(told[name][0])
        if field.default is MISSING:
            assert default == "must be given", name
        elif isinstance(field.default, bool):
            assert default == str(field.default).lower(), name
        elif isinstance(field.default, int | float):
            assert float(default) == field.default, name
        elif isinstance(field.default, str | Path):
            assert default == (str(field.default) or "empty"), name
        elif not field.default:
            assert default == "none", name


def test_every_key_of_a_health_plan_is_told() -> None:
    told = set(_rows(_section("### Health plan"))) - {"status"}
    checks = {field.name for cls in (CommandCheck, HttpCheck, TcpCheck) for field in fields(cls)} | {"kind"}
    assert told | {"checks.status"} == {field.name for field in fields(HealthPlan)} | {f"checks.{c}" for c in checks}


def _commands(group: click.Group, name: str) -> Iterator[tuple[str, click.Command]]:
    context = click.Context(group)
    for part in group.list_commands(context):
        command = group.get_command(context, part)
        assert command is not None
        if isinstance(command, click.Group):
            yield f"{name} {part}", command
            yield from _commands(command, f"{name} {part}")
        else:
            yield f"{name} {part}", command


@pytest.mark.parametrize(
    ("path", "command"),
    [*_commands(p2pctl, "p2pctl"), *_commands(p2pd, "p2pd"), ("p2pd-install", p2pd_install)],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_every_command_and_option_is_told(path: str, command: click.Command) -> None:
    text = _section("## Commands")
    if path.startswith("p2pd trust "):
        assert f"`{path.removeprefix('p2pd trust ')}`" in text or f"`{path}" in text
    elif not isinstance(command, click.Group):
        assert path in text
    options = [opt for param in command.params if isinstance(param, click.Option) for opt in param.opts]
    assert not [option for option in options if f"`{option}" not in text and f" {option} " not in text], path


def test_every_metric_is_told_with_its_type_and_labels_and_no_other_is() -> None:
    registry = CollectorRegistry()
    agent, coordinator = AgentMetrics(registry), CoordinatorMetrics(lambda: 0.0)
    kept = [*_collectors(agent.registry), *_collectors(coordinator.registry), RESTARTS, REFUSALS]
    expected = {}
    for collector in kept:
        kind = collector._type
        name = collector._name + ("_total" if kind == "counter" else "")
        expected[name] = (kind, sorted(collector._labelnames))
    told = {
        name: (cells[0], sorted(re.findall(r"`(\w+)`", cells[1])))
        for name, cells in _rows(_section("## Metrics")).items()
    }
    assert told == expected


def _collectors(registry: CollectorRegistry) -> list[Any]:
    return [collector for collector in registry._collector_to_names if hasattr(collector, "_labelnames")]


def test_the_examples_in_the_guide_are_read_by_the_code(tmp_path: Path) -> None:
    policy, plan = (
        re.search(r"```toml\n(.*?)```", _section(title), re.DOTALL) for title in ("### Policy", "### Health plan")
    )
    assert policy is not None
    assert plan is not None
    (tmp_path / "policy.toml").write_text(policy[1])
    (tmp_path / "health.toml").write_text(plan[1])
    assert [ring.name for ring in load_config(Policy, tmp_path / "policy.toml").rings] == [
        "canary",
        "early",
        "everyone",
    ]
    assert [check.kind for check in load_config(HealthPlan, tmp_path / "health.toml").checks] == [
        "command",
        "http",
        "tcp",
    ]


def test_links_between_the_documents_lead_somewhere() -> None:
    documents = [ROOT / "README.md", ROOT / "CHANGELOG.md", *(ROOT / "docs").rglob("*.md")]
    for document in documents:
        for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", document.read_text()):
            if not target.startswith("https://"):
                assert (document.parent / target).exists(), f"{document.name}: {target}"


def test_tests_that_the_threat_model_names_exist() -> None:
    text = (ROOT / "docs" / "threat-model.md").read_text()
    named = re.findall(r"`([a-z0-9_/]+\.py)::(\w+)`", text)
    assert len(named) > 30
    for file, test in named:
        path = ROOT / "tests" / file
        assert path.is_file(), file
        assert re.search(rf"def {test}\(", path.read_text()), f"{file}::{test}"
