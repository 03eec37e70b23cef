"""NetworkEditor: edits the protobuf of a NeuralNetwork, plain, classifier or regressor."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from coreproof.editing.editors.coreml_interface import CoreMLEditor
from coreproof.editing.editors.layer_fields import set_field
from coreproof.editing.editors.network_interface import NetworkDocument, NetworkInterface
from coreproof.errors import EditError
from coreproof.model.base import Model
from coreproof.model.coreml.model import CoreMLModel
from coreproof.model.coreml.proto import NeuralNetwork_pb2
from coreproof.model.formats import classic
from coreproof.model.formats import network as layered
from coreproof.model.graph import Node
from coreproof.model.layer_weights import layer_weights


class NetworkEditor(CoreMLEditor):
    """A NeuralNetwork being edited. Layers may note the ranks of what they read and make; edited layers forget them."""

    def __init__(self, model: Model) -> None:
        self.reopen(model)

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

    def _find(self, layer: str) -> Any:
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
        _forget_ranks(message, "inputTensor", "outputTensor")
        self._document.changed()

    def redirect(self, value: str, to: str, readers: Sequence[Node]) -> None:
        if readers:
            self.require_value(to)
        wanted = {reader.name for reader in readers}
        for node, message in zip(self.graph.nodes, self._document.network.layers, strict=True):
            if node.name in wanted and value in message.input:
                message.input[:] = [to if name == value else name for name in message.input]
                _forget_ranks(message, "inputTensor", "outputTensor")
        self._document.changed()

    def set_outputs(self, layer: str, outputs: Sequence[str]) -> None:
        message = self._find(layer)
        if len(outputs) != len(message.output):
            _forget_ranks(message, "outputTensor")
        message.output[:] = list(outputs)
        self._document.changed()

    def add(
        self,
        operator: str,
        name: str,
        inputs: Sequence[str] | Mapping[str, str],
        outputs: Sequence[str],
        attributes: Mapping[str, object],
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
        self._document.network.layers.insert(0 if after is None else self._index(after) + 1, message)
        self._document.changed()

    def set(self, layer: str, attribute: str, value: object) -> None:
        message = self._find(layer)
        set_field(message, attribute, value)
        _forget_ranks(message, "outputTensor")
        self._document.changed()

    def weights(self, layer: str) -> dict[str, npt.NDArray[np.generic]]:
        return dict(layer_weights(self.model, self.node(layer).name))

    # names

    def rename_layer(self, old: str, new: str) -> None:
        self.require_new_layer(new)
        renamed = [layer for layer in layered.nodes(self._document.network.layers) if layer.name == old]
        if not renamed:
            renamed = [self._find(old)]
        for layer in renamed:
            layer.name = new
        self._document.changed()

    def rename_value(self, old: str, new: str) -> None:
        if old not in {f.name for f in classic.described(self._document.spec)}:
            self._require_blob(old)
        self.require_free(new)
        if new in {f.name for f in classic.described(self._document.spec)}:
            raise EditError(f"the name {new!r} is taken by a feature", where=self.model.name, fix="choose another")
        layered.rename(self._document.network, {old: new})
        classic.rename(self._document.spec.description, {old: new})
        if old in self._document.provenance:
            self._document.provenance[new] = self._document.provenance.pop(old)
        self._document.changed()

    def _require_blob(self, name: str) -> None:
        if not any(name in (*layer.input, *layer.output) for layer in layered.nodes(self._document.network.layers)):
            self.require_value(name)


def _forget_ranks(layer: Any, *fields: str) -> None:
    for field in fields:
        layer.ClearField(field)
