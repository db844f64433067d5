# SPDX-License-Identifier: Apache-2.0
"""What the latency benchmark makes of the moments that endpoints tell."""

import json
from pathlib import Path

from bench.latency import breakdown, table
from bench.loopback_fleet import Published, states_of


def entered(*, fetching: float, staged: float, verified: float) -> dict[str, float]:
    return {"fetching": fetching, "staged": staged, "verified": verified}


def test_times_count_from_the_call_and_from_its_return() -> None:
    published = Published(began=100.0, done=101.0, transport_bytes=1_000)
    agents = [
        entered(fetching=101.2, staged=101.5, verified=101.6),
        entered(fetching=101.1, staged=101.9, verified=102.4),
        entered(fetching=101.4, staged=101.6, verified=101.7),
    ]
    told = breakdown(published, agents)
    assert told["fetching"] == {"first": 1.1, "median": 1.2, "last": 1.4}
    assert told["verified"]["last"] == told["seconds"] == 2.4
    assert told["seconds_since_published"] == 1.4
    assert "2.40 s since `p2pctl patch publish` was called, 1.40 s since it returned" in table(
        [told | {"cpu_seconds_per_endpoint": 0.1}]
    )


def test_states_are_read_from_the_log_of_a_daemon(tmp_path: Path) -> None:
    def line(version: str, state: str, second: int) -> str:
        told = {"event": "release state", "version": version, "state": state, "time": f"2026-01-01T00:00:{second:02}Z"}
        return json.dumps(told)

    log = tmp_path / "p2pd.log"
    lines = [line("1.0", "verified", 1), line("1.1", "fetching", 2), '{"event": "ready"}', line("1.1", "staged", 3)]
    log.write_text("\n".join(lines) + '\n{"event": "release state", "version": "1.1", "sta')
    found = states_of(log, "1.1")
    assert list(found) == ["fetching", "staged"]
    assert found["staged"] - found["fetching"] == 1
