"""Numbers that are a step apart, held to where the edges between steps lie: rounding moves a number over an edge only beside it.

How many elements rounding may bring to another step is a count (rule 4 of tolerance.py), and a few of many are let be by chance.
Which they are is not chance: what was rounded to a step has to lie beside an edge, within what it may be off by. Where it lies
clear of all edges, floor and truncation, or another number, made the difference.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from coreproof.conversion.operators import canonical_op, error_class, meaning, operation_of
from coreproof.errors import CoreproofError
from coreproof.model.graph import Graph
from coreproof.model.numbers import rms
from coreproof.pairing.operators import makes_steps
from coreproof.pairing.taps import as_array
from coreproof.verification.match_by_value import arrange
from coreproof.verification.row import Row
from coreproof.verification.run import VerificationRun

Array = np.ndarray

_EDGES = {"floor": 0.0, "ceil": 0.0, "trunc": 0.0, "fix": 0.0, "round": 0.5, "rint": 0.5}
"""Operators that round to whole numbers, and how far behind these their edges lie."""

_SMOOTH = frozenset(
    {"mul", "add", "sub", "rsub", "neg", "negative", "abs", "clip", "relu", "realdiv", "div", "divide", "multiply"}
    | {"maximum", "minimum", "max", "min", "square", "identity"}
)
"""Operators of single elements that make no step of their own."""

_STOPS = ("linear", "norm", "average", "bounded", "exponential")


@dataclass(frozen=True)
class _Rounded:
    """A value that is rounded, and how far behind whole numbers its edges lie; None: its only edge is zero."""

    name: str
    edge: float | None


def settle_edges(run: VerificationRun, rows: Sequence[Row]) -> tuple[Row, ...]:
    """The rows, those that agree although an element is a step off whose number lies clear of every edge told as a fault.

    A tolerance that the caller gave is the caller's. Where what is rounded cannot be brought out nothing is said.
    """
    if run.tolerance is not None:
        return tuple(rows)
    crossed = {row.candidate: row for row in rows if row.tolerance.step and row.judgement.max_error > 0}
    # what is made of numbers that are a step off already follows from them
    asked = {
        row.candidate: found
        for row in crossed.values()
        if row.judgement.agrees and any(found := _sides(run, row, crossed.keys()))
    }
    if not asked:
        return tuple(rows)
    return tuple(_held(run, row, asked[row.candidate]) if row.candidate in asked else row for row in rows)


def _sides(
    run: VerificationRun, row: Row, crossed: Collection[str]
) -> tuple[tuple[_Rounded, ...], tuple[_Rounded, ...]]:
    """What either side rounds to make the row's value: nothing where that is not known."""
    partners = {pair.reference for pair in run.pairs if pair.candidate in crossed and pair.candidate != row.candidate}
    axes = next(pair.axes for pair in run.pairs if pair.candidate == row.candidate)
    reference = () if axes is not None else _rounded(run.reference.graph, row.reference, partners)
    return reference, _rounded(run.candidate.graph, row.candidate, crossed)


def _rounded(graph: Graph, name: str, crossed: Collection[str]) -> tuple[_Rounded, ...]:
    """The values, element for element those of ``name``, that are rounded on the way to it, the nearest first."""
    found = dict[_Rounded, None]()
    front, seen = [name], {name}
    while front:
        at = front.pop()
        node = graph.producer(at)
        if node is None:
            continue
        if at != name and at in crossed:
            return ()
        word, moves = canonical_op(operation_of(node)), meaning(node.operator).get("keeps_order", False)
        kinds = [_dtype(graph, each) for each in (at, *node.inputs[:1])]
        if makes_steps(node.operator) and word in _EDGES:
            found[_Rounded(node.inputs[0], _EDGES[word])] = None
        elif word == "sign":
            found[_Rounded(node.inputs[0], None)] = None
        elif word == "cast" and kinds[0].startswith(("int", "uint")) and kinds[1].startswith("float"):
            found[_Rounded(node.inputs[0], 0.0)] = None
        elif error_class(operation_of(node)) in _STOPS:
            continue
        elif "rounding_mode" in node.attributes or not (word in _SMOOTH or word == "cast" or moves):
            return ()
        for read in graph.reads(node):
            if read not in seen and not graph.is_constant(read):
                seen.add(read)
                front.append(read)
    return tuple(found)


def _dtype(graph: Graph, name: str) -> str:
    value = graph.values.get(name)
    return (value.dtype or "") if value is not None else ""


def _held(run: VerificationRun, row: Row, sides: tuple[tuple[_Rounded, ...], tuple[_Rounded, ...]]) -> Row:
    """The row, out of tolerance where an element is a step off in any sample without lying beside an edge."""
    clear, elements = 0, 0
    for sample, unsure in enumerate(run.unsure):
        share = unsure.get(row.candidate)
        if share is None:
            continue
        try:
            off = _clear(run, row, sides, sample, share)
        except CoreproofError:  # a value that the engine cannot bring out
            return row
        clear += int(np.count_nonzero(off))
        elements += off.size
    if not clear:
        return row
    said = f"{clear} of {elements} elements are a step off, though what is rounded there lies clear of any edge"
    return replace(row, judgement=replace(row.judgement, agrees=False, problem=said, astray=clear))


def _clear(
    run: VerificationRun,
    row: Row,
    sides: tuple[tuple[_Rounded, ...], tuple[_Rounded, ...]],
    sample: int,
    share: float,
) -> npt.NDArray[np.bool_]:
    """Which elements are off in this sample and lie clear of any edge, on a side of which that is known."""
    values = []
    for side, (name, walk) in enumerate(((row.reference, run.reference_values), (row.candidate, run.candidate_values))):
        fed = run.feeds[sample][side]
        names = [name, *(r.name for r in sides[side] if r.name not in fed)]
        values.append({**{n: as_array(v) for n, v in fed.items()}, **next(walk(sample, [names]))})
    pair = next(pair for pair in run.pairs if pair.candidate == row.candidate)
    expected = arrange(values[0][row.reference], pair.axes).reshape(-1)
    got = values[1][row.candidate].reshape(-1)
    # what differs by less was rounded as any number is: a step that was added to one
    off = np.abs(expected.astype(np.float64) - got.astype(np.float64)) > row.tolerance.step / 2
    beside = np.ones(off.shape, bool)
    for own, held in zip(sides, values, strict=True):
        near = _beside([(held[r.name], r.edge) for r in own], off.size, share)
        beside &= near if near is not None else True
    return np.asarray(off & ~beside, np.bool_)


def _beside(rounded: Sequence[tuple[Array, float | None]], size: int, share: float) -> npt.NDArray[np.bool_] | None:
    """Which elements lie beside an edge of any value that was rounded; None where that is not known."""
    numbers = [(array.reshape(-1).astype(np.float64), edge) for array, edge in rounded]
    # whole numbers were rounded before: they lie at an edge and say nothing
    told = [(x, edge) for x, edge in numbers if edge != 0.0 or not np.array_equal(x, np.rint(x), equal_nan=True)]
    if not told or any(x.size != size or not np.isfinite(x).all() for x, _ in told):
        return None
    near = np.zeros(size, bool)
    for x, edge in told:
        away = np.abs(x) if edge is None else np.abs(x - edge - np.rint(x - edge))
        near |= away <= share * np.maximum(np.abs(x), rms(x))
    return near
