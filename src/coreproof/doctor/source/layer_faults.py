"""Layers that are other than the source's: found here, once for a case, and named by the rule that claims them.

Where the model runs, each stretch of layers at fault is held against the source carried to the same format anew, and each
difference is judged on that stretch. Where it does not run, only the layers themselves can be compared, as a last resort.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import islice
from typing import NamedTuple

import numpy as np

from coreproof.doctor.case import Case
from coreproof.doctor.finding import Hypothesis, Repair
from coreproof.doctor.source.compression import is_compressed, is_cost
from coreproof.doctor.source.layer_differences import STORED, LayerDifference, all_differences, differences
from coreproof.doctor.source.single_changes import missing_biases, of_attributes, single_changes
from coreproof.doctor.trial import (
    before,
    best_repair,
    error_in_whole,
    fatal_problems,
    makes_progress,
    measured_words,
)
from coreproof.verification.row import Row

_MOST = 150
"""Changes of a stretch that are tried."""
_MOST_CHANGES = 60
"""Changes of a model that does not run: one with more differences was not made from this source in this way."""
_NEAR = 6
"""How many layers before the one that fails may be to blame where the source cannot be carried over."""
_NO_LAYERS_FAULT = ("label-count", "classifier-blob", "target")
"""Problems that no change of a layer takes away."""
_KEPT = 8
"""Changes with which the model runs that are compared with the source."""

COMPRESS_LESS = "nothing is broken: compare both over photos, and compress less where it costs too much"


class LayerFault(NamedTuple):
    """A layer that is other than the source's; the rule that claims it says what causes such a fault.

    ``kind`` is "weight", "bias", "scale", "compression", "layer" or "attribute"; ``attribute`` is the last part of its name.
    """

    kind: str
    attribute: str
    hypothesis: Hypothesis


class Claim(NamedTuple):
    """A rule's functions, for faults of layers that it claims."""

    applies: Callable[[Case], bool]
    hypotheses: Callable[[Case], Iterator[Hypothesis]]
    last_resort: Callable[[Case], Iterator[Hypothesis]]


def claimed(cause: str, kind: str = "attribute", *, attributes: Sequence[str] = (), but: Sequence[str] = ()) -> Claim:
    """The rule for faults of one kind: in these attributes (in all when none is named), but not in those."""

    def chosen(faults: Sequence[LayerFault]) -> Iterator[Hypothesis]:
        for fault in faults:
            if fault.kind == kind and fault.attribute not in but and (not attributes or fault.attribute in attributes):
                yield replace(fault.hypothesis, cause=cause)

    return Claim(
        lambda case: case.evidence.reference is not None,
        lambda case: chosen(case.evidence.once(other_than_source)),
        lambda case: chosen(case.evidence.once(broken_layers)),
    )


def other_than_source(case: Case) -> list[LayerFault]:
    """In each stretch at fault, the layer that explains it."""
    found = [fault for row in case.evidence.faults if (fault := _of_row(case, row)) is not None]
    costs = [fault.hypothesis for fault in found if fault.kind == "compression"]
    seen = [fault for fault in found if fault.kind != "compression"]
    return [
        *([LayerFault("compression", "", _of_compression(costs))] if costs else []),
        *seen,
        *([_together(seen)] if len(seen) > 1 else []),
    ]


def broken_layers(case: Case) -> list[LayerFault]:
    """Without a run there is nothing to compare but the layers themselves, with those of the source carried over anew.

    Where the source cannot be carried over, plausible changes of the layers that lead to the failure are tried.
    """
    problem = next(iter(fatal_problems(case)), None)
    if case.evidence.runs or (problem is not None and problem.kind in _NO_LAYERS_FAULT):
        return []
    near = before(case.graph, None if problem is None else problem.layer)
    place = {node.name: i for i, node in enumerate(near)}
    conversion = case.evidence.reference_conversion
    known = [] if conversion is None else [d for d in all_differences(case, conversion) if _may_break(case, d)]
    # the nearest to the failure first: what lies behind it, or elsewhere, seldom causes it
    known.sort(key=lambda d: place.get(d.layer, len(place)))
    # each costs an inspection or a run
    helpful = [d for d in known[:_MOST_CHANGES] if makes_progress(case, d.edits)]
    if not helpful and case.evidence.source_graph is not None:
        guesses = (d for node in near[:_NEAR] for d in of_attributes(case, node, case.evidence.source_graph.nodes))
        helpful = list(islice((d for d in islice(guesses, _MOST_CHANGES) if makes_progress(case, d.edits)), _KEPT))
    failure = str(problem or case.evidence.failure).splitlines()[0]
    layers = dict.fromkeys(d.layer for d in helpful)
    return [_fault_of_failure([d for d in helpful if d.layer == layer], failure) for layer in layers]


def _fault_of_failure(found: Sequence[LayerDifference], failure: str) -> LayerFault:
    """One layer with all that makes the model run: which of it is right is seen when it is compared."""
    first = found[0]
    hypothesis = Hypothesis(
        layer=first.layer,
        evidence=f"{first.node.operator} {first.layer!r}: {first.words}; the model does not run: {failure}",
        cause="",
        repairs=tuple(Repair(f"set {d.subject} of {d.layer!r}: {d.words}", d.edits) for d in found),
        weight=88,
    )
    return LayerFault(*kind_of(first), hypothesis)


