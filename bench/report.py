# SPDX-License-Identifier: Apache-2.0
"""Measured figures for people and programs: Markdown tables, `latest.json`, the tables' place in a document."""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from bench.outcome import Outcome
from bench.scenes import MB, SCENES
from bench.summary import GB, Spread, Summary, summaries
from signing.errors import BadInput

BEGIN, END = "<!-- tables: begin (python -m bench report writes them) -->", "<!-- tables: end -->"
_HEADINGS = (
    "contender",
    "× limit",
    "last endpoint, s",
    "p50, s",
    "p99, s",
    "p99 ÷ p50",
    "copies",
    "CPU s per GB",
    "peak MB",
    "origin CPU s",
    "runs",
)
_LEGEND = (
    "Medians, with the least and the most over all runs. **× limit**: the last endpoint's finish ÷ the physical limit. "
    "**copies**: payload bytes out of the origin, or into the site that took most, ÷ payload; ~ where they are an "
    "estimate from the link's counter. **CPU s per GB**: user and system time of one endpoint on average, per GB that "
    "it received. **peak MB**: resident, of the endpoint that took most. **≥**: not every endpoint had finished when a "
    "run was ended, at 12 × the limit or after a minute."
)


def tables(outcomes: Sequence[Outcome], *, machine: str) -> str:
    """Markdown: one table for each scene, the fastest first."""
    parts = [f"Measured on {machine}.", _LEGEND]
    found = summaries(outcomes)
    estimated = {(run.scene, run.contender) for run in outcomes if _is_estimate(run)}
    for scene in dict.fromkeys(summary.scene for summary in found):
        of_scene = sorted((s for s in found if s.scene == scene), key=lambda summary: summary.ratio.median)
        parts += [f"### {scene}", _caption(of_scene[0]), _table(of_scene, estimated)]
    return "\n\n".join(parts) + "\n"


def growth_table(found: Iterable[Summary]) -> str:
    """Markdown: a line for each size of a fleet, and what one endpoint of it costs."""
    head = (
        "contender",
        "endpoints",
        "× limit",
        "copies",
        "CPU s per endpoint",
        "CPU s per GB",
        "origin CPU s",
        "peak MB",
    )
    rows = [
        (
            summary.contender,
            str(summary.endpoints),
            f"{summary.ratio.median:.2f}",
            f"{summary.copies.median:.3f}",
            f"{summary.cpu_seconds_per_gb.median * summary.payload_bytes / GB:.2f}",
            f"{summary.cpu_seconds_per_gb.median:.1f}",
            f"{summary.origin_cpu_seconds.median:.1f}",
            f"{summary.peak_rss_bytes.median / MB:.0f}",
        )
        for summary in found
    ]
    lines = [" | ".join(cells) for cells in (head, ("---:",) * len(head), *rows)]
    return "".join(f"| {line} |\n" for line in lines)


def latest_json(outcomes: Iterable[Outcome]) -> str:
    """One object for each scene and contender."""
    return json.dumps([summary.to_plain() for summary in summaries(outcomes)], indent=2) + "\n"


def write_into(document: Path, text: str) -> None:
    """Put `text` between the marks in a document. Raises BadInput when it has none."""
    before, begin, rest = document.read_text().partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise BadInput(str(document), "has no place for tables", f"write {BEGIN} and {END} where they shall be")
    document.write_text(f"{before}{BEGIN}\n\n{text}\n{END}{after}")


def _is_estimate(run: Outcome) -> bool:
    return run.busiest_wan_bytes is not None or run.origin_payload_bytes is None


def _caption(summary: Summary) -> str:
    scene = SCENES.get(summary.scene)
    what = f"{scene.what}; " if scene is not None else ""
    size = summary.payload_bytes / 1e6
    return f"{what}{summary.endpoints} endpoints, {size:.0f} MB, physical limit {summary.limit_seconds:.2f} s."


def _table(of_scene: Iterable[Summary], estimated: set[tuple[str, str]]) -> str:
    rows = [_HEADINGS, tuple("---" if number == 0 else "---:" for number in range(len(_HEADINGS)))]
    rows += [_row(summary, is_estimate=(summary.scene, summary.contender) in estimated) for summary in of_scene]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _row(summary: Summary, *, is_estimate: bool) -> tuple[str, ...]:
    at_least = "≥ " if summary.unfinished_runs else ""
    return (
        summary.contender,
        at_least + _spread(summary.ratio, digits=2),
        at_least + _spread(summary.seconds, digits=1),
        _spread(summary.p50, digits=1),
        _spread(summary.p99, digits=1),
        _spread(summary.p99_to_p50, digits=2),
        ("~ " if is_estimate else "") + _spread(summary.copies, digits=3),
        _spread(summary.cpu_seconds_per_gb, digits=1),
        _spread(summary.peak_rss_bytes, digits=0, unit=1e6),
        _spread(summary.origin_cpu_seconds, digits=1),
        str(summary.runs),
    )


def _spread(spread: Spread, *, digits: int, unit: float = 1.0) -> str:
    least, middle, most = (f"{value / unit:.{digits}f}" for value in (spread.least, spread.median, spread.most))
    return middle if least == most else f"{middle} ({least}–{most})"


def by_scene(outcomes: Iterable[Outcome]) -> Mapping[str, list[Outcome]]:
    """Runs by scene, in the order of their first."""
    scenes: dict[str, list[Outcome]] = {}
    for outcome in outcomes:
        scenes.setdefault(outcome.scene, []).append(outcome)
    return scenes
