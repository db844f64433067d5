# SPDX-License-Identifier: Apache-2.0
"""How a release's health is judged, from a TOML file or from options of `p2pctl patch build`."""

import shlex
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import click

from p2pd.host.config_file import load_config
from signing.errors import BadInput
from signing.manifest import CommandCheck, HealthCheck, HealthPlan, HttpCheck, TcpCheck

F = TypeVar("F", bound=Callable[..., Any])


def health_options(command: F) -> F:
    """Add the options from which `health_plan` makes a plan."""
    for option in reversed(
        (
            click.option("--health", "health_file", type=click.Path(path_type=Path), help="Health plan, a TOML file."),
            click.option(
                "--check-command",
                "commands",
                multiple=True,
                help="Command that exits with 0 when healthy; {slot} becomes the installed directory.",
            ),
            click.option("--check-http", "urls", multiple=True, help="URL that answers with 200 when healthy."),
            click.option("--check-tcp", "addresses", multiple=True, help="HOST:PORT that accepts connections."),
            click.option("--probation", type=float, help="Seconds that a release must stay healthy.  [default: 60]"),
            click.option("--interval", type=float, help="Seconds between two rounds of checks.  [default: 10]"),
        )
    ):
        command = option(command)
    return command


def health_plan(
    *,
    health_file: Path | None,
    commands: tuple[str, ...],
    urls: tuple[str, ...],
    addresses: tuple[str, ...],
    probation: float | None,
    interval: float | None,
) -> HealthPlan:
    """The plan; options add to what the file says. Raises BadInput."""
    plan = load_config(HealthPlan, health_file) if health_file is not None else HealthPlan()
    try:
        added: tuple[HealthCheck, ...] = (
            *(CommandCheck(argv=tuple(shlex.split(command))) for command in commands),
            *(HttpCheck(url=url) for url in urls),
            *(_tcp_check(address) for address in addresses),
        )
        plan = replace(plan, checks=plan.checks + added)
        if probation is not None:
            plan = replace(plan, probation_seconds=probation)
        if interval is not None:
            plan = replace(plan, interval_seconds=interval)
    except ValueError as problem:
        raise BadInput("health plan", str(problem)) from None
    return plan


def _tcp_check(address: str) -> TcpCheck:
    host, separator, port = address.rpartition(":")
    if not separator or not port.isdigit():
        raise BadInput("--check-tcp", f"{address!r} is not an address", "write HOST:PORT")
    return TcpCheck(host=host.strip("[]"), port=int(port))
