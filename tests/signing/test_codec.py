# SPDX-License-Identifier: Apache-2.0
"""Tests of signing.codec: what we write we read, and nothing else gets through."""

from dataclasses import dataclass
from typing import Any, ClassVar

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from signing import codec
from signing.codec import decode, encode
from signing.errors import BadInput
from signing.manifest import Content, Manifest, SegmentTorrent, Transport
from signing.policy import Policy, Ring
from signing.recall import MAX_RECALLS, Recall, RecallList
from signing.report import InstallState, Report
from signing.schedule import Schedule
from tests.signing.document_strategies import documents

DIGEST = "0123456789abcdef" * 4
CLASSES: tuple[Any, ...] = (Manifest, Policy, Schedule, Report, RecallList)
MANIFEST = Manifest(
    product="tzdata",
    version="2026.1",
    release_counter=7,
    payload=Content(sha256=DIGEST, size=1),
    transports=(
        Transport(
            codec="zstd",
            content=Content(sha256=DIGEST, size=1),
            torrents=(SegmentTorrent(segment="default", info_hash=DIGEST, target="patches/tzdata/x.torrent"),),
        ),
    ),
)
RECALLS = RecallList(
    version=1, recalls=(Recall(product="tzdata", version="1", manifest_sha256=DIGEST, why="it broke"),)
)


def packed(cls: Any = RecallList, **changes: Any) -> bytes:
    """An envelope like that of `RECALLS`, with some of its four keys changed, added or (by None) left out."""
    envelope = {"kind": cls.document, "major": 1, "minor": 0, "body": {"version": 1}, **changes}
    return msgpack.packb({key: value for key, value in envelope.items() if value is not None})  # type: ignore[no-any-return]  # msgpack has no annotations


def refusal(data: bytes, cls: Any = RecallList) -> str:
    with pytest.raises(BadInput) as refused:
        decode(cls, data, where="file")
    assert str(refused.value).startswith("file: ")
    return str(refused.value).removeprefix("file: ")


@given(documents)
def test_what_is_written_is_read(document: Any) -> None:
    data = encode(document)
    assert decode(type(document), data, where="file") == document
    assert encode(decode(type(document), data, where="file")) == data


def test_bytes_do_not_change() -> None:
    # A change here means that documents signed before no longer have the digests that were signed.
    assert encode(RecallList(version=1)).hex() == (
        "84a46b696e64ac703270642e726563616c6c73a56d616a6f7201a56d696e6f7200a4626f647982a776657273696f6e01a7726563616c6c7390"
    )


@given(documents, st.data())
def test_no_document_is_read_as_another(document: Any, data: st.DataObject) -> None:
    other = data.draw(st.sampled_from([cls for cls in CLASSES if cls is not type(document)]))
    assert "expected a" in refusal(encode(document), other)


@pytest.mark.parametrize("document", [MANIFEST, RECALLS])
def test_truncation_at_every_byte(document: Any) -> None:
    data = encode(document)
    for length in range(len(data)):
        refusal(data[:length], type(document))


@pytest.mark.parametrize("document", [MANIFEST, RECALLS])
def test_a_byte_too_many(document: Any) -> None:
    assert "extra data" in refusal(encode(document) + b"\xc0", type(document))


@given(st.binary(max_size=300))
def test_noise_is_refused(data: bytes) -> None:
    for cls in CLASSES:
        refusal(data, cls)


@given(st.sampled_from([MANIFEST, RECALLS]), st.data())
def test_a_flipped_byte_is_refused_or_read_within_bounds(document: Any, data: st.DataObject) -> None:
    encoded = bytearray(encode(document))
    encoded[data.draw(st.integers(0, len(encoded) - 1))] ^= data.draw(st.integers(1, 255))
    try:
        decoded = decode(type(document), bytes(encoded), where="file")
    except BadInput:
        return
    assert len(encode(decoded)) <= document.max_bytes


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"", "is not valid msgpack"),
        (b"\xc1", "is not valid msgpack"),
        (msgpack.packb([]), "is not a p2pd.recalls"),
        (msgpack.packb({}), "is not a p2pd.recalls"),
        (packed(body=None), "is not a p2pd.recalls"),
        (packed(more=1), "is not a p2pd.recalls"),
        (packed(kind="p2pd.unheard"), "is a 'p2pd.unheard', expected a 'p2pd.recalls'"),
        (packed(kind=5), "is a 5, expected a 'p2pd.recalls'"),
        (packed(major=2), "has format version 2.0, this p2pd reads 1.x; upgrade p2pd"),
        (packed(major=0), "has format version 0.0, this p2pd reads 1.x; upgrade p2pd"),
        (packed(major=True), "has a format version that is no number"),
        (packed(minor="9"), "has a format version that is no number"),
        (packed(body=[]), "expected a table of keys, found list"),
        (packed(body={}), "key 'version' is missing"),
        (packed(body={"version": 0}), "version 0 must be between 1 and"),
        (packed(body={"version": 2**64 - 1}), "version 18446744073709551615 must be between 1 and"),
        (packed(body={"version": msgpack.Timestamp(1)}), "version: expected int, found Timestamp"),
        (packed(body={"version": msgpack.ExtType(5, b"")}), "version: expected int, found ExtType"),
        (packed(body={"version": 1, "recals": []}), "unknown key 'recals'; did you mean 'recalls'?"),
        (b"\x81\x01\xc0", "is not valid msgpack"),  # a key that is a number
        (b"\x81\x90\xc0", "is not valid msgpack"),  # a key that is a list
        (b"\xa3\xed\xa0\x80", "is not valid msgpack"),  # text with half a surrogate pair
        (b"\xc7\x03\xff\x00\x00\x00", "is not valid msgpack"),  # a timestamp of a length that none has
    ],
)
def test_what_is_wrong_is_named(data: bytes, problem: str) -> None:
    assert refusal(data).startswith(problem)


