"""ModelLowerer: a handler of one model kind as what lowers whole models of it, and stages of a pipeline."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import replace
from itertools import islice
from typing import TypeAlias

import onnx_ir as ir

from coreproof.conversion.coreml_to_onnx.boundary import understood
from coreproof.conversion.coreml_to_onnx.builder import OnnxBuilder
from coreproof.conversion.coreml_to_onnx.classic.held import (
    Dictionary,
    Held,
    Labels,
    fed_as,
    scores_of,
)
from coreproof.conversion.coreml_to_onnx.classic.stage import SINGLE, SharedGraph, Stage
from coreproof.conversion.coreml_to_onnx.lowered_model import DictionaryOutput, LoweredModel, named_lengths
from coreproof.errors import ConversionError, first_few
from coreproof.model.coreml.model import CoreMLModel
from coreproof.model.dictionary_tensors import keys_of, values_of
from coreproof.model.features import Feature, Signature

Handler: TypeAlias = Callable[[Stage], None]
ProblemCheck: TypeAlias = Callable[[CoreMLModel], Iterable[str]]


class ModelLowerer:
    """What lowers the models of one kind; ``problems`` tells what makes no sense in one before anything is built."""

    def __init__(self, handler: Handler, check: ProblemCheck) -> None:
        self._handler = handler
        self._check = check

    def __call__(self, model: CoreMLModel, precision: str, *, function: str | None = None) -> LoweredModel:
        """The ONNX model. Raises ConversionError, which names every problem of the model and its stages."""
        # a file that was made to complain may have millions
        found = list(islice(self.problems(model), 1000))
        if found:
            raise ConversionError(
                "the model contradicts itself",
                where=model.where,
                found=first_few(found),
                fix="it is damaged, or was written by a tool with a fault; make it again from its source",
            )
        b = OnnxBuilder()
        b.taken.update(f.name for f in (*model.signature.inputs, *model.signature.outputs))
        shared = SharedGraph(b, precision)
        held = {feature.name: _graph_input(shared, model, feature) for feature in model.signature.inputs}
        made = self.into(Stage(model, model.where, held, shared))
        return _finished(model, shared, made)

    def problems(self, model: CoreMLModel, place: str = "") -> Iterator[str]:
        """What makes no sense in the model, each problem with its place."""
        yield from (f"{place}{problem}" for problem in _interface(model))
        yield from (f"{place}{problem}" for problem in self._check(model))

    def into(self, stage: Stage) -> dict[str, Held]:
        """Adds the model's nodes to the graph of its stage; returns what stands under the names of its outputs."""
        with understood(stage.refuse, dict):
            self._handler(stage)
        missing = [f.name for f in stage.model.signature.outputs if f.name not in stage.made]
        if missing:
            raise stage.refuse(f"nothing in it makes its output {', '.join(map(repr, missing))}")
        return stage.made


def lowers_model(check: ProblemCheck | None = None) -> Callable[[Handler], ModelLowerer]:
    """Makes a handler the lowerer of its model kind; ``check`` yields what makes no sense in a model of it."""
    return lambda handler: ModelLowerer(handler, check or (lambda model: ()))


def _interface(model: CoreMLModel) -> Iterator[str]:
    signature = model.signature
    if not signature.inputs:
        yield f"the {model.kind} has no inputs"
    if not signature.outputs:
        yield f"the {model.kind} has no outputs"


# inputs


def _graph_input(shared: SharedGraph, model: CoreMLModel, feature: Feature) -> Held:
    """The ONNX input (of a dictionary the two inputs) of a feature."""
    b = shared.b
    # Core ML lets an input and an output bear one name, ONNX names each value once
    shares = feature.name in {f.name for f in model.signature.outputs}
    name = fed_as(feature.name) if shares else feature.name
    if feature.kind == "dictionary":
        count = f"{feature.name}_count"
        # of all operators DictVectorizer and CastMap alone read a map: keys and values are two vectors instead
        keys = b.input(
            keys_of(feature.name), ir.DataType.STRING if "of text" in feature.holds else ir.DataType.INT64, [count]
        )
        return Dictionary(keys, b.input(values_of(feature.name), "float64", [count]))
    if feature.kind in SINGLE:
        # a number or a text alone has no dimension
        value = b.input(name, SINGLE[feature.kind], [])
    elif feature.kind == "sequence":
        dtype = ir.DataType.STRING if feature.dtype == "str" else ir.DataType.INT64
        value = b.input(name, dtype, [f"{feature.name}_count"])
    elif feature.kind in ("tensor", "image"):
        value = b.input(name, "float32" if feature.image else feature.dtype or "float32", named_lengths(feature))
    else:
        raise ConversionError(
            f"input {feature.name!r} is a {feature.kind}, which such models do not read", where=model.where
        )
    if feature.optional:
        shared.optional[value] = feature.name
    return value


