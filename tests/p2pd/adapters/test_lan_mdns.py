# SPDX-License-Identifier: Apache-2.0
"""What is peculiar to mDNS; what any Lan does is in tests/contracts/test_lan.py."""

import asyncio
import secrets
import socket
import sys
import threading
from collections.abc import AsyncIterator
from math import inf

import psutil
import pytest
import trio
from zeroconf import (  # type: ignore[attr-defined]  # exported to users, but left out of its __all__
    DNSAddress,
    DNSOutgoing,
    DNSService,
    DNSText,
    RecordUpdate,
    ServiceInfo,
    current_time_millis,
)

from p2pd.adapters import lan_mdns
from p2pd.adapters.lan_mdns import LanUnavailable, open_lan
from p2pd.adapters.mdns_link import MdnsLink
from p2pd.adapters.mdns_table import full_name
from p2pd.adapters.mdns_text import write_text
from p2pd.ports import MAX_TAGS, Announcement, Departure, Endpoint, Sighting
from signing.errors import BadInput

SEEN_SECONDS = 30.0  # takes a second at most, on a machine with nothing else to do


def announcement(tag_count: int = 1, *, port: int = 7001) -> Announcement:
    tags = frozenset(secrets.token_bytes(8) for _ in range(tag_count))
    return Announcement(torrent_port=port, mirror_port=65535, tags=tags)


def sighting(instance: str = "a", host: str = "10.0.0.7") -> Sighting:
    return Sighting(instance=instance, endpoint=Endpoint(host=host, port=1), mirror_port=0, tags=frozenset())


@pytest.mark.parametrize(
    "interfaces",
    [["localhost"], ["127.0.0.1", "eth0"], ["0.0.0.0"], ["::"], ["224.0.0.251"], ["fe80::1"]],  # noqa: S104 (refused)
)
async def test_what_can_never_be_an_interface_is_bad_input(interfaces: list[str]) -> None:
    with pytest.raises(BadInput, match=r"^interfaces: "):
        async with open_lan(interfaces):
            pass


async def test_an_address_that_is_not_here_may_come_and_leaves_nothing_open() -> None:
    threads = threading.active_count()
    with pytest.raises(LanUnavailable, match=r"192\.0\.2\.1"):
        async with open_lan(["127.0.0.2", "192.0.2.1"]):
            pass
    assert threading.active_count() <= threads + 2  # trio keeps the worker threads that opened and closed the first


async def test_closing_leaves_no_thread_and_no_socket() -> None:
    async with open_lan(["127.0.0.2"]) as lan:
        await lan.announce(announcement())
        assert _mdns_sockets() == 2
    assert _mdns_sockets() == 0
    assert not [thread.name for thread in threading.enumerate() if "zeroconf" in thread.name]


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a socket hears only the groups that it joined itself")
async def test_every_socket_stays_on_its_interface() -> None:
    link = await trio.to_thread.run_sync(lambda: MdnsLink("127.0.0.2", own=(), on_news=lambda _: None))
    try:
        sockets = [reader.sock for reader in link._zeroconf.engine.readers]
        devices = [each.getsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, 16) for each in sockets]
    finally:
        await trio.to_thread.run_sync(link.close)
    assert devices == [b"lo\0", b"lo\0"]


async def test_one_wire_twice_is_one_sighting_and_one_departure() -> None:
    said = announcement()
    seen: list[Sighting | Departure] = []
    async with open_lan(["127.0.0.3", "127.0.0.4"]) as listener:
        async with open_lan(["127.0.0.2"]) as speaker:
            await speaker.announce(said)
            with trio.fail_after(SEEN_SECONDS):
                while not seen or not isinstance(seen[-1], Sighting) or seen[-1].tags != said.tags:
                    seen.append(await listener.sightings.receive())
            instance = seen[-1].instance
        with trio.move_on_after(0.5):
            while True:
                seen.append(await listener.sightings.receive())
    assert [type(item) for item in seen if item.instance == instance] == [Sighting, Departure]


