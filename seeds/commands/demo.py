# SPDX-License-Identifier: Apache-2.0
"""`p2pctl demo`: the whole system before your eyes, in real processes on this machine's loopback addresses."""

import json
import shutil
import sys
import tempfile
from functools import partial
from pathlib import Path

import click
import trio
from rich.console import Console

from p2pd.host.command_line import BAD_INPUT
from p2pd.host.exception_groups import first_of_group
from p2pd.host.shutdown import run_until_signalled
from seeds.demo.processes import CommandFailed, stage
from seeds.demo.screen import Screen
from seeds.demo.story import NotObserved, Told, tell
from seeds.demo.summary import all_went_well, facts_of, last_words, summary_table
from signing.errors import BadInput

INTERRUPTED = 130  # what shells report for a command that Ctrl-C ended


@click.command()
@click.option("--package", default="tzdata", show_default=True, help="A public Python package that comes as wheels.")
@click.option("--keep", type=click.Path(path_type=Path), help="Leave all files and logs in this new directory.")
@click.option("--json", "as_json", is_flag=True, help="Print the facts as JSON and nothing else.")
def demo(package: str, keep: Path | None, *, as_json: bool) -> None:
    """Watch a real patch travel, install, prove itself, and a broken one go back: one coordinator, six agents."""
    screen = Screen(Console(), quiet=as_json)
    told: list[Told] = []
    problem: Exception | None = None
    directory: Path | None = None
    try:
        directory = _new_directory(keep)
        signalled = trio.run(partial(_play, package, directory, screen, told))
    except* (BadInput, CommandFailed, NotObserved, OSError) as problems:
        problem = first_of_group(problems)
        signalled = False
    # Messages of the others name logs.
    if keep is None and directory is not None and not isinstance(problem, CommandFailed | NotObserved):
        shutil.rmtree(directory)
    if problem is not None:
        click.echo(f"p2pctl demo: {problem}", err=True)
        sys.exit(BAD_INPUT if isinstance(problem, BadInput) else 1)
    if signalled:
        click.echo("interrupted; every process of the demo has ended", err=True)
        sys.exit(INTERRUPTED)
    facts = facts_of(told[0])
    if as_json:
        click.echo(json.dumps(facts, indent=2))
    else:
        screen.table(summary_table(facts))
        screen.say(last_words(facts))
    if not all_went_well(facts):
        click.echo("p2pctl demo: not everything that it promises was observed", err=True)
        sys.exit(1)


def _new_directory(keep: Path | None) -> Path:
    if keep is None:
        return Path(tempfile.mkdtemp(prefix="p2pd-demo-"))
    keep.mkdir(parents=True)
    return keep.absolute()


async def _play(package: str, directory: Path, screen: Screen, told: list[Told]) -> bool:
    """Whether a signal ended it early."""

    async def play() -> None:
        async with stage(directory) as scene:
            told.append(await tell(package, scene, screen))

    return await run_until_signalled(play, drain_seconds=20.0) is not None
