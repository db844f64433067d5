# SPDX-License-Identifier: Apache-2.0
"""What records of a link add up to, on a clock that is just a number."""

import math
from ipaddress import ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st
from zeroconf import (  # type: ignore[attr-defined]  # exported to users, but left out of its __all__
    DNSAddress,
    DNSPointer,
    DNSRecord,
    DNSService,
    DNSText,
)

from p2pd.adapters import mdns_table
from p2pd.adapters.mdns_table import (
    DOUBT_SECONDS,
    INCOMPLETE_SECONDS,
    MAX_INCOMPLETE,
    MAX_INSTANCES,
    MAX_PER_ADDRESS,
    MAX_QUESTIONS,
    SERVICE_TYPE,
    TTL_SECONDS,
    AnnouncementTable,
    full_name,
)
from p2pd.adapters.mdns_text import write_text
from p2pd.ports import Departure, Endpoint, Sighting

ONE, TWO = "0123456789abcdef", "fedcba9876543210"
TAGS = frozenset({b"abcdefgh"})
IN, FLUSH = 1, 0x8001


def pointer(instance: str = ONE, ttl: int = 60) -> DNSRecord:
    return DNSPointer(SERVICE_TYPE, 12, IN, ttl, full_name(instance))


def service(instance: str = ONE, *, port: int = 7001, server: str = "host.local.", ttl: int = 60) -> DNSRecord:
    return DNSService(full_name(instance), 33, FLUSH, ttl, 0, 0, port, server)


def text(instance: str = ONE, *, tags: frozenset[bytes] = TAGS, data: bytes | None = None, ttl: int = 60) -> DNSRecord:
    return DNSText(full_name(instance), 16, FLUSH, ttl, write_text(9, tags) if data is None else data)


def address(host: str = "10.0.0.7", *, server: str = "host.local.", ttl: int = 60) -> DNSRecord:
    packed = ip_address(host).packed
    return DNSAddress(server, 1 if len(packed) == 4 else 28, FLUSH, ttl, packed)


def whole(instance: str = ONE, host: str = "10.0.0.7") -> list[DNSRecord]:
    server = f"h{instance}.local."
    return [address(host, server=server), text(instance), pointer(instance), service(instance, server=server)]


def sighting(instance: str = ONE, *, host: str = "10.0.0.7", port: int = 7001) -> Sighting:
    return Sighting(instance=instance, endpoint=Endpoint(host=host, port=port), mirror_port=9, tags=TAGS)


@pytest.fixture
def table() -> AnnouncementTable:
    return AnnouncementTable(ip_network("10.0.0.0/24"), draw=lambda: 0.5)


def test_one_packet_makes_a_sighting_whatever_the_order(table: AnnouncementTable) -> None:
    assert table.hear(whole(), 0) == [sighting()]
    assert table.hear(reversed(whole(TWO, "10.0.0.8")), 0) == [sighting(TWO, host="10.0.0.8")]


def test_four_packets_make_the_same(table: AnnouncementTable) -> None:
    assert table.hear([pointer()], 0) == []
    assert table.hear([service()], 0) == []
    assert table.hear([text()], 0) == []
    assert table.hear([address()], 0) == [sighting()]


def test_repetition_is_no_news_and_change_is(table: AnnouncementTable) -> None:
    table.hear([service(), text(), address()], 0)
    assert table.hear([service(), text(), address()], 1) == []
    assert table.hear([service(port=7002)], 2) == [sighting(port=7002)]
    assert table.hear([address("10.0.0.8")], 3) == [sighting(port=7002, host="10.0.0.8")]


def test_a_move_to_another_host_waits_for_that_hosts_address(table: AnnouncementTable) -> None:
    table.hear([service(), text(), address()], 0)
    assert table.hear([service(server="other.local.")], 1) == []
    assert table.hear([address("10.0.0.9")], 2) == []
    assert table.hear([address("10.0.0.8", server="OTHER.local.")], 3) == [sighting(host="10.0.0.8")]


@pytest.mark.parametrize("goodbye", [pointer(ttl=0), service(ttl=0)])
def test_goodbye_departs_once(table: AnnouncementTable, goodbye: DNSRecord) -> None:
    table.hear(whole(), 0)
    assert table.hear([goodbye], 1) == [Departure(instance=ONE)]
    assert table.hear([goodbye], 1) == []


def test_a_text_that_was_replaced_is_no_goodbye(table: AnnouncementTable) -> None:
    table.hear(whole(), 0)
    assert table.hear([text(ttl=0)], 1) == []
    assert table.expire(2) == []


def test_goodbye_in_the_same_packet_wins(table: AnnouncementTable) -> None:
    assert table.hear([*whole(), pointer(ttl=0)], 0) == []


def test_goodbye_of_what_was_never_whole_is_no_news(table: AnnouncementTable) -> None:
    table.hear([service()], 0)
    assert table.hear([service(ttl=0)], 1) == []


