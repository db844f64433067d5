# SPDX-License-Identifier: Apache-2.0
"""Runs on disk: one JSON object a line, appended as soon as a run is over, so that nothing measured is lost."""

import json
from pathlib import Path

from bench.outcome import Outcome
from signing.errors import BadInput


def append_run(path: Path, outcome: Outcome) -> None:
    """Keep one run."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        file.write(json.dumps(outcome.to_plain()) + "\n")


def read_runs(path: Path) -> list[Outcome]:
    """All runs, oldest first. Raises BadInput that names the file, the line, and what to do."""
    try:
        lines = path.read_text().splitlines()
    except OSError as problem:
        raise BadInput(str(path), f"cannot be read ({problem.strerror})", "run `make bench` first") from None
    runs = []
    for number, line in enumerate(lines, start=1):
        try:
            runs.append(Outcome.from_plain(json.loads(line)))
        except (ValueError, KeyError, TypeError) as problem:
            raise BadInput(f"{path}, line {number}", f"is no run: {problem}", "remove it, or measure anew") from None
    return runs
