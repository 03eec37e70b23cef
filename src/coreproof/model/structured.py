"""Dictionaries and sequences taken apart into a row of numbers and how they were built, and put together again.

ONNX models hand out dictionaries (ZipMap), sequences, and sequences of dictionaries. Compared and stored is the row: all their
numbers (or texts), one after the other, keys in order. The layout says where each of them stood.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any

import numpy as np

from coreproof.model.files.entries import Entry

Array = np.ndarray
Layout = tuple[Any, ...]
"""("dictionary", keys, layouts), ("sequence", layouts), ("array", shape) or ("nothing",)."""

_DEEPEST = 16
"""Levels of nesting; ONNX's own types know two."""
_MOST_AXES = 64


def is_structured(value: object) -> bool:
    """Whether a session hands out a dictionary, a sequence, or nothing (an optional value that is left out)."""
    return value is None or isinstance(value, Mapping | list | tuple)


def taken_apart(value: object) -> tuple[Layout, Array]:
    """How a dictionary or a sequence, nested in any way, is built, and the row of its numbers (or texts)."""
    rows: list[Array] = []
    layout = _walk(value, rows)
    filled = [row for row in rows if row.size]
    # one text makes a row of texts: NumPy has no row of both
    if any(row.dtype.kind in "OSU" for row in filled):
        filled = [row.astype(str) for row in filled]
    return layout, np.concatenate(filled) if filled else np.zeros(0, np.float32)


def _walk(value: object, rows: list[Array]) -> Layout:
    if value is None:
        return ("nothing",)
    if isinstance(value, Mapping):
        # sorted, so that two engines' dictionaries line up; texts and numbers do not compare with each other
        keys = sorted(value, key=lambda key: (isinstance(key, str), key))
        return ("dictionary", tuple(keys), tuple(_walk(value[key], rows) for key in keys))
    if isinstance(value, list | tuple):
        return ("sequence", tuple(_walk(element, rows) for element in value))
    array = np.asarray(value)
    rows.append(array.reshape(-1))
    return ("array", array.shape)


def put_together(layout: Layout, row: Array) -> object:
    """What ``taken_apart`` made ``layout`` and ``row`` of. Raises ValueError where the row is not as long as the layout says."""
    if (wanted := _elements(layout)) != row.size:
        raise ValueError(f"{row.size} values for the {wanted} that it is built of")
    return _built(layout, iter(row.reshape(-1)), row.dtype)


def _elements(layout: Layout) -> int:
    if layout[0] == "array":
        return math.prod(layout[1])
    return sum(_elements(part) for part in layout[-1]) if layout[0] != "nothing" else 0


def _built(layout: Layout, values: Iterator[np.generic], dtype: np.dtype) -> object:
    if layout[0] == "nothing":
        return None
    if layout[0] == "dictionary":
        keyed = zip(layout[1], layout[2], strict=True)
        return {key: _built(part, values, dtype) for key, part in keyed}
    if layout[0] == "sequence":
        return [_built(part, values, dtype) for part in layout[1]]
    shape = layout[1]
    if not shape:
        # dictionaries hold Python's own numbers, as ONNX Runtime hands them out
        return next(values).item()
    return np.array(list(islice(values, math.prod(shape))), dtype).reshape(shape)


def layout_from(stored: Entry, depth: int = 0) -> Layout:
    """A layout as JSON holds it, checked."""
    parts = stored.each()
    word = parts[0].one_of(("dictionary", "sequence", "array", "nothing")) if parts else None
    if depth > _DEEPEST:
        raise stored.refuse(f"at most {_DEEPEST} levels of nesting", "more")
    if word == "dictionary":
        _, listed, built = stored.each(3)
        keys = tuple(key.whole() if isinstance(key.value, int) else key.text() for key in listed.each())
        if len(set(keys)) != len(keys):
            raise listed.refuse("each key once", "the same key twice")
        return ("dictionary", keys, tuple(layout_from(part, depth + 1) for part in built.each(len(keys))))
    if word == "sequence":
        _, built = stored.each(2)
        return ("sequence", tuple(layout_from(part, depth + 1) for part in built.each()))
    if word == "array":
        _, shape = stored.each(2)
        if len(shape.each()) > _MOST_AXES:
            raise shape.refuse(f"at most {_MOST_AXES} axes", str(len(shape.each())))
        return ("array", tuple(length.whole(0, 2**40) for length in shape.each()))
    if word is None:
        raise stored.refuse("how a value is built")
    return ("nothing",)
