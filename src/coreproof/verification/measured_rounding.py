"""Rounding as it was seen: where bounds allow far more than was found, what rounding to float16 really does is measured.

Bounds add up the worst that each operator may make of what arrives. Over a stretch in which nothing is compared, as a recurrent
layer that a converter writes out step by step, they grow by a factor a step, until any fault lies within them. How far the
roundings of a float16 program move a value can be seen, though: the program runs once more in float32, on the same inputs and
with the same weights, and differs from itself by exactly its roundings. Weights were rounded too, once and to as many digits,
which moves the value as much again; and as one that T steps read is off in the same direction in each of them, where roundings
of results differ from step to step, sqrt(T) times as much. A value that agreed only because its bound is wide is held to what
follows from what was seen, and one rounding at least, with the margins that every value has.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace

import numpy as np

from coreproof.errors import CoreproofError
from coreproof.model.base import Model
from coreproof.model.graph import Graph, Node
from coreproof.model.numbers import UNIT_ROUNDOFF, rms
from coreproof.model.progress import silent
from coreproof.pairing.operators import makes_steps
from coreproof.pairing.taps import as_array, batched, taps_of
from coreproof.runtime.open import session
from coreproof.runtime.session import Engine, Session
from coreproof.verification.bisect import suspects
from coreproof.verification.carried import computed_alike
from coreproof.verification.further_errors import rounds_of_loops
from coreproof.verification.match_by_value import arrange
from coreproof.verification.row import Row
from coreproof.verification.run import VerificationRun, severity
from coreproof.verification.tolerance import TYPICAL, WORST, Judgement, Tolerance
from coreproof.verification.verification import Verification

_WIDE = 0.05
"""A bound that lets a single element be off by more than this share of the scale says little by itself: 100 roundings."""

_FEW = 4
"""Layers over which a bound that adds up the worst is still a close one."""

_LONE = 4.0
"""How many times the largest single difference that was seen another one may be, which other roundings make."""

_U16 = UNIT_ROUNDOFF["float16"]


def held_to_what_rounding_does(
    run: VerificationRun, found: Verification, engines: tuple[Engine, Engine]
) -> Verification:
    """The verification, with rows that agreed by a wide bound and are further off than rounding was seen to bring them.

    Only float16 programs that coreproof's runtime runs can be run in float32 beside. ``run`` is fed what is looked at.
    """
    stepped = _behind_steps(run.candidate.graph)
    wide = [row for row in found.rows if _is_wide(row) and row.candidate not in stepped]
    if not found.agrees or not wide or run.tolerance is not None:
        return found
    # of a weight that is compressed, and not the same on both sides, it says nothing
    if any(distance.share for distance in run.compressed.allowed.values()):
        return found
    sides = (run.reference, run.reference_session), (run.candidate, run.candidate_session)
    try:
        with ExitStack() as opened:
            exact = {
                at: opened.enter_context(session(model, engines[at], precision="fp32"))
                for at, (model, running) in enumerate(sides)
                if _rounds(model, running)
            }
            steps = _steps(run, found.rows, {row.candidate for row in wide})
            seen = _judged(run, wide, exact, steps) if exact else {}
    except CoreproofError:
        return found  # the program makes no sense in float32, or the engine refuses it
    # one rounding that is seen is no bound of another: where a function makes much of it, both sides do so on the same inputs
    alike = _alike(run, found.rows, [row for row in wide if row.candidate in seen])
    seen = {name: how for name, how in seen.items() if name not in alike}
    if not seen:
        return found
    rows = tuple(replace(row, judgement=seen.get(row.candidate, row.judgement)) for row in found.rows)
    first = suspects(run, rows)
    return replace(found, rows=rows, suspects=first, stretches=() if first is None else (first,))


def _behind_steps(graph: Graph) -> frozenset[str]:
    """The values that are made from what is rounded to steps.

    Which edges rounding crosses there is chance: that this run crossed none says nothing of another engine's.
    """
    found: set[str] = set()
    for node in graph.nodes:
        if makes_steps(node.operator) or not found.isdisjoint(node.inputs):
            found.update(node.outputs)
    return frozenset(found)


def _alike(run: VerificationRun, rows: Sequence[Row], asked: Sequence[Row]) -> dict[str, Judgement]:
    """Those of the rows that both sides compute alike from the same inputs, and how."""
    if not asked:
        return {}
    # what is predicted of the samples that are looked at is known once they were compared, which counts once
    before = run.contents()
    run.compare(silent)
    run.forget_since(before)
    alike = computed_alike(run, rows, asked)
    # the bound of a long stretch is what is in question; over few layers it is wide where terms cancel, and says so rightly
    few = {row.candidate for row in asked if len(_layers(run, rows, row)) <= _FEW}
    return {name: how for name, how in alike.items() if how.tolerance.relative < _WIDE or name in few}


def _layers(run: VerificationRun, rows: Sequence[Row], row: Row) -> Sequence[Node]:
    """The candidate's layers before a row and behind what was compared."""
    graph = run.candidate.graph
    stored = {name for name, value in graph.values.items() if value.constant}
    before = {other.candidate for other in rows if other.candidate != row.candidate}
    return graph.between(stored | before, [row.candidate])


