# SPDX-License-Identifier: Apache-2.0
"""What all `p2pctl` commands share: the fleet, passphrases, output, and how bad input ends."""

import json
import os
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from p2pd.host import command_line
from p2pd.host.atomic_file import read_bounded
from seeds.fleet import Fleet, open_fleet
from signing.errors import BadInput
from signing.repository import Repository

MAX_PASSPHRASE_BYTES = 4_096
OFFLINE_ENV = "P2PCTL_OFFLINE_PASSPHRASE_FILE"
ONLINE_ENV = "P2PCTL_ONLINE_PASSPHRASE_FILE"
CREDENTIAL = "online-passphrase"  # systemd's LoadCredential= puts it into $CREDENTIALS_DIRECTORY

offline_passphrase_option = click.option(
    "--offline-passphrase-file",
    "offline_passphrase",
    type=click.Path(path_type=Path),
    envvar=OFFLINE_ENV,
    help=f"Passphrase of the offline keys; asked for otherwise. [env: {OFFLINE_ENV}]",
)
online_passphrase_option = click.option(
    "--online-passphrase-file",
    "online_passphrase",
    type=click.Path(path_type=Path),
    envvar=ONLINE_ENV,
    help=f"Passphrase of the online keys; asked for otherwise. [env: {ONLINE_ENV}]",
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


@dataclass
class Session:
    """One invocation of `p2pctl`."""

    directory: Path
    console: Console = field(default_factory=Console)

    def fleet(self) -> Fleet:
        """The fleet that the command is about. Raises BadInput."""
        return open_fleet(self.directory)

    def busy(self, doing: str, *, quiet: bool) -> AbstractContextManager[object]:
        """Show that something takes its time, where anybody is watching."""
        return nullcontext() if quiet else self.console.status(doing)

    def repository(self) -> Repository:
        """Its signed metadata."""
        return Repository(self.fleet().repository)


def now() -> datetime:
    """The time that goes into what is signed now."""
    return datetime.now(UTC)


def who() -> str:
    """Who is at the keyboard, for the audit trail."""
    return os.environ.get("SUDO_USER") or os.environ.get("USER") or f"uid {os.getuid()}"


def passphrase(file: Path | None, what: str, *, confirm: bool = False) -> bytes:
    """The passphrase of the `what` keys: from a file, from systemd, or typed in; never from the command line."""
    credentials = os.environ.get("CREDENTIALS_DIRECTORY")
    if file is None and credentials and what == "online" and (Path(credentials) / CREDENTIAL).is_file():
        file = Path(credentials) / CREDENTIAL
    if file is not None:
        return _read_passphrase(file)
    if not sys.stdin.isatty():
        raise BadInput(
            f"passphrase of the {what} keys",
            "cannot be asked for without a terminal",
            f"name a file with --{what}-passphrase-file",
        )
    typed: str = click.prompt(f"Passphrase of the {what} keys", hide_input=True, confirmation_prompt=confirm)
    return typed.encode()


def _read_passphrase(file: Path) -> bytes:
    try:
        text = read_bounded(file, MAX_PASSPHRASE_BYTES).strip(b"\r\n")
    except OSError as problem:
        raise BadInput(str(file), f"cannot be read ({problem.strerror})") from None
    if not text:
        raise BadInput(str(file), "is empty", "put the passphrase into its first line")
    return text


def show(as_json: bool, facts: Any, for_people: Callable[[], None]) -> None:
    """Print the facts for a machine, or let `for_people` print them."""
    if as_json:
        click.echo(json.dumps(facts))
    else:
        for_people()


def bad_input_exits() -> AbstractContextManager[None]:
    """Whatever a person can mend ends in one clear line and exit code 2."""
    return command_line.bad_input_exits("p2pctl")