async def test_two_interfaces_are_two_announcements_each_with_its_own_address() -> None:
    said = announcement()
    hosts: dict[str, str] = {}
    async with open_lan(["127.0.0.3"]) as listener, open_lan(["127.0.0.2", "127.0.0.4"]) as speaker:
        await speaker.announce(said)
        with trio.fail_after(SEEN_SECONDS):
            while len(hosts) < 2:
                item = await listener.sightings.receive()
                if isinstance(item, Sighting) and item.tags == said.tags:
                    hosts[item.instance] = item.endpoint.host
    assert sorted(hosts.values()) == ["127.0.0.2", "127.0.0.4"]


async def test_a_full_announcement_fits_one_unfragmented_packet_and_names_nobody() -> None:
    link = await trio.to_thread.run_sync(lambda: MdnsLink("127.0.0.2", own=(), on_news=lambda _: None))
    try:
        await trio.to_thread.run_sync(link.publish, "0123456789abcdef", announcement(MAX_TAGS))
        assert link._info is not None
        packets = link._zeroconf.generate_service_broadcast(link._info, None).packets()
    finally:
        await trio.to_thread.run_sync(link.close)
    assert [len(packet) < 1200 for packet in packets] == [True]
    assert socket.gethostname().encode() not in packets[0]


async def test_a_silent_peer_departs_and_is_asked_for_first() -> None:
    """White box: zeroconf's own clock decides, so the table is told that a minute has passed."""
    token = trio.lowlevel.current_trio_token()
    send, heard = trio.open_memory_channel[Sighting | Departure](inf)

    def tell(news: Sighting | Departure) -> None:
        token.run_sync_soon(send.send_nowait, news)

    link = await trio.to_thread.run_sync(lambda: MdnsLink("127.0.0.2", own=(), on_news=tell))
    asked: list[str] = []
    try:
        async with open_lan(["127.0.0.3"]) as speaker:
            said = announcement()
            await speaker.announce(said)
            with trio.fail_after(SEEN_SECONDS):
                item = await heard.receive()
                while not isinstance(item, Sighting) or item.tags != said.tags:
                    item = await heard.receive()
            now = current_time_millis() / 1000
            asked += link._table.questions(now + 52)
            departures = link._table.expire(now + 61)
    finally:
        await trio.to_thread.run_sync(link.close)
    assert [name for name in asked if name.startswith(item.instance)]
    assert Departure(instance=item.instance) in departures


async def test_one_that_is_doubted_answers_and_stays_and_one_that_is_gone_departs() -> None:
    token = trio.lowlevel.current_trio_token()
    send, heard = trio.open_memory_channel[Sighting | Departure](inf)
    link = await trio.to_thread.run_sync(
        lambda: MdnsLink("127.0.0.2", own=(), on_news=lambda news: token.run_sync_soon(send.send_nowait, news))
    )
    gone = "0123456789abcdef"
    try:
        async with open_lan(["127.0.0.3"]) as speaker:
            said = announcement()
            await speaker.announce(said)
            await trio.to_thread.run_sync(link._on_loop, _hear(link, gone, life=60))
            told: dict[str, Sighting] = {}
            with trio.fail_after(SEEN_SECONDS):
                while gone not in told or said.tags not in [item.tags for item in told.values()]:
                    item = await heard.receive()
                    if isinstance(item, Sighting):
                        told[item.instance] = item
                there = next(item.instance for item in told.values() if item.tags == said.tags)
                link.doubt(there)
                link.doubt(gone)
                departed = await heard.receive()
                while departed.instance not in (there, gone):
                    departed = await heard.receive()
            assert departed == Departure(instance=gone)
    finally:
        await trio.to_thread.run_sync(link.close)


