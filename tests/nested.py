"""Values in nested lists and dicts, as JSON gives them: the way to each, and the whole with another in its place."""

import copy
from collections.abc import Iterator
from typing import Any


def places(value: Any, at: tuple = ()) -> Iterator[tuple]:
    """The way to every value inside `value`."""
    for key in value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ():
        yield (*at, key)
        yield from places(value[key], (*at, key))


def changed(whole: Any, at: tuple, value: Any) -> Any:
    """A copy of `whole` with `value` at this place."""
    inner = whole = copy.deepcopy(whole)
    for key in at[:-1]:
        inner = inner[key]
    inner[at[-1]] = value
    return whole
