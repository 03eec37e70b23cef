"""MIL's classify: Core AI knows no texts, so that the scores are handed out, and the labels go with the model's notes."""

from __future__ import annotations

from coreproof.conversion.mil_to_coreai.translation import Operand, Translation, translates


@translates("classify")
def classify(t: Translation, *, probabilities: Operand, classes: Operand) -> list[Operand]:
    scores = t.value(probabilities)
    t.scope.scores = scores
    t.scope.scores_name = t.scope.names.get(scores.name, "scores")
    return [classes] * len(t.outputs)
