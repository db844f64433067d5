# SPDX-License-Identifier: Apache-2.0
"""`python -m bench`: races of p2pd and what people would use instead, in a lab on this machine; needs root."""

import json
import math
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import click

from bench import programmes
from bench.contenders.all import CONTENDERS, contender_named, missing_packages
from bench.lab.commands import LabError
from bench.lab.processes import ProcessFailed
from bench.lab.sizes import Size
from bench.machine import machine_in_words
from bench.outcome import Outcome
from bench.packages import install
from bench.pictures import draw_all
from bench.programme import Allowance, Entrant, rounds
from bench.race import Racecourse, racecourse
from bench.report import by_scene, growth_table, latest_json, tables, write_into
from bench.results_file import append_run, read_runs
from bench.scenes import SCENES, growing, scene_named
from bench.summary import one_line, summaries
from p2pd.host.command_line import bad_input_exits
from p2pd.host.exception_groups import first_of_group
from signing.errors import BadInput

RESULTS = Path(__file__).parent / "results"
RUNS = "latest.runs.jsonl"
GROWTH = (5, 10, 20, 40, 60)

results_option = click.option(
    "--results",
    type=click.Path(path_type=Path, file_okay=False),
    default=RESULTS,
    show_default=True,
    help="Where runs, tables and pictures are.",
)


@click.group()
def main() -> None:
    """Benchmarks in network namespaces of this machine; they need root."""


@main.command()
@click.argument("scene", type=click.Choice(list(SCENES)))
@click.option("--contender", "names", multiple=True, default=("p2pd",), show_default=True, help='Or "all".')
@click.option("--runs", default=1, show_default=True, help="Rounds; in each, every contender runs once.")
@click.option("--size", type=Size(), help="Of the payload, such as 16MB; else the scene's own.")
@click.option("--into", type=click.Path(path_type=Path), help="Append every run to this file.")
@click.option("--json", "as_json", is_flag=True, help="Print the summaries as JSON.")
def race(scene: str, names: tuple[str, ...], runs: int, size: int | None, into: Path | None, *, as_json: bool) -> None:
    """Race contenders in one SCENE."""
    with _failures_exit():
        contenders = [contender_named(name) for name in (CONTENDERS if "all" in names else names)]
        entrants = [Entrant(scene=scene_named(scene), contender=contender, runs=runs) for contender in contenders]
        found = summaries(_run(entrants, seconds=math.inf, size=size, into=into))
    if as_json:
        click.echo(json.dumps([summary.to_plain() for summary in found], indent=2))
    else:
        click.echo("\n".join(map(one_line, found)))


@main.command()
@results_option
def short(results: Path) -> None:
    """Run what fits into ten minutes, then report."""
    _benchmark(programmes.short(), seconds=programmes.SHORT_SECONDS, results=results)


@main.command()
@results_option
def full(results: Path) -> None:
    """Run everybody in every scene, three times, then report: an hour and a half."""
    _benchmark(programmes.full(), seconds=math.inf, results=results)


@main.command()
@results_option
@click.option("--endpoints", "counts", multiple=True, type=click.IntRange(1), default=GROWTH, show_default=True)
@click.option("--contender", "names", multiple=True, default=("p2pd",), show_default=True)
def growth(results: Path, counts: tuple[int, ...], names: tuple[str, ...]) -> None:
    """Measure what one more endpoint costs: one LAN of 5 to 60 of them. Writes growth.json and growth.md."""
    with _failures_exit():
        contenders = [contender_named(name) for name in names]
        entrants = [Entrant(scene=growing(count), contender=one, runs=1) for count in counts for one in contenders]
        outcomes = _run(entrants, seconds=math.inf, into=None)
        found = summaries(outcomes)
        results.mkdir(parents=True, exist_ok=True)
        (results / "growth.json").write_text(json.dumps([summary.to_plain() for summary in found], indent=2) + "\n")
        (results / "growth.md").write_text(growth_table(found))
        click.echo(growth_table(found))


@main.command()
@results_option
@click.option("--runs", type=click.Path(path_type=Path), help=f"The runs to report; else {RUNS} of the results.")
@click.option("--into", type=click.Path(path_type=Path), help="Also put the tables between the marks of this document.")
def report(results: Path, runs: Path | None, into: Path | None) -> None:
    """Write tables, JSON and pictures of runs that were measured."""
    with _failures_exit():
        text = _report(read_runs(runs or results / RUNS), results)
        if into is not None:
            write_into(into, text)
    click.echo(text)


def _benchmark(entrants: Sequence[Entrant], *, seconds: float, results: Path) -> None:
    with _failures_exit():
        install(missing_packages(entrant.contender for entrant in entrants))
        runs = results / RUNS
        runs.unlink(missing_ok=True)
        click.echo(_report(_run(entrants, seconds=seconds, into=runs), results))


def _report(outcomes: Sequence[Outcome], results: Path) -> str:
    results.mkdir(parents=True, exist_ok=True)
    text = tables(outcomes, machine=machine_in_words())
    (results / "latest.json").write_text(latest_json(outcomes))
    (results / "latest.md").write_text(text)
    draw_all(by_scene(outcomes), results)
    return text


def _run(entrants: Sequence[Entrant], *, seconds: float, into: Path | None, size: int | None = None) -> list[Outcome]:
    """All runs that the time allows, each kept as soon as it is over."""
    entrants = _who_can(entrants)
    if missing := missing_packages(entrant.contender for entrant in entrants):
        raise BadInput("Debian packages", f"are missing: {', '.join(missing)}", "install them")
    outcomes: list[Outcome] = []
    allowance = Allowance(seconds, began=time.monotonic())
    with ExitStack() as stack:
        courses: dict[str, Racecourse] = {}
        for entrant in rounds(entrants):
            scene, began = entrant.scene, time.monotonic()
            if not allowance.has_room_for(entrant, now=began):
                _tell(f"{scene.name} {entrant.contender.name}: left out, it would not be over in time")
                continue
            if scene.name not in courses:
                courses[scene.name] = stack.enter_context(racecourse(scene, size=size))
            outcome = courses[scene.name].run(entrant.contender)
            allowance.spent(entrant, time.monotonic() - began)
            outcomes.append(outcome)
            _tell(one_line(summaries([outcome])[0]))
            if into is not None:
                append_run(into, outcome)
    return outcomes


def _who_can(entrants: Sequence[Entrant]) -> list[Entrant]:
    can = []
    for entrant in entrants:
        why_not = entrant.contender.why_not(entrant.scene)
        if why_not is None:
            can.append(entrant)
        else:
            _tell(f"{entrant.scene.name}: {entrant.contender.name} does not take part: {why_not}")
    return can


def _tell(sentence: str) -> None:
    click.echo(sentence, err=True)


@contextmanager
def _failures_exit() -> Iterator[None]:
    """What the machine or a program did wrong ends with a sentence, not with a traceback."""
    with bad_input_exits("bench"):
        try:
            yield
        except* (LabError, ProcessFailed) as problems:
            click.echo(f"bench: {first_of_group(problems)}", err=True)
            sys.exit(1)


if __name__ == "__main__":
    main()
