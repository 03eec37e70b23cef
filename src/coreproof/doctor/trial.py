"""Trials: whether an edit helps, found out on a copy; and which layers lie before a layer."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence

from coreproof.doctor.case import Case
from coreproof.doctor.finding import Hypothesis
from coreproof.editing.edit import Edit
from coreproof.errors import CoreproofError
from coreproof.model.base import Model
from coreproof.model.graph import Graph, Node
from coreproof.validation.problem import Problem
from coreproof.verification.row import Row

MOST_NUMBERS = 64
MUCH_BETTER = 0.1
"""The share of its error that a value may keep for an edit to count as the explanation of that error."""


def fatal_problems(case: Case, *kinds: str) -> list[Problem]:
    """The problems that keep the model from running, of these kinds (of any kind when none is named)."""
    return [p for p in case.evidence.problems if p.fatal and (not kinds or p.kind in kinds)]


def holding(case: Case, supposed: Iterable[Hypothesis]) -> Iterator[Hypothesis]:
    """What is left of hypotheses when those that can be tried are: of all about one problem or row, the first that holds."""
    settled: list[object] = []
    for hypothesis in supposed:
        if hypothesis.about is None:
            yield hypothesis
        elif hypothesis.about not in settled and _holds(case, hypothesis):
            settled.append(hypothesis.about)
            yield hypothesis


def _holds(case: Case, hypothesis: Hypothesis) -> bool:
    edits, about = hypothesis.repairs[0].edits, hypothesis.about
    if not isinstance(about, Row):
        return makes_progress(case, edits)
    return fixes_row(case, edits, about) if hypothesis.beyond else explains_row(case, edits, about)


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
    try:
        after = case.after(edits)
        if fatal_problems(case):
            return _progress(after) < _progress(case)
        return not fatal_problems(after) and not case.evidence.runs and after.evidence.runs
    except CoreproofError:
        return False


def _progress(case: Case) -> tuple[bool, int, int]:
    """Smaller is better: broken at all, how many layers stand behind the first problem, how many problems there are."""
    problems = fatal_problems(case)
    names = [node.name for node in case.graph.nodes]
    place = {name: len(names) - i for i, name in enumerate(names)}
    return bool(problems), max((place.get(p.layer or "", 0) for p in problems), default=0), len(problems)


def explains_row(case: Case, edits: Sequence[Edit], row: Row) -> bool:
    """Whether these edits take nearly all of the row's error away."""
    error = case.evidence.error_with(edits, row)
    if not math.isfinite(error):
        return False
    now = case.evidence.error_with([], row)
    return error < MUCH_BETTER * now if math.isfinite(now) else error < MUCH_BETTER


def fixes_row(case: Case, edits: Sequence[Edit], row: Row) -> bool:
    """Whether the row agrees with the source after these edits, the whole model run: for edits before the row's stretch."""
    try:
        found = case.after(edits).evidence.verification
    except CoreproofError:
        return False
    return found is not None and any(r.agrees for r in found.rows if r.candidate == row.candidate)


def stretch_nodes(case: Case, *operators: str) -> Iterator[tuple[Row, Node]]:
    """The layers of these operators between the last values that agree with the source and the first that diverges."""
    for row in case.evidence.faults:
        for node in case.evidence.stretch(row)[0]:
            if node.operator in operators:
                yield row, node


def whole_numbers(model: Model, name: str) -> tuple[int, ...] | None:
    """The few whole numbers that an ONNX model stores under a name: a target, amounts, axes; None for anything else."""
    from coreproof.model.onnx.model import OnnxModel

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
