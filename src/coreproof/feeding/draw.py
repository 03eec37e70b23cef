"""Draws one random value for an input, within what the model declares and what its operators make of it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from coreproof.errors import InputError
from coreproof.feeding.lengths import FREE_LENGTH
from coreproof.feeding.matched_inputs import require_dimensions
from coreproof.feeding.roles.role import PLAIN, Role
from coreproof.model.budget import afford
from coreproof.model.features import Feature
from coreproof.model.graph import Graph

WHOLE_NUMBERS = 10
"""Integers are drawn below this, where nothing bounds them."""

_FARTHEST = float((1 << 24) - 1)
"""No integer is drawn beyond this, where nothing bounds it: a NeuralNetwork keeps them in float32, which holds all up to here."""

SCALES = (1.0, 0.1, 10.0)
"""Standard deviation of the numbers of one draw after another."""

MIXED = 4
"""The number of the draw that holds all magnitudes, row by row."""

MASKED = (-1e4, -1e9)
"""What an additive mask holds at masked places, in one draw after another. float16 holds the first."""

_MANY = 16
"""Rows from which on one of them is zero in the first draw as well: it has to stay a usual one."""

_MOST_KEYS = 100_000
"""Keys of a dictionary that is drawn whole."""

_APART = 0.05
"""How far numbers stay away from a zero that they must not be, as a share of the draw's scale."""

Array = np.ndarray


def draw(
    feature: Feature,
    shape: tuple[int, ...],
    rng: np.random.Generator,
    role: Role = PLAIN,
    number: int = 0,
    free: Mapping[str, int] | None = None,
    *,
    clean: bool = False,
    far: bool = False,
) -> Array:
    """One random value of ``shape`` for an input with this ``role``; the ``number`` counts the draws.

    Pictures: smooth waves with some noise, whole numbers 0-255, like photos. Numbers: normal, of another magnitude in each
    draw, within their domain; zeros, repeated values and vectors of zeros among them unless ``clean``. Indices: over all that
    they pick from, its first and last entry among them. Masks: both values along each row. Booleans: both.
    ``free`` holds the lengths drawn for free dimensions, by name. ``far``: ten times as far, where whole numbers have no end.
    """
    require_dimensions(feature, len(shape))
    what = f"a value for input {feature.name!r}, drawn at random,"
    if feature.image is not None:
        _, channels, height, width = shape
        afford(what, shape, size=height * width * 8 * (channels + 6))  # waves in float64 on a grid
        return picture(shape, rng)
    afford(what, shape, 12)  # drawn in float64, kept in float32
    dtype = np.dtype(feature.dtype or {"int64": "int64", "string": "str"}.get(feature.kind, "float32"))
    if role.kind == "category" and isinstance(role.choices[0], str) == (dtype.kind in "OSU"):
        picked = [role.choices[i] for i in rng.integers(0, len(role.choices), math.prod(shape))]
        return np.array(picked, dtype=object if dtype.kind in "OSU" else dtype).reshape(shape)
    # text: a model of text knows a vocabulary, which no draw meets
    if dtype.kind in "OSU":
        raise InputError(
            f"input {feature.name!r} takes text, which is not drawn at random", fix="give the inputs yourself"
        )
    # bounded by a free length, which has been drawn already
    if role.symbol is not None and math.isinf(role.high):
        length = (free or {}).get(role.symbol, 1)
        role = replace(role, high=role.low + length - (role.kind == "index"))
    if dtype.kind == "b" or role.kind == "mask":
        kept = _both(shape, rng, number) if not role.nonzero else np.ones(shape, np.int64)
        return kept.astype(dtype)
    if role.kind == "additive":
        return _additive(shape, rng, number, dtype)
    if role.kind == "index":
        return _indices(shape, rng, within(role, dtype), number).astype(dtype)
    if role.kind == "length":
        return _lengths(shape, rng, within(role, dtype), number).astype(dtype)
    if dtype.kind in "iu":
        return _in_order(_whole(shape, rng, within(role, dtype), dtype, far=far).astype(dtype), role)
    # all magnitudes in one draw, so that a large model is run once for them
    scale = _by_rows(shape) if number == MIXED else SCALES[number % len(SCALES)]
    return _in_order(_numbers(shape, rng, role, scale, number, clean).astype(np.float32).astype(dtype), role)


def _in_order(value: Array, role: Role) -> Array:
    return np.sort(value, axis=-1) if role.rising and value.ndim else value


