"""NetworkEditor: edits the protobuf of a NeuralNetwork, plain, classifier or regressor."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from coreproof.editing.editor import Editor, NewLayer, such_as
from coreproof.editing.editors.layer_fields import set_field
from coreproof.editing.editors.network_interface import NetworkDocument, NetworkInterface
from coreproof.errors import EditError
from coreproof.model.base import Model
from coreproof.model.coreml.model import CoreMLModel
from coreproof.model.coreml.proto import NeuralNetwork_pb2
from coreproof.model.formats import classic
from coreproof.model.formats import network as layered
from coreproof.model.graph import Node


class NetworkEditor(Editor):
    """A NeuralNetwork being edited.

    Layers may note the ranks of what they read and make (``inputTensor``, ``outputTensor``), for Core ML's compiler; edited
    layers forget them, as a note that is wrong is worse than none.
    """

    def reopen(self, model: Model) -> None:
        assert isinstance(model, CoreMLModel)
        self._document = NetworkDocument(model)
        self.interface = NetworkInterface(self._document)

    @property
    def model(self) -> CoreMLModel:
        return self._document.model

    def close(self) -> CoreMLModel:
        return self.model

    # layers

    def _index(self, layer: str) -> int:
        node = self.node(layer)
        return next(i for i, other in enumerate(self.graph.nodes) if other is node)

    def _find(self, layer: str) -> NeuralNetwork_pb2.NeuralNetworkLayer:
        return self._document.network.layers[self._index(layer)]

    def remove(self, layer: str) -> None:
        del self._document.network.layers[self._index(layer)]
        self._document.changed()

    def set_inputs(self, layer: str, inputs: Sequence[str]) -> None:
        message = self._find(layer)
        for name in inputs:
            if name not in message.input:
                self.require_value(name)
        message.input[:] = list(inputs)
        message.ClearField("inputTensor")
        message.ClearField("outputTensor")
        self._document.changed()

    def redirect(self, value: str, to: str, readers: Sequence[Node]) -> None:
        if readers:
            self.require_value(to)
        wanted = {reader.name for reader in readers}
        for node, message in zip(self.graph.nodes, self._document.network.layers, strict=True):
            if node.name in wanted and value in message.input:
                message.input[:] = [to if name == value else name for name in message.input]
                message.ClearField("inputTensor")
                message.ClearField("outputTensor")
        self._document.changed()

    def set_outputs(self, layer: str, outputs: Sequence[str]) -> None:
        message = self._find(layer)
        if len(outputs) != len(message.output):
            message.ClearField("outputTensor")
        message.output[:] = list(outputs)
        self._document.changed()

    def add(self, layer: NewLayer, after: str | None) -> None:
        message = NeuralNetwork_pb2.NeuralNetworkLayer(name=layer.name, input=layer.reads, output=layer.outputs)
        kinds = [f.name for f in message.DESCRIPTOR.oneofs_by_name["layer"].fields]
        if layer.operator not in kinds:
            raise EditError(
                f"there is no layer type {layer.operator!r}",
                where=f"new layer {layer.name!r}",
                expected="a layer of NeuralNetwork.proto" + such_as(layer.operator, kinds),
                found=layer.operator,
            )
        getattr(message, layer.operator).SetInParent()
        # weights last: what shape they should have is told by the other attributes
        for key, value in sorted(layer.attributes.items(), key=lambda item: isinstance(item[1], np.ndarray)):
            set_field(message, key, value)
        self._document.network.layers.insert(0 if after is None else self._index(after) + 1, message)
        self._document.changed()

    def set(self, layer: str, attribute: str, value: object) -> None:
        message = self._find(layer)
        set_field(message, attribute, value)
        message.ClearField("outputTensor")
        self._document.changed()

    # names

    def rename_layer(self, old: str, new: str) -> None:
        self.require_new_layer(new)
        # the layers of branches and loops too, which the graph shows inside of their layer
        named = [layer for layer in layered.nodes(self._document.network.layers) if layer.name == old]
        for layer in named or [self._find(old)]:
            layer.name = new
        self._document.changed()

    def rename_value(self, old: str, new: str) -> None:
        features = {f.name for f in classic.described(self._document.spec)}
        layers = layered.nodes(self._document.network.layers)
        # a blob inside of a branch or loop is no value of the graph, and can be renamed all the same
        if old not in features and not any(old in (*layer.input, *layer.output) for layer in layers):
            self.require_value(old)
        self.require_free(new)
        if new in features:
            raise EditError(f"the name {new!r} is taken by a feature", where=self.model.name, fix="choose another")
        layered.rename(self._document.network, {old: new})
        classic.rename(self._document.spec.description, {old: new})
        if old in self._document.provenance:
            self._document.provenance[new] = self._document.provenance.pop(old)
        self._document.changed()
