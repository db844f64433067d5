# SPDX-License-Identifier: Apache-2.0
"""`p2pd`: the endpoint daemon and the questions that it answers. Bad input exits with 2, other failures with 1."""

import hashlib
import json
import sys
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import click

from p2pd.config import DEFAULT_CONFIG, AgentConfig
from p2pd.host.command_line import BAD_INPUT, bad_input_exits
from p2pd.host.config_file import load_config
from p2pd.host.control_socket import ControlRefused, ControlUnreachable, request
from p2pd.host.lean_imports import unavailable
from p2pd.trust_cli import trust
from signing.errors import BadInput

ANSWER_SECONDS = 10.0
_HASH_BUFFER_BYTES = 2**20


@click.group()
@click.option(
    "--config",
    "config_path",
    type=click.Path(path_type=Path),
    default=DEFAULT_CONFIG,
    show_default=True,
    help="The daemon's configuration file.",
)
@click.version_option(package_name="p2pd")
@click.pass_context
def main(ctx: click.Context, config_path: Path) -> None:
    """Peer-to-peer patch distribution: the endpoint daemon."""
    ctx.obj = config_path


main.add_command(trust)


@main.command()
@click.argument("token", required=False)
@click.option("--token-file", type=click.File(), help="Read the token from a file ('-': standard input).")
@click.option("--name", help="This device's name in the fleet; the host's name by default.")
@click.option("--again", is_flag=True, help="Replace the identity of an endpoint that is enrolled already.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_obj
def enroll(
    config_path: Path, token: str | None, token_file: Any, name: str | None, *, again: bool, as_json: bool
) -> None:
    """Join a fleet with the TOKEN that `p2pctl enroll-token` printed. The private key never leaves this machine."""
    from p2pd.commands.enroll import run_enroll

    with bad_input_exits("p2pd"):
        if (token is None) == (token_file is None):
            raise BadInput("enrolment token", "is missing or given twice", "give TOKEN, or --token-file FILE")
        text = token if token is not None else token_file.read(4_096)
        identity = run_enroll(load_config(AgentConfig, config_path), text, name, again=again)
    facts = {"device": identity.device, "segment": identity.segment, "site": identity.site}
    if as_json:
        click.echo(json.dumps(facts))
    else:
        click.echo("enrolled as {device} in segment {segment}, site {site}; now start the daemon".format(**facts))


@main.command()
@click.pass_obj
def run(config_path: Path) -> None:
    """Run the daemon in the foreground, as systemd does."""
    import trio

    with unavailable("rich", "pygments"):  # httpx has a command line of its own, which wants them
        from p2pd.agent import run_agent
    from p2pd.host.shutdown import run_until_signalled
    from p2pd.host.telemetry import configure_logging

    with bad_input_exits("p2pd"):
        config = load_config(AgentConfig, config_path)
        configure_logging(json=config.log_json, level=config.log_level)
        trio.run(partial(run_until_signalled, partial(run_agent, config, config_path=config_path), drain_seconds=10.0))


@main.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_obj
def status(config_path: Path, *, as_json: bool) -> None:
    """Show what is installed here, what is on its way, and whether the metadata is fresh."""
    from p2pd.commands.show import show_status

    answer = _ask(config_path, "status")
    _print(answer, as_json, show_status)


@main.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_obj
def peers(config_path: Path, *, as_json: bool) -> None:
    """Show the endpoints of this site that the daemon sees on its interfaces."""
    from p2pd.commands.show import show_peers

    answer = _ask(config_path, "peers")
    _print(answer, as_json, lambda told, console: show_peers(told["peers"], console))


@main.command()
@click.argument("patch", required=False, default="")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_obj
def why(config_path: Path, patch: str, *, as_json: bool) -> None:
    """Explain why each offered release is, or is not, installed here. PATCH: a product, or PRODUCT@VERSION."""
    from p2pd.commands.show import show_why

    answer = _ask(config_path, "why", {"patch": patch})
    _print(answer, as_json, show_why)


@main.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_obj
def verify(config_path: Path, file: Path, *, as_json: bool) -> None:
    """Tell which signed release FILE belongs to, by its SHA-256. Exits with 2 when it belongs to none."""
    with bad_input_exits("p2pd"):
        sha256, size = _hash(file)
    answer = _ask(config_path, "verify", {"sha256": sha256, "size": size})
    if as_json:
        click.echo(json.dumps(answer | {"sha256": sha256}))
    elif answer["match"] is None:
        click.echo(f"{file}: SHA-256 {sha256} belongs to no release that is signed and offered here", err=True)
    else:
        click.echo(f"{file}: the {answer['match']} of {answer['product']} {answer['version']}, signed")
        if answer["recalled"]:
            click.echo(f"but that release was withdrawn: {answer['recalled']}", err=True)
    if answer["match"] is None or answer["recalled"]:
        sys.exit(BAD_INPUT)


def _ask(config_path: Path, verb: str, arguments: Mapping[str, Any] | None = None) -> dict[str, Any]:
    import trio

    with bad_input_exits("p2pd"):
        socket = Path(load_config(AgentConfig, config_path).control_socket)
    try:
        return trio.run(partial(request, socket, verb, arguments, timeout_seconds=ANSWER_SECONDS))
    except (ControlUnreachable, ControlRefused) as problem:
        click.echo(f"p2pd: {problem}", err=True)
        sys.exit(1)


def _print(answer: dict[str, Any], as_json: bool, show: Any) -> None:
    if as_json:
        click.echo(json.dumps(answer))
        return
    from rich.console import Console

    show(answer, Console())


def _hash(file: Path) -> tuple[str, int]:
    digest, size = hashlib.sha256(), 0
    try:
        with file.open("rb") as stream:
            while chunk := stream.read(_HASH_BUFFER_BYTES):
                digest.update(chunk)
                size += len(chunk)
    except OSError as problem:
        raise BadInput(str(file), f"cannot be read ({problem.strerror})") from None
    return digest.hexdigest(), size


if __name__ == "__main__":
    main()