def within(role: Role, dtype: np.dtype) -> Role:
    """The role within what integers of the dtype hold."""
    if dtype.kind not in "iu":
        return role
    held = np.iinfo(dtype)
    role = replace(role, reach=min(role.reach, float(held.max)))
    # an open end stays open: what nothing bounds is drawn small. The largest int64 as a float is one too many.
    most = float(held.max) if dtype.itemsize < 8 else float(held.max // 2)
    low = role.low if math.isinf(role.low) and held.min < 0 else max(role.low, float(held.min))
    high = role.high if math.isinf(role.high) else min(role.high, most)
    if not role.bounded or low > high:
        return role
    above, below = role.above and low == role.low, role.below and high == role.high
    return replace(role, low=low, high=high, above=above, below=below)


def _both(shape: tuple[int, ...], rng: np.random.Generator, number: int) -> Array:
    """0 and 1, both in each row of the last axis; in every second draw first ones, then zeros, as a padded text has them."""
    if not shape or math.prod(shape) < 2:
        return np.full(shape, 1 - number % 2)
    flat = np.zeros(shape, np.int64).reshape(-1, shape[-1] if shape[-1] > 1 else math.prod(shape))
    rows, length = flat.shape
    if number % 2:
        flat[:] = np.arange(length) < rng.integers(1, length, rows)[:, None]
    else:
        flat[:] = rng.integers(0, 2, flat.shape)
        flat[np.arange(rows), rng.integers(1, length, rows)] = 0
        flat[:, 0] = 1  # one place is kept everywhere: what attends to nothing has no meaning
    return flat.reshape(shape)


def _additive(shape: tuple[int, ...], rng: np.random.Generator, number: int, dtype: np.dtype) -> Array:
    """0 or a large negative number; in every third draw numbers, as a bias has them."""
    if number % 3 == 2:
        return rng.standard_normal(shape).astype(np.float32).astype(dtype)
    # -1e9 is no number of float16
    low = MASKED[0] if dtype.itemsize < 4 else MASKED[number % 2]
    return np.where(_both(shape, rng, number) == 1, 0.0, low).astype(dtype)


def _indices(shape: tuple[int, ...], rng: np.random.Generator, role: Role, number: int) -> Array:
    low = math.ceil(role.low)
    high = max(low, math.floor(role.high))  # no whole number may lie between the ends
    if role.tables is not None and role.columns and len(shape) >= -role.tables:
        return _by_table(shape, rng, role, number)
    columns = role.columns if role.columns and shape and shape[-1] == len(role.columns) else None
    size = math.prod(shape)
    if columns is not None:
        many, rows = math.prod(columns), size // max(1, len(columns))
        if role.distinct and rows <= many:
            picked = rng.choice(many, rows, replace=False)
        else:
            picked = rng.integers(0, many, rows)
            # the last entry, at which tables that are cut short show
            picked[: min(rows, 1)] = many - 1
        return np.stack(np.unravel_index(picked, columns), -1).reshape(shape)
    if role.distinct and size <= high - low + 1:
        return low + rng.choice(high - low + 1, size, replace=False).reshape(shape)
    if role.distinct and shape and shape[-1] <= high - low + 1:  # along each row at least
        each = [rng.choice(high - low + 1, shape[-1], replace=False) for _ in range(size // max(1, shape[-1]))]
        return low + np.array(each, np.int64).reshape(shape)
    drawn = rng.integers(low, high + 1, shape)
    # a lone one cannot be both ends at once: it is one, the other, and any in turn
    ends = [high, low, *sorted(role.among)] if size > 1 else [[high], [low], []][number % 3]
    return _scattered(drawn, rng, ends, low, high)


def _by_table(shape: tuple[int, ...], rng: np.random.Generator, role: Role, number: int) -> Array:
    """Indices of which each part along an axis picks from a table of its own, up to its last entry."""
    drawn, rest = np.zeros(shape, np.int64), replace(role, columns=None, tables=None)
    assert role.columns is not None
    assert role.tables is not None
    parts = np.moveaxis(drawn, role.tables, 0)
    for part, length in zip(parts, role.columns, strict=False):
        own = replace(rest, low=0, high=length - 1) if length else rest
        part[...] = _indices(part.shape, rng, own, number)
    return drawn


def _scattered(value: Array, rng: np.random.Generator, wanted: Iterable[float], low: float, high: float) -> Array:
    """The value with each of the wanted numbers, if it is allowed, somewhere in it, as far as there is room."""
    listed = [n for n in dict.fromkeys(wanted) if low <= n <= high and n == int(n)]
    flat = value.reshape(-1).copy()
    places = (
        rng.permutation(flat.size)[: len(listed)] if flat.size < 1 << 20 else np.arange(min(flat.size, len(listed)))
    )
    flat[places] = np.array(listed[: places.size], np.int64)
    return flat.reshape(value.shape)


def _lengths(shape: tuple[int, ...], rng: np.random.Generator, role: Role, number: int) -> Array:
    if role.exact is not None and len(role.exact) == math.prod(shape):
        return np.array(role.exact, np.int64).reshape(shape)
    # an unbounded length would size a value beyond any memory
    low, high = math.ceil(role.low), math.floor(min(role.high, role.low + 1e6))
    if math.prod(shape) == 1:
        return np.full(shape, (low + high + 1) // 2 if number % 3 == 0 else high if number % 3 == 1 else low)
    return _scattered(rng.integers(low, high + 1, shape), rng, [high, low], low, high)


def whole_ends(role: Role) -> tuple[int, int]:
    """The least and the greatest whole number that is drawn for a role; ``WHOLE_NUMBERS`` of them where an end is open.

    More where what reads them asks for larger ones.
    """
    least = math.ceil(role.low) + (role.above and role.low == math.ceil(role.low)) if role.low > -math.inf else None
    most = math.floor(role.high) - (role.below and role.high == math.floor(role.high)) if role.high < math.inf else None
    if least is None:
        least = 0 if most is None or most >= WHOLE_NUMBERS - 1 else most - WHOLE_NUMBERS + 1
    return least, max(least + WHOLE_NUMBERS - 1, math.ceil(min(role.reach, _FARTHEST))) if most is None else most


def opens(feature: Feature, role: Role) -> bool:
    """Whether an input holds whole numbers without a greatest one."""
    whole = feature.image is None and (feature.dtype or "float32").startswith(("int", "uint"))
    return whole and role.kind == "number" and role.high == math.inf


def _whole(shape: tuple[int, ...], rng: np.random.Generator, role: Role, dtype: np.dtype, *, far: bool) -> Array:
    """Integers that are numbers to the model: of each magnitude some, where they go far; ``far``, negative ones among them."""
    low, high = whole_ends(role)
    low = min(low, high)
    if role.nonzero and low <= 0 <= high:
        low, high = (1, high) if high > 0 else (low, -1)
    if far and role.high == math.inf:
        high = low + round(min(10 * (high - low), max(_FARTHEST, high - low), np.iinfo(dtype).max - low))
    if high - low > 10 * WHOLE_NUMBERS and role.high == math.inf:
        # evenly over their logarithms, and as many evenly over all
        ends = np.where(rng.integers(0, 2, shape) == 1, 1.0, rng.uniform(0, 1, shape))
        value = low + np.floor(rng.uniform(0, 1, shape) * (high - low + 1) ** ends).astype(np.int64)
        # where they are divided, which differs below zero
        if far and dtype.kind == "i" and role.low == -math.inf and role.reach > 0:
            value = np.where(rng.integers(0, 2, shape) == 1, -value, value)
    else:
        value = rng.integers(low, high + 1, shape)
    # what a model compares with decides its branches: each has to be met
    compared = [n for n in sorted(role.among) if n or not role.nonzero]
    return _scattered(value, rng, compared, role.low, role.high)


def _numbers(
    shape: tuple[int, ...], rng: np.random.Generator, role: Role, scale: float | Array, number: int, clean: bool
) -> Array:
    """Normal numbers of the draw's scale, folded into the role's interval."""
    drawn: Array = rng.standard_normal(shape)
    if role.low > -math.inf and role.high < math.inf:
        width = role.high - role.low
        # 2.5 deviations to either end; the ends themselves are drawn, where they belong to the interval
        value = role.low + width * np.clip(0.5 + drawn / 5, 0.01 if role.above else 0, 0.99 if role.below else 1)
    elif role.low > -math.inf:
        value = role.low + scale * (np.abs(drawn) + (_APART if role.above else 0))
    elif role.high < math.inf:
        value = role.high - scale * (np.abs(drawn) + (_APART if role.below else 0))
    elif role.nonzero:
        value = scale * (drawn + np.copysign(_APART, drawn))
    else:
        value = scale * drawn
    if clean or not math.prod(shape):
        return np.asarray(value)
    return _degenerate(np.asarray(value), rng, role, number)


def _by_rows(shape: tuple[int, ...]) -> Array:
    """Another scale for each row of the last two axes, or where there is one row, for each number of it."""
    rows = next((axis for axis in (-2, -1) if len(shape) >= -axis and shape[axis] > 1), None)
    if rows is None:
        return np.array(1.0)
    scales = np.resize(np.repeat(SCALES, max(1, shape[rows] // 12)), shape[rows])
    return scales[:, None] if rows == -2 else scales


def _degenerate(value: Array, rng: np.random.Generator, role: Role, number: int) -> Array:
    """Repeated values, numbers that the model compares with, zeros, and where there is room a row and a column of zeros."""
    flat = value.reshape(-1).copy()
    # every sixteenth number is a repeated one, and every sixteenth a zero
    few = flat.size // 16
    places = rng.integers(0, flat.size, 3 * few)
    flat[places[:few]] = flat[places[few : 2 * few]]
    for at, each in enumerate(sorted(role.among)):
        # not where the compared numbers would be a quarter of all that is fed
        if flat.size > 4 * len(role.among) and _allows(role, each):
            flat[at] = each
    if not _allows(role, 0.0):
        return flat.reshape(value.shape)
    flat[places[2 * few :]] = 0
    zeroed: Array = flat.reshape(value.shape)
    # a value of lower rank counts as one row, or one number
    rows, columns = (1, 1, *zeroed.shape)[-2:]
    if rows >= (_MANY if number == 0 else 2):
        zeroed[..., int(rng.integers(rows)), :] = 0
        if columns >= 4:
            zeroed[..., int(rng.integers(columns))] = 0
    return zeroed


def _allows(role: Role, each: float) -> bool:
    inside = (
        role.low < each < role.high or (each == role.low and not role.above) or (each == role.high and not role.below)
    )
    return inside and not (role.nonzero and each == 0)


def one_vector(shape: tuple[int, ...]) -> bool:
    """Whether a value of this shape is a single vector: only all of it can be a vector of zeros."""
    return bool(shape) and math.prod(shape[:-1]) == 1 and shape[-1] > 1


def takes_zeros(feature: Feature, role: Role) -> bool:
    """Whether zeros alone are among what an input may hold as numbers."""
    floats = feature.image is None and (feature.dtype or "float32").startswith(("float", "bfloat"))
    return floats and role.kind in ("number", "scores", "compared") and _allows(role, 0.0)


def draw_structured(feature: Feature, rng: np.random.Generator, graphs: Iterable[Graph], role: Role = PLAIN) -> object:
    """A dictionary of the keys that the graph knows, or a sequence of two; InputError where neither is known."""
    if role.kind == "category" and feature.kind == "sequence":
        return [role.choices[i] for i in rng.integers(0, len(role.choices), 3)]
    if feature.kind == "dictionary" or "dictionary" in feature.holds:
        keys = next((keys for graph in graphs if (keys := _vocabulary(graph, feature.name))), role.choices)
        if not keys and role.kind == "index" and role.high < _MOST_KEYS:
            keys = tuple(range(math.ceil(role.low), math.floor(role.high) + 1))
        if keys and feature.dtype is not None and np.dtype(feature.dtype).kind in "fiu":
            rows = [{key: abs(float(rng.standard_normal())) for key in keys} for _ in range(2)]
            return rows[0] if feature.kind == "dictionary" else rows
    elif feature.shape is not None and feature.dtype is not None and feature.dtype != "str":
        shape = tuple(d if isinstance(d, int) and d > 0 else FREE_LENGTH for d in feature.shape)
        element = Feature(feature.name, "tensor", feature.dtype, shape)
        return [draw(element, shape, rng) for _ in range(2)]
    raise InputError(
        f"input {feature.name!r} takes what is not drawn at random", found=feature.holds, fix="give the inputs yourself"
    )


def _vocabulary(graph: Graph, name: str) -> tuple[object, ...]:
    """The keys that a DictVectorizer looks up in the input ``name``."""
    for node in graph.consumers(name):
        for attribute in ("string_vocabulary", "int64_vocabulary"):
            keys = node.attributes.get(attribute)
            if node.operator == "DictVectorizer" and keys:
                return tuple(keys)
    return ()


def picture(shape: tuple[int, ...], rng: np.random.Generator) -> npt.NDArray[np.float32]:
    """[1, C, H, W]: broad gradients and waves with a little noise, whole numbers 0-255, as in a photo."""
    _, channels, height, width = shape
    y, x = np.mgrid[0 : 1 : height * 1j, 0 : 1 : width * 1j]
    planes = []
    for _ in range(channels):
        # six waves of up to four periods: photos vary slowly, and are not noise
        waves = sum(
            rng.normal() * np.sin(2 * np.pi * (rng.uniform(0, 4) * x + rng.uniform(0, 4) * y + rng.uniform()))
            for _ in range(6)
        )
        planes.append(127 + 45 * waves + 12 * rng.standard_normal((height, width)))
    whole: npt.NDArray[np.float32] = np.clip(np.rint(np.stack(planes)), 0, 255).astype(np.float32)
    return whole[None]
