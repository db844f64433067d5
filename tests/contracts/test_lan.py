# SPDX-License-Identifier: Apache-2.0
"""What any `Lan` does, checked on the fake and on mDNS over the loopback device.

Whoever else runs p2pd on this machine is on the same loopback link: tests look for their own ports and tags.
"""

import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager

import pytest
import trio

from p2pd.adapters.lan_mdns import open_lan
from p2pd.ports import Announcement, Departure, Endpoint, Lan, Sighting
from tests.fakes.fake_lan import open_fake_network

OpenLan = Callable[[str], AbstractAsyncContextManager[Lan]]

NOTICED_SECONDS = 30.0  # takes a few milliseconds; this is for machines that are busy with something else


@pytest.fixture(params=["fake", "slow fake", "mdns"])
async def open_host(request: pytest.FixtureRequest) -> AsyncIterator[OpenLan]:
    """Plugs a host with the given address into the link."""
    if request.param == "mdns":
        yield lambda host: open_lan([host])
    else:
        delay_seconds = 0.01 if request.param == "slow fake" else 0.0
        async with open_fake_network(delay_seconds=delay_seconds) as network:
            yield network.open_lan


def some_tags(count: int = 2) -> frozenset[bytes]:
    return frozenset(secrets.token_bytes(8) for _ in range(count))


def announcement(*, port: int = 6881, mirror_port: int = 0, tags: frozenset[bytes] | None = None) -> Announcement:
    return Announcement(torrent_port=port, mirror_port=mirror_port, tags=some_tags() if tags is None else tags)


async def next_sighting(lan: Lan, wanted: Callable[[Sighting], bool]) -> Sighting:
    with trio.fail_after(NOTICED_SECONDS):
        while True:
            item = await lan.sightings.receive()
            if isinstance(item, Sighting) and wanted(item):
                return item


async def sighting_of(lan: Lan, said: Announcement) -> Sighting:
    return await next_sighting(lan, lambda sighting: sighting.tags == said.tags)


async def departure_of(lan: Lan, instance: str) -> None:
    with trio.fail_after(NOTICED_SECONDS):
        while await lan.sightings.receive() != Departure(instance=instance):
            pass


async def test_two_hosts_see_what_the_other_says(open_host: OpenLan) -> None:
    async with open_host("127.0.0.2") as one, open_host("127.0.0.3") as two:
        first, second = announcement(port=7001, mirror_port=7002), announcement(port=7003)
        await one.announce(first)
        await two.announce(second)
        seen = await sighting_of(two, first)
        assert (seen.endpoint, seen.mirror_port) == (Endpoint(host="127.0.0.2", port=7001), 7002)
        seen = await sighting_of(one, second)
        assert (seen.endpoint, seen.mirror_port) == (Endpoint(host="127.0.0.3", port=7003), 0)


async def test_whoever_comes_later_sees_what_was_said_before(open_host: OpenLan) -> None:
    async with open_host("127.0.0.2") as early:
        said = announcement()
        await early.announce(said)
        async with open_host("127.0.0.3") as late:
            assert (await sighting_of(late, said)).endpoint.host == "127.0.0.2"


async def test_an_update_keeps_the_instance(open_host: OpenLan) -> None:
    async with open_host("127.0.0.2") as speaker, open_host("127.0.0.3") as listener:
        before, after = announcement(port=7001), announcement(port=7001, mirror_port=9)
        await speaker.announce(before)
        first = await sighting_of(listener, before)
        await speaker.announce(after)
        second = await sighting_of(listener, after)
        assert (second.instance, second.mirror_port) == (first.instance, 9)


async def test_a_change_of_port_alone_is_seen(open_host: OpenLan) -> None:
    async with open_host("127.0.0.2") as speaker, open_host("127.0.0.3") as listener:
        before = announcement(port=7001)
        await speaker.announce(before)
        await sighting_of(listener, before)
        await speaker.announce(announcement(port=7002, tags=before.tags))
        assert (await sighting_of(listener, before)).endpoint.port == 7002


async def test_renewing_says_the_same_under_a_name_that_nobody_can_link(open_host: OpenLan) -> None:
    async with open_host("127.0.0.2") as speaker, open_host("127.0.0.3") as listener:
        said = announcement()
        await speaker.announce(said)
        first = await sighting_of(listener, said)
        await speaker.announce(said, renew=True)
        second = await sighting_of(listener, said)
        assert second.instance != first.instance
        await departure_of(listener, first.instance)


