"""What the graph engines run: an ONNX graph, and how its values relate to the model's own features and inner values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import onnx_ir as ir

from coreproof.errors import RunError
from coreproof.model.base import Model
from coreproof.model.features import Signature
from coreproof.model.onnx.model import OnnxModel
from coreproof.runtime.images import to_picture


@dataclass(frozen=True)
class Executable:
    """An ONNX graph that computes ``signature``; ``values`` maps the model's own value names to the graph's.

    ``name`` is the model's, for messages; ``engine`` says who computes, for reports. ``states`` maps each state, an input
    of the graph, to the output that holds it after the run.
    """

    graph: ir.Model
    signature: Signature
    values: Mapping[str, str]
    name: str
    engine: str
    states: Mapping[str, str] = field(default_factory=dict)

    def decode_outputs(self, outputs: Mapping[str, object]) -> dict[str, object]:
        """The graph's outputs as the model's features: pictures, a classifier's label and dictionary, arrays."""
        finished: dict[str, object] = {}
        for feature in self.signature.outputs:
            # made from the scores below
            if feature.name in (self.signature.predicted_label, self.signature.probabilities):
                continue
            value = outputs[feature.name]
            if feature.image is not None:
                value = to_picture(np.asarray(value), feature.image)
            finished[feature.name] = value
        scores = outputs.get(self.signature.scores or "")
        if self.signature.labels is not None and scores is not None:
            finished.update(self._classify(np.asarray(scores).reshape(-1)))
        return finished

    def _classify(self, scores: np.ndarray) -> dict[str, object]:
        labels = self.signature.labels or ()
        if len(labels) != scores.size:
            raise RunError(
                "the classifier has another number of labels than of scores",
                where=f"{self.name}, value {self.signature.scores!r}",
                expected=f"{len(labels)} scores, one a label",
                found=f"{scores.size} scores",
                fix="give the model the label list it was trained with",
            )
        result: dict[str, object] = {}
        if self.signature.predicted_label is not None:
            result[self.signature.predicted_label] = labels[int(np.argmax(scores))]
        if self.signature.probabilities is not None:
            result[self.signature.probabilities] = dict(zip(labels, scores.astype(float).tolist(), strict=True))
        return result


def compile_model(model: Model, precision: Literal["stored", "fp32"], function: str | None = None) -> Executable:
    """The ONNX graph of an ONNX or Core ML model; ``function`` picks one of a multi-function ML Program."""
    if isinstance(model, OnnxModel):
        return Executable(model.ir, model.signature, {}, model.name, "ONNX Runtime")
    from coreproof.conversion.coreml_to_onnx.convert import coreml_to_onnx
    from coreproof.model.coreml.model import CoreMLModel

    assert isinstance(model, CoreMLModel)
    lowered = coreml_to_onnx(model, precision=precision, function=function)
    engine = "coreproof's runtime (ONNX Runtime)"
    return Executable(lowered.model, lowered.signature, lowered.values, model.name, engine, lowered.states)
