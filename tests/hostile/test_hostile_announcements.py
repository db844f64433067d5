# SPDX-License-Identifier: Apache-2.0
"""Announcements made to harm: each is sent as a real packet, and must change nothing but the debug log.

After each comes an honest announcement, which must be seen; so the hostile one was read, and left the ear alive.
"""

import logging
import secrets
import socket
import struct
from collections.abc import Iterator

import pytest
import trio

from p2pd.adapters.lan_mdns import open_lan
from p2pd.adapters.mdns_table import MAX_PER_ADDRESS
from p2pd.ports import Announcement, Departure, Lan, Sighting

GROUP = ("224.0.0.251", 5353)
PTR, TXT, SRV, A, AAAA = 12, 16, 33, 1, 28
OURS = b"\x05_p2pd\x04_tcp\x05local\x00"
HOST = b"\x04evil\x05local\x00"
SEEN_SECONDS = 30.0  # takes less than one, on a machine with nothing else to do
FLOOD = "10000000000000"  # how the instance names of a flood begin
FLOOD_SIZE = 200


@pytest.fixture
def attacker() -> Iterator[socket.socket]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.bind(("127.0.0.9", 0))
        sender.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton("127.0.0.9"))
        yield sender


def label(text: bytes) -> bytes:
    return bytes([len(text)]) + text


def record(name: bytes, kind: int, data: bytes, *, ttl: int = 120) -> bytes:
    return name + struct.pack("!HHIH", kind, 0x8001 if kind != PTR else 1, ttl, len(data)) + data


def packet(*records: bytes) -> bytes:
    return struct.pack("!HHHHHH", 0, 0x8400, 0, len(records), 0, 0) + b"".join(records)


def announcement(
    *,
    instance: bytes = b"00000000deadbeef",
    text: bytes = label(b"v=1"),
    port: int = 666,
    address: bytes | None = bytes([127, 0, 0, 9]),
) -> bytes:
    name = label(instance) + OURS
    records = [
        record(OURS, PTR, name),
        record(name, SRV, struct.pack("!HHH", 0, 0, port) + HOST),
        record(name, TXT, text),
    ]
    if address is not None:
        records.append(record(HOST, A if len(address) == 4 else AAAA, address))
    return packet(*records)


HOSTILE = {
    "text_as_large_as_it_gets": announcement(text=label(b"v=1") + label(b"x" * 255) * 30),
    "text_of_ten_thousand_empty_strings": announcement(text=label(b"v=1") + b"\x00" * 8_000),
    "text_string_longer_than_its_record": announcement(text=label(b"v=1") + b"\xff" + b"x" * 9),
    "text_empty": announcement(text=b""),
    "text_without_version": announcement(text=label(b"t0=abcdefgh")),
    "text_of_another_version": announcement(text=label(b"v=99")),
    "tags_of_seven_bytes": announcement(text=label(b"v=1") + label(b"t0=abcdefg")),
    "mirror_port_that_is_none": announcement(text=label(b"v=1") + label(b"m=99999999999999999999")),
    "port_zero": announcement(port=0),
    "no_address": announcement(address=None),
    "address_of_three_bytes": announcement(address=b"\x7f\x00\x00"),
    "address_of_no_neighbour": announcement(address=bytes([8, 8, 8, 8])),
    "address_multicast": announcement(address=bytes([224, 0, 0, 251])),
    "address_unspecified": announcement(address=bytes(4)),
    "address_link_local_ipv6": announcement(address=b"\xfe\x80" + bytes(13) + b"\x09"),
    "address_ipv6_mapped_loopback": announcement(address=bytes(10) + b"\xff\xff\x7f\x00\x00\x01"),
    "instance_name_of_control_characters": announcement(instance=b"\x00\r\n\x1b[2J\xff\xfe"),
    "instance_name_as_long_as_it_gets": announcement(instance=b"a" * 63),
    "instance_name_with_dots": announcement(instance=b"0000.0000.0000.0"),
    "goodbye_to_whom_nobody_knows": packet(record(OURS, PTR, label(b"00000000deadbeef") + OURS, ttl=0)),
    "name_that_points_to_itself": packet(b"\xc0\x0c" + struct.pack("!HHIH", PTR, 1, 120, 2) + b"\xc0\x0c"),
    "record_longer_than_its_packet": packet(OURS + struct.pack("!HHIH", PTR, 1, 120, 60_000) + b"x"),
    "header_that_promises_more_records": struct.pack("!HHHHHH", 0, 0x8400, 0, 65_535, 65_535, 65_535),
    "half_a_header": b"\x00\x00\x84",
    "nothing": b"",
}


