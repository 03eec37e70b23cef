"""MIL's classify: the head of a classifier. Labels are put together by who runs the graph."""

from __future__ import annotations

from coreproof.conversion.coreml_to_onnx.lowering import Lowering, Operand, lowers


@lowers("classify", passes_on=True)
def classify(low: Lowering, *, probabilities: Operand, classes: Operand) -> tuple[Operand, ...]:
    scores = low.value(probabilities)
    if scores.producer() is None:  # an input or a constant, whose name no output may bear
        scores = low.op("Identity", scores)
    low.shared.scores = scores
    low.shared.scores_name = scores.name
    return tuple([classes] * len(low.outputs))
