# SPDX-License-Identifier: Apache-2.0
"""Networks: who reaches whom, links as slow, long and lossy as asked, and changed while they are used."""

import json
import shutil
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest

from bench.lab.layout import End
from bench.lab.network import Network, build
from bench.lab.topology import LinkSpec, SiteSpec, Topology
from tests.bench.lab.probes import (
    TCP_SERVE,
    UDP_LISTEN,
    UDP_SEND,
    digest_of,
    fetched,
    is_reached,
    listening,
    ran,
    told,
)

pytestmark = [pytest.mark.root, pytest.mark.usefixtures("possible")]
PORT = 9000
PAYLOAD = 1_000_000
RATE = 20_000_000
BURST = 73_728
GROUP = "239.255.7.7"
DELAY = 0.005
TRIES = 50


@pytest.fixture
def network() -> Iterator[Network]:
    """Two hosts beside the origin; two more behind a router and a WAN that is slow, long and lossy; one hidden."""
    wan = LinkSpec(up=RATE, down=RATE, delay_ms=DELAY * 1000, loss=0.02)
    far = SiteSpec(name="far", hosts=2, lan=LinkSpec(up=100_000_000, down=100_000_000), wan=wan, ipv6=True)
    hidden = SiteSpec(name="hidden", hosts=1, wan=LinkSpec(), nat=shutil.which("nft") is not None)
    near = SiteSpec(name="near", hosts=2, lan=LinkSpec(up=RATE, down=2 * RATE, queue_ms=100))
    with build(Topology(sites=(near, far, hidden))) as built:
        yield built


def queue_of(end: End) -> dict[str, Any]:
    argv = ["tc", "-n", end.namespace, "-r", "-j", "qdisc", "show", "dev", end.interface]
    (queue,) = json.loads(subprocess.run(argv, capture_output=True, check=True).stdout)
    return {"kind": queue["kind"], **queue["options"]}


def interfaces_of_the_machine() -> list[str]:
    listed = subprocess.run(["ip", "-brief", "link"], capture_output=True, text=True, check=True)  # noqa: S607
    return [line.split()[0] for line in listed.stdout.splitlines()]


def test_everybody_reaches_the_origin_and_nothing_outside() -> None:
    before = interfaces_of_the_machine()
    late = LinkSpec(delay_ms=1)
    sites = (SiteSpec(name="near", hosts=1), SiteSpec(name="far", hosts=1, lan=late, wan=late, ipv6=True))
    with build(Topology(sites=sites, people=True)) as network:
        assert interfaces_of_the_machine() == before
        assert [host.name for host in network.hosts] == [
            "origin",
            "web",
            "near-1",
            "near-person",
            "far-1",
            "far-person",
        ]
        assert network.web is not None
        person, host = network.hosts[-1], network.sites[0].hosts[0]
        with listening(network.origin, TCP_SERVE, PORT, 1) as origin, listening(network.web, TCP_SERVE, PORT, 1) as web:
            assert fetched(host, network.origin.address, PORT)[0] == digest_of(1)
            assert told(origin) == host.address
            assert network.origin.address6 is not None
            assert fetched(person, network.origin.address6, PORT)[0] == digest_of(1)
            assert told(origin) == person.address6
            assert fetched(person, network.web.address, PORT)[0] == digest_of(1)
            assert told(web) == person.address
        with listening(person, TCP_SERVE, PORT, 1) as server:
            assert fetched(host, person.address, PORT)[0] == digest_of(1)
            assert told(server) == host.address
        assert not is_reached(host, "192.0.2.1", PORT)
    assert interfaces_of_the_machine() == before