async def test_what_has_been_replaced_is_not_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    link = await trio.to_thread.run_sync(lambda: MdnsLink("127.0.0.2", own=(), on_news=lambda _: None))
    old, new = announcement(), announcement()
    said: list[str] = []
    generate = link._zeroconf.generate_service_broadcast

    def note(info: ServiceInfo, ttl: int | None, broadcast_addresses: bool = True) -> DNSOutgoing:
        said.append("old" if info.text is not None and min(old.tags) in info.text else "new")
        return generate(info, ttl, broadcast_addresses)

    # Broadcasts alone: what is sent besides may answer others on this machine.
    monkeypatch.setattr(link._zeroconf, "generate_service_broadcast", note)
    try:
        for each in (old, new):
            await trio.to_thread.run_sync(link.publish, "0123456789abcdef", each)
        with trio.fail_after(SEEN_SECONDS):
            await trio.to_thread.run_sync(link._on_loop, _finish(link))
    finally:
        monkeypatch.undo()
        await trio.to_thread.run_sync(link.close)
    assert said[0] == "old"
    assert said[said.index("new") :] == ["new"] * 3


async def _finish(link: MdnsLink) -> None:
    await asyncio.gather(*link._broadcasts)


async def test_what_runs_out_in_the_cache_of_zeroconf_is_no_news() -> None:
    """It hands out records that are over in the same way as those that come in."""
    heard: list[Sighting | Departure] = []
    link = await trio.to_thread.run_sync(lambda: MdnsLink("127.0.0.2", own=(), on_news=heard.append))
    name, now = full_name("0123456789abcdef"), current_time_millis()
    old, new = announcement(), announcement()
    try:
        records = [
            DNSService(name, 33, 1, 60, 0, 0, 7001, "host.local.", now),
            DNSAddress("host.local.", 1, 1, 60, bytes([127, 0, 0, 9]), created=now),
            DNSText(name, 16, 1, 60, write_text(0, new.tags), now),
        ]
        link._hear([RecordUpdate(record, None) for record in records], now)
        over = DNSText(name, 16, 1, 1, write_text(0, old.tags), now - 1_001)
        link._hear([RecordUpdate(over, over)], now)
    finally:
        await trio.to_thread.run_sync(link.close)
    assert [item.tags for item in heard if isinstance(item, Sighting) and item.instance in name] == [new.tags]


async def test_a_host_that_is_alone_says_it_again(monkeypatch: pytest.MonkeyPatch) -> None:
    link = await trio.to_thread.run_sync(lambda: MdnsLink("127.0.0.2", own=(), on_news=lambda _: None))
    monkeypatch.setattr(link._table, "hears_only", lambda own: True)
    try:
        await trio.to_thread.run_sync(link.publish, "0123456789abcdef", announcement())
        sent = await trio.to_thread.run_sync(link._on_loop, _sent_by_two_looks(link))
    finally:
        await trio.to_thread.run_sync(link.close)
    assert [b"_p2pd" in packet for packet in sent] == [True, True]  # a question and an announcement, once


async def _sent_by_two_looks(link: MdnsLink) -> list[bytes]:
    """In one go on the link's thread, so that nothing that it sends for other reasons is among it."""
    sent: list[bytes] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(link._zeroconf, "async_send", lambda out: sent.extend(out.packets()))
        link._next_call = 0.0
        link._look()
        link._look()
    return sent


async def test_a_silent_peer_departs_without_anybody_looking() -> None:
    """The link wakes itself up when the time of a record is over, though nothing comes in any more."""
    token = trio.lowlevel.current_trio_token()
    send, heard = trio.open_memory_channel[Sighting | Departure](inf)
    link = await trio.to_thread.run_sync(
        lambda: MdnsLink("127.0.0.2", own=(), on_news=lambda news: token.run_sync_soon(send.send_nowait, news))
    )
    instance = "0123456789abcdef"
    try:
        await trio.to_thread.run_sync(link._on_loop, _hear(link, instance))
        with trio.fail_after(SEEN_SECONDS):
            told = [item async for item in _first(heard, 2, instance)]
    finally:
        await trio.to_thread.run_sync(link.close)
    assert [type(item) for item in told] == [Sighting, Departure]