def _may_break(case: Case, difference: LayerDifference) -> bool:
    """Other numbers in a weight of the right shape break nothing."""
    if difference.kind not in STORED:
        return True
    now = case.weights(difference.layer).get(difference.subject)
    fresh = difference.edits[0].arguments.get("value")
    return now is None or not isinstance(fresh, np.ndarray) or now.shape != fresh.shape


def _of_row(case: Case, row: Row) -> LayerFault | None:
    """What explains the error of a row: a difference from the source carried over, else what the source's nodes tell.

    A change that merely makes it smaller is no explanation, and none is given then.
    """
    now = case.evidence.error_with((), row)
    conversion = case.evidence.reference_conversion
    found = [] if conversion is None else differences(case, conversion, row)
    costs: list[LayerDifference] = []
    others: list[LayerDifference] = []
    for difference in found:
        (costs if is_cost(case.model, difference) else others).append(difference)
    # what compression costs is asked only where nothing else explains the error
    if (fault := _explaining_fault(case, row, others, now)) is not None:
        return fault
    if (fault := _explaining_fault(case, row, costs, now)) is not None:
        return LayerFault("compression", "", replace(fault.hypothesis, repairs=()))
    if costs and others and (fault := _explaining_fault(case, row, found, now)) is not None:
        return fault
    if case.evidence.reference is None or not case.evidence.reference.is_onnx:
        return None
    for difference in islice(single_changes(case, row), _MOST):
        if (fault := _explaining_fault(case, row, [difference], now)) is not None:
            return fault
    for difference in missing_biases(case, row):
        if math.isfinite(error := error_in_whole(case, difference.edits, row)):
            return _explaining(case, row, [difference], now, error)
    return None


def _explaining_fault(case: Case, row: Row, found: Sequence[LayerDifference], now: float) -> LayerFault | None:
    """The single difference that explains the row, else all weights, else everything together; None where they do not."""
    weights = [d for d in found if d.kind in STORED]
    for sets in ([[d] for d in found], [weights] if len(weights) > 1 else [], [found] if len(found) > 1 else []):
        best = best_repair(case, row, list(map(_repair, sets)), now)
        if best is not None:
            return _explaining(case, row, sets[best[0]], now, best[1])
    return None


def _repair(found: Sequence[LayerDifference]) -> Repair:
    words = "; ".join(f"make {d.subject} of {d.layer!r} the source's" for d in found)
    return Repair(words, tuple(step for d in found for step in d.edits))


def _of_compression(costs: Sequence[Hypothesis]) -> Hypothesis:
    """All compressed weights in one finding: they differ from the source's as they were meant to."""
    layers = [hypothesis.layer for hypothesis in costs]
    also = f"; also {', '.join(map(repr, layers[1:5]))}{', ...' if len(layers) > 5 else ''}" if layers[1:] else ""
    return Hypothesis(
        layer=layers[0],
        evidence=f"{len(layers)} layers whose weights are compressed are not the source's any more: {costs[0].evidence}{also}",
        cause="",
        needs=COMPRESS_LESS,
        weight=30,
    )


def _together(seen: Sequence[LayerFault]) -> LayerFault:
    """All of them at once: a layer scaled up and the next one scaled down are both wrong, and either repair alone is worse."""
    first = seen[0].hypothesis
    repairs = [repair for fault in seen for repair in fault.hypothesis.repairs]
    whole = Repair("; ".join(r.words for r in repairs), tuple(step for r in repairs for step in r.edits))
    evidence = "; ".join(fault.hypothesis.evidence for fault in seen)
    # a little lighter, so that each alone is tried before
    joined = replace(first, evidence=evidence, repairs=(whole,), weight=first.weight - 1)
    return seen[0]._replace(hypothesis=joined)


def _explaining(case: Case, row: Row, found: Sequence[LayerDifference], now: float, after: float) -> LayerFault:
    first = next((d for d in found if d.kind == "weight"), found[0])
    words = "; ".join(d.words for d in found)
    hypothesis = Hypothesis(
        layer=first.layer,
        evidence=f"{first.node.operator} {first.layer!r}: {words} ({measured_words(row, now, after)})",
        cause="",
        repairs=(_repair(found),),
        weight=60,
    )
    if first.kind in STORED and "scaled by" in first.words and is_compressed(case.model, first):
        return LayerFault("scale", "", hypothesis)
    return LayerFault(*kind_of(first), hypothesis)


def kind_of(difference: LayerDifference) -> tuple[str, str]:
    """The kind of fault that a difference stands for, and the attribute that it is in, where it is in one."""
    if difference.kind != "attribute":
        return ("layer" if difference.kind == "operator" else difference.kind), ""
    subject = difference.subject.rsplit(".", 1)[-1]
    # short weights are stored among the attributes
    return {"bias": "bias", "beta": "bias", "gamma": "weight", "weight": "weight"}.get(subject, "attribute"), subject
