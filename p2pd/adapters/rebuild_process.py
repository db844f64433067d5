# SPDX-License-Identifier: Apache-2.0
"""Applies deltas in a process of their own: `python -m p2pd.adapters.rebuild_process` with the work as JSON.

HDiffPatch is a library in C. It sees only bytes whose SHA-256 is signed; even so a crash of it, memory that it does not
give back, or time that it takes cost the daemon nothing this way. The process ends with the daemon's patience.
"""

import contextlib
import errno
import json
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import trio

from p2pd.adapters.rebuilding import rebuild
from p2pd.ports_control import StorageFailed
from p2pd.ports_delta import Base, Rebuild, RebuildFailed
from signing.manifest import Content
from signing.reasons import Reason
from signing.structure import build

PATIENCE_SECONDS = 60.0
SLOWEST_BYTES_PER_SECOND = 2e6  # measured: 200 MB/s on one core; small devices and busy disks get a hundred times that
ADDRESS_SPACE_BYTES = 2**29  # measured: 160 MB
MAX_ANSWER_BYTES = 4_096


class RebuildProcess:
    """Implements `p2pd.ports_delta.Rebuilder`."""

    def __init__(self, *, patience_seconds: float = PATIENCE_SECONDS) -> None:
        self._patience_seconds = patience_seconds

    async def rebuild(self, work: Rebuild) -> None:
        """See `Rebuilder`."""
        seconds = self._patience_seconds + (work.base.content.size + work.payload.size) / SLOWEST_BYTES_PER_SECOND
        # -P: a module that lies in the working directory, where the daemon writes, is not taken for one of ours.
        command = [sys.executable, "-P", "-m", __name__, json.dumps(_plain(work))]
        with trio.move_on_after(seconds):
            done = await trio.run_process(
                command, capture_stdout=True, capture_stderr=True, check=False, stdin=subprocess.DEVNULL
            )
            _raise_if_failed(done)
            return
        raise RebuildFailed(Reason.DELTA_FAILED, f"applying it took longer than {seconds:.0f} s")


def _raise_if_failed(done: "subprocess.CompletedProcess[bytes]") -> None:
    if done.returncode == 0:
        return
    try:
        answer = json.loads(done.stdout[:MAX_ANSWER_BYTES])
        kind, message = str(answer["kind"]), str(answer["message"])
    except (ValueError, TypeError, KeyError):
        words = done.stderr[-MAX_ANSWER_BYTES:].decode(errors="replace").strip().rpartition("\n")[2]
        code = -done.returncode
        how = signal.Signals(code).name if code in set(signal.Signals) else f"exit code {done.returncode}"
        raise RebuildFailed(Reason.DELTA_FAILED, f"the process that applies it ended by {how} {words}") from None
    if kind == "storage":
        raise StorageFailed(OSError(int(answer["errno"]), message))
    raise RebuildFailed(Reason(kind), message)


def main(arguments: Sequence[str]) -> int:
    """The process: does the work, and says on stdout what was wrong. Exit code 0 when it is done, 1 when not."""
    (text,) = arguments
    work = _work(json.loads(text))
    # Under systemd's SystemCallFilter=~@resources both are refused: then the bounds of the windows are all there is.
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_SPACE_BYTES, ADDRESS_SPACE_BYTES))
    with contextlib.suppress(OSError):
        os.nice(10)
    try:
        rebuild(work)
    except RebuildFailed as problem:
        return _tell(kind=problem.reason.value, message=str(problem))
    except OSError as problem:
        return _tell(kind="storage", message=str(problem), errno=problem.errno or errno.EIO)
    return 0


def _tell(**answer: Any) -> int:
    print(json.dumps(answer))  # noqa: T201 (the pipe to the daemon)
    return 1


def _plain(work: Rebuild) -> dict[str, Any]:
    def content(of: Content) -> dict[str, Any]:
        return {"sha256": of.sha256, "size": of.size}

    return {
        "base": str(work.base.path),
        "base_content": content(work.base.content),
        "is_compressed": work.base.is_compressed,
        "delta": str(work.delta),
        "delta_content": content(work.delta_content),
        "result": str(work.result),
        "payload": content(work.payload),
    }


def _work(plain: dict[str, Any]) -> Rebuild:
    def content(name: str) -> Content:
        return build(Content, plain[name], where=name)

    base = Base(path=Path(plain["base"]), content=content("base_content"), is_compressed=bool(plain["is_compressed"]))
    return Rebuild(
        base=base,
        delta=Path(plain["delta"]),
        delta_content=content("delta_content"),
        result=Path(plain["result"]),
        payload=content("payload"),
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
