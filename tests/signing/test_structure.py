# SPDX-License-Identifier: Apache-2.0
"""Tests of signing.structure."""

from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, ClassVar

import pytest
from hypothesis import given

from signing.errors import BadInput
from signing.structure import build, flatten
from tests.signing.document_strategies import documents


class Colour(StrEnum):
    """An enum."""

    RED = "red"
    GREEN = "green"


@dataclass(frozen=True, kw_only=True)
class Circle:
    """One member of a union."""

    kind: ClassVar[str] = "circle"
    radius: float


@dataclass(frozen=True, kw_only=True)
class Square:
    """The other."""

    kind: ClassVar[str] = "square"
    side: float


@dataclass(frozen=True, kw_only=True)
class Inner:
    """A nested table."""

    size: int = 1

    def __post_init__(self) -> None:
        if self.size > 100:
            raise ValueError(f"size {self.size} must be at most 100")


@dataclass(frozen=True, kw_only=True)
class Everything:
    """Every annotation that is supported."""

    flag: bool = False
    count: int = 0
    ratio: float = 0.0
    name: str = ""
    blob: bytes = b""
    path: Path = Path("/")
    colour: Colour = Colour.RED
    maybe: str | None = None
    maybe_inner: Inner | None = None
    items: tuple[int, ...] = ()
    inner: Inner = Inner()
    inners: tuple[Inner, ...] = ()
    shape: Circle | Square = Circle(radius=1.0)
    shapes: tuple[Circle | Square, ...] = ()
    length: int = field(init=False, default=5)


def refusal(mapping: object, **options: Any) -> str:
    with pytest.raises(BadInput) as refused:
        build(Everything, mapping, where="file", **options)
    assert str(refused.value).startswith("file: ")
    return str(refused.value).removeprefix("file: ")


def test_every_annotation() -> None:
    built = build(
        Everything,
        {
            "flag": True,
            "count": 3,
            "ratio": 0.5,
            "name": "n",
            "blob": b"b",
            "path": "/var/lib",
            "colour": "green",
            "maybe": "m",
            "maybe_inner": {"size": 2},
            "items": [1, 2],
            "inner": {"size": 3},
            "inners": [{}, {"size": 4}],
            "shape": {"kind": "square", "side": 2},
            "shapes": [{"kind": "circle", "radius": 1.5}],
        },
        where="file",
    )
    assert built == Everything(
        flag=True,
        count=3,
        ratio=0.5,
        name="n",
        blob=b"b",
        path=Path("/var/lib"),
        colour=Colour.GREEN,
        maybe="m",
        maybe_inner=Inner(size=2),
        items=(1, 2),
        inner=Inner(size=3),
        inners=(Inner(), Inner(size=4)),
        shape=Square(side=2.0),
        shapes=(Circle(radius=1.5),),
    )
    assert built.colour is Colour.GREEN


def test_defaults_and_nothing() -> None:
    assert build(Everything, {}, where="file") == Everything()
    assert build(Everything, {"maybe": None}, where="file").maybe is None


def test_an_integer_stands_for_a_float_and_nothing_else_is_bent() -> None:
    ratio = build(Everything, {"ratio": 2}, where="file").ratio
    assert ratio == 2.0
    assert type(ratio) is float


