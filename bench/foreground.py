# SPDX-License-Identifier: Apache-2.0
"""`python -m bench.foreground`: what a person's download keeps beside a patch on the same WAN link; needs root.

A person at the site downloads from a plain web server for PERSON_SECONDS: alone, and beside p2pd, curl and aria2, which
bring a payload to the whole site at the same time. Servers send with CUBIC, and with BBR: the receiver cannot choose.
"""

import json
import shutil
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from statistics import median

import click
import trio

from bench.contenders.all import contender_named
from bench.contenders.contender import Contender, Stage
from bench.contenders.http import PORT, nginx_config
from bench.lab.administrator import Template, write_random
from bench.lab.commands import LabError, run
from bench.lab.network import Host, Network, build
from bench.lab.processes import Processes, ProcessFailed, open_processes
from bench.lab.programs import found
from bench.lab.signalled import run_unless_signalled
from bench.lab.sizes import Size
from bench.lab.topology import EXAMPLES, load_topology
from bench.scenes import Scene
from p2pd.host.command_line import bad_input_exits
from signing.errors import BadInput

SENDERS = ("cubic", "bbr")
BESIDE = ("p2pd", "aria2", "nginx+curl")
ALONE = "alone"
PERSON_SECONDS = 15.0
HEAD_START = 2.0  # of whoever comes first
FINISH_SECONDS = 90.0  # that the patch may take after the person has gone
PERSONS_FILE_BYTES = 2**32  # more than fits through the link; sparse, and sent as quickly as any other
SCENE = Scene(name="foreground", what="a person beside a patch", topology_name="yielding", payload_bytes=64_000_000)
RESULTS = Path(__file__).parent / "results" / "foreground.json"


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """One run. `kept` is the person's rate over the median of those alone with the same sender, once that is known."""

    sender: str
    beside: str
    person_first: bool
    person_bits_per_second: float
    patch_seconds: float | None  # from its signal until the whole site had all; None: not within the time
    kept: float | None = None


def measure(
    contender: Contender | None,
    *,
    sender: str,
    size: int,
    person_first: bool,
    directory: Path,
    template: list[Template],  # made by the first run, and used by all
) -> Measurement:
    """One run, from building the lab to taking it down. Raises LabError, ProcessFailed."""
    topology = load_topology(EXAMPLES / f"{SCENE.topology_name}.toml")
    with build(topology) as network, _empty(directory / "run") as place:
        send_with(network, sender)
        if not template:
            template.append(Template(directory, network.origin.address))

        async def main() -> Measurement:
            async with open_processes() as processes:
                web = _the(network.web)
                await _serve(processes, web, directory / "person")
                listen = partial(_download, processes, _the(network.sites[0].person), web)
                if contender is None:
                    return _result(sender, ALONE, person_first, await listen(), None)
                stage = Stage(
                    scene=replace(SCENE, payload_bytes=size),
                    network=network,
                    directory=place,
                    processes=processes,
                    payload=directory / "payload",
                    template=template[0],
                )
                return await _beside(contender, stage, listen, sender=sender, person_first=person_first)

        return run_unless_signalled(main)


def send_with(network: Network, sender: str) -> None:
    """Have the origin and the web server send with that congestion control, by the attribute of their routes."""
    for host in (network.origin, _the(network.web)):
        for line in run("ip", "-n", host.namespace, "route", "show").splitlines():
            run("ip", "-n", host.namespace, "route", "replace", *line.split(), "congctl", sender)


def table(measurements: Sequence[Measurement]) -> str:
    """Markdown: medians over the runs, with the least and the most."""
    lines = [
        "| servers send with | beside the person | comes first | person keeps | patch finishes after |",
        "|---|---|---|---|---|",
    ]
    keys = dict.fromkeys((m.sender, m.beside, m.person_first) for m in measurements)
    for sender, beside, person_first in keys:
        runs = [m for m in measurements if (m.sender, m.beside, m.person_first) == (sender, beside, person_first)]
        if beside == ALONE:
            rates = [m.person_bits_per_second / 1e6 for m in runs]
            lines.append(f"| {sender} | nothing | - | {_spread(rates, '.1f')} Mbit/s | - |")
            continue
        kept = [m.kept * 100 for m in runs if m.kept is not None]
        seconds = [m.patch_seconds for m in runs if m.patch_seconds is not None]
        finish = f"{_spread(seconds, '.1f')} s" if seconds else "not at all"
        first = "person" if person_first else "patch"
        lines.append(f"| {sender} | {beside} | {first} | {_spread(kept, '.0f')} % | {finish} |")
    return "\n".join(lines)


def with_shares(measurements: Sequence[Measurement]) -> list[Measurement]:
    """Each with what the person kept of the median alone."""
    alone = {
        sender: median(m.person_bits_per_second for m in measurements if (m.sender, m.beside) == (sender, ALONE))
        for sender in dict.fromkeys(m.sender for m in measurements)
    }
    return [replace(m, kept=m.person_bits_per_second / alone[m.sender]) for m in measurements]


