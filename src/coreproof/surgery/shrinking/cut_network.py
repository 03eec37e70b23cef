"""Cuts a NeuralNetwork: the layers that are kept, and features in the ranks that its array mapping can read."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from coreproof.model.base import Model
from coreproof.model.coreml import CoreMLModel
from coreproof.model.coreml_proto import FeatureTypes_pb2, Model_pb2
from coreproof.surgery.inspection.inspect import inspect
from coreproof.surgery.inspection.names import score_blob, wanted_outputs
from coreproof.surgery.shrinking.cutting import Cutter, Plan, Slice, Step, resolve

_EXACT = 1
"""``arrayInputShapeMapping``: arrays keep their rank."""


class NetworkCutter(Cutter):
    """Every blob is float32, so that a cut needs its shape only."""

    _layers: dict[str, Any]

    @classmethod
    def of(cls, model: Model) -> NetworkCutter:
        """Reads the layers and follows the shapes once."""
        assert isinstance(model, CoreMLModel)
        layers: dict[str, Any] = {}
        steps = []
        for layer in model.network.layers:
            name = layer.name
            while name in layers:
                name += "#"
            layers[name] = layer
            made, read = set(layer.output), dict.fromkeys(_reads(layer))
            steps.append(
                Step(
                    name,
                    layer.WhichOneof("layer") or "nothing",
                    tuple(n for n in read if n not in made or n in layer.input),
                    tuple(dict.fromkeys([*layer.output, *_made_inside(layer)])),
                )
            )
        shapes, score = inspect(model).shapes, score_blob(model)
        found = cls(
            model,
            tuple(steps),
            tuple(f.name for f in model.signature.inputs),
            tuple(dict.fromkeys([*wanted_outputs(model), *([score] if score is not None else [])])),
            dict(shapes),
            dict.fromkeys(shapes, "float32"),
        )
        found._layers = layers
        return found

    def build(self, plan: Plan) -> CoreMLModel:
        """The sub-model; a classifier becomes a plain network once its own outputs are gone."""
        assert isinstance(self.model, CoreMLModel)
        cut, around = self.slice(plan), dict(plan.bypassed)
        whole = self.model.spec
        spec = Model_pb2.Model(specificationVersion=whole.specificationVersion)
        kind = self.model.kind if not plan.outputs else "neuralNetwork"
        network = getattr(spec, kind)
        network.SetInParent()
        for descriptor, value in self.model.network.ListFields():
            if descriptor.name in ("arrayInputShapeMapping", "imageInputShapeMapping"):
                setattr(network, descriptor.name, value)
            elif not plan.outputs and descriptor.name not in ("layers", "preprocessing", "updateParams"):
                _copy(network, descriptor, value)
        for step in cut.steps:
            network.layers.add().CopyFrom(self._layers[step.name])
            _rename(network.layers[-1], around)
        for preprocessing in self.model.network.preprocessing:
            if (preprocessing.featureName or whole.description.input[0].name) in cut.inputs:
                network.preprocessing.add().CopyFrom(preprocessing)
        self._describe(spec, plan, cut)
        return CoreMLModel(spec, name=self.model.name)

    def _describe(self, spec: Any, plan: Plan, cut: Slice) -> None:
        assert isinstance(self.model, CoreMLModel)
        whole = self.model.spec.description
        exact = self.model.network.arrayInputShapeMapping == _EXACT and spec.specificationVersion >= 4
        given, shapes = {f.name: f for f in whole.input}, dict(plan.shapes)
        for name in cut.inputs:
            feature = spec.description.input.add()
            if name in given:
                feature.CopyFrom(given[name])
            if name not in given or name in shapes:
                feature.name = name
                _declare(feature, feature_shape(shapes.get(name) or self.shapes[name], exact=exact))
        if not plan.outputs:
            for description in whole.output:
                spec.description.output.add().CopyFrom(description)
            spec.description.predictedFeatureName = whole.predictedFeatureName
            spec.description.predictedProbabilitiesName = whole.predictedProbabilitiesName
            return
        declared = {f.name: f for f in whole.output if f.type.WhichOneof("Type") == "multiArrayType"}
        for name in cut.outputs:
            feature = spec.description.output.add(name=name)
            if name in declared and not plan.shapes:
                feature.CopyFrom(declared[name])
            else:
                feature.type.multiArrayType.dataType = FeatureTypes_pb2.ArrayFeatureType.FLOAT32


def feature_shape(blob: tuple[int, ...], *, exact: bool) -> tuple[int, ...]:
    """The shape of the array that becomes this blob: [C], [C, H, W] or all five, unless arrays keep their rank."""
    if exact or len(blob) != 5 or blob[:2] != (1, 1):
        return blob
    return blob[2:3] if blob[3:] == (1, 1) else blob[2:]


def _declare(feature: Any, shape: Iterable[int]) -> None:
    feature.type.Clear()
    array = feature.type.multiArrayType
    array.dataType = FeatureTypes_pb2.ArrayFeatureType.FLOAT32
    array.shape.extend(shape)


def _copy(target: Any, descriptor: Any, value: Any) -> None:
    if descriptor.message_type is not None and not descriptor.is_repeated:
        getattr(target, descriptor.name).CopyFrom(value)
    elif descriptor.is_repeated:
        getattr(target, descriptor.name).MergeFrom(value)
    else:
        setattr(target, descriptor.name, value)


def _nested(layer: Any) -> Iterator[Any]:
    """The networks inside a branch or a loop."""
    kind = layer.WhichOneof("layer")
    if kind in ("branch", "loop"):
        for _, value in getattr(layer, kind).ListFields():
            if hasattr(value, "layers"):
                yield value


def _reads(layer: Any) -> Iterator[str]:
    """What a layer reads, from inside its nested networks too."""
    yield from layer.input
    for network in _nested(layer):
        made = {name for inner in network.layers for name in inner.output}
        yield from (name for inner in network.layers for name in _reads(inner) if name not in made)


def _made_inside(layer: Any) -> Iterator[str]:
    """Blobs that nested layers write: branches and loops share the names of the network around them."""
    for network in _nested(layer):
        for inner in network.layers:
            yield from inner.output
            yield from _made_inside(inner)


def _rename(layer: Any, around: dict[str, str]) -> None:
    if not around:
        return
    layer.input[:] = [resolve(around, name) for name in layer.input]
    for network in _nested(layer):
        for inner in network.layers:
            _rename(inner, around)
