# SPDX-License-Identifier: Apache-2.0
"""Lines that say what is to happen: which ones are refused before anything runs."""

from types import SimpleNamespace
from typing import Any, cast

import pytest

from bench.lab.happenings import Happening, check_happenings
from bench.lab.network import Network
from signing.errors import BadInput

HOSTS = [SimpleNamespace(name="oslo-1"), SimpleNamespace(name="oslo-2")]
NETWORK: Any = SimpleNamespace(sites=[SimpleNamespace(hosts=HOSTS)], links={"oslo-wan": None, "oslo-1": None})


def check(line: str) -> None:
    check_happenings([Happening(seconds=2.5, line=line)], cast("Network", NETWORK))


@pytest.mark.parametrize(
    "line",
    [
        "kill oslo-1",
        "kill busiest",
        "kill coordinator",
        "start coordinator",
        "join oslo-2",
        "cut oslo-wan",
        "restore oslo-wan",
        "change oslo-wan down=5mbit delay=20ms",
    ],
)
def test_what_can_happen(line: str) -> None:
    check(line)


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("", "nothing that can happen"),
        ("explode oslo-1", "nothing that can happen"),
        ("kill", "busiest, coordinator, oslo-1, oslo-2"),
        ("kill oslo-3", "oslo-1, oslo-2"),
        ("kill oslo-1 oslo-2", "needs the name of one"),
        ("start oslo-1", "there are: coordinator"),
        ("cut oslo-2", "oslo-wan, oslo-1"),
    ],
)
def test_what_cannot(line: str, complaint: str) -> None:
    with pytest.raises(BadInput, match=complaint) as refusal:
        check(line)
    assert "--at 2.5" in str(refusal.value)


def test_who_joins_stays_away_until_then() -> None:
    assert Happening(seconds=1, line="join oslo-1").joins == "oslo-1"
    assert Happening(seconds=1, line="kill oslo-1").joins is None