@click.command()
@click.option("--sender", "senders", multiple=True, type=click.Choice(SENDERS), default=SENDERS)
@click.option("--beside", "names", multiple=True, type=click.Choice(BESIDE), default=BESIDE)
@click.option("--first", type=click.Choice(["patch", "person", "both"]), default="both", help="Who begins.")
@click.option("--runs", default=1, show_default=True, help="Interleaved.")
@click.option("--size", type=Size(), default="64MB", show_default=True, help="Of the patch.")
@click.option("--into", type=click.Path(path_type=Path), default=RESULTS, show_default=True)
def main(senders: tuple[str, ...], names: tuple[str, ...], first: str, runs: int, size: int, into: Path) -> None:
    """Measure what a person keeps beside a patch, and how long the patch takes."""
    orders = {"patch": [False], "person": [True], "both": [False, True]}[first]
    measurements: list[Measurement] = []
    with bad_input_exits("bench.foreground"), tempfile.TemporaryDirectory(prefix="p2pd-foreground-") as name:
        directory, template = Path(name), list[Template]()
        write_random(directory / "payload", size, seed=SCENE.name)
        (directory / "person").mkdir()
        with (directory / "person" / "file").open("wb") as file:
            file.truncate(PERSONS_FILE_BYTES)
        try:
            for _ in range(runs):
                for sender in senders:
                    go = partial(measure, sender=sender, size=size, directory=directory, template=template)
                    measurements.append(go(None, person_first=False))
                    for other in names:
                        measurements += [go(contender_named(other), person_first=order) for order in orders]
        except (LabError, ProcessFailed) as problem:
            raise BadInput("bench.foreground", str(problem)) from problem
    measurements = with_shares(measurements)
    into.parent.mkdir(parents=True, exist_ok=True)
    into.write_text(json.dumps([asdict(m) for m in measurements], indent=1) + "\n")
    click.echo(table(measurements))


async def _beside(
    contender: Contender, stage: Stage, listen: Callable[[], Awaitable[float]], *, sender: str, person_first: bool
) -> Measurement:
    heard: list[float] = []

    async def person() -> None:
        heard.append(await listen())

    async with contender.prepare(stage) as entry, trio.open_nursery() as nursery:
        if person_first:
            nursery.start_soon(person)
            await trio.sleep(HEAD_START)
        began = await entry.start()
        if not person_first:
            await trio.sleep(HEAD_START)
            nursery.start_soon(person)
        hosts, finished = {host.name for host in stage.hosts}, entry.finished()
        with trio.move_on_after(PERSON_SECONDS + FINISH_SECONDS):
            while not (heard and hosts <= finished.keys()):
                await trio.sleep(0.2)
                finished = entry.finished()
        seconds = max(finished.values()) - began if hosts <= finished.keys() else None
        nursery.cancel_scope.cancel()
    return _result(sender, contender.name, person_first, heard[0], seconds)


async def _serve(processes: Processes, web: Host, directory: Path) -> None:
    (directory / "nginx.conf").write_text(nginx_config(web.address, directory / "file"))
    argv = [found("nginx"), "-p", str(directory), "-e", "error.log", "-c", "nginx.conf"]
    await processes.start(web.argv(argv), log=directory / "nginx.log", name="nginx of the web server")
    ready = [found("curl"), "-sI", "--retry", "9", "--retry-connrefused", f"http://{web.address}:{PORT}/file"]
    if (await processes.run(web.argv(ready))).status != 0:
        raise ProcessFailed("the person's web server does not answer")


async def _download(processes: Processes, person: Host, web: Host) -> float:
    """Bits per second of the person's download, its beginning included."""
    began = time.monotonic()
    argv = [found("curl"), "-s", "-o", "/dev/null", "--max-time", str(PERSON_SECONDS), "-w", "%{size_download}"]
    done = await processes.run(person.argv([*argv, f"http://{web.address}:{PORT}/file"]))
    if not done.output.isdigit() or done.output == "0":
        raise ProcessFailed(f"the person's curl brought nothing: {done.errors}")
    return int(done.output) * 8 / (time.monotonic() - began)


def _result(sender: str, beside: str, person_first: bool, rate: float, seconds: float | None) -> Measurement:
    return Measurement(
        sender=sender, beside=beside, person_first=person_first, person_bits_per_second=rate, patch_seconds=seconds
    )


def _spread(values: Sequence[float], shape: str) -> str:
    if not values:
        return "-"
    middle = format(median(values), shape)
    if len(values) == 1:
        return middle
    return f"{middle} ({format(min(values), shape)} to {format(max(values), shape)})"


def _the(host: Host | None) -> Host:
    if host is None:
        raise BadInput("topology", "has no people", "set people = true")
    return host


@contextmanager
def _empty(place: Path) -> Iterator[Path]:
    place.mkdir()
    try:
        yield place
    finally:
        shutil.rmtree(place)


if __name__ == "__main__":
    main()