def _is_wide(row: Row) -> bool:
    """Whether a row agrees by a wide bound, and is off by more than rounding it once would bring."""
    tolerance = row.tolerance
    if not row.judgement.agrees or "float" not in row.dtype or tolerance.step or row.judgement.filled or row.switched:
        return False
    relative, typical = row.needed or (row.judgement.required_relative, row.judgement.rms_relative_error)
    least = math.sqrt(2.0) * _U16  # what is allowed whatever is seen
    return tolerance.relative >= _WIDE and (relative > WORST * least or typical > TYPICAL * least)


def _rounds(model: Model, running: Session) -> bool:
    """Whether a model is a program that rounds results to float16, and is lowered to be run."""
    lowered = running.executable is not None and not model.is_onnx
    return lowered and any(value.dtype == "float16" for value in model.graph.values.values())


def _judged(
    run: VerificationRun, rows: Sequence[Row], exact: Mapping[int, Session], steps: Mapping[str, int]
) -> dict[str, Judgement]:
    """The worst judgement of each row over all samples by what rounding was seen to do, where it then disagrees."""
    known = {pair.candidate: pair for pair in reversed(run.pairs)}
    pairs = {row.candidate: known[row.candidate] for row in rows}
    found: dict[str, Judgement] = {}
    for group in batched(list(pairs), run.memory // 2, run.size):
        for sample, fed in enumerate(run.feeds):
            names = [pairs[name].reference for name in group], group
            reference, candidate = (
                next(run.reference_values(sample, [names[0]])),
                next(run.candidate_values(sample, [names[1]])),
            )
            made = {at: running.run(fed[at], _taps(running, names[at])) for at, running in exact.items()}
            for name in group:
                pair = pairs[name]
                right = arrange(reference[pair.reference], pair.axes)
                both = (reference[pair.reference], pair.reference), (candidate[name], name)
                seen = [(both[at][0], made[at].get(both[at][1])) for at in exact]
                tolerance = _as_seen(rms(right.astype(np.float64)), seen, steps[name])
                if tolerance is None:
                    continue
                judgement = run.judge_within(pair, right, candidate[name], tolerance)
                if not judgement.agrees and (name not in found or severity(judgement) > severity(found[name])):
                    found[name] = judgement
    return found


def _steps(run: VerificationRun, rows: Sequence[Row], wide: Collection[str]) -> dict[str, int]:
    """How many layers read the same weight, of those before a wide row and behind what agrees; of a loop, how often it runs."""
    graph = run.candidate.graph
    stored = {name for name, value in graph.values.items() if value.constant}
    readers: dict[str, list[int]] = {}
    for place, node in enumerate(graph.nodes):
        for name in dict.fromkeys(node.inputs):
            if name in stored and _is_float(graph, name):
                readers.setdefault(name, []).append(place)
    rounds = {loop.name: count for loop, count in rounds_of_loops(run.pairs, run.reference.graph, graph)}
    loops = {place: rounds[node.name] for place, node in enumerate(graph.nodes) if node.name in rounds}
    shared = [places for places in readers.values() if len(places) > 1]
    # a bit for each layer that counts, so that all that lies before a value is one number, and each layer is looked at once
    counted = sorted({*loops, *(place for places in shared for place in places)})
    if not counted:
        return dict.fromkeys(wide, 1)
    bit = {place: 1 << at for at, place in enumerate(counted)}
    stops = stored | {row.candidate for row in rows if row.candidate not in wide}
    before: dict[str, int] = {}
    for place, node in enumerate(graph.nodes):
        bits = bit.get(place, 0)
        for name in graph.reads(node):
            bits |= 0 if name in stops else before.get(name, 0)
        # what makes nothing writes a state that is read behind it
        for name in node.outputs or [name for name in node.inputs if name in graph.inputs]:
            before[name] = before.get(name, 0) | bits
    masks = [sum(bit[place] for place in places) for places in shared]

    def count(bits: int) -> int:
        times = [loops[place] for place in loops if bits & bit[place]]
        return max([1, *times, *((bits & mask).bit_count() for mask in masks)])

    return {name: count(before.get(name, 0)) for name in wide}


def _is_float(graph: Graph, name: str) -> bool:
    return "float" in (graph.values[name].dtype or "")


def _taps(running: Session, names: Sequence[str]) -> list[str]:
    return [name for name in taps_of(running, names) if name in running.tappable]


def _as_seen(scale: float, seen: Sequence[tuple[np.ndarray, object]], steps: int = 1) -> Tolerance | None:
    """The tolerance that follows from what rounding was seen to do to a value; None where nothing can be said.

    ``seen``: the value as each side that rounds makes it, and as it makes it without rounding. ``steps``: how many read the
    same weight.
    """
    squares, largest = 0.0, 0.0
    for made, unrounded in seen:
        other = None if unrounded is None else as_array(unrounded)
        if other is None or made.shape != other.shape:
            return None
        off = made.astype(np.float64) - other.astype(np.float64)
        squares, largest = squares + float(np.mean(np.square(off))), max(largest, float(np.abs(off).max(initial=0.0)))
    if not math.isfinite(squares) or not math.isfinite(scale) or not scale:
        return None
    more = math.sqrt(1.0 + steps)
    share = more * math.hypot(math.sqrt(squares) / scale, _U16)
    why = (
        f"rounding results to float16 was seen to change it by {math.sqrt(squares) / scale:.1e} of its scale, and rounding "
        f"weights may do {'as much' if steps == 1 else f'{math.sqrt(steps):.2g} times as much, as {steps} steps read the same'}"
    )
    return Tolerance(max(WORST * share, _LONE * more * largest / scale), 0.0, TYPICAL * share, why=why)
