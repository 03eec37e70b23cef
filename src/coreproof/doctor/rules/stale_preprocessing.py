"""stale-preprocessing: preprocessing that is stored for an input of another name: it is not carried out."""

from __future__ import annotations

from collections.abc import Iterator

from coreproof.doctor.case import Case
from coreproof.doctor.finding import Hypothesis, Repair
from coreproof.editing.edit import Edit
from coreproof.model.coreml.model import CoreMLModel


def applies(case: Case) -> bool:
    return case.model.is_network


def hypotheses(case: Case) -> Iterator[Hypothesis]:
    """Scale and bias for "data" in a model whose input was renamed to "image" (coremltools#163)."""
    model = case.model
    assert isinstance(model, CoreMLModel)
    inputs = [f.name for f in model.signature.inputs]
    named = [str(step.featureName) for step in model.network.preprocessing]
    images = [f.name for f in model.signature.inputs if f.image is not None and f.name not in named]
    for name in dict.fromkeys(n for n in named if n and n not in inputs):
        sure = len(images) == 1
        yield Hypothesis(
            evidence=f"scale and bias are stored for {name!r}; the inputs are {', '.join(map(repr, inputs))}",
            cause="the input was renamed without its preprocessing (coremltools#163)",
            repairs=tuple(
                Repair(f"give the preprocessing to {image!r}", (Edit("preprocess", {"input": image, "old": name}),))
                for image in images
                if sure
            ),
            needs=None if sure else "to be told which picture is meant: edit it by hand with the verb `preprocess`",
            weight=70,
        )