async def _hear(link: MdnsLink, instance: str, *, life: int = 1) -> None:
    now = current_time_millis()
    records = [
        DNSService(full_name(instance), 33, 1, life, 0, 0, 7001, "host.local.", now),
        DNSAddress("host.local.", 1, 1, 60, bytes([127, 0, 0, 9]), created=now),
        DNSText(full_name(instance), 16, 1, 60, write_text(0, announcement().tags), now),
    ]
    link._hear([RecordUpdate(record, None) for record in records], now)


async def _first(
    heard: trio.MemoryReceiveChannel[Sighting | Departure], count: int, instance: str
) -> AsyncIterator[Sighting | Departure]:
    while count:
        item = await heard.receive()
        if item.instance == instance:
            count -= 1
            yield item


async def test_a_slow_reader_misses_states_in_between_and_never_the_last(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lan_mdns, "_NEWS_AHEAD", 0)
    lan = lan_mdns.MdnsLan()
    life = lan._news.begin("10.0.0.1")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(lan.deliver)
        for number in range(100):
            await trio.to_thread.run_sync(lan._news.put, life, sighting("a", f"10.0.0.{number}"))
        await trio.testing.wait_all_tasks_blocked()
        received: list[Sighting | Departure] = []
        while not received or received[-1] != sighting("a", "10.0.0.99"):
            received.append(await lan.sightings.receive())
        nursery.cancel_scope.cancel()
    assert len(received) <= 3


async def test_a_peer_on_two_links_departs_with_the_last() -> None:
    lan = lan_mdns.MdnsLan()
    assert lan._merge("one", sighting()) == sighting()
    assert lan._merge("two", sighting()) is None
    assert lan._merge("one", Departure(instance="a")) is None
    assert lan._merge("two", Departure(instance="a")) == Departure(instance="a")
    assert lan._merge("two", Departure(instance="a")) is None


async def test_with_a_link_departs_what_it_told_of_and_its_late_words_count_no_more() -> None:
    news = lan_mdns._News()
    old, other = news.begin("10.0.0.1"), news.begin("10.0.0.2")
    for life in (old, other):
        news.put(life, sighting("known"))
    news.take()
    news.put(old, sighting("new"))
    news.end("10.0.0.1")
    news.put(old, sighting("late"))
    assert news.take() == [("10.0.0.1", Departure(instance="known"))]
    again = news.begin("10.0.0.1")
    news.put(old, sighting("late"))
    news.put(again, sighting("again"))
    assert news.take() == [("10.0.0.1", sighting("again"))]


async def test_one_link_comes_and_goes_without_a_word_on_the_other() -> None:
    said = announcement()
    heard: list[Sighting | Departure] = []
    async with open_lan(["127.0.0.3"]) as listener, open_lan(["127.0.0.2"]) as mover:
        await mover.announce(said)
        await _heard_from(listener, said, {"127.0.0.2"}, heard)
        stays = heard[-1].instance
        await mover.listen_on(["127.0.0.2", "127.0.0.4"])
        await _heard_from(listener, said, {"127.0.0.4"}, heard)
        with pytest.raises(LanUnavailable, match=r"192\.0\.2\.1"):  # and the address that is there is used all the same
            await mover.listen_on(["127.0.0.2", "192.0.2.1", "127.0.0.5"])
        await _heard_from(listener, said, {"127.0.0.5"}, heard)
    assert [item for item in heard if item.instance == stays] == [heard[0]]


async def _heard_from(
    lan: lan_mdns.MdnsLan, said: Announcement, hosts: set[str], heard: list[Sighting | Departure]
) -> None:
    """Wait for that announcement at one of these hosts, and note all that came of it and after it."""
    with trio.fail_after(SEEN_SECONDS):
        while True:
            item = await lan.sightings.receive()
            ours = isinstance(item, Sighting) and item.tags == said.tags
            if ours or item.instance in {before.instance for before in heard}:
                heard.append(item)
            if isinstance(item, Sighting) and ours and item.endpoint.host in hosts:
                return


def _mdns_sockets() -> int:
    return sum(1 for found in psutil.Process().net_connections("udp") if found.laddr.port == 5353)
