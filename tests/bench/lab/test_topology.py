# SPDX-License-Identifier: Apache-2.0
"""Topologies: what people write is what is built, and a wrong file is told what is wrong with it."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.lab.topology import (
    EXAMPLES,
    MAX_RATE,
    MIN_RATE,
    LinkSpec,
    SiteSpec,
    Topology,
    load_topology,
    read_milliseconds,
    read_rate,
)
from signing.errors import BadInput

SITE = '[[sites]]\nname = "a"\nhosts = 1\n'


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "lab.toml"
    path.write_text(text)
    return path


def test_what_is_written_is_what_is_built(tmp_path: Path) -> None:
    text = """
        people = true
        origin = { rate = "1gbit", queue = "0.1s" }
        [[sites]]
        name = "berlin"
        hosts = 5
        nat = true
        ipv6 = true
        lan = { rate = "200mbit" }
        wan = { up = "1.5mbit", down = "50mbit", delay = "20ms", loss = 0.005, queue = "40ms" }
        [[sites]]
        name = "here"
        hosts = 2
    """
    berlin = SiteSpec(
        name="berlin",
        hosts=5,
        lan=LinkSpec(up=200_000_000, down=200_000_000),
        wan=LinkSpec(up=1_500_000, down=50_000_000, delay_ms=20, loss=0.005, queue_ms=40),
        nat=True,
        ipv6=True,
    )
    assert load_topology(written(tmp_path, text)) == Topology(
        origin=LinkSpec(up=1_000_000_000, down=1_000_000_000, queue_ms=100),
        sites=(berlin, SiteSpec(name="here", hosts=2)),
        people=True,
    )


def test_the_examples_are_the_scenes() -> None:
    examples = {path.stem: load_topology(path) for path in EXAMPLES.iterdir()}
    assert {name: [site.hosts for site in topology.sites] for name, topology in examples.items()} == {
        "flat-10": [10],
        "flat-40": [40],
        "sites-3x5": [5, 5, 5],
        "sites-3x5-lossy": [5, 5, 5],
        "yielding": [5],
    }
    lossy = examples["sites-3x5-lossy"].sites[0].wan
    assert lossy == LinkSpec(up=50_000_000, down=50_000_000, delay_ms=20, loss=0.005)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("sites = []", "there are 0 sites; a lab has 1 to 50"),
        ("", "key 'sites' is missing"),
        ("people = 1\n" + SITE, "people: expected bool, found int"),
        ("peopel = true\n" + SITE, "unknown key 'peopel'; did you mean 'people'"),
        ('[[sites]]\nname = "a"', r"sites\[0\]: key 'hosts' is missing"),
        (SITE.replace("1", "0"), r"sites\[0\]: site a has 0 hosts; it has 1 to 200"),
        (SITE.replace("1", "201"), "it has 1 to 200"),
        (SITE.replace('"a"', '"a-b"'), "cannot be named 'a-b'; a name is 1 to 8 of a-z and 0-9"),
        (SITE.replace('"a"', '"origin"'), "cannot be named 'origin'"),
        (SITE.replace('"a"', '"nineteens"'), "1 to 8"),
        (SITE + SITE, "two sites are named a; give each its own name"),
        (SITE + SITE.replace('"a"', '"b"'), "sites a and b have no wan, so they are one LAN"),
        (SITE + "nat = true", "site a has nat but no wan; give it a wan, or leave nat out"),
        (SITE + 'lan = { rate = "fast" }', r'lan: rate is \'fast\'; write a rate like "100mbit"'),
        (SITE + 'lan = { up = "100MB" }', "lan: up is '100MB'"),
        (SITE + 'lan = { rate = "1mbit", up = "1mbit" }', "rate is for both directions"),
        (SITE + 'lan = { rate = "1bit" }', "up is 1 bit/s; a rate is 8000 to"),
        (SITE + 'lan = { delay = "20" }', r'delay is \'20\'; write a time like "20ms"'),
        (SITE + 'lan = { delay = "11s" }', "delay is 11000.0 ms; it is 0 to 10000 ms"),
        (SITE + "wan = { loss = 1.0 }", r"wan: loss is 1.0; it is a fraction"),
        (SITE + "wan = { loss = nan }", "loss is nan"),
        (SITE + 'wan = { queue = "0ms" }', "queue is 0.0 ms; it is more than 0"),
        (SITE + "wan = 5", "wan: expected a table of keys, found int"),
        ("[[sites]\n", "is not valid TOML"),
    ],
)
def test_a_wrong_file_is_told_what_is_wrong(tmp_path: Path, text: str, complaint: str) -> None:
    with pytest.raises(BadInput, match=complaint) as caught:
        load_topology(written(tmp_path, text))
    assert str(tmp_path / "lab.toml") in str(caught.value)


def test_a_lab_has_at_most_200_hosts() -> None:
    sites = tuple(SiteSpec(name=f"s{number}", hosts=101, wan=LinkSpec()) for number in range(2))
    with pytest.raises(ValueError, match="202 hosts; a lab has at most 200"):
        Topology(sites=sites)


@given(st.integers(MIN_RATE, MAX_RATE))
def test_every_rate_can_be_written(rate: int) -> None:
    assert read_rate("up", f"{rate}bit") == rate


@given(st.text())
def test_what_is_no_rate_is_no_time_and_said_so(text: str) -> None:
    for read in (read_rate, read_milliseconds):
        with pytest.raises(ValueError, match=r"^key is "):
            read("key", f"{text} ")  # none of them ends with a space
