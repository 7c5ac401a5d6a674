"""What other people's files say, read so that whatever is wrong with it can be said in words.

JSON whose every failure is a ValueError, settings whose every value is of the type that it should have, and layers
that are numbered without a gap.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import is_dataclass, replace
from types import NoneType, UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

T = TypeVar("T")


def read_json(text: str | bytes) -> Any:
    """The value that `text` says; raises ValueError for damage, for deep nesting and for names given twice."""
    try:
        return json.loads(text, object_pairs_hook=_named)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


def _named(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    named = dict(pairs)
    if len(named) != len(pairs):
        raise ValueError("a name is given twice")
    return named


def with_values(base: T, values: Any) -> T:
    """The dataclass `base` with `values` (names to JSON values) in it, and in those that it holds; lists become tuples.

    Raises ValueError: `values` is no mapping, names a field that is not there, or gives one a value of another type.
    """
    if not isinstance(values, Mapping):
        raise ValueError(f"{type(values).__name__} where names and values are meant")
    types = get_type_hints(type(base))
    strange = sorted(str(name) for name in values if name not in types)
    if strange:
        raise ValueError(f"unknown {', '.join(strange[:4])}")
    found = {name: _within(getattr(base, name), value) for name, value in values.items()}
    for name, value in found.items():
        if not _fits(value, types[name]):
            raise ValueError(f"{name} is {str(value)[:40]!r}")
    return replace(base, **found)  # type: ignore[type-var]  # callers give dataclasses


def known_values(base: T, values: Any) -> T:
    """As `with_values`, but names that are no fields of `base` are left alone: others say more than is read."""
    if isinstance(values, Mapping):
        values = {name: values[name] for name in get_type_hints(type(base)) if name in values}
    return with_values(base, values)


def _within(now: Any, value: Any) -> Any:
    """What takes the place of `now`, a field's value."""
    return with_values(now, value) if is_dataclass(now) and isinstance(value, Mapping) else _tuples(value)


def _tuples(value: Any) -> Any:
    return tuple(map(_tuples, value)) if isinstance(value, list) else value


def _fits(value: Any, hint: Any) -> bool:
    """Whether `value` may stand where `hint` (plain types, unions, literals, tuples) is declared."""
    origin, inner = get_origin(hint), get_args(hint)
    if origin is Literal:
        return value in inner
    if origin in (Union, UnionType):
        return any(_fits(value, one) for one in inner)
    if origin is tuple:
        inner = inner[:1] * len(value) if isinstance(value, tuple) and inner[1:] == (...,) else inner
        return isinstance(value, tuple) and len(value) == len(inner) and all(map(_fits, value, inner))
    if hint is float:  # not nan or infinity, which JSON cannot say but its readers take
        return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < float("inf")
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, NoneType if hint is None else hint)


def numbered(names: Iterable[str], prefix: str) -> int:
    """How many layers `prefix0.`, `prefix1.`, ... the names have; other words after the prefix do not count.

    Raises ValueError: a number between is missing. (A name can claim to be of layer 10^9; nothing may be built from
    that.)
    """
    words = {name[len(prefix) :].partition(".")[0] for name in names if name.startswith(prefix)}
    found = {int(word) for word in words if word.isascii() and word.isdigit() and len(word) < 10}
    missing = next(number for number in range(len(found) + 1) if number not in found)
    if missing < len(found):
        raise ValueError(f"layer {missing} of {max(found) + 1} is missing")
    return len(found)
