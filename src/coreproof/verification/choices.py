"""Index results (argmax, top-k, sorting) and comparisons, judged by the margin of what they choose between.

Two equal numbers have no order: each engine names the one that it meets first. And numbers that are apart by less than rounding
explains change places. So where two indices differ, the numbers that they name are compared: the candidate's own values at both
places must not be further apart than the errors that were found there make them. So it is with ``a > b`` where both are all but
equal; where the two stand to each other as they do on the other side (both equal, or the first the larger), another answer is
another comparison.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from coreproof.conversion.operators import default, meaning
from coreproof.errors import CoreproofError
from coreproof.model.graph import Graph, Node
from coreproof.model.numbers import FLOAT16_MAX, UNIT_ROUNDOFF
from coreproof.pairing.align import Pair
from coreproof.pairing.taps import as_array, taps_of
from coreproof.verification.match_by_value import arrange
from coreproof.verification.row import Row
from coreproof.verification.run import VerificationRun

Array = np.ndarray


@dataclass(frozen=True)
class Choice:
    """An index row, the values among which it chooses, and along which axis; of a comparison both values, and no axis."""

    row: Row
    data: tuple[str | float, ...]
    axis: int | None


def settle_choices(run: VerificationRun, rows: Sequence[Row]) -> tuple[Row, ...]:
    """The rows, those whose indices differ only between numbers that rounding cannot tell apart counted (``Row.switched``).

    A tolerance that the caller gave is the caller's: nothing is excused then.
    """
    found = [choice for row in rows if not row.agrees and (choice := choice_of(run, row)) is not None]
    if not found or run.tolerance is not None:
        return tuple(rows)
    by_name = {row.candidate: row for row in rows}
    settled: dict[str, int] = {}
    for choice in found:
        try:
            switched = [_switched_count(run, choice, sample, by_name) for sample in range(len(run.feeds))]
        except CoreproofError:  # a value that the engine cannot bring out: what is not known excuses nothing
            continue
        if all(count is not None for count in switched):
            settled[choice.row.candidate] = sum(count or 0 for count in switched)
    return tuple(replace(row, switched=settled.get(row.candidate, 0)) for row in rows)


def choice_of(run: VerificationRun, row: Row) -> Choice | None:
    """What the row's indices, or its class, choose among; None for a row that holds none."""
    graph, classes = run.candidate.graph, run.candidate_session.signature
    if row.candidate == classes.predicted_label and classes.scores is not None:
        return Choice(row, (classes.scores,), -1)
    name, node = _maker(graph, row.candidate)
    # an input, or a constant: nothing was chosen
    if node is None or not node.inputs:
        return None
    if compared := _compared(node):
        return Choice(row, compared, None)
    place = meaning(node.operator).get("indices")
    if place is None or place >= len(node.outputs) or node.outputs[place] != name:
        return None
    return Choice(row, (node.inputs[0],), _axis(node))


def is_as_good(run: VerificationRun, choice: Choice, expected: Array, candidate_values: Mapping[str, Array]) -> bool:
    """Whether the candidate's indices name numbers as large as the ``expected`` ones do, both chosen among the same values."""
    name = choice.data[0]
    data = _numbers(name, candidate_values, {})
    candidate = candidate_values[choice.row.candidate]
    return _between_equals(expected, candidate, data, choice.axis or 0, _apart(run, name, data, {})) is not None


def _maker(graph: Graph, name: str) -> tuple[str, Node | None]:
    """What makes a value, and under which name, before casts and reshapes: these choose nothing."""
    node = graph.producer(name)
    while node is not None and meaning(node.operator).get("keeps_order", False) and node.inputs:
        name = node.inputs[0]
        node = graph.producer(name)
    return name, node


def _compared(node: Node) -> tuple[str | float, ...]:
    """The two values that a comparison compares, one of which may be a number among its settings; else nothing."""
    if not meaning(node.operator).get("compares", False):
        return ()
    if len(node.inputs) == 2:
        return node.inputs
    numbers = [v for v in node.attributes.values() if isinstance(v, int | float) and not isinstance(v, bool)]
    return (*node.inputs, float(numbers[0])) if len(node.inputs) == len(numbers) == 1 else ()


def _numbers(name: str | float, fed: Mapping[str, object], made: Mapping[str, object]) -> Array:
    return np.asarray(name) if isinstance(name, float) else as_array(fed[name] if name in fed else made[name])


def _axis(node: Node) -> int:
    said = node.attributes.get("axis", default(node.operator, "axis"))
    said = -1 if said is None else said
    return said if isinstance(said, int) else int(np.asarray(said).reshape(-1)[0])


