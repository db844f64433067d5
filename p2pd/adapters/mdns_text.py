# SPDX-License-Identifier: Apache-2.0
"""The TXT record of an announcement: the only thing of ours inside mDNS.

Strings in RFC 6763 form: `v=1` first, `m=<mirror port>` if there is one, `n=<nonce>`, then `t0=`, `t1=` … with up to
31 eight-byte tags each, concatenated. Unknown keys are ignored, so that later versions may add some; another `v` is
not ours to read. The nonce makes every announcement a packet of its own: mDNS stacks drop a packet that equals one
of the last second, and so would miss a change that is taken back at once.
"""

import secrets
from collections.abc import Iterator

from p2pd.ports import MAX_TAGS, TAG_BYTES

MAX_TEXT_BYTES = 1_300  # ours have at most 1,038; there is no reason to look into anything larger
_VERSION = b"1"
_NONCE_BYTES = 3
_TAGS_PER_STRING = 31  # 3 bytes of key + 31 tags of 8 = 251, of the 255 that a string may have


def write_text(mirror_port: int, tags: frozenset[bytes]) -> bytes:
    """Return the record's data for tags as `Announcement` bounds them, in an order that tells nothing."""
    strings = [b"v=" + _VERSION]
    if mirror_port:
        strings.append(b"m=%d" % mirror_port)
    strings.append(b"n=" + secrets.token_bytes(_NONCE_BYTES))
    ordered = sorted(tags)
    for index, start in enumerate(range(0, len(ordered), _TAGS_PER_STRING)):
        strings.append(b"t%d=" % index + b"".join(ordered[start : start + _TAGS_PER_STRING]))
    return b"".join(bytes([len(string)]) + string for string in strings)


def read_text(text: bytes) -> tuple[int, frozenset[bytes]]:
    """Return mirror port and tags. Raises ValueError: anybody on the link can send anything."""
    if len(text) > MAX_TEXT_BYTES:
        raise ValueError(f"TXT of {len(text)} bytes, more than {MAX_TEXT_BYTES}")
    properties: dict[bytes, bytes] = {}
    for string in _strings(text):
        key, _, value = string.partition(b"=")
        properties.setdefault(key, value)  # RFC 6763 6.4: the first one counts
    if properties.get(b"v") != _VERSION:
        raise ValueError(f"TXT of version {properties.get(b'v')!r}, this one reads {_VERSION!r}")
    return _mirror_port(properties.get(b"m", b"0")), frozenset(_tags(properties))


def _strings(text: bytes) -> Iterator[bytes]:
    position = 0
    while position < len(text):
        end = position + 1 + text[position]
        if end > len(text):
            raise ValueError("TXT string runs past the end of its record")
        yield text[position + 1 : end]
        position = end


def _mirror_port(value: bytes) -> int:
    if not value.isdigit() or len(value) > 5 or int(value) > 65535:
        raise ValueError(f"mirror port {value!r} is no port")
    return int(value)


def _tags(properties: dict[bytes, bytes]) -> Iterator[bytes]:
    for index in range(-(-MAX_TAGS // _TAGS_PER_STRING)):
        packed = properties.get(b"t%d" % index, b"")
        if len(packed) % TAG_BYTES:
            raise ValueError(f"tags of {len(packed)} bytes, not a multiple of {TAG_BYTES}")
        for start in range(0, len(packed), TAG_BYTES):
            yield packed[start : start + TAG_BYTES]
