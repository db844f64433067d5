# SPDX-License-Identifier: Apache-2.0
"""Pictures of races: how many endpoints had finished when, and what went over which link. Needs matplotlib."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bench.outcome import Outcome
from bench.summary import finish_times, last_finish

WIDTH_INCHES, HEIGHT_INCHES = 8.0, 4.5
MB = 1_000_000
LOG_FROM_LIMITS = 6.0  # beyond that many times the limit, the fast ones would be a heap on the left of a linear axis


def draw_all(scenes: Mapping[str, Sequence[Outcome]], directory: Path) -> list[Path]:
    """Two pictures for each scene. Returns their paths; raises ImportError without matplotlib."""
    drawn = []
    for scene, runs in scenes.items():
        drawn.append(_finish_times(scene, runs, directory / f"finish-times-{scene}.svg"))
        drawn.append(_link_bytes(scene, runs, directory / f"link-bytes-{scene}.svg"))
    return drawn


def typical_runs(runs: Sequence[Outcome]) -> dict[str, Outcome]:
    """For each contender the run whose last finish is the (lower) median of its runs, fastest contender first."""
    by_contender: dict[str, list[Outcome]] = {}
    for run in runs:
        by_contender.setdefault(run.contender, []).append(run)
    typical = {name: sorted(own, key=last_finish)[(len(own) - 1) // 2] for name, own in by_contender.items()}
    return dict(sorted(typical.items(), key=lambda item: last_finish(item[1])))


def _finish_times(scene: str, runs: Sequence[Outcome], path: Path) -> Path:
    figure, axes = _new_figure(f"{scene}: endpoints that have the payload")
    typical = typical_runs(runs)
    for name, run in typical.items():
        times = [seconds for seconds in finish_times(run) if seconds < run.cap_seconds]
        axes.step([0.0, *times], range(len(times) + 1), where="post", label=name)
    axes.axvline(next(iter(typical.values())).limit_seconds, color="black", linestyle=":", label="physical limit")
    if max(map(last_finish, typical.values())) > LOG_FROM_LIMITS * next(iter(typical.values())).limit_seconds:
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter("{x:g}")
    axes.set_xlabel("seconds after the signal")
    axes.set_ylabel("endpoints")
    axes.legend()
    return _save(figure, path)


def _link_bytes(scene: str, runs: Sequence[Outcome], path: Path) -> Path:
    figure, axes = _new_figure(f"{scene}: megabytes by link, typical run")
    typical = typical_runs(runs)
    links = _shown_links(next(iter(typical.values())))
    width = 0.8 / len(typical)
    for position, (name, run) in enumerate(typical.items()):
        places = [number + position * width for number in range(len(links))]
        axes.bar(places, [_busier_way(run, link) / MB for link in links], width=width, label=name)
    axes.axhline(next(iter(typical.values())).payload_bytes / MB, color="black", linestyle=":", label="payload, once")
    axes.set_xticks([number + 0.4 - width / 2 for number in range(len(links))], links, rotation=20)
    axes.set_ylabel("MB, in the direction that carried more")
    axes.legend()
    return _save(figure, path)


def _shown_links(run: Outcome) -> list[str]:
    """The origin's and the sites'; of the endpoints' own, the one that carried most."""
    own = [name for name in run.link_bytes if name in run.finished or name in run.killed]
    shared = [name for name in run.link_bytes if name not in own]
    return shared + ([max(own, key=lambda name: _busier_way(run, name))] if own else [])


def _busier_way(run: Outcome, link: str) -> int:
    return max(run.link_bytes.get(link, (0, 0)))


def _new_figure(title: str) -> tuple[Any, Any]:
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "p2pd"  # the same figures give the same file
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(WIDTH_INCHES, HEIGHT_INCHES), layout="constrained")
    axes.set_title(title)
    axes.grid(visible=True, alpha=0.3)
    return figure, axes


def _save(figure: Any, path: Path) -> Path:
    from matplotlib import pyplot

    figure.savefig(path, metadata={"Date": None})
    pyplot.close(figure)
    return path