def test_a_key_twice() -> None:
    entry = msgpack.packb("kind") + msgpack.packb("p2pd.recalls")
    assert "a key stands twice" in refusal(b"\x82" + entry + entry)
    body = b"\x82" + 2 * (msgpack.packb("version") + msgpack.packb(1))
    rest = msgpack.packb("major") + b"\x01" + msgpack.packb("minor") + b"\x00"
    assert "a key stands twice" in refusal(b"\x84" + entry + rest + msgpack.packb("body") + body)


@pytest.mark.parametrize("levels", [codec.MAX_DEPTH, 500, 1_000, 1_023, 1_024, 1_025, 100_000])
@pytest.mark.parametrize("opening", [b"\x91", b"\x81\xa1a", b"\xdd\x00\x00\x00\x01", b"\xdf\x00\x00\x00\x01\xa1a"])
def test_deep_nesting(levels: int, opening: bytes) -> None:
    message = refusal(packed(body=0)[:-1] + opening * levels + b"\xc0")
    assert message.startswith(("is nested more than 12 deep", "is not valid msgpack"))


def test_nesting_within_the_bound_is_judged_by_its_content() -> None:
    levels = codec.MAX_DEPTH - 1  # the envelope is one
    assert "found list" in refusal(packed(body=0)[:-1] + b"\x91" * levels + b"\xc0")


@pytest.mark.parametrize(
    "header",
    [
        b"\xdd\xff\xff\xff\xff",  # list
        b"\xdf\xff\xff\xff\xff",  # map
        b"\xdb\xff\xff\xff\xff",  # text
        b"\xc6\xff\xff\xff\xff",  # bytes
        b"\xc9\xff\xff\xff\xff\x05",  # extension
        b"\xdd\x00\x7f\xff\xff",  # a list as long as the document may be
    ],
)
def test_huge_declared_lengths(header: bytes) -> None:
    assert refusal(header).startswith("is not valid msgpack")
    assert refusal(packed(body=0)[:-1] + header + b"\xc0" * 1_000).startswith("is not valid msgpack")


def test_nested_declared_lengths_are_refused_at_the_first() -> None:
    declared = RecallList.max_bytes - 10_000
    hostile = (b"\xdd" + declared.to_bytes(4, "big")) * 1_000
    assert "exceeds max_array_len" in refusal(hostile.ljust(RecallList.max_bytes, b"\xc0"))


@pytest.mark.parametrize("cls", CLASSES)
def test_a_document_too_large_is_not_even_looked_at(cls: Any) -> None:
    message = refusal(bytes(cls.max_bytes + 1), cls)
    assert message == f"is {cls.max_bytes + 1} bytes, a {cls.document} has at most {cls.max_bytes}"


def test_a_document_too_large_is_not_written() -> None:
    ring = Ring(name="all", devices=tuple(f"{n:063}" for n in range(500)))
    policy = Policy(
        version=1, segments=("default",), rings=tuple(Ring(name=f"r{n}", devices=ring.devices) for n in range(16))
    )
    with pytest.raises(BadInput, match=r"p2pd\.policy: is .* bytes, at most 262144 are allowed"):
        encode(policy)


def test_the_longest_recall_list_is_written_and_read() -> None:
    recall = Recall(product="p" * 63, version="v" * 64, manifest_sha256=DIGEST, why="w" * 400)
    full = RecallList(version=1, recalls=(recall,) * MAX_RECALLS)
    assert decode(RecallList, encode(full), where="file") == full


def test_text_that_is_not_unicode_is_not_written() -> None:
    recall = Recall(product="tzdata", version="1", manifest_sha256=DIGEST, why="\udcff")
    with pytest.raises(BadInput, match=r"p2pd\.recalls: holds text that is not Unicode"):
        encode(RecallList(version=1, recalls=(recall,)))


@dataclass(frozen=True, kw_only=True)
class NewerRecall(Recall):
    """A recall as a later version of p2pd might write it."""

    severity: str = "high"


@dataclass(frozen=True, kw_only=True)
class NewerRecallList:
    """The list to go with it."""

    document: ClassVar[str] = "p2pd.recalls"
    major: ClassVar[int] = 1
    minor: ClassVar[int] = 1
    max_bytes: ClassVar[int] = 1_000

    version: int
    recalls: tuple[NewerRecall, ...] = ()
    reviewed_by: str = "somebody"


@dataclass(frozen=True, kw_only=True)
class SameMinorRecallList(NewerRecallList):
    """The same fields without the higher number."""

    minor: ClassVar[int] = 0


def test_fields_of_a_newer_minor_version_are_ignored() -> None:
    newer = NewerRecall(product="tzdata", version="1", manifest_sha256=DIGEST, why="it broke")
    data = encode(NewerRecallList(version=1, recalls=(newer,)))
    assert decode(RecallList, data, where="file") == RECALLS


def test_unknown_fields_of_our_minor_version_are_refused() -> None:
    data = encode(SameMinorRecallList(version=1))
    assert refusal(data).startswith("unknown key 'reviewed_by'")


def test_an_older_minor_version_is_read_with_defaults() -> None:
    assert decode(NewerRecallList, encode(RecallList(version=1)), where="file") == NewerRecallList(version=1)


def test_enums_travel_as_their_values() -> None:
    report = Report(
        device="d1",
        sequence=1,
        time=0,
        product="tzdata",
        version="1",
        manifest_sha256=DIGEST,
        state=InstallState.ROLLED_BACK,
    )
    assert msgpack.unpackb(encode(report))["body"]["state"] == "rolled_back"
    assert decode(Report, encode(report), where="file").state is InstallState.ROLLED_BACK