@pytest.mark.parametrize("name", HOSTILE)
async def test_hostile_announcements_are_dropped(
    name: str, attacker: socket.socket, caplog: pytest.LogCaptureFixture
) -> None:
    async with open_lan(["127.0.0.2"]) as listener, open_lan(["127.0.0.3"]) as speaker:
        with caplog.at_level(logging.WARNING):
            attacker.sendto(HOSTILE[name], GROUP)
            seen = await _honest_announcement(speaker, listener)
    assert not [sighting for sighting in seen if sighting.endpoint.port == 666 or "deadbeef" in sighting.instance]
    assert not [logged.getMessage() for logged in caplog.records if logged.name in ("asyncio", "p2pd")]


async def test_a_flood_of_names_hides_nobody(attacker: socket.socket) -> None:
    """Ten thousand names with nothing behind them, then two hundred whole announcements of one host."""
    names = [label(b"%016x" % number) + OURS for number in range(10_000)]
    async with open_lan(["127.0.0.2"]) as listener, open_lan(["127.0.0.3"]) as speaker:
        for start in range(0, len(names), 40):
            attacker.sendto(packet(*(record(OURS, PTR, name) for name in names[start : start + 40])), GROUP)
            await trio.lowlevel.checkpoint()
        in_sight: set[str] = set()
        with trio.fail_after(SEEN_SECONDS):
            while not in_sight:  # a full socket buffer drops what comes on top, from whomever it is
                for number in range(FLOOD_SIZE):
                    attacker.sendto(announcement(instance=b"%s%02x" % (FLOOD.encode(), number)), GROUP)
                with trio.move_on_after(1):
                    await _follow(listener, in_sight)
            honest = Announcement(torrent_port=7001, mirror_port=0, tags=frozenset({secrets.token_bytes(8)}))
            await speaker.announce(honest)
            while await _follow(listener, in_sight) != honest.tags:
                pass
    assert 0 < len(in_sight) <= MAX_PER_ADDRESS + 1  # the newest may be seen before the oldest is seen to go


async def _follow(listener: Lan, in_sight: set[str]) -> frozenset[bytes] | None:
    """Take one piece of news, keep account of the flood's instances, return the tags that were seen."""
    item = await listener.sightings.receive()
    if isinstance(item, Departure):
        in_sight.discard(item.instance)
        return None
    if item.instance.startswith(FLOOD):
        in_sight.add(item.instance)
    return item.tags


async def test_the_attacker_would_be_seen_if_it_behaved(attacker: socket.socket) -> None:
    """Otherwise the tests above prove nothing."""
    async with open_lan(["127.0.0.2"]) as listener:
        attacker.sendto(announcement(), GROUP)
        with trio.fail_after(SEEN_SECONDS):
            while True:
                item = await listener.sightings.receive()
                if isinstance(item, Sighting) and item.instance == "00000000deadbeef":
                    assert (item.endpoint.host, item.endpoint.port) == ("127.0.0.9", 666)
                    return


async def _honest_announcement(speaker: Lan, listener: Lan) -> list[Sighting]:
    """All that the listener saw until it saw the honest one."""
    honest = Announcement(torrent_port=7001, mirror_port=0, tags=frozenset({secrets.token_bytes(8)}))
    await speaker.announce(honest)
    seen: list[Sighting] = []
    with trio.fail_after(SEEN_SECONDS):
        while not seen or seen[-1].tags != honest.tags:
            item = await listener.sightings.receive()
            if isinstance(item, Sighting):
                seen.append(item)
    return seen
