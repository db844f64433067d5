# SPDX-License-Identifier: Apache-2.0
"""One question to the coordinator over its control socket, by plain blocking calls.

`p2pd.host.control_socket` needs an event loop and a log: loading those takes longer than all else that publishing
does.
"""

import json
import socket
from pathlib import Path
from typing import Any

MAX_ANSWER_BYTES = 1_048_576


def ask(path: Path, verb: str, *, timeout_seconds: float) -> dict[str, Any] | None:
    """What the daemon at `path` answers; None when nobody does, or it refuses. Waits so long for each step of it."""
    question = json.dumps({"verb": verb, "arguments": {}}).encode() + b"\n"
    try:
        with socket.socket(socket.AF_UNIX) as line:
            line.settimeout(timeout_seconds)
            line.connect(str(path))
            line.sendall(question)
            with line.makefile("rb") as answers:
                reply = json.loads(answers.readline(MAX_ANSWER_BYTES))
    except (OSError, ValueError, RecursionError):
        return None
    match reply:
        case {"ok": dict(answer)}:
            return answer
    return None
