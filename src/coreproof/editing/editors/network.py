"""NetworkEditor: edits the protobuf of a NeuralNetwork, plain, classifier or regressor."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from coreproof.editing.editor import Editor
from coreproof.editing.editors import network_features as features
from coreproof.editing.editors import network_reshape, network_retype
from coreproof.editing.editors.layer_fields import set_field
from coreproof.errors import EditError
from coreproof.model.base import Model
from coreproof.model.coreml.model import CoreMLModel, network_of
from coreproof.model.coreml.proto import Model_pb2, NeuralNetwork_pb2
from coreproof.model.formats import classic
from coreproof.model.formats import network as layered
from coreproof.model.graph import Node
from coreproof.model.layer_weights import layer_weights

if TYPE_CHECKING:
    from coreproof.model.coreml.model import Network


class NetworkEditor(Editor):
    """A NeuralNetwork being edited. Layers may note the ranks of what they read and make; edited layers forget them."""

    def __init__(self, model: Model) -> None:
        assert isinstance(model, CoreMLModel)
        self._origin = model
        self._spec = type(model.spec)()
        self._spec.CopyFrom(model.spec)
        self._provenance = dict(model.provenance)
        self._view: CoreMLModel | None = None

    @property
    def model(self) -> CoreMLModel:
        if self._view is None:
            self._view = self._origin.with_spec(self._spec)
            self._view.provenance = dict(self._provenance)
        return self._view

    def close(self) -> CoreMLModel:
        return self.model

    @property
    def _network(self) -> Network:
        return network_of(self._spec)

    def _changed(self) -> None:
        self._view = None

    # layers

    def _index(self, layer: str) -> int:
        node = self.node(layer)
        return next(i for i, other in enumerate(self.graph.nodes) if other is node)

    def _find(self, layer: str) -> Any:
        return self._network.layers[self._index(layer)]

    def remove(self, layer: str) -> None:
        del self._network.layers[self._index(layer)]
        self._changed()

    def remove_all(self, layers: Sequence[str]) -> None:
        places = {self._index(layer) for layer in layers}
        for place in sorted(places, reverse=True):
            del self._network.layers[place]
        self._changed()

    def set_inputs(self, layer: str, inputs: Sequence[str]) -> None:
        message = self._find(layer)
        for name in inputs:
            if name not in message.input:
                self.require_value(name)
        message.input[:] = list(inputs)
        _forget_ranks(message, "inputTensor", "outputTensor")
        self._changed()

    def redirect(self, value: str, to: str, readers: Sequence[Node]) -> None:
        if readers:
            self.require_value(to)
        wanted = {reader.name for reader in readers}
        for node, message in zip(self.graph.nodes, self._network.layers, strict=True):
            if node.name in wanted and value in message.input:
                message.input[:] = [to if name == value else name for name in message.input]
                _forget_ranks(message, "inputTensor", "outputTensor")
        self._changed()

    def set_outputs(self, layer: str, outputs: Sequence[str]) -> None:
        message = self._find(layer)
        if len(outputs) != len(message.output):
            _forget_ranks(message, "outputTensor")
        message.output[:] = list(outputs)
        self._changed()

    def add(
        self,
        operator: str,
        name: str,
        inputs: Sequence[str] | Mapping[str, str],
        outputs: Sequence[str],
        attributes: Mapping[str, Any],
        after: str | None,
    ) -> None:
        given = list(inputs.values()) if isinstance(inputs, Mapping) else list(inputs)
        message = NeuralNetwork_pb2.NeuralNetworkLayer(name=name, input=given, output=list(outputs))
        kinds = [f.name for f in message.DESCRIPTOR.oneofs_by_name["layer"].fields]
        if operator not in kinds:
            from difflib import get_close_matches

            near = get_close_matches(operator, kinds, n=3)
            raise EditError(
                f"there is no layer type {operator!r}",
                where=f"new layer {name!r}",
                expected="a layer of NeuralNetwork.proto" + (f", such as {', '.join(near)}" if near else ""),
                found=operator,
            )
        getattr(message, operator).SetInParent()
        # weights last: what shape they should have is told by the other attributes
        for key, value in sorted(attributes.items(), key=lambda item: isinstance(item[1], np.ndarray)):
            set_field(message, key, value)
        self._network.layers.insert(0 if after is None else self._index(after) + 1, message)
        self._changed()

    def set(self, layer: str, attribute: str, value: Any) -> None:
        message = self._find(layer)
        set_field(message, attribute, value)
        _forget_ranks(message, "outputTensor")
        self._changed()

    def weights(self, layer: str) -> dict[str, npt.NDArray[np.generic]]:
        return dict(layer_weights(self.model, self.node(layer).name))

    # names

    def rename_layer(self, old: str, new: str) -> None:
        self.require_new_layer(new)
        renamed = [layer for layer in layered.nodes(self._network.layers) if layer.name == old]
        if not renamed:
            renamed = [self._find(old)]
        for layer in renamed:
            layer.name = new
        self._changed()

    def rename_value(self, old: str, new: str) -> None:
        if old not in {f.name for f in classic.described(self._spec)}:
            self._require_blob(old)
        self.require_free(new)
        if new in {f.name for f in classic.described(self._spec)}:
            raise EditError(f"the name {new!r} is taken by a feature", where=self.model.name, fix="choose another")
        layered.rename(self._network, {old: new})
        classic.rename(self._spec.description, {old: new})
        if old in self._provenance:
            self._provenance[new] = self._provenance.pop(old)
        self._changed()

    def _require_blob(self, name: str) -> None:
        if not any(name in (*layer.input, *layer.output) for layer in layered.nodes(self._network.layers)):
            self.require_value(name)

    # features

    def unclassify(self) -> None:
        if self.model.kind != "neuralNetwork":
            self._origin = features.unclassified(self.model)
            self._spec = self._origin.spec
            self._changed()

    def set_output(self, value: str, instead_of: str | None = None) -> None:
        self.require_value(value)
        features.declare_output(self.model, value, instead_of)
        self._changed()

    def drop_output(self, name: str) -> None:
        features.drop_output(self._spec, name)
        self._changed()

    def set_input(self, value: str, shape: Sequence[int], dtype: str) -> None:
        features.declare_input(self.model, value, shape, dtype)
        self._changed()

    def drop_input(self, name: str) -> None:
        features.drop_input(self._spec, name)
        self._changed()

    def retype(
        self,
        feature: str,
        kind: str | None = None,
        *,
        colour: str | None = None,
        scale: float | None = None,
        bias: Sequence[float] | float | None = None,
        dtype: str | None = None,
    ) -> None:
        with self._all_or_nothing() as model:
            network_retype.retype(model, feature, kind, colour, scale, bias, dtype)

    def reshape(
        self,
        feature: str,
        shape: Sequence[int] | None = None,
        *,
        enumerated: Sequence[Sequence[int]] = (),
        ranges: Sequence[Sequence[int]] = (),
    ) -> None:
        with self._all_or_nothing() as model:
            network_reshape.reshape(model, feature, shape, enumerated, ranges)

    def relabel(self, labels: Sequence[str] | Sequence[int]) -> None:
        network_retype.relabel(self.model, labels)
        self._changed()

    @contextmanager
    def _all_or_nothing(self) -> Iterator[CoreMLModel]:
        """The model as one that may be changed outside its layers; a change that fails half way is undone."""
        kept = self._outline()
        try:
            yield self.model
        except EditError:
            network = self._network
            self._spec.specificationVersion = kept.specificationVersion
            self._spec.description.CopyFrom(kept.description)
            for field in ("preprocessing", "arrayInputShapeMapping", "imageInputShapeMapping"):
                network.ClearField(field)
            getattr(self._spec, self._origin.kind).MergeFrom(getattr(kept, self._origin.kind))
            raise
        finally:
            self._changed()

    def _outline(self) -> Model_pb2.Model:
        """The model's description and preprocessing, without its layers and weights."""
        outline = Model_pb2.Model(specificationVersion=self._spec.specificationVersion)
        outline.description.CopyFrom(self._spec.description)
        getattr(outline, self._origin.kind).SetInParent()
        network = network_of(outline)
        network.preprocessing.MergeFrom(self._network.preprocessing)
        network.arrayInputShapeMapping = self._network.arrayInputShapeMapping
        network.imageInputShapeMapping = self._network.imageInputShapeMapping
        return outline


def _forget_ranks(layer: Any, *fields: str) -> None:
    for field in fields:
        layer.ClearField(field)
