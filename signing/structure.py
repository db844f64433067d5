# SPDX-License-Identifier: Apache-2.0
"""Plain mappings to frozen dataclasses and back, strictly, by their annotations.

Both the wire codec (msgpack) and the configuration files (TOML) stand on this, so that a wrong key or type is refused
with the same words everywhere. Supported annotations: bool, int, float, str, bytes, StrEnum, `X | None`,
`tuple[X, ...]`, dataclasses, and unions of dataclasses that carry a distinct `kind: ClassVar[str]`; in configuration
also `pathlib.Path`, written as text.
"""

import dataclasses
import difflib
import types
import typing
from collections.abc import Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Any, TypeVar, cast

from signing.errors import BadInput

T = TypeVar("T")

_SCALARS = (bool, int, float, str, bytes)
_MAX_SHOWN_CHARS = 200  # of what was given, in an error: the input may be hostile, and errors end up in logs


def build(cls: type[T], mapping: object, *, where: str, ignore_unknown: bool = False) -> T:
    """Make a `cls` from `mapping`; `where` names the source in every error.

    Raises BadInput that names the offending key (and the nearest valid one) or the field whose value is wrong.
    """
    if not isinstance(mapping, Mapping):
        raise BadInput(where, f"expected a table of keys, found {_kind_of(mapping)}")
    hints = typing.get_type_hints(cls)
    fields = {field.name: field for field in dataclasses.fields(cast("Any", cls)) if field.init}
    for key in mapping:
        if key not in fields and not ignore_unknown:
            raise BadInput(where, f"unknown key {shown(key)}", _nearest(str(key), fields))
    values: dict[str, Any] = {}
    for name, field in fields.items():
        if name in mapping:
            values[name] = _value(hints[name], mapping[name], f"{where}: {name}", ignore_unknown)
        elif field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            raise BadInput(where, f"key {name!r} is missing")
    try:
        return cls(**values)
    except ValueError as problem:
        raise BadInput(where, _shortened(str(problem))) from None


def flatten(value: object) -> Any:
    """Turn a dataclass into plain dicts, lists and scalars that `build` accepts."""
    if dataclasses.is_dataclass(value):
        plain = {f.name: flatten(getattr(value, f.name)) for f in dataclasses.fields(value) if f.init}
        kind = getattr(type(value), "kind", None)
        return {"kind": kind, **plain} if isinstance(kind, str) else plain
    if isinstance(value, StrEnum):
        return value.value
    if isinstance(value, tuple):
        return [flatten(item) for item in value]
    return value


def shown(raw: object) -> str:
    """How `raw` is quoted in an error: its repr, shortened."""
    return _shortened(repr(raw))


def _shortened(text: str) -> str:
    return text if len(text) <= _MAX_SHOWN_CHARS else text[:_MAX_SHOWN_CHARS] + "…"


def _value(annotation: Any, raw: object, where: str, ignore_unknown: bool) -> Any:
    origin = typing.get_origin(annotation)
    if origin in (types.UnionType, typing.Union):
        return _union(typing.get_args(annotation), raw, where, ignore_unknown)
    if origin is tuple:
        if isinstance(raw, str | bytes) or not isinstance(raw, Sequence):
            raise BadInput(where, f"expected a list, found {_kind_of(raw)}")
        (item_type, _) = typing.get_args(annotation)
        return tuple(_value(item_type, item, f"{where}[{i}]", ignore_unknown) for i, item in enumerate(raw))
    if dataclasses.is_dataclass(annotation):
        return build(
            cast("type", annotation), _without_kind(annotation, raw), where=where, ignore_unknown=ignore_unknown
        )
    if isinstance(annotation, type) and issubclass(annotation, StrEnum):
        return _member(annotation, raw, where)
    if annotation is Path:
        if type(raw) is not str or not raw or "\0" in raw:
            raise BadInput(where, f"expected a path, found {shown(raw) if isinstance(raw, str) else _kind_of(raw)}")
        return Path(raw)
    if annotation is float and type(raw) is int:
        try:
            return float(raw)
        except OverflowError:
            raise BadInput(where, "is too large a number") from None
    if annotation in _SCALARS and type(raw) is annotation:
        return raw
    expected = getattr(annotation, "__name__", str(annotation))
    raise BadInput(where, f"expected {expected}, found {_kind_of(raw)}")


def _union(members: tuple[Any, ...], raw: object, where: str, ignore_unknown: bool) -> Any:
    if raw is None and type(None) in members:
        return None
    concrete = [member for member in members if member is not type(None)]
    if len(concrete) == 1:
        return _value(concrete[0], raw, where, ignore_unknown)
    kinds = {member.kind: member for member in concrete}
    kind = raw.get("kind") if isinstance(raw, Mapping) else None
    if not isinstance(kind, str) or kind not in kinds:
        raise BadInput(where, f"unknown kind {shown(kind)}", _nearest(str(kind), kinds))
    return _value(kinds[kind], raw, where, ignore_unknown)


def _without_kind(annotation: Any, raw: object) -> object:
    if isinstance(raw, Mapping) and isinstance(getattr(annotation, "kind", None), str):
        return {key: value for key, value in raw.items() if key != "kind"}
    return raw


def _member(enum: type[StrEnum], raw: object, where: str) -> StrEnum:
    valid = [member.value for member in enum]
    if not isinstance(raw, str):
        raise BadInput(where, f"expected text, found {_kind_of(raw)}", f"valid are: {', '.join(sorted(valid))}")
    try:
        return enum(raw)
    except ValueError:
        raise BadInput(where, f"unknown value {shown(raw)}", _nearest(raw, valid)) from None


def _nearest(word: str, valid: typing.Iterable[str]) -> str:
    valid = sorted(valid)
    close = difflib.get_close_matches(word[:_MAX_SHOWN_CHARS], valid, n=1, cutoff=0.5)
    return f"did you mean {close[0]!r}?" if close else f"valid are: {', '.join(valid)}"


def _kind_of(raw: object) -> str:
    return "nothing" if raw is None else type(raw).__name__
