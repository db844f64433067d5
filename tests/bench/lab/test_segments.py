# SPDX-License-Identifier: Apache-2.0
"""Large TCP frames: what is left of them after losses is what a wire would have carried."""

import ipaddress
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.lab.segments import VNET_HEADER, packet_count, without_lost

SIZE = 100  # bytes of payload in a packet
FIN_PSH_ACK_CWR, ACK, CWR = 0x99, 0x10, 0x80
SEQUENCE = 0xFFFFFFF0  # wraps within the frame
ENDS = ("10.78.1.1", "10.77.0.1")
ENDS6 = ("fd78:0:0:1::1", "fd77::1")


def large_frame(payload: bytes, *, ipv6: bool = False) -> bytes:
    """A frame with 12 bytes of TCP options, as the kernel hands it to a TAP device with offloads."""
    tcp = struct.pack("!HHIIBBHHH", 40_000, 443, SEQUENCE, 7, 8 << 4, FIN_PSH_ACK_CWR, 500, 0, 0) + b"\1" * 12
    addresses = b"".join(ipaddress.ip_address(one).packed for one in (ENDS6 if ipv6 else ENDS))
    pseudo = ~checksum(addresses + struct.pack("!II", 6, len(tcp) + len(payload))) & 0xFFFF
    tcp = tcp[:16] + struct.pack("!H", pseudo) + tcp[18:]
    if ipv6:
        ip = struct.pack("!IHBB", 6 << 28, len(tcp) + len(payload), 6, 64) + addresses
    else:
        ip = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(tcp) + len(payload), 0xFFFF, 0x4000, 64, 6, 0) + addresses
        ip = ip[:10] + struct.pack("!H", checksum(ip)) + ip[12:]
    ethernet = b"\2" * 12 + (b"\x86\xdd" if ipv6 else b"\x08\x00")
    start = len(ethernet) + len(ip)
    kind = 0 if len(payload) <= SIZE else (4 if ipv6 else 1) | 0x80
    header = VNET_HEADER.pack(1, kind, start + len(tcp), SIZE if kind else 0, start, 16)
    return header + ethernet + ip + tcp + payload


def packets(frame: bytes) -> list[tuple[int, int, bytes]]:
    """What the kernel makes of a frame: sequence number, flags and payload of each packet, all checked."""
    _, _, _, _, tcp, offset = VNET_HEADER.unpack_from(frame)
    data = frame[VNET_HEADER.size :]
    segment = data[tcp:]
    if data[14] >> 4 == 6:
        (length,) = struct.unpack_from("!H", data, 18)
        assert length == len(segment)
        addresses = data[22:54]
    else:
        (length,) = struct.unpack_from("!H", data, 16)
        assert length == len(data) - 14
        assert checksum(data[14:34]) == 0
        addresses = data[26:34]
    pseudo = ~checksum(addresses + struct.pack("!II", 6, len(segment))) & 0xFFFF
    assert struct.unpack_from("!H", segment, offset)[0] == pseudo
    sequence, flags, payload = struct.unpack_from("!I", segment, 4)[0], segment[13], segment[32:]
    pieces = [payload[at : at + SIZE] for at in range(0, len(payload), SIZE)]
    return [
        (
            (sequence + number * SIZE) % 2**32,
            flags & ~(0 if number == len(pieces) - 1 else 0x09) & ~(CWR if number else 0),
            piece,
        )
        for number, piece in enumerate(pieces)
    ]


def checksum(data: bytes) -> int:
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    total = (total & 0xFFFF) + (total >> 16)
    return ~((total & 0xFFFF) + (total >> 16)) & 0xFFFF


@given(st.data(), st.integers(1, 30 * SIZE), st.booleans())
def test_what_is_left_is_what_a_wire_would_have_carried(data: st.DataObject, length: int, ipv6: bool) -> None:
    payload = bytes(number % 251 for number in range(length))
    frame = large_frame(payload, ipv6=ipv6)
    count = packet_count(frame)
    assert count == -(-length // SIZE)
    lost = data.draw(st.lists(st.booleans(), min_size=count, max_size=count))
    expected = [packet for packet, is_lost in zip(packets(frame), lost, strict=True) if not is_lost]
    left = without_lost(frame, lost)
    assert [packet for part in left for packet in packets(part)] == expected
    assert all(packet_count(part) == len(packets(part)) for part in left)


def test_parts_get_ip_headers_of_their_own() -> None:
    frame = large_frame(bytes(5 * SIZE))
    first, second = without_lost(frame, [False, False, True, False, False])
    identifications = [struct.unpack_from("!H", part, VNET_HEADER.size + 18)[0] for part in (first, second)]
    assert identifications == [0xFFFF, 2]
    assert [checksum(part[VNET_HEADER.size + 14 : VNET_HEADER.size + 34]) for part in (first, second)] == [0, 0]


def test_what_is_whole_is_passed_on_as_it_is() -> None:
    frame = large_frame(bytes(3 * SIZE))
    assert without_lost(frame, [False] * 3) == [frame]


@pytest.mark.parametrize("frame", [VNET_HEADER.pack(0, 0, 0, 0, 0, 0) + bytes(60), large_frame(b"x")])
def test_small_frames_are_one_packet(frame: bytes) -> None:
    assert packet_count(frame) == 1
    assert without_lost(frame, [False]) == [frame]
    assert without_lost(frame, [True]) == []