def test_a_killed_peer_departs_when_its_time_is_over_and_may_come_back(table: AnnouncementTable) -> None:
    table.hear(whole(), 0)
    assert table.expire(TTL_SECONDS - 0.1) == []
    assert table.expire(TTL_SECONDS) == [Departure(instance=ONE)]
    assert table.expire(TTL_SECONDS + 1) == []
    assert table.hear(whole(), 100) == [sighting()]


def test_nobody_stays_longer_than_we_grant(table: AnnouncementTable) -> None:
    table.hear([service(ttl=4500), text(ttl=4500), address(ttl=4500), pointer(ttl=4500)], 0)
    assert table.expire(TTL_SECONDS) == [Departure(instance=ONE)]


def test_it_asks_at_three_quarters_of_a_life_and_twice_more(table: AnnouncementTable) -> None:
    table.hear(whole(), 0)
    asked = [second for second in range(TTL_SECONDS) if table.questions(second)]
    assert asked == [48, 56]
    assert table.hear([service(server=f"h{ONE}.local.")], 59) == []
    assert table.expire(100) == []
    assert table.questions(106) == []
    assert table.questions(107) == [full_name(ONE)]


def test_what_is_missing_is_asked_for_until_it_is_given_up(table: AnnouncementTable) -> None:
    table.hear([pointer()], 0)
    assert table.questions(0) == []
    assert table.questions(1) == [full_name(ONE)]
    assert table.questions(2) == []
    assert table.expire(TTL_SECONDS / 2) == []
    assert table.questions(TTL_SECONDS) == []


def test_alone_is_when_only_we_are_in_sight(table: AnnouncementTable) -> None:
    assert table.hears_only({ONE})
    table.hear(whole(ONE), 0)
    table.hear([pointer(TWO)], 0)
    assert table.hears_only({ONE})
    table.hear(whole(TWO, "10.0.0.8"), 0)
    assert not table.hears_only({ONE})


@pytest.mark.parametrize(
    "host",
    ["10.0.1.7", "8.8.8.8", "127.0.0.1", "224.0.0.251", "0.0.0.0", "169.254.1.1", "fe80::1", "::1"],  # noqa: S104
)
def test_nobody_sends_us_dialling_elsewhere(table: AnnouncementTable, host: str) -> None:
    assert table.hear([service(), text(), address(host)], 0) == []


def test_a_host_route_knows_no_neighbours_so_any_real_address_will_do() -> None:
    table = AnnouncementTable(ip_network("10.0.0.1/32"), draw=lambda: 0.5)
    assert table.hear(whole(), 0) == [sighting()]
    assert table.hear(whole(TWO, "127.0.0.1"), 0) == []


def test_ipv6_links_are_links() -> None:
    table = AnnouncementTable(ip_network("fd00::/64"), draw=lambda: 0.5)
    assert table.hear(whole(host="fd00::7"), 0) == [sighting(host="fd00::7")]
    assert table.hear(whole(TWO, "fe80::7"), 0) == []


@pytest.mark.parametrize(
    "record",
    [
        DNSPointer(SERVICE_TYPE, 12, IN, 60, "Printer in the hall." + SERVICE_TYPE),
        DNSPointer("_ipp._tcp.local.", 12, IN, 60, f"{ONE}._ipp._tcp.local."),
        service("0123456789abcde"),
        service("0123456789abcdef0"),
    ],
)
def test_other_names_leave_no_trace(table: AnnouncementTable, record: DNSRecord) -> None:
    assert table.hear([record], 0) == []
    assert table.questions(60) == []


def test_garbage_in_a_record_leaves_what_was_known(table: AnnouncementTable) -> None:
    table.hear(whole(), 0)
    assert table.hear([text(data=b"\xff" * 40), address("8.8.8.8")], 1) == []
    assert table.hear([service(port=0, server=f"h{ONE}.local.")], 1) == []
    assert table.expire(2) == []


def test_a_flood_of_names_without_more_crowds_out_nobody(table: AnnouncementTable) -> None:
    table.hear(whole(), 0)
    table.hear((pointer(f"{number:016x}") for number in range(MAX_INSTANCES + 100)), 0)
    assert len(table.questions(10)) == MAX_QUESTIONS
    assert table.hear(whole(TWO, "10.0.0.8"), 11) == [sighting(TWO, host="10.0.0.8")]
    assert table.expire(12) == []
    assert len(table.questions(13)) == 0
    assert table.hear([pointer(ttl=0)], 14) == [Departure(instance=ONE)]


