# SPDX-License-Identifier: Apache-2.0
"""The architecture's page tells what the code has: files, state machines, routes, verbs."""

import re
from pathlib import Path

import pytest

from p2pd.decisions import install_machine
from seeds.decisions import rollout_machine

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "architecture.md").read_text()
DIAGRAMS = [
    set(re.findall(r"^ +(\w+) --> (\w+): (\w+)$", diagram, re.MULTILINE))
    for diagram in re.findall(r"```mermaid\n(.*?)```", PAGE, re.DOTALL)
]


def test_the_diagram_of_a_release_is_the_table() -> None:
    table = {(state.value, new.value, event.value) for (state, event), new in install_machine.TRANSITIONS.items()}
    assert DIAGRAMS[0] == table


def test_the_diagram_of_a_rollout_is_the_table() -> None:
    table = {(state.value, new.value, event.value) for (state, event), new in rollout_machine.TRANSITIONS.items()}
    assert DIAGRAMS[1] == table


@pytest.mark.parametrize("document", [*(ROOT / "docs").rglob("*.md"), ROOT / "README.md"], ids=lambda path: path.name)
def test_files_that_a_document_names_exist(document: Path) -> None:
    modules = {path.name for folder in ("signing", "p2pd", "seeds", "bench") for path in (ROOT / folder).rglob("*.py")}
    for name in re.findall(r"`((?:[\w.-]+/)*[\w-]+\.(?:py|svg|yml))`", document.read_text()):
        is_there = (ROOT / name).is_file() or (ROOT / "tests" / name).is_file()
        is_below_a_package = any((ROOT / folder / name).is_file() for folder in ("p2pd", "seeds", "signing"))
        assert is_there or is_below_a_package or name in modules, name


def test_every_route_of_the_coordinator_is_told() -> None:
    api = (ROOT / "seeds" / "adapters" / "http_api.py").read_text()
    routes = re.findall(r'Route\("(/[a-z.]+)', api)
    assert len(routes) > 5
    assert [route for route in routes if f" {route}" not in PAGE] == []