@pytest.mark.parametrize(
    ("mapping", "problem"),
    [
        ({"flag": 1}, "flag: expected bool, found int"),
        ({"count": True}, "count: expected int, found bool"),
        ({"count": 1.0}, "count: expected int, found float"),
        ({"ratio": True}, "ratio: expected float, found bool"),
        ({"ratio": "1"}, "ratio: expected float, found str"),
        ({"ratio": 10**400}, "ratio: is too large a number"),
        ({"name": b"n"}, "name: expected str, found bytes"),
        ({"name": None}, "name: expected str, found nothing"),
        ({"blob": "b"}, "blob: expected bytes, found str"),
        ({"path": b"/x"}, "path: expected a path, found bytes"),
        ({"path": ""}, "path: expected a path, found ''"),
        ({"path": "a\0b"}, r"path: expected a path, found 'a\x00b'"),
        ({"maybe": 5}, "maybe: expected str, found int"),
        ({"maybe_inner": {"size": "1"}}, "maybe_inner: size: expected int, found str"),
        ({"items": 5}, "items: expected a list, found int"),
        ({"items": "12"}, "items: expected a list, found str"),
        ({"items": b"12"}, "items: expected a list, found bytes"),
        ({"items": {"1": 2}}, "items: expected a list, found dict"),
        ({"items": [1, "2"]}, "items[1]: expected int, found str"),
        ({"inner": [1]}, "inner: expected a table of keys, found list"),
        ({"inner": {"size": 101}}, "inner: size 101 must be at most 100"),
        ({"inners": [{}, {"sise": 1}]}, "inners[1]: unknown key 'sise'; did you mean 'size'?"),
        ({"colour": "grean"}, "colour: unknown value 'grean'; did you mean 'green'?"),
        ({"colour": 5}, "colour: expected text, found int; valid are: green, red"),
        ({"colour": 2**20_000}, "colour: expected text, found int; valid are: green, red"),
        ({"shape": {"kind": "sqare", "side": 1}}, "shape: unknown kind 'sqare'; did you mean 'square'?"),
        ({"shape": {"side": 1}}, "shape: unknown kind None; valid are: circle, square"),
        ({"shape": 7}, "shape: unknown kind None; valid are: circle, square"),
        ({"shape": {"kind": ["circle"], "radius": 1}}, "shape: unknown kind ['circle']; did you mean 'circle'?"),
        ({"shape": {"kind": "circle", "side": 1}}, "shape: unknown key 'side'; valid are: radius"),
        ({"shape": {"kind": "circle"}}, "shape: key 'radius' is missing"),
        ({"nmae": "x"}, "unknown key 'nmae'; did you mean 'name'?"),
        ({b"name": "x"}, "unknown key b'name'; did you mean 'name'?"),
        ({5: "x"}, "unknown key 5; valid are: blob, colour"),
        ({"length": 5}, "unknown key 'length'"),
        ([], "expected a table of keys, found list"),
        (None, "expected a table of keys, found nothing"),
    ],
)
def test_what_is_wrong_is_named(mapping: object, problem: str) -> None:
    assert refusal(mapping).startswith(problem)


def test_unknown_fields_may_be_ignored_at_any_depth() -> None:
    mapping = {"new": 1, "inner": {"size": 2, "new": 1}, "shapes": [{"kind": "circle", "radius": 1.0, "new": 1}]}
    built = build(Everything, mapping, where="file", ignore_unknown=True)
    assert built == Everything(inner=Inner(size=2), shapes=(Circle(radius=1.0),))
    assert refusal(mapping).startswith("unknown key 'new'")
    assert refusal({"inner": mapping["inner"]}).startswith("inner: unknown key 'new'")


def test_ignoring_the_unknown_ignores_nothing_else() -> None:
    assert refusal({"count": "1"}, ignore_unknown=True).startswith("count: expected int")
    assert refusal({"inner": {"size": 101}}, ignore_unknown=True).startswith("inner: size 101")


@pytest.mark.parametrize(
    "mapping",
    [
        {"x" * 1_000_000: 1},
        {"colour": "x" * 1_000_000},
        {"shape": {"kind": "x" * 1_000_000}},
        {"path": "\0" * 1_000_000},
        {"inner": {"size": 10**4_000}},
    ],
)
def test_hostile_input_does_not_flood_the_log(mapping: object) -> None:
    assert len(refusal(mapping)) < 1_000


@given(documents)
def test_flatten_is_what_build_takes(document: Any) -> None:
    assert build(type(document), flatten(document), where="document") == document


def test_flatten_makes_plain_values() -> None:
    assert flatten(Circle(radius=1.0)) == {"kind": "circle", "radius": 1.0}
    plain = flatten(Everything(colour=Colour.GREEN, items=(1, 2)))
    assert type(plain["colour"]) is str
    assert plain["items"] == [1, 2]
    assert "length" not in plain
