# SPDX-License-Identifier: Apache-2.0
"""What the fake can do that the real thing cannot be told to; the rest is in tests/contracts/test_lan.py."""

from trio.testing import MockClock, wait_all_tasks_blocked

from p2pd.ports import Announcement, Departure, Sighting
from tests.fakes.fake_lan import FakeLan, open_fake_network

ANNOUNCEMENT = Announcement(torrent_port=1, mirror_port=0, tags=frozenset({b"abcdefgh"}))


async def pass_time(clock: MockClock, seconds: float) -> None:
    await wait_all_tasks_blocked()
    clock.jump(seconds)
    await wait_all_tasks_blocked()


def heard(lan: FakeLan) -> list[Sighting | Departure]:
    """What came since it was asked last."""
    waiting = lan.sightings.statistics().current_buffer_used
    return [lan.sightings.receive_nowait() for _ in range(waiting)]


async def test_a_killed_host_departs_after_its_ttl(frozen_clock: MockClock) -> None:
    async with (
        open_fake_network(ttl_seconds=60) as network,
        network.open_lan("10.0.0.1") as one,
        network.open_lan("10.0.0.2") as two,
    ):
        await one.announce(ANNOUNCEMENT)
        seen = one.announced
        assert seen is not None
        assert heard(two) == [seen]
        network.kill(one)
        await one.announce(ANNOUNCEMENT, renew=True)
        await pass_time(frozen_clock, 59)
        assert heard(two) == []
        await pass_time(frozen_clock, 1)
        assert heard(two) == [Departure(instance=seen.instance)]
    assert heard(two) == []


async def test_a_cut_network_forgets_and_a_mended_one_remembers(frozen_clock: MockClock) -> None:
    async with (
        open_fake_network(ttl_seconds=60) as network,
        network.open_lan("10.0.0.1") as one,
        network.open_lan("10.0.0.2") as two,
    ):
        await one.announce(ANNOUNCEMENT)
        seen = one.announced
        assert seen is not None
        assert heard(two) == [seen]
        network.cut()
        await one.announce(Announcement(torrent_port=2, mirror_port=0, tags=frozenset()))
        await pass_time(frozen_clock, 60)
        assert heard(two) == [Departure(instance=seen.instance)]
        network.mend()
        assert heard(two) == [one.announced]


async def test_short_cuts_are_not_noticed(frozen_clock: MockClock) -> None:
    async with (
        open_fake_network(ttl_seconds=60) as network,
        network.open_lan("10.0.0.1") as one,
        network.open_lan("10.0.0.2") as two,
    ):
        await one.announce(ANNOUNCEMENT)
        assert heard(two) == [one.announced]
        for _ in range(3):
            network.cut()
            await pass_time(frozen_clock, 40)
            network.mend()
        await pass_time(frozen_clock, 100)
        assert heard(two) == []


async def test_what_is_said_takes_its_time_and_keeps_its_order(frozen_clock: MockClock) -> None:
    async with (
        open_fake_network(delay_seconds=0.5) as network,
        network.open_lan("10.0.0.1") as one,
        network.open_lan("10.0.0.2") as two,
    ):
        await one.announce(ANNOUNCEMENT)
        first = one.announced
        await pass_time(frozen_clock, 0.25)
        await one.announce(ANNOUNCEMENT, renew=True)
        assert heard(two) == []
        await pass_time(frozen_clock, 0.25)
        assert heard(two) == [first]
        await pass_time(frozen_clock, 0.25)
        assert first is not None
        assert heard(two) == [one.announced, Departure(instance=first.instance)]