def test_of_incomplete_announcements_the_oldest_goes_first_and_soon(table: AnnouncementTable) -> None:
    table.hear([service(ONE), text(ONE)], 0)
    table.hear((pointer(f"{number:016x}") for number in range(MAX_INCOMPLETE - 1)), 0)
    assert table.hear([service(TWO, server="two.local."), text(TWO)], 1) == []  # one too many: ONE has to go
    assert table.hear([address("10.0.0.7"), address("10.0.0.8", server="two.local.")], 2) == [
        sighting(TWO, host="10.0.0.8")
    ]
    table.hear([service(ONE), text(ONE)], 3)
    table.expire(3 + INCOMPLETE_SECONDS)
    assert table.hear([address("10.0.0.7")], 3 + INCOMPLETE_SECONDS) == []


def test_an_address_has_few_names_and_the_newest_count(table: AnnouncementTable) -> None:
    names = [f"{number:016x}" for number in range(MAX_PER_ADDRESS + 1)]
    for name in names[:-1]:
        assert table.hear(whole(name), 0) == [sighting(name)]
    assert table.hear(whole(names[-1]), 0) == [sighting(names[-1]), Departure(instance=names[0])]
    assert table.hear(whole(TWO, "10.0.0.8"), 0) == [sighting(TWO, host="10.0.0.8")]


def test_one_host_with_many_addresses_crowds_out_none_that_is_heard_of(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mdns_table, "MAX_INSTANCES", 20)
    table = AnnouncementTable(ip_network("10.0.0.0/8"), draw=lambda: 0.5)
    assert table.hear(whole(), 0) == [sighting()]
    departed: list[str] = []
    for number in range(200):
        for news in table.hear(whole(f"{number:016x}", f"10.1.0.{number}"), 0):
            departed += [news.instance] if isinstance(news, Departure) else []
        assert table.hear(whole(), 0) == []
    assert departed == [f"{number:016x}" for number in range(181)]


def test_nothing_is_due_while_nobody_is_in_sight(table: AnnouncementTable) -> None:
    assert table.soonest == math.inf
    table.hear(whole(), 0)
    table.hear([pointer(ttl=0)], 1)
    assert table.questions(2) == []
    assert table.soonest == math.inf


def test_what_is_due_next_is_a_question_and_then_the_departure(table: AnnouncementTable) -> None:
    table.hear(whole(), 0)
    assert table.soonest == 48
    assert table.questions(table.soonest) == [full_name(ONE)]
    assert table.soonest == 55.5
    assert table.questions(table.soonest) == [full_name(ONE)]
    assert table.soonest == TTL_SECONDS
    assert table.expire(table.soonest) == [Departure(instance=ONE)]


def test_what_is_renewed_is_due_later_once_somebody_has_looked(table: AnnouncementTable) -> None:
    table.hear(whole(), 0)
    table.hear(whole(), 40)
    assert table.soonest == 48  # early, never late
    assert table.questions(48) == []
    assert table.soonest == 88


def test_who_asks_for_one_asks_for_all_that_are_soon_due(table: AnnouncementTable) -> None:
    for number in range(10):
        table.hear(whole(f"{number:016x}", f"10.0.0.{number + 10}"), number)
    assert table.questions(47.9) == []
    assert table.questions(48) == [full_name(f"{number:016x}") for number in range(6)]
    assert table.soonest == 54


@given(
    steps=st.lists(
        st.tuples(st.floats(0, 20), st.sampled_from(("hear", "half", "goodbye", "look")), st.integers(0, 5)),
        max_size=60,
    )
)
def test_nothing_is_ever_due_before_the_soonest(steps: list[tuple[float, str, int]]) -> None:
    """Whoever sleeps until `soonest` misses no departure and no question."""
    table, now = AnnouncementTable(ip_network("10.0.0.0/24"), draw=lambda: 0.5), 0.0
    for seconds, what, number in steps:
        until = now + seconds
        if table.soonest > until:
            assert table.expire(until) == []
            assert not [entry for entry in table._entries.values() if entry.ask_at <= until]
        now, name = until, f"{number:016x}"
        if what == "hear":
            table.hear(whole(name, f"10.0.0.{number + 10}"), now)
        elif what == "half":
            table.hear([service(name)], now)
        elif what == "goodbye":
            table.hear([pointer(name, ttl=0)], now)
        else:
            table.expire(now)
            table.questions(now)


def test_whoever_is_doubted_departs_within_seconds_unless_it_answers(table: AnnouncementTable) -> None:
    table.hear(whole(), 0)
    table.hear(whole(TWO, "10.0.0.8"), 0)
    table.doubt(ONE, 10)
    table.doubt("unknown", 10)
    assert table.soonest == 10
    asked = [second for second in range(10, 14) if full_name(ONE) in table.questions(second)]
    assert asked == [10, 11, 12, 13], "one or two of them may be lost"
    assert table.expire(10 + DOUBT_SECONDS) == [Departure(instance=ONE)]
    table.doubt(TWO, 20)
    table.hear([service(TWO, server=f"h{TWO}.local.")], 21)
    assert table.expire(60) == []
    assert [second for second in range(22, 60) if table.questions(second)] == []
