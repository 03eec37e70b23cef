"""A layer that is other than the source's: a weight, a bias, an epsilon, an axis, a pad, or the layer itself."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import islice

from coreproof.doctor.case import Case
from coreproof.doctor.finding import Hypothesis, Repair
from coreproof.doctor.rules import rule
from coreproof.doctor.source.single_changes import hypotheses, missing_biases
from coreproof.doctor.source.twin_differences import Difference, differences
from coreproof.doctor.trial import MUCH_BETTER
from coreproof.editing.edit import Edit
from coreproof.errors import CoreproofError
from coreproof.model.coreml.compressed import DECOMPRESS
from coreproof.verification.verify import Row

COMPRESSION = "compression"
_MOST = 150
"""Changes of a stretch that are tried."""
_ROUNDING = 0.02
"""What rounding may leave of a value at most, as a share of it: a model that is far off has tolerances that let all pass."""
_NAMES = {
    "epsilon": ("epsilon", "eps"),
    "padding": (
        "borderAmounts",
        "avgPoolExcludePadding",
        "pad",
        "pads",
        "pad_type",
        "auto_pad",
        "ceil_mode",
        "exclude_padding_from_average",
        "count_include_pad",
    ),
    "axis": ("axis", "axes", "perm", "permutation"),
    "batch-baked-reshape": ("shape", "targetShape"),
}
"""rule -> the attributes, in the words of the formats, that it is about."""

CAUSES = {
    "weight": "a weight was transposed, permuted, scaled or replaced on the way from the source",
    "scale": "a factor got lost when the weight was compressed: its scale, or the one of a block or a channel",
    "compression": "the weights were compressed (palettised, quantised or pruned) after the conversion: this is what it costs",
    "bias": "a bias was dropped or replaced on the way from the source",
    "epsilon": "the default of another framework was taken for the epsilon, or it was rounded away",
    "padding": "formats order and count padding differently",
    "axis": "the axis was counted from another layout or rank",
    "batch-baked-reshape": "the batch of the dummy input was folded into the shape",
    "attribute": "the converter set an attribute otherwise than the source has it",
    "layer": "the converter dropped, added or exchanged a layer",
}


@rule("other-than-source")
def other_than_source(case: Case) -> Iterator[Hypothesis]:
    """Each layer at fault against its twin: the source carried to the same format anew."""
    found = [s for row in case.evidence.faults if (s := _of_row(case, row)) is not None]
    costs = [s for s in found if s.rule == COMPRESSION]
    if costs:
        yield _of_compression(costs)
    seen = [s for s in found if s.rule != COMPRESSION]
    yield from seen
    if len(seen) > 1:
        yield _together(seen)


def _of_row(case: Case, row: Row) -> Hypothesis | None:
    """What explains the error of a row: a difference from the twin, else what the source's nodes tell.

    A change that merely makes it smaller is no explanation, and none is given then.
    """
    before = case.evidence.error_with((), row)
    found = (
        [] if case.evidence.reference_conversion is None else differences(case, case.evidence.reference_conversion, row)
    )
    if found and (hypothesis := _judged(case, row, found, before)) is not None:
        named = [d for d in found if d.kind in ("weight", "bias") and d.layer == hypothesis.layer]
        if (
            hypothesis.rule not in ("weight", "bias")
            or not hypothesis.layer
            or not is_compressed(case, hypothesis.layer)
        ):
            return hypothesis
        if any("scaled by" in d.words for d in named):
            return replace(hypothesis, rule="scale", cause=CAUSES["scale"])
        return replace(hypothesis, rule=COMPRESSION, repairs=()) if all(map(_costs, named)) else hypothesis
    if case.evidence.reference is None or case.evidence.reference.format != "onnx":
        return None
    for difference in islice(hypotheses(case, row), _MOST):
        error = case.evidence.error_with(difference.edits, row)
        if _explained(error, before, row):
            return _hypothesis(row, [difference], difference.edits, before, error)
    for difference in missing_biases(case, row):
        if math.isfinite(error := _in_whole(case, difference.edits, row)):
            return _hypothesis(row, [difference], difference.edits, before, error)
    return None


def _in_whole(case: Case, edits: Sequence[Edit], row: Row) -> float:
    """The row's error when the whole edited model is run; infinite where the row does not agree then."""
    try:
        found = case.after(edits).evidence.verification
    except CoreproofError:
        return math.inf
    rows = [] if found is None else [r for r in found.rows if r.candidate == row.candidate and r.agrees]
    return rows[0].judgement.rms_relative_error if rows else math.inf