# outputs


def _finished(model: CoreMLModel, shared: SharedGraph, made: Mapping[str, Held]) -> LoweredModel:
    signature = model.signature
    outputs: dict[str, ir.Value] = {}
    dictionaries: dict[str, DictionaryOutput] = {}
    labels: Labels | None = None
    for feature in signature.outputs:
        held = made[feature.name]
        if not isinstance(held, Dictionary):
            outputs[feature.name] = _graph_output(shared.b, feature.name, held, outputs.values())
            continue
        # keys that are computed are an output of their own; known ones stand in the signature
        if isinstance(held.keys, ir.Value):
            names = keys_of(feature.name), values_of(feature.name)
            for name, value in zip(names, (held.keys, held.values), strict=True):
                outputs[name] = _graph_output(shared.b, name, value, outputs.values())
            dictionaries[feature.name] = DictionaryOutput(*names, sparse=held.sparse)
            continue
        outputs[feature.name] = _graph_output(shared.b, feature.name, held.values, outputs.values())
        if feature.name == signature.probabilities and held.keys and not held.sparse:
            labels = held.keys
        else:
            dictionaries[feature.name] = DictionaryOutput(held.keys, feature.name, sparse=held.sparse)
    scores = signature.probabilities if labels else None
    # a classifier that names the class alone still has scores inside, which are handed out to be compared
    alone = made.get(scores_of(signature.predicted_label or ""))
    if labels is None and isinstance(alone, Dictionary) and not isinstance(alone.keys, ir.Value):
        scores, labels = scores_of(signature.predicted_label or ""), alone.keys
        outputs[scores] = _graph_output(shared.b, scores, alone.values, outputs.values())
    entries = {value.name or "": value for value in shared.b.inputs}
    # an input that a stage gave a default has an initializer of its name by now
    given = {name for value, name in shared.optional.items() if value.const_value is not None}
    inputs = tuple(_as_read(f, entries.get(keys_of(f.name)), f.name in given) for f in signature.inputs)
    read = {f.name: keys_of(f.name) if f.kind == "dictionary" else f.name for f in signature.inputs}
    values = {**shared.values, **read, **{name: name for name in outputs}}
    lowered = shared.b.model(list(outputs.values()))
    return LoweredModel(
        lowered, _of_classifier(replace(signature, inputs=inputs), labels, scores), values, dictionaries=dictionaries
    )


def _of_classifier(signature: Signature, labels: Labels | None, scores: str | None) -> Signature:
    """A regressor names its output as "predicted" too; that is a number like any other."""
    predicted = next((f for f in signature.outputs if f.name == signature.predicted_label), None)
    classifies = predicted is not None and predicted.kind in ("string", "int64")
    return replace(
        signature,
        predicted_label=signature.predicted_label if classifies else None,
        labels=labels or signature.labels,
        probabilities=signature.probabilities if scores == signature.probabilities else None,
        scores=scores,
    )


def _as_read(feature: Feature, keys: ir.Value | None, has_default: bool) -> Feature:
    """An input as the stages turned out to read it: what has a default need not be fed, and dictionaries have their keys."""
    feature = replace(feature, optional=has_default)
    if feature.kind != "dictionary" or keys is None:
        return feature
    return replace(feature, holds=f"dictionary of {'text' if keys.dtype == ir.DataType.STRING else 'int64'} to float64")


def _graph_output(b: OnnxBuilder, name: str, value: ir.Value, made: Collection[ir.Value]) -> ir.Value:
    """A value as the graph's output of that name."""
    # an output has to be made by a node, and each by another one
    if value.producer() is None or value.const_value is not None or value in made:
        value = b.copy(value)
    b.rename(value, name)
    return value
