# SPDX-License-Identifier: Apache-2.0
"""The delay lines of a lab: one process (`bench.lab.delay_line`) for all its delayed links, seen from the builder.

It ends when its standard input does, so it cannot outlive a lab that was killed. Each line of input is a JSON object,
answered by a line: `ready` to the first, `done` to a change.
"""

import json
import select
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from bench.lab.commands import LabError, exec_in
from bench.lab.delay_line import tap_names
from bench.lab.topology import LinkSpec

_PROJECT = Path(__file__).parents[2]
_ANSWER_SECONDS = 30.0  # takes 0.1, nearly all of it Python starting
_END_SECONDS = 5.0


class DelayLines:
    """The running process."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        """Take over a process that has just been started, with unbuffered pipes."""
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        self._process = process
        self._questions, self._answers, self._complaints = process.stdin, process.stdout, process.stderr

    def ask(self, question: object) -> str:
        """Give it one line and return its answer. Raises LabError if it has ended, or does not answer."""
        answer = b""
        with suppress(BrokenPipeError):
            self._questions.write(json.dumps(question).encode() + b"\n")
            if not select.select([self._answers], [], [], _ANSWER_SECONDS)[0]:
                raise LabError(f"the delay line has not answered for {_ANSWER_SECONDS:.0f} s")
            answer = self._answers.readline()
        if not answer:
            code = self._process.wait(_END_SECONDS)
            complaint = self._complaints.read().decode(errors="replace").strip().rpartition("\n")[2]
            raise LabError(f"the delay line has ended with exit code {code}: {complaint or 'it said nothing'}")
        return answer.decode().strip()


class DelayLine:
    """The part of the process that is in one link; its TAP devices are made in the namespace it was started in."""

    def __init__(self, lines: DelayLines, number: int) -> None:
        """The line numbered `number`, from 0."""
        self._lines = lines
        self._number = number
        self.inner_tap, self.outer_tap = tap_names(number)

    def change(self, *, delay_ms: float, loss: float) -> None:
        """What it does to packets that arrive from now on."""
        self._lines.ask({"line": self._number, "delay_ms": delay_ms, "loss": loss})


@contextmanager
def delay_lines(namespace: str, specs: Sequence[LinkSpec], seed: int) -> Iterator[list[DelayLine]]:
    """Start one process in `namespace` with a line for each of `specs`; none if there are none. Raises LabError."""
    if not specs:
        yield []
        return
    argv = exec_in(namespace, [sys.executable, "-m", "bench.lab.delay_line"])
    with subprocess.Popen(
        argv,
        bufsize=0,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=_PROJECT,
        start_new_session=True,  # Ctrl-C is for us: the line stays until the lab is gone
    ) as process:
        try:
            lines = DelayLines(process)
            asked = [{"delay_ms": spec.delay_ms, "loss": spec.loss} for spec in specs]
            answer = lines.ask({"seed": seed, "lines": asked})
            if answer != "ready":
                raise LabError(f"the delay line answered {answer!r}")
            yield [DelayLine(lines, number) for number in range(len(specs))]
        finally:
            process.kill()