def _judged(case: Case, row: Row, found: Sequence[Difference], before: float) -> Hypothesis | None:
    """The single difference that explains the row, else all of them together; None where they do not."""
    judged = sorted(((case.evidence.error_with(d.edits, row), i, d) for i, d in enumerate(found)), key=lambda j: j[:2])
    error, _, best = judged[0]
    if _explained(error, before, row):
        return _hypothesis(row, [best], best.edits, before, error)
    weights = [d for d in found if d.kind in ("weight", "bias")]
    for several in (weights, found):
        edits = tuple(step for d in several for step in d.edits)
        if len(several) > 1 and _explained(whole := case.evidence.error_with(edits, row), before, row):
            return _hypothesis(row, several, edits, before, whole)
    return None


def _explained(error: float, before: float, row: Row) -> bool:
    """Whether so little is left of an error that rounding or the next fault may be all of it."""
    return error < before and (
        error < MUCH_BETTER * min(before, 1.0) or error <= min(row.tolerance.typical or 0.0, _ROUNDING)
    )


def _costs(difference: Difference) -> bool:
    """Whether a compressed weight is off by what compression costs: near to the source's, and not put otherwise."""
    return difference.words.rpartition(": ")[2].startswith(("quantised", "slightly changed", "changed"))


def is_compressed(case: Case, layer: str) -> bool:
    """Whether a layer reads a weight that is stored in few bits or as a table, with zeros left out, or scaled."""
    node = next(n for n in case.graph.nodes if n.name == layer)
    if case.model.format == "neuralnetwork":
        return any("float" not in dtype for dtype, _ in node.parameters.values())
    makers = (case.graph.producer(name) for name in node.inputs)
    return any(maker is not None and maker.operator in DECOMPRESS for maker in makers)


def _of_compression(costs: Sequence[Hypothesis]) -> Hypothesis:
    """All compressed weights in one finding: they differ from the source's as they were meant to."""
    layers = [s.layer for s in costs]
    return Hypothesis(
        rule=COMPRESSION,
        layer=layers[0],
        evidence=f"{len(layers)} layers whose weights are compressed are not the source's any more: {costs[0].evidence}"
        + (f"; also {', '.join(map(repr, layers[1:5]))}{', ...' if len(layers) > 5 else ''}" if layers[1:] else ""),
        cause=CAUSES[COMPRESSION],
        needs="nothing is broken: compare both over photos, and compress less where it costs too much",
        weight=30,
    )


def _together(seen: Sequence[Hypothesis]) -> Hypothesis:
    """All of them at once: a layer scaled up and the next one scaled down are both wrong, and either repair alone is worse."""
    first = seen[0]
    edits = tuple(step for s in seen for repair in s.repairs for step in repair.edits)
    return Hypothesis(
        rule=first.rule,
        layer=first.layer,
        evidence="; ".join(s.evidence for s in seen),
        cause=first.cause,
        repairs=(Repair("; ".join(r.words for s in seen for r in s.repairs), edits),),
        weight=first.weight - 1,
    )


def _hypothesis(
    row: Row, found: Sequence[Difference], edits: tuple[Edit, ...], before: float, after: float
) -> Hypothesis:
    first = next((d for d in found if d.kind == "weight"), found[0])
    name = rule_name(first)
    return Hypothesis(
        rule=name,
        layer=first.layer,
        evidence=(
            f"{first.operator} {first.layer!r}: {'; '.join(d.words for d in found)} "
            f"(relative error at {row.candidate!r}: {before:.2g}, with the source's: {after:.2g})"
        ),
        cause=CAUSES[name],
        repairs=(Repair("; ".join(f"make {d.subject} of {d.layer!r} the source's" for d in found), edits),),
        weight=60,
    )


def rule_name(difference: Difference) -> str:
    """The fault that a difference of this kind stands for."""
    if difference.kind != "attribute":
        return "layer" if difference.kind == "operator" else difference.kind
    subject = difference.subject.rsplit(".", 1)[-1]
    if subject in ("bias", "beta", "gamma", "weight"):  # a short one, stored among the attributes
        return "bias" if subject in ("bias", "beta") else "weight"
    return next((name for name, subjects in _NAMES.items() if subject in subjects), "attribute")
