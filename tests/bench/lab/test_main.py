# SPDX-License-Identifier: Apache-2.0
"""`python -m bench.lab`: what people type, and what they are told."""

import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from bench.lab.__main__ import main
from bench.lab.changes import USAGE, obey
from bench.lab.network import build
from bench.lab.showing import described, rate_in_words
from bench.lab.topology import LinkSpec, SiteSpec, Topology, read_rate


def test_show_tells_hosts_and_links_and_builds_nothing() -> None:
    done = CliRunner().invoke(main, ["show", "sites-3x5-lossy"])
    assert done.exit_code == 0, done.output
    rows = [line.split() for line in done.output.splitlines()]
    assert ["quito-5", "10.78.3.5", "-"] in rows
    assert ["berlin-wan", "50mbit", "50mbit", "20ms", "0.005", "50ms"] in rows
    assert ["origin", "-", "-", "0ms", "0", "50ms"] in rows


def test_a_topology_that_does_not_exist_or_is_wrong_is_bad_input(tmp_path: Path) -> None:
    missing = CliRunner().invoke(main, ["show", "flat-11"])
    assert missing.exit_code == 2
    assert "there is no file flat-11; write one, or take an example: flat-10," in missing.output
    wrong = tmp_path / "wrong.toml"
    wrong.write_text("sites = []")
    done = CliRunner().invoke(main, ["show", str(wrong)])
    assert done.exit_code == 2
    assert "there are 0 sites" in done.output


@pytest.mark.parametrize("words", ["100mbit", "1.5gbit", "64kbit", "9999bit"])
def test_rates_are_told_as_they_are_written(words: str) -> None:
    assert read_rate("up", rate_in_words(read_rate("up", words))) == read_rate("up", words)


@pytest.mark.root
@pytest.mark.usefixtures("possible")
def test_run_exits_as_its_command_did(tmp_path: Path) -> None:
    small = tmp_path / "small.toml"
    small.write_text('[[sites]]\nname = "lan"\nhosts = 1\n')
    code = "import socket, sys; s = socket.socket(2, 2); s.connect(('10.77.0.1', 9)); sys.exit(s.getsockname()[0] != '10.77.2.1' or 7)"
    done = CliRunner().invoke(main, ["run", str(small), "--on", "lan-1", "--", sys.executable, "-c", code])
    assert done.exit_code == 7, done.output
    done = CliRunner().invoke(main, ["run", str(small), "--on", "lan-2", "--", "true"])
    assert done.exit_code == 2
    assert "there is no host 'lan-2'; there are origin, lan-1" in done.output


@pytest.mark.root
@pytest.mark.usefixtures("possible")
def test_links_obey_what_is_typed() -> None:
    site = SiteSpec(name="far", hosts=1, wan=LinkSpec(up=1_000_000, down=1_000_000, delay_ms=1))
    with build(Topology(sites=(site,))) as network:
        assert network.origin.namespace in described(network)
        assert obey("", network) == ""
        assert obey("cut far-wan", network) == "far-wan is cut"
        assert obey("restore far-wan", network) == "far-wan is restored"
        obey("change far-wan up=5mbit delay=2s loss=0.5", network)
        assert network.links["far-wan"].spec == LinkSpec(up=5_000_000, down=1_000_000, delay_ms=2000, loss=0.5)
        assert [line.split()[0] for line in obey("bytes", network).splitlines()] == ["far-wan", "origin", "far-1"]
        assert obey("bytes origin", network).startswith("origin up ")
        assert obey("cut near-wan", network) == "there is no link 'near-wan'; there are far-wan, origin, far-1"
        assert obey("change far-wan up=fast", network).startswith("up is 'fast'; write a rate like")
        assert obey("change far-wan speed=1", network).startswith("'speed=1' is no setting")
        assert obey("change origin loss=0.1", network).startswith("link origin was built without delay and loss")
        assert obey("change far-wan", network) == USAGE
        assert obey("dig", network) == USAGE