def test_links_are_shaped_at_both_ends_and_counted(network: Network) -> None:
    host = network.sites[0].hosts[0]
    for end, rate in ((host.link.inner, RATE), (host.link.outer, 2 * RATE)):
        queue = queue_of(end)
        assert (queue["kind"], queue["rate"], queue["limit"]) == ("tbf", rate // 8, rate // 80)
        assert queue["burst"] == pytest.approx(BURST, rel=0.001), "whole, but for the clock's ticks"
    before = network.link_bytes()
    with listening(network.origin, TCP_SERVE, PORT, PAYLOAD):
        digest, _, seconds = fetched(host, network.origin.address, PORT)
    assert digest == digest_of(PAYLOAD)
    assert seconds >= (PAYLOAD - 2 * BURST) * 8 / (2 * RATE), "no faster than the link"
    after = network.link_bytes(["origin", "near-1", "near-2"])
    gained = {name: (sent.up - before[name].up, sent.down - before[name].down) for name, sent in after.items()}
    # 66 bytes of headers for each 1,448 of payload; what else is sent again or for addresses is little.
    assert 1.04 * PAYLOAD < gained["near-1"][1] < 1.5 * PAYLOAD
    assert 0 < gained["near-1"][0] < 0.2 * PAYLOAD
    assert 1.04 * PAYLOAD < gained["origin"][0] < 1.5 * PAYLOAD
    assert sum(gained["near-2"]) < 0.1 * PAYLOAD, "broadcasts only"


def test_a_link_is_changed_and_goes_on_counting(network: Network) -> None:
    hidden = network.sites[2].hosts[0].link
    assert queue_of(hidden.outer)["kind"] == "pfifo"
    with listening(network.origin, TCP_SERVE, PORT, PAYLOAD):
        fetched(network.sites[2].hosts[0], network.origin.address, PORT)
        before = hidden.bytes()
        assert before.down > PAYLOAD
        hidden.change(down=RATE)
        hidden.change(down=2 * RATE)
        assert queue_of(hidden.outer)["rate"] == 2 * RATE // 8
        assert queue_of(hidden.inner)["kind"] == "pfifo"
        assert hidden.bytes().down >= before.down
        fetched(network.sites[2].hosts[0], network.origin.address, PORT)
    assert hidden.bytes().down > before.down + PAYLOAD
    assert hidden.spec == LinkSpec(down=2 * RATE)
    with pytest.raises(ValueError, match="hidden-1 was built without delay and loss"):
        hidden.change(loss=0.5)
    with pytest.raises(ValueError, match="a rate is"):
        hidden.change(up=1)
    assert hidden.spec == LinkSpec(down=2 * RATE)


@pytest.mark.parametrize("name", ["near-1", "far-wan"])
def test_a_cut_link_lets_nothing_pass_until_it_is_restored(network: Network, name: str) -> None:
    host = network.sites[0].hosts[0] if name == "near-1" else network.sites[1].hosts[0]
    with listening(network.origin, TCP_SERVE, PORT, 1):
        fetched(host, network.origin.address, PORT)
        network.links[name].cut()
        assert not is_reached(host, network.origin.address, PORT)
        network.links[name].restore()
        # A packet of these few may be lost on that WAN.
        assert any(is_reached(host, network.origin.address, PORT) for _ in range(TRIES))


def test_a_long_lossy_link_loses_its_share_keeps_order_and_is_late(network: Network) -> None:
    sender, receiver = network.origin, network.sites[1].hosts[0]
    wan = network.links["far-wan"]
    wan.change(up=1_000_000_000, down=1_000_000_000)  # nothing is lost in a queue
    sent = 3_000
    assert fetched_latency(network) >= 2 * DELAY  # and the neighbours' addresses are known
    wan.change(loss=0.1)
    with listening(receiver, UDP_LISTEN, receiver.address, PORT, GROUP) as process:
        ran(sender, UDP_SEND, sender.address, receiver.address, PORT, sent, 200, 100)
        wan.change(loss=0, delay_ms=40)
        assert fetched_latency(network) >= 2 * 0.040
        ran(sender, UDP_END, receiver.address, PORT)
        assert process.stdout is not None
        arrived = [int(line) for line in process.stdout]
    assert arrived == sorted(set(arrived))
    assert len(arrived) == pytest.approx(0.9 * sent, abs=120), "7 standard deviations"


def fetched_latency(network: Network) -> float:
    with listening(network.origin, TCP_SERVE, PORT, 1):
        return fetched(network.sites[1].hosts[0], network.origin.address, PORT)[1]


UDP_END = "import socket, sys; socket.socket(2, 2).sendto(b'end', (sys.argv[1], int(sys.argv[2])))"


def test_large_frames_survive_losses_whole(network: Network) -> None:
    with listening(network.origin, TCP_SERVE, PORT, PAYLOAD):
        digest, connecting, _ = fetched(network.sites[1].hosts[1], network.origin.address, PORT)
    assert digest == digest_of(PAYLOAD)
    assert connecting >= 2 * DELAY


def test_multicast_stays_inside_a_site(network: Network) -> None:
    near, far, _ = network.sites
    sender = near.hosts[0]
    network.links["far-wan"].change(loss=0)
    with (
        listening(near.hosts[1], UDP_LISTEN, near.hosts[1].address, PORT, GROUP) as neighbour,
        listening(far.hosts[0], UDP_LISTEN, far.hosts[0].address, PORT, GROUP) as stranger,
    ):
        ran(sender, UDP_SEND, sender.address, GROUP, PORT, 3, 100, 0)
        ran(sender, UDP_END, near.hosts[1].address, PORT)
        ran(sender, UDP_END, far.hosts[0].address, PORT)
        assert neighbour.communicate()[0].split() == ["0", "1", "2"]
        assert stranger.communicate()[0] == ""


def test_nat_hides_who_is_behind_it(network: Network) -> None:
    if shutil.which("nft") is None:
        pytest.skip("NAT needs the `nft` command (Debian: nftables)")
    (host,) = network.sites[2].hosts
    with listening(network.origin, TCP_SERVE, PORT, 1) as origin:
        assert fetched(host, network.origin.address, PORT)[0] == digest_of(1)
        seen = told(origin)
    assert seen.startswith("10.77.1."), "a router's address on the backbone"
    with listening(host, TCP_SERVE, PORT, 1):
        assert not is_reached(network.origin, host.address, PORT)