async def test_what_was_said_last_is_what_stays(open_host: OpenLan) -> None:
    """Changes faster than announcements are repeated, and back to what was said before."""
    async with open_host("127.0.0.2") as speaker, open_host("127.0.0.3") as listener:
        one, two = announcement(port=7001), announcement(port=7001)
        script = [one, two, one, two, one]
        for said in script:
            await speaker.announce(said)
        heard: list[frozenset[bytes]] = []
        with trio.fail_after(NOTICED_SECONDS):
            is_quiet = False
            while not (is_quiet and heard and heard[-1] == one.tags):
                # mDNS repeats itself for 0.45 s: what has been replaced would be heard by then.
                with trio.move_on_after(0.6) as silence:
                    item = await listener.sightings.receive()
                    if isinstance(item, Sighting) and item.tags in (one.tags, two.tags):
                        heard.append(item.tags)
                is_quiet = silence.cancelled_caught
        assert len(heard) <= len(script)


async def test_our_own_voice_is_left_out(open_host: OpenLan) -> None:
    async with open_host("127.0.0.2") as one, open_host("127.0.0.3") as two:
        ours = [announcement() for _ in range(3)]
        for number, said in enumerate(ours):
            await one.announce(said, renew=number == 1)
        await sighting_of(two, ours[-1])
        theirs = announcement()
        await two.announce(theirs)
        seen: list[frozenset[bytes]] = []
        while not seen or seen[-1] != theirs.tags:
            seen.append((await next_sighting(one, lambda _: True)).tags)
        assert not {said.tags for said in ours} & set(seen)


async def test_leaving_is_told(open_host: OpenLan) -> None:
    async with open_host("127.0.0.3") as listener:
        said = announcement()
        async with open_host("127.0.0.2") as speaker:
            await speaker.announce(said)
            seen = await sighting_of(listener, said)
        await departure_of(listener, seen.instance)


async def test_a_full_announcement_and_an_empty_one(open_host: OpenLan) -> None:
    async with open_host("127.0.0.2") as speaker, open_host("127.0.0.3") as listener:
        full = announcement(port=7009, tags=some_tags(124))
        await speaker.announce(full)
        seen = await sighting_of(listener, full)
        await speaker.announce(announcement(port=7009, tags=frozenset()))
        assert (await next_sighting(listener, lambda item: item.instance == seen.instance)).tags == frozenset()


async def test_a_host_that_moves_departs_here_and_shows_up_there(open_host: OpenLan) -> None:
    async with open_host("127.0.0.2") as mover, open_host("127.0.0.3") as other:
        ours, theirs = announcement(port=7001), announcement(port=7003)
        await mover.announce(ours)
        await other.announce(theirs)
        before, stays = await sighting_of(other, ours), await sighting_of(mover, theirs)
        await mover.listen_on([])
        await departure_of(other, before.instance)
        await departure_of(mover, stays.instance)
        await mover.announce(announcement(port=7002, tags=ours.tags))  # nobody hears it, and it is not forgotten
        await mover.listen_on(["127.0.0.4"])
        seen = await sighting_of(other, ours)
        assert seen.endpoint == Endpoint(host="127.0.0.4", port=7002)
        assert seen.instance != before.instance
        assert (await sighting_of(mover, theirs)).instance == stays.instance


async def test_staying_where_one_is_is_no_news(open_host: OpenLan) -> None:
    async with open_host("127.0.0.2") as speaker, open_host("127.0.0.3") as listener:
        first, second = announcement(port=7001), announcement(port=7001)
        await speaker.announce(first)
        seen = await sighting_of(listener, first)
        await speaker.listen_on(["127.0.0.2"])
        await listener.listen_on(["127.0.0.3"])
        await speaker.announce(second)
        with trio.fail_after(NOTICED_SECONDS):
            while (item := await listener.sightings.receive()) != Departure(instance=seen.instance):
                if isinstance(item, Sighting) and item.tags == second.tags:
                    break
        assert isinstance(item, Sighting)
        assert item.instance == seen.instance