def _switched_count(run: VerificationRun, choice: Choice, sample: int, rows: Mapping[str, Row]) -> int | None:
    """How many indices differ in this sample, between numbers that rounding cannot tell apart; None where it can."""
    row = choice.row
    (reference_values,) = run.reference_values(sample, [[row.reference]])
    pair = next(p for p in run.pairs if p.candidate == row.candidate)
    fed = run.feeds[sample][1]
    made = run.candidate_session.run(
        fed,
        taps_of(
            run.candidate_session, [row.candidate, *(n for n in choice.data if isinstance(n, str) and n not in fed)]
        ),
    )
    data = [_numbers(name, fed, made) for name in choice.data]
    candidate, reference = as_array(made[row.candidate]), arrange(reference_values[row.reference], pair.axes)
    classes = run.candidate_session.signature
    if row.candidate == classes.predicted_label:
        names = list(map(str, classes.labels or ()))
        said = [str(value.reshape(-1)[0]) for value in (candidate, reference) if value.size == 1]
        if len(said) < 2 or not set(said) <= set(names):
            return None
        candidate, reference = (np.array([names.index(name)]) for name in said)
        data = [values.reshape(-1) for values in data]
    apart = max(_apart(run, name, values, rows) for name, values in zip(choice.data, data, strict=True))
    if choice.axis is None:
        alike = _stand_alike(run, choice, sample, pair, data)
        return _between_near(reference, candidate, data[0], data[1], apart, alike)
    return _between_equals(reference, candidate, data[0], choice.axis, apart)


def _apart(run: VerificationRun, name: str | float, data: Array, rows: Mapping[str, Row]) -> float:
    """How far two of these numbers may be apart and still change places.

    Twice the largest error that was found among them: who is first on one side is not further behind on the other. Where they
    have no partner, twice what storing them rounds; nothing where rounding may change half of the value.
    """
    if isinstance(name, float):
        return 0.0
    known = rows.get(name)
    if known is not None:
        return 2 * known.judgement.max_error if known.agrees and known.weakness is None else 0.0
    value = run.candidate.graph.values.get(name)
    stored = (value.dtype if value is not None else None) or str(data.dtype)
    return 2 * UNIT_ROUNDOFF.get(stored, 0.0) * float(np.max(np.abs(data), initial=0.0))


def _stand_alike(
    run: VerificationRun, choice: Choice, sample: int, pair: Pair, data: Sequence[Array]
) -> npt.NDArray[np.bool_] | None:
    """Where the reference's two numbers stand to each other as the candidate's do, which leaves a comparison no choice.

    None where the reference compares in another way, or not here.
    """
    _, node = _maker(run.reference.graph, choice.row.reference)
    compared = () if node is None or pair.axes is not None else _compared(node)
    if not compared:
        return None
    fed = run.feeds[sample][0]
    try:
        (made,) = run.reference_values(sample, [[n for n in compared if isinstance(n, str) and n not in fed]])
    except CoreproofError:  # a value that the engine cannot bring out
        return None
    ours, others = _signs(*data), _signs(*(_numbers(name, fed, made) for name in compared))
    return np.asarray(ours == others, np.bool_) if ours.size == others.size else None


def _signs(a: Array, b: Array) -> Array:
    return np.asarray(np.sign(a.astype(np.float64) - b.astype(np.float64))).reshape(-1)


def _between_near(
    reference: Array, candidate: Array, a: Array, b: Array, apart: float, alike: npt.NDArray[np.bool_] | None
) -> int | None:
    if reference.size != candidate.size or a.dtype.kind not in "fiu" or b.dtype.kind not in "fiu":
        return None
    gap = np.abs(a.astype(np.float64) - b.astype(np.float64))
    # both are held at float16's end, as -1e9 and -1e30 are: that tells nothing of how near they are
    gap = np.where((gap == 0) & (np.abs(a) == FLOAT16_MAX), np.inf, gap).reshape(-1)
    other = reference.reshape(-1).astype(np.float64) != candidate.reshape(-1).astype(np.float64)
    # numbers that both sides have to the last digit stand to each other as they do: equal ones leave no choice
    near = gap <= apart if apart else np.zeros_like(gap, bool)
    if alike is not None and alike.size == near.size:
        near &= ~alike
    if gap.size != other.size or not np.all(near[other]):
        return None
    return int(np.count_nonzero(other))


def _between_equals(reference: Array, candidate: Array, data: Array, axis: int, apart: float) -> int | None:
    if reference.size != candidate.size or data.ndim == 0 or not data.size or data.dtype.kind not in "fiu":
        return None
    if reference.dtype.kind not in "fiub":  # names of classes are no indices
        return None
    axis %= data.ndim
    length = data.shape[axis]
    # top-k keeps as many as it says of the axis, argmax one, with or without the axis
    count = candidate.size * length // data.size
    shape = (*data.shape[:axis], count, *data.shape[axis + 1 :])
    if math.prod(shape) != candidate.size:
        return None
    a, b = (indices.reshape(shape).astype(np.int64) for indices in (reference, candidate))
    # an index outside of the axis, or one that is chosen twice, is a fault whatever the numbers are
    if min(a.min(), b.min()) < 0 or max(a.max(), b.max()) >= length or _repeats(b, axis) != _repeats(a, axis):
        return None
    values = data.astype(np.float64)
    gap = np.abs(np.take_along_axis(values, a, axis) - np.take_along_axis(values, b, axis))
    return int(np.count_nonzero(a != b)) if np.all(gap <= apart) else None


def _repeats(indices: Array, axis: int) -> bool:
    """Whether an index stands twice along the axis: no choice of several does that."""
    return bool(np.any(np.diff(np.sort(indices, axis), axis=axis) == 0))
