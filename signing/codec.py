# SPDX-License-Identifier: Apache-2.0
"""Signed documents to msgpack bytes and back: the only (de)serializer of documents.

A document travels as the map `{"kind", "major", "minor", "body"}`. Another kind or major version is refused. Fields
that this version does not know are refused too, unless the document's minor version is newer than ours: then they
are ignored, so that old agents can read what new administrators write.
"""

from typing import Any, ClassVar, Protocol, TypeVar

import msgpack

from signing.errors import BadInput
from signing.structure import build, flatten, shown

MAX_DEPTH = 12  # nested maps and lists; real documents need 6
MAX_ITEMS = 10_000  # of one list or map; the longest real one is a full recall list


class Document(Protocol):
    """A frozen dataclass that knows its name on the wire and the most bytes it may take."""

    document: ClassVar[str]
    major: ClassVar[int]
    minor: ClassVar[int]
    max_bytes: ClassVar[int]


D = TypeVar("D", bound=Document)


def encode(document: Document) -> bytes:
    """Return the bytes of `document`: deterministic, since fields keep their order of declaration."""
    envelope = {
        "kind": document.document,
        "major": document.major,
        "minor": document.minor,
        "body": flatten(document),
    }
    try:
        encoded: bytes = msgpack.packb(envelope, use_bin_type=True)
    except UnicodeEncodeError as problem:  # such text comes from file names and arguments that are not UTF-8
        raise BadInput(document.document, f"holds text that is not Unicode ({problem.reason})") from None
    if len(encoded) > document.max_bytes:
        raise BadInput(document.document, f"is {len(encoded)} bytes, at most {document.max_bytes} are allowed")
    return encoded


def decode(cls: type[D], data: bytes, *, where: str) -> D:
    """Read a document of class `cls` from `data`; `where` names the source in errors. Raises BadInput."""
    if len(data) > cls.max_bytes:
        raise BadInput(where, f"is {len(data)} bytes, a {cls.document} has at most {cls.max_bytes}")
    envelope = _unpack(data, where)
    if not isinstance(envelope, dict) or set(envelope) != {"kind", "major", "minor", "body"}:
        raise BadInput(where, f"is not a {cls.document}")
    if envelope["kind"] != cls.document:
        raise BadInput(where, f"is a {shown(envelope['kind'])}, expected a {cls.document!r}")
    major, minor = envelope["major"], envelope["minor"]
    if type(major) is not int or type(minor) is not int:
        raise BadInput(where, "has a format version that is no number")
    if major != cls.major:
        raise BadInput(where, f"has format version {major}.{minor}, this p2pd reads {cls.major}.x", "upgrade p2pd")
    return build(cls, envelope["body"], where=where, ignore_unknown=minor > cls.minor)


def _unpack(data: bytes, where: str) -> Any:
    # unpackb bounds every declared length by the length of `data`, which the caller has bounded. But it makes room for
    # what a list declares before it has come, and for 1,000 nested ones at once: MAX_ITEMS bounds that too.
    try:
        value = msgpack.unpackb(
            data,
            raw=False,
            strict_map_key=True,
            max_array_len=MAX_ITEMS,
            max_map_len=MAX_ITEMS,
            object_pairs_hook=_unique_keys,
        )
    except (ValueError, TypeError, RecursionError, msgpack.exceptions.UnpackException) as problem:
        raise BadInput(where, f"is not valid msgpack ({problem or type(problem).__name__}): truncated?") from None
    if _is_deeper_than(MAX_DEPTH, value):
        raise BadInput(where, f"is nested more than {MAX_DEPTH} deep")
    return value


def _unique_keys(pairs: list[tuple[Any, Any]]) -> dict[Any, Any]:
    keys = [key for key, _ in pairs]
    if len(set(keys)) != len(keys):
        raise ValueError("a key stands twice in one map")
    return dict(pairs)


def _is_deeper_than(levels: int, value: object) -> bool:
    if isinstance(value, dict):
        return levels == 0 or any(_is_deeper_than(levels - 1, child) for child in value.values())
    if isinstance(value, list):
        return levels == 0 or any(_is_deeper_than(levels - 1, child) for child in value)
    return False
