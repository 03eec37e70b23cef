"""What the graph engines run: an ONNX graph, and how its values relate to the model's own features and inner values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

import numpy as np
import onnx_ir as ir

from coreproof.conversion.coreml_to_onnx.classic.held import fed_as
from coreproof.conversion.coreml_to_onnx.lowered_model import DictionaryOutput, LoweredModel
from coreproof.errors import RunError
from coreproof.model.base import Model
from coreproof.model.collector import let_go_when_dropped
from coreproof.model.dictionary_tensors import keys_of, values_of
from coreproof.model.features import Feature, Signature
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
    dictionaries: Mapping[str, DictionaryOutput] = field(default_factory=dict)

    def encode_inputs(self, values: Mapping[str, object]) -> dict[str, object]:
        """What the graph is fed for the model's features: of a dictionary of a Core ML model its keys and its values."""
        fed: dict[str, object] = {}
        for name, value in values.items():
            if name in self._entries or not isinstance(value, Mapping):
                fed[fed_as(name) if fed_as(name) in self._entries else name] = value
                continue
            # ONNX Runtime takes texts as arrays of objects
            texts = "of text" in self.signature.input(name).holds
            fed[keys_of(name)] = np.array(list(value), dtype=object if texts else np.int64)
            fed[values_of(name)] = np.array(list(value.values()), np.float64)
        return fed

    @cached_property
    def _entries(self) -> frozenset[str]:
        return frozenset(value.name or "" for value in self.graph.graph.inputs)

    def decode_outputs(self, outputs: Mapping[str, object]) -> dict[str, object]:
        """The graph's outputs as the model's features: pictures, a classifier's label and dictionary, numbers, texts, arrays."""
        finished: dict[str, object] = {}
        made = (self.signature.predicted_label, self.signature.probabilities)
        for feature in self.signature.outputs:
            if feature.name in self.dictionaries:
                finished[feature.name] = _dictionary(self.dictionaries[feature.name], outputs)
            elif feature.name in made and (feature.name not in outputs or feature.kind == "dictionary"):
                continue  # made from the scores below
            else:
                finished[feature.name] = _decoded(feature, outputs[feature.name])
        scores = outputs.get(self.signature.scores or "")
        if self.signature.labels is not None and scores is not None:
            # what the graph hands out itself goes before what is made of the scores
            finished = {**self._classify(np.asarray(scores).reshape(-1)), **finished}
        return {f.name: finished[f.name] for f in self.signature.outputs if f.name in finished}

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


def _decoded(feature: Feature, value: object) -> object:
    """A value of the graph as its feature hands it out: single numbers and texts as Python's own."""
    if feature.image is not None:
        return to_picture(np.asarray(value), feature.image)
    if feature.kind in ("double", "int64", "string") and np.asarray(value).size == 1:
        single = np.asarray(value).reshape(())[()]
        return {"double": float, "int64": int, "string": str}[feature.kind](single)
    if feature.kind == "sequence" and isinstance(value, np.ndarray):
        return value.tolist()
    return value


def _dictionary(output: DictionaryOutput, outputs: Mapping[str, object]) -> dict[object, object]:
    keys = np.asarray(outputs[output.keys]).tolist() if isinstance(output.keys, str) else output.keys
    values = np.asarray(outputs[output.values], np.float64).reshape(-1).tolist()
    # a sparse dictionary has no entries of 0
    return {key: value for key, value in zip(keys, values, strict=True) if value or not output.sparse}


def compile_model(model: Model, precision: Literal["stored", "fp32"], function: str | None = None) -> Executable:
    """The ONNX graph of an ONNX, Core ML or Core AI model; ``function`` picks one of a model that has several."""
    if isinstance(model, OnnxModel):
        pairs = {
            f.name: DictionaryOutput(keys_of(f.name), values_of(f.name))
            for f in model.signature.outputs
            if keys_of(f.name) in {value.name for value in model.ir.graph.outputs}
        }
        return Executable(model.ir, model.signature, {}, model.name, "ONNX Runtime", dictionaries=pairs)
    from coreproof.conversion.lowered import lowered_to_onnx

    return executable_of(model, lowered_to_onnx(model, precision, function))


def executable_of(model: Model, lowered: LoweredModel) -> Executable:
    """What runs of a Core ML or Core AI model that was lowered."""
    engine = "coreproof's runtime (ONNX Runtime)"
    let_go_when_dropped(lowered.model)
    return Executable(
        lowered.model, lowered.signature, lowered.values, model.name, engine, lowered.states, lowered.dictionaries
    )
