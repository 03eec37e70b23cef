"""constantpad-order: pad amounts in the order of another format: begins and ends of the axes mixed up."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import numpy.typing as npt

from coreproof.difference.settings import set_edit
from coreproof.doctor.case import Case
from coreproof.doctor.finding import Hypothesis, Repair
from coreproof.doctor.trial import before, fatal_problems, whole_numbers
from coreproof.editing.edit import Edit
from coreproof.model.base import Model
from coreproof.model.graph import Node
from coreproof.validation.problem import Problem
from coreproof.verification.row import Row

Numbers = npt.NDArray[np.int64]
Amounts = tuple[Node, str, tuple[int, ...]]
"""A pad layer, the attribute that holds its amounts, and these."""

_CAUSE = (
    "ONNX lists all begins, then all ends ([b0, b1, ..., e0, e1, ...]); Core ML pairs them axis by axis "
    "([b0, e0, b1, e1, ...]); PyTorch pairs them from the last axis backwards. The amounts were copied as they stood"
)
_ATTRIBUTES = {"constantPad": ("padAmounts",), "pad": ("pad",), "Pad": ("pads",)}
_ORDERS: dict[str, Callable[[Numbers], Numbers]] = {
    "begins, then ends, read as pairs": lambda a: a.reshape(2, -1).T,
    "pairs, read as begins, then ends": lambda a: a.reshape(-1, 2).T,
    "pairs from the last axis backwards": lambda a: a.reshape(-1, 2)[::-1],
    "begins and ends exchanged": lambda a: a.reshape(-1, 2)[:, ::-1],
    "begins, then ends, from the last axis backwards": lambda a: a.reshape(2, -1)[:, ::-1].T,
}
"""What was mistaken for what -> the amounts put right."""


def applies(case: Case) -> bool:
    return not case.evidence.runs or bool(case.evidence.faults)


def hypotheses(case: Case) -> Iterator[Hypothesis]:
    """Before and after, for an image that is padded by one pixel on every side::

    [1, 3, 16, 16] -> constantPad [0, 0, 1, 1, 0, 0, 1, 1] -> [1, 5, 16, 18] -> convolution of 3 channels: refused
    [1, 3, 16, 16] -> constantPad [0, 0, 0, 0, 1, 1, 1, 1] -> [1, 3, 18, 18] -> convolution of 3 channels
    """
    problems = fatal_problems(case, "shape", "rank", "declared-type")
    if problems:
        near = _pads(case, before(case.graph, problems[0].layer))
        for words, edits, group in _trials(case, near):
            yield _mixed_up(case, words, edits, group, problems[0], f"so that {problems[0]}")
    for row in case.evidence.faults:
        near = _pads(case, case.evidence.stretch(row)[0][::-1])
        for words, edits, group in (*_trials(case, near), *_as_the_source(case, row, near)):
            told = f"so that {row.candidate!r} differs from the source"
            yield _mixed_up(case, words, edits, group, row, told)


def _as_the_source(
    case: Case, row: Row, near: Sequence[Amounts]
) -> Iterator[tuple[str, tuple[Edit, ...], list[Amounts]]]:
    """The amounts of the source's own pad in this stretch, in the model's order."""
    assert case.evidence.reference is not None
    for pad in case.evidence.stretch(row)[1]:
        stored = _amounts(pad, case.evidence.reference)
        for node, attribute, amounts in near if stored is not None else ():
            assert stored is not None
            pairs = _pairs(pad, np.asarray(stored[1]))
            # axes that only one of the two has stand in front: those of the [Seq, Batch] of the older networks
            missing = len(amounts) // 2 - len(pairs)
            pairs = np.concatenate([np.zeros((missing, 2), np.int64), pairs]) if missing > 0 else pairs[-missing:]
            right = [int(n) for n in (pairs.T if node.operator == "Pad" else pairs).reshape(-1)]
            step = set_edit(node.name, attribute, right)
            if right != list(amounts):
                told = f"the source pads by {[list(map(int, p)) for p in pairs]}, axis by axis"
                yield told, (step,), [(node, attribute, amounts)]


def _pairs(node: Node, amounts: Numbers) -> Numbers:
    """Begin and end, axis by axis."""
    pairs: Numbers = amounts.reshape(2, -1).T if node.operator == "Pad" else amounts.reshape(-1, 2)
    return pairs


def _pads(case: Case, nodes: Sequence[Node]) -> list[Amounts]:
    found = ((node, _amounts(node, case.model)) for node in nodes)
    return [(node, *amounts) for node, amounts in found if amounts is not None]


def _amounts(node: Node, model: Model) -> tuple[str, tuple[int, ...]] | None:
    """The attribute (or constant) that holds the amounts of a pad, and these; None for other layers."""
    for attribute in _ATTRIBUTES.get(node.operator, ()):
        amounts = node.attributes.get(attribute)
        if isinstance(amounts, tuple | list) and len(amounts) % 2 == 0 and len(amounts) > 2:
            return attribute, tuple(int(n) for n in amounts)
    if node.operator == "Pad" and len(node.inputs) > 1:
        stored = whole_numbers(model, node.inputs[1])
        return None if stored is None else (node.inputs[1], stored)
    return None


def _trials(case: Case, near: Sequence[Amounts]) -> Iterator[tuple[str, tuple[Edit, ...], list[Amounts]]]:
    """Each order for all pads of the model at once, then for those before the fault, then for each alone."""
    everywhere = _pads(case, case.graph.nodes) if near else []
    # a converter mixes up all of them or none; edits by hand may have put some right
    groups = [everywhere, list(near), *([pad] for pad in near)]
    seen = set()
    for words, order in _ORDERS.items():
        for group in groups:
            edits = []
            for node, attribute, amounts in group:
                right = [int(n) for n in order(np.asarray(amounts)).reshape(-1)]
                if right != list(amounts):
                    edits.append(set_edit(node.name, attribute, right))
            key = str([str(e) for e in edits])
            if edits and key not in seen:
                seen.add(key)
                yield words, tuple(edits), group


def _mixed_up(
    case: Case, words: str, edits: tuple[Edit, ...], group: Sequence[Amounts], about: Problem | Row, consequence: str
) -> Hypothesis:
    changed = {str(e.arguments["layer"]) for e in edits}
    order = {node.name: i for i, node in enumerate(case.graph.nodes)}
    pads = sorted((p for p in group if p[0].name in changed), key=lambda p: order[p[0].name])
    node, attribute, amounts = pads[0]
    shape = case.evidence.shapes.get(node.inputs[0])
    made = case.evidence.shapes.get(node.outputs[0])
    sizes = f" and make {list(made)} of {list(shape)}" if shape is not None and made is not None else ""
    repair = "; ".join(f"give {e.arguments['layer']!r} the amounts {e.arguments['value']}" for e in edits)
    return Hypothesis(
        layer=node.name,
        evidence=f"{attribute} of {', '.join(repr(p[0].name) for p in pads)} are {list(amounts)}{sizes}: {words}; {consequence}",
        cause=_CAUSE,
        repairs=(Repair(repair, edits),),
        weight=70 if isinstance(about, Row) else 90,
        about=about,
    )
