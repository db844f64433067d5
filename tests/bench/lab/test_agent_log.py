# SPDX-License-Identifier: Apache-2.0
"""What is read out of an agent's log, and what is not."""

import json
from pathlib import Path
from typing import Any

import pytest

from bench.lab.agent_log import Carried, LogReader, Verified, parse_line

VERIFIED: dict[str, Any] = {
    "event": "release state",
    "state": "verified",
    "product": "cargo",
    "version": "1.0",
    "time": "2026-11-22T11:09:10.250000Z",
}
CARRIED: dict[str, Any] = {
    "event": "transfer complete",
    "version": "1.0",
    "bytes_lan": 60,
    "bytes_origin": 40,
    "time": "2026-11-22T11:09:10Z",
}
UNIX = 1795345750.0


def test_a_release_that_was_verified() -> None:
    assert parse_line(json.dumps(VERIFIED)) == Verified(product="cargo", version="1.0", unix=UNIX + 0.25)


def test_a_transfer_that_is_complete() -> None:
    expected = Carried(version="1.0", unix=UNIX, bytes_lan=60, bytes_origin=40)
    assert parse_line(json.dumps(CARRIED)) == expected


@pytest.mark.parametrize(
    "line",
    [
        "",
        "Traceback (most recent call last):",
        "[]",
        "{}",
        json.dumps(VERIFIED | {"state": "staged"}),
        json.dumps(VERIFIED | {"time": "yesterday"}),
        json.dumps(VERIFIED | {"event": "something else"}),
        json.dumps({key: value for key, value in VERIFIED.items() if key != "version"}),
        json.dumps(CARRIED | {"bytes_lan": None}),
    ],
)
def test_everything_else_tells_nothing(line: str) -> None:
    assert parse_line(line) is None


def test_a_reader_tells_each_line_once_and_waits_for_the_end_of_a_line(tmp_path: Path) -> None:
    log = tmp_path / "log"
    reader = LogReader(log)
    assert list(reader.news()) == [], "there is no log yet"
    line = json.dumps(VERIFIED).encode()
    log.write_bytes(b"not json\n" + line[:20])
    assert list(reader.news()) == []
    with log.open("ab") as file:
        file.write(line[20:] + b"\n" + json.dumps(CARRIED).encode() + b"\n")
    assert [type(told) for told in reader.news()] == [Verified, Carried]
    assert list(reader.news()) == []
