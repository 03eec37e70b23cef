"""Draws one random value for an input, within what the model declares: shape, dtype, pixels, rows of a table."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from coreproof.errors import InputError
from coreproof.model.budget import afford
from coreproof.model.features import Feature, Shape
from coreproof.model.graph import Graph, Node
from coreproof.verify.operators import plain

FREE_LENGTH = 8
"""Length of a dimension that neither model fixes; the first one, most often the batch, is 1."""

WHOLE_NUMBERS = 10
"""Integers are drawn below this, where no table bounds them."""

_MOST_DIMENSIONS = 64
"""What NumPy can hold."""

_PASSES_INDICES = frozenset(
    (
        "cast",
        "identity",
        "reshape",
        "squeeze",
        "unsqueeze",
        "expanddims",
        "expand",
        "tile",
        "flatten",
        "slice",
        "select",
    )
)
_LOOKS_UP = frozenset(("gather", "embedding", "embeddingnd", "indexselect"))


def lengths(a: Feature, b: Feature) -> tuple[int, ...]:
    """The shape to draw for an input that is ``a`` of one model and ``b`` of the other.

    Fixed lengths are taken as they are. Of enumerated shapes the smallest that both allow, of a range its lower end
    (or, where that is 1 and so says little, the declared default); what is free on both sides is 1 for the first
    dimension, else 8.
    """
    image = a.image or b.image
    if image is not None:
        return (1, image.channels, image.height, image.width)
    if a.kind in ("double", "int64"):
        return ()
    if a.shape is None and b.shape is None:
        raise InputError(
            f"the shape of input {a.name!r} is not declared", fix="give the inputs: verify(a, b, inputs={name: array})"
        )
    listed = _enumerated(a, b)
    if listed is not None:
        return listed
    rank = len(a.shape if a.shape is not None else b.shape or ())
    sides = zip(_each(a, rank), _each(b, rank), strict=True)
    return tuple(_one_length(mine, theirs, i) for i, (mine, theirs) in enumerate(sides))


def _one_length(mine: tuple[int | None, bool], theirs: tuple[int | None, bool], axis: int) -> int:
    fixed = [length for length, only in (mine, theirs) if only and length is not None]
    if fixed:
        return fixed[0]
    known = [length for length, _ in (mine, theirs) if length is not None]
    return max(known) if known else 1 if axis == 0 else FREE_LENGTH


def _enumerated(a: Feature, b: Feature) -> tuple[int, ...] | None:
    """The smallest enumerated shape that the other side takes too."""
    for one, other in ((a, b), (b, a)):
        shapes = sorted(one.enumerated, key=lambda s: (math.prod(s), s))
        if shapes:
            return next((s for s in shapes if _takes(other, s)), shapes[0])
    return None


def _takes(feature: Feature, shape: tuple[int, ...]) -> bool:
    if feature.enumerated:
        return shape in feature.enumerated
    if feature.ranges:
        return len(feature.ranges) == len(shape) and all(
            r.low <= n and (r.high is None or n <= r.high) for r, n in zip(feature.ranges, shape, strict=True)
        )
    declared = feature.shape
    return declared is None or (
        len(declared) == len(shape)
        and all(not isinstance(d, int) or d <= 0 or d == n for d, n in zip(declared, shape, strict=True))
    )


def _each(feature: Feature, rank: int) -> list[tuple[int | None, bool]]:
    """(length, whether it is the only one allowed) of every dimension; (None, False) where nothing is said."""
    shape = feature.shape if feature.shape is not None and len(feature.shape) == rank else (None,) * rank
    found: list[tuple[int | None, bool]] = []
    for i, declared in enumerate(shape):
        known = declared if isinstance(declared, int) and declared > 0 else None
        allowed = feature.ranges[i] if len(feature.ranges) == rank else None
        if allowed is None or allowed.low == allowed.high:
            found.append((known, known is not None))
        else:
            found.append((allowed.low if allowed.low > 1 or known is None else known, False))
    return found


def draw(
    feature: Feature, shape: tuple[int, ...], rng: np.random.Generator, below: int | None = None
) -> npt.NDArray[np.generic]:
    """One random value of ``shape``.

    Pictures: smooth waves with some noise, whole numbers 0-255, like photos. Floats: standard normal. Booleans: both.
    Integers: from 0 to ``below`` (default 10).
    """
    if len(shape) > _MOST_DIMENSIONS:
        raise InputError(
            f"input {feature.name!r} has more dimensions than an array can have",
            expected=f"at most {_MOST_DIMENSIONS}",
            found=f"{len(shape)}",
        )
    what = f"a value for input {feature.name!r}, drawn at random,"
    if feature.image is not None:
        _, channels, height, width = shape
        afford(what, shape, size=height * width * 8 * (channels + 6))  # waves in float64 on a grid
        return picture(shape, rng)
    afford(what, shape, 12)  # drawn in float64, kept in float32
    dtype = np.dtype(feature.dtype or ("int64" if feature.kind == "int64" else "float32"))
    if dtype.kind == "b":
        return rng.integers(0, 2, shape).astype(bool)
    if dtype.kind in "iu":
        return rng.integers(0, below or WHOLE_NUMBERS, shape).astype(dtype)
    if dtype.kind in "OSU":
        raise InputError(
            f"input {feature.name!r} takes text, which is not drawn at random", fix="give the inputs yourself"
        )
    return rng.standard_normal(shape).astype(np.float32).astype(dtype)


def draw_structured(feature: Feature, rng: np.random.Generator, graphs: Iterable[Graph]) -> Any:
    """A dictionary of the keys that the graph knows, or a sequence of two; InputError where neither is known."""
    if feature.kind == "dictionary" or "dictionary" in feature.holds:
        keys = next((keys for graph in graphs if (keys := _vocabulary(graph, feature.name))), ())
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


def _vocabulary(graph: Graph, name: str) -> tuple[Any, ...]:
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
        waves = sum(
            rng.normal() * np.sin(2 * np.pi * (rng.uniform(0, 4) * x + rng.uniform(0, 4) * y + rng.uniform()))
            for _ in range(6)
        )
        planes.append(127 + 45 * waves + 12 * rng.standard_normal((height, width)))
    whole: npt.NDArray[np.float32] = np.clip(np.rint(np.stack(planes)), 0, 255).astype(np.float32)
    return whole[None]


def table_rows(graph: Graph, name: str) -> int | None:
    """How many rows the smallest table has that the input ``name`` picks from; None where it picks from none.

    Followed are the operators that hand indices on unchanged, or choose between them and others. Values beyond the last
    row are an error in some engines and another row in others, so that a random index has to stay within.
    """
    return min(_tables(graph, name, set()), default=None)


def _tables(graph: Graph, name: str, seen: set[str]) -> Iterator[int]:
    seen.add(name)
    for node in graph.consumers(name):
        operator = plain(node.operator)
        if operator in _LOOKS_UP:
            yield from _rows(graph, node, name)
        elif operator in _PASSES_INDICES and node.outputs and node.outputs[0] not in seen:
            yield from _tables(graph, node.outputs[0], seen)


def _rows(graph: Graph, node: Node, indices: str) -> Iterable[int]:
    """The length, along the axis picked from, of the table of a lookup that reads ``indices`` as its indices."""
    for attribute in ("vocabSize", "inputDim"):
        if isinstance(node.attributes.get(attribute), int):
            return (int(node.attributes[attribute]),)
    # an ML Program names its operands ("x", "indices"), the other formats put the table first
    if "indices" in node.parameters or "indices" in node.attributes:
        return ()
    table = node.inputs[0] if node.inputs else indices
    if "x" in node.parameters:
        shape: Shape | None = node.parameters["x"][1]
    elif table != indices and table in graph.values:
        shape = graph.values[table].shape
    else:
        return ()
    axis = node.attributes.get("axis", 0)
    if not shape or not isinstance(axis, int) or not -len(shape) <= axis < len(shape):
        return ()
    length = shape[axis]
    return (length,) if isinstance(length, int) and length > 0 else ()
