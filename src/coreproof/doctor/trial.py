"""Trials: what rules suppose is tried on copies and judged here; and which layers lie before a layer."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np

from coreproof.doctor.case import Case
from coreproof.doctor.finding import Answers, Finite, Hypothesis, Repair
from coreproof.editing.edit import Edit
from coreproof.errors import CoreproofError
from coreproof.model.base import Model
from coreproof.model.graph import Graph, Node
from coreproof.model.onnx.model import OnnxModel
from coreproof.pairing.taps import as_array
from coreproof.runtime.open import session
from coreproof.validation.problem import Kind, Problem
from coreproof.verification.row import Row

MOST_NUMBERS = 64
"""A list of numbers that is longer is no target, no amounts and no axes."""
_MUCH_BETTER = 0.1
"""The share of its error that a value may keep for an edit to count as the explanation of that error."""
_ROUNDING = 0.02
"""What rounding may leave of a value at most, as a share of it: a model that is far off has tolerances that let all pass."""
_MUCH_WORSE = 100
"""So many times the least error, a repair comes after those that change more."""


def fatal_problems(case: Case, *kinds: Kind) -> list[Problem]:
    """The problems that keep the model from running, of these kinds (of any kind when none is named)."""
    return [p for p in case.evidence.problems if p.fatal and (not kinds or p.kind in kinds)]


def holding(case: Case, supposed: Iterable[Hypothesis]) -> Iterator[Hypothesis]:
    """What is left of hypotheses when those that can be tried are: of all about one thing, the first that holds."""
    settled: list[object] = []
    for hypothesis in supposed:
        if hypothesis.about is None:
            yield hypothesis
        elif hypothesis.about not in settled and (found := _judge(case, hypothesis)) is not None:
            if found.needs is None or found.trial:
                settled.append(hypothesis.about)
            yield found


def _judge(case: Case, hypothesis: Hypothesis) -> Hypothesis | None:
    """What trying leaves of a hypothesis; None where it is refuted."""
    about, repairs = hypothesis.about, hypothesis.repairs
    if hypothesis.trial:
        return hypothesis if _holds(case, hypothesis, hypothesis.trial) else None
    if isinstance(about, Row) and not hypothesis.whole:
        return _judged_on_stretch(case, hypothesis, about)
    held = (repair for repair in repairs if _holds(case, hypothesis, repair.edits))
    # answers that are right are so by one way of naming values alone, and each trial runs both models
    kept = tuple(held) if not isinstance(about, Answers) else tuple(first for first in [next(held, None)] if first)
    if kept:
        return replace(hypothesis, repairs=kept, needs=None)
    return None if hypothesis.needs is None else replace(hypothesis, repairs=())


def _judged_on_stretch(case: Case, hypothesis: Hypothesis, row: Row) -> Hypothesis | None:
    now = case.evidence.error_with((), row)
    measured = [(case.evidence.error_with(repair.edits, row), repair) for repair in hypothesis.repairs]
    kept = [(error, repair) for error, repair in measured if explains(error, now, row)]
    if not kept:
        return None
    # rules offer the least change first; it gives way only where another one is much nearer to the source
    bar = _MUCH_WORSE * min(error for error, _ in kept) + 1e-4
    kept.sort(key=lambda each: each[0] > bar)
    evidence = f"{hypothesis.evidence} ({measured_words(row, now, kept[0][0])})"
    return replace(hypothesis, evidence=evidence, repairs=tuple(repair for _, repair in kept))


def measured_words(row: Row, before: float, after: float) -> str:
    """What a repair does to the error of a row."""
    return f"relative error at {row.candidate!r}: {before:.2g}, repaired: {after:.2g}"


def _holds(case: Case, hypothesis: Hypothesis, edits: Sequence[Edit]) -> bool:
    about = hypothesis.about
    if isinstance(about, Answers):
        return _holds_after(case, edits, lambda after: set(about.outputs) <= _right_outputs(after))
    if isinstance(about, Finite):
        fed = case.evidence.own_feeds[0]  # another model may be drawn other inputs
        return _holds_after(case, edits, lambda after: _answers_in_numbers(after, fed))
    if isinstance(about, Row):
        return math.isfinite(error_in_whole(case, edits, about))
    if hypothesis.whole:
        return _holds_after(case, edits, lambda after: not fatal_problems(after) and after.evidence.runs)
    return makes_progress(case, edits)


def _holds_after(case: Case, edits: Sequence[Edit], judge: Callable[[Case], bool]) -> bool:
    """What is said of the case after these edits; False where they cannot be carried out, or the model cannot be judged."""
    try:
        return judge(case.after(edits))
    except CoreproofError:
        return False


def _answers_in_numbers(case: Case, fed: Mapping[str, object]) -> bool:
    with session(case.evidence.model) as running:
        made = [as_array(value) for value in running.run(fed).values()]
    return all(bool(np.isfinite(array).all()) for array in made if array.dtype.kind == "f")


def _right_outputs(case: Case) -> set[str]:
    found = case.evidence.verification
    return set() if found is None else {row.candidate for row in found.outputs if row.agrees}


def before(graph: Graph, layer: str | None) -> list[Node]:
    """The layer and every layer that it depends on, the nearest first; all layers, last first, when it is not known."""
    nodes = list(graph.nodes)
    start = next((i for i, node in enumerate(nodes) if node.name == layer), None)
    if start is None:
        return nodes[::-1]
    behind = {id(node) for node in graph.between((), graph.reads(nodes[start]))}
    return [nodes[start], *(node for node in reversed(nodes[:start]) if id(node) in behind)]


def makes_progress(case: Case, edits: Sequence[Edit]) -> bool:
    """Whether the model comes further after these edits: fewer problems that keep it from running, or later ones.

    Where no problem can be named, whether the model runs after them and did not before.
    """
    if fatal_problems(case):
        return _holds_after(case, edits, lambda after: _progress(after) < _progress(case))
    return not case.evidence.runs and _holds_after(
        case, edits, lambda after: not fatal_problems(after) and after.evidence.runs
    )


def _progress(case: Case) -> tuple[bool, int, int]:
    """Smaller is better: broken at all, how many layers stand behind the first problem, how many problems there are."""
    problems = fatal_problems(case)
    names = [node.name for node in case.graph.nodes]
    place = {name: len(names) - i for i, name in enumerate(names)}
    return bool(problems), max((place.get(p.layer or "", 0) for p in problems), default=0), len(problems)


def explains(error: float, before: float, row: Row) -> bool:
    """Whether so little is left of a row's error that rounding or the next fault may be all of it.

    A value that is off by more than itself explains no more than one that is nothing but noise: hence the 1.
    """
    rounding = min(row.tolerance.typical or 0.0, _ROUNDING)
    return error < before and (error < _MUCH_BETTER * min(before, 1.0) or error <= rounding)


def error_in_whole(case: Case, edits: Sequence[Edit], row: Row) -> float:
    """A row's error when the whole edited model is run, for edits before its stretch; infinite where it is wrong still."""
    try:
        found = case.after(edits).evidence.verification
    except CoreproofError:
        return math.inf
    right = (r for r in (() if found is None else found.rows) if r.candidate == row.candidate and r.agrees)
    return min((r.judgement.rms_relative_error for r in right), default=math.inf)


def best_repair(case: Case, row: Row, repairs: Sequence[Repair], before: float) -> tuple[int, float] | None:
    """The place of the repair that leaves least of a row's error, and what it leaves; None where none explains the error."""
    errors = [case.evidence.error_with(repair.edits, row) for repair in repairs]
    place = min(range(len(errors)), key=errors.__getitem__, default=None)
    return None if place is None or not explains(errors[place], before, row) else (place, errors[place])


def whole_numbers(model: Model, name: str) -> tuple[int, ...] | None:
    """The few whole numbers that an ONNX model stores under a name: a target, amounts, axes; None for anything else."""
    if not isinstance(model, OnnxModel):
        return None
    stored = model.ir.graph.initializers.get(name)
    if stored is not None and stored.const_value is not None:
        values = stored.const_value
        is_short = values.size <= MOST_NUMBERS and values.dtype.is_integer()
        return tuple(int(n) for n in values.numpy().reshape(-1)) if is_short else None
    maker = model.graph.producer(name)
    held = maker.attributes.get("value") if maker is not None and maker.operator == "Constant" else None
    if isinstance(held, list) and all(isinstance(n, int) for n in held):
        return tuple(held)
    return None
