# SPDX-License-Identifier: Apache-2.0
"""The command `p2pd-install`: the small privileged process that installs what it has verified itself."""

import sys
from functools import partial
from pathlib import Path

import click
import trio

from p2pd.host.config_file import load_config
from p2pd.host.shutdown import run_until_signalled
from p2pd.host.telemetry import configure_logging
from p2pd.installer.config import InstallerConfig
from p2pd.installer.service import serve
from signing.errors import SigningError

DRAIN_SECONDS = 60.0  # for a running installation to finish; after that it is cut, which recovery undoes
EXIT_BAD_INPUT = 2


@click.command()
@click.option(
    "--config",
    "config_file",
    type=click.Path(path_type=Path),
    default=Path("/etc/p2pd/p2pd-install.toml"),
    show_default=True,
    help="TOML file that names the directories, the socket and the initial root.",
)
@click.option("--plain-logs", is_flag=True, help="Log aligned text for people instead of JSON.")
def main(config_file: Path, plain_logs: bool) -> None:
    """Install, commit and roll back verified releases, as asked over a Unix socket."""
    try:
        config = load_config(InstallerConfig, config_file)
        configure_logging(json=not plain_logs, level=config.log_level)
        trio.run(partial(run_until_signalled, partial(serve, config), drain_seconds=DRAIN_SECONDS))
    except SigningError as problem:
        click.echo(f"p2pd-install: {problem}", err=True)
        sys.exit(EXIT_BAD_INPUT)


if __name__ == "__main__":
    main()
