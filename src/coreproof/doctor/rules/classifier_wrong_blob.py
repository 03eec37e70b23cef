"""classifier-wrong-blob: a classifier that takes its probabilities from the wrong value: its labels do not fit them."""

from __future__ import annotations

from collections.abc import Iterator
from math import prod

from coreproof.doctor.case import Case
from coreproof.doctor.finding import Hypothesis, Repair
from coreproof.doctor.trial import fatal_problems
from coreproof.editing.edit import Edit
from coreproof.model.coreml.model import CoreMLModel
from coreproof.validation.names import score_blob


def applies(case: Case) -> bool:
    return bool(fatal_problems(case, "label-count", "classifier-blob"))


def hypotheses(case: Case) -> Iterator[Hypothesis]:
    """Before and after, in a network with two heads, converted as a classifier of ten classes::

    labels (10) <- 19 (2 values, the head that was converted last)
    labels (10) <- 18 (10 values)
    """
    problem, labels = fatal_problems(case, "label-count", "classifier-blob")[0], case.model.signature.labels or ()
    wrong, right = scores(case), case.right_labels
    # where the labels that are known to be right are of another number, the list is wrong and not the value
    doubtful = problem.kind == "label-count" and right is not None and len(right) != len(labels)
    fitting = values_of(case, len(labels))
    if wrong is None or not fitting or doubtful:
        return
    sure = len(fitting) == 1 or fitting[0] == case.model.signature.probabilities
    yield Hypothesis(
        layer=problem.layer,
        evidence=(
            f"the {len(labels)} labels are given to {wrong!r}: {problem.found}; {fitting[0]!r} has {len(labels)} values"
            + (", and is declared as the probabilities" if fitting[0] == case.model.signature.probabilities else "")
        ),
        cause="a model with several outputs was converted as a classifier: the converter took its last output for the scores",
        repairs=tuple(
            Repair(f"take the probabilities from {name!r}", (_take(case, name, wrong),)) for name in fitting if sure
        ),
        needs=None
        if sure
        else f"which of {', '.join(fitting)} holds the scores: the source says it (--against SOURCE)",
        weight=90,
    )


def scores(case: Case) -> str | None:
    """The value that a classifier's labels are given to."""
    model = case.model
    if isinstance(model, CoreMLModel) and model.is_network:
        return score_blob(model)
    return next((n for node in case.graph.nodes if node.operator == "classify" for n in case.graph.data(node)), None)


def values_of(case: Case, count: int) -> list[str]:
    """The values that may hold so many scores: the declared probabilities, then what ends the network, the last first.

    Inner values of the same length are none: a hidden layer may have as many units as there are labels by chance.
    """
    graph = case.graph
    fitting = [
        name
        for node in reversed(graph.nodes)
        for name in node.outputs
        if prod(case.evidence.shapes.get(name, (0,))) == count and node.operator not in ("const", "classify")
    ]
    # what the classifier reads does not count as read
    ends = [n for n in fitting if not [r for r in graph.consumers(n) if r.operator != "classify"] or n in graph.outputs]
    declared = case.model.signature.probabilities
    if declared in fitting:
        return [declared, *(n for n in ends if n != declared)]
    return ends


def _take(case: Case, name: str, wrong: str) -> Edit:
    if case.model.is_network:
        return Edit("scores", {"value": name})
    layer = next(n.name for n in case.graph.nodes if n.operator == "classify")
    return Edit("connect", {"source": name, "to": layer, "input": wrong})
