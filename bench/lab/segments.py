# SPDX-License-Identifier: Apache-2.0
"""Large TCP frames as the kernel hands them on, seen as the packets that they stand for. Pure.

A TAP device with offloads passes up to 64 KiB of TCP in one frame, a virtio_net_hdr before it (Linux
`include/uapi/linux/virtio_net.h`), and whoever sends it on cuts it into packets of `gso_size` bytes. So a delay line
handles far fewer frames; but a packet that gets lost must be one packet, so a frame with losses is cut around them.
"""

import struct
from collections.abc import Sequence
from itertools import groupby

VNET_HEADER = struct.Struct("=BBHHHH")  # flags, gso_type, hdr_len, gso_size, csum_start, csum_offset; host byte order
_NEEDS_CHECKSUM = 1
_GSO_NONE = 0
_GSO_KINDS = 0x7F  # without the bit for ECN
_GSO_TCP = (1, 4)  # TCP over IPv4 and over IPv6
_ETHERNET_BYTES = 14
_FIN_PSH, _CWR = 0x09, 0x80
_MAX_16 = 0xFFFF


def packet_count(frame: bytes) -> int:
    """How many packets on the wire this frame (with its virtio_net_hdr) stands for."""
    _, kind, _, size, tcp, _ = VNET_HEADER.unpack_from(frame)
    if kind & _GSO_KINDS not in _GSO_TCP or size == 0:
        return 1
    payload = len(frame) - _header_bytes(frame, tcp)
    return int(max(1, -(-payload // size)))


def without_lost(frame: bytes, lost: Sequence[bool]) -> list[bytes]:
    """The frames that carry those packets of `frame` that are not `lost` (one bool each), in order."""
    if not any(lost):
        return [frame]
    if len(lost) == 1:
        return []
    _, _, _, size, tcp, _ = VNET_HEADER.unpack_from(frame)
    start = _header_bytes(frame, tcp)
    kept = []
    for is_lost, numbers in groupby(range(len(lost)), key=lambda number: lost[number]):
        run = list(numbers)
        if not is_lost:
            payload = frame[start + run[0] * size : start + (run[-1] + 1) * size]
            kept.append(_frame_of(frame[:start], payload, first=run[0], is_end=run[-1] == len(lost) - 1))
    return kept


def _header_bytes(frame: bytes, tcp: int) -> int:
    """How many bytes of `frame` come before the payload; `tcp` is where that header begins, as the kernel counts."""
    start = VNET_HEADER.size + tcp
    return start + (frame[start + 12] >> 4) * 4  # the kernel's `hdr_len` is a hint, and may be more or less


def _frame_of(headers: bytes, payload: bytes, *, first: int, is_end: bool) -> bytes:
    """`payload`, which begins at packet number `first` of a frame with these headers, as a frame of its own."""
    flags, kind, length, size, tcp, checksum_offset = VNET_HEADER.unpack_from(headers)
    frame = bytearray(headers + payload)
    kind, cut_to = (kind, size) if len(payload) > size else (_GSO_NONE, 0)
    VNET_HEADER.pack_into(frame, 0, flags | _NEEDS_CHECKSUM, kind, length, cut_to, tcp, checksum_offset)
    segment = VNET_HEADER.size + tcp
    tcp_bytes = len(frame) - segment
    (sequence,) = struct.unpack_from("!I", frame, segment + 4)
    struct.pack_into("!I", frame, segment + 4, (sequence + first * size) & 0xFFFFFFFF)
    if not is_end:
        frame[segment + 13] &= ~_FIN_PSH & 0xFF
    if first:
        frame[segment + 13] &= ~_CWR & 0xFF
    addresses = _set_ip_length(frame, first, tcp_bytes, tcp)
    # The kernel finishes the checksum; until then its field holds the sum over the pseudo header.
    pseudo = _sum_16(addresses + struct.pack("!II", 6, tcp_bytes))
    struct.pack_into("!H", frame, segment + checksum_offset, pseudo)
    return bytes(frame)


def _set_ip_length(frame: bytearray, first: int, tcp_bytes: int, tcp: int) -> bytes:
    """Make the IP header say how much TCP there is; returns both addresses."""
    ip = VNET_HEADER.size + _ETHERNET_BYTES
    if frame[ip] >> 4 == 6:
        struct.pack_into("!H", frame, ip + 4, tcp - _ETHERNET_BYTES - 40 + tcp_bytes)
        return bytes(frame[ip + 8 : ip + 40])
    header = tcp - _ETHERNET_BYTES
    (identification,) = struct.unpack_from("!H", frame, ip + 4)
    struct.pack_into("!H", frame, ip + 2, header + tcp_bytes)
    struct.pack_into("!H", frame, ip + 4, (identification + first) & _MAX_16)
    struct.pack_into("!H", frame, ip + 10, 0)
    struct.pack_into("!H", frame, ip + 10, ~_sum_16(bytes(frame[ip : ip + header])) & _MAX_16)
    return bytes(frame[ip + 12 : ip + 20])


def _sum_16(data: bytes) -> int:
    """The one's complement sum of RFC 1071, not inverted; `data` is a whole number of 16-bit words."""
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total > _MAX_16:
        total = (total & _MAX_16) + (total >> 16)
    return total
