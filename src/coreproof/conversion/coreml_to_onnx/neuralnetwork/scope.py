"""Scope: the blobs that the layers of one (sub)network can read, and the loop that lowers its layers."""

from __future__ import annotations

from collections.abc import Iterable

import onnx_ir as ir

from coreproof.conversion.coreml_to_onnx.boundary import understood
from coreproof.conversion.coreml_to_onnx.builder import OnnxBuilder
from coreproof.conversion.coreml_to_onnx.neuralnetwork.blobs import Blob, Layer
from coreproof.conversion.coreml_to_onnx.neuralnetwork.layer_arguments import MANY, arity, fields, plain
from coreproof.conversion.operators import LAYERS
from coreproof.model.coreml.proto import NeuralNetwork_pb2


class Scope:
    """Blobs by name. A scope with a parent is the inside of a branch or a loop: reads outer blobs, writes its own."""

    def __init__(self, b: OnnxBuilder, needed: frozenset[str], parent: Scope | None = None) -> None:
        self.b = b
        self.parent = parent
        self.needed = needed
        self.blobs: dict[str, Blob] = {}
        self.taken: dict[str, ir.Value] = parent.taken if parent is not None else {}

    def find(self, name: str) -> Blob | None:
        """The blob as it is now, here or outside."""
        if name in self.blobs:
            return self.blobs[name]
        return self.parent.find(name) if self.parent is not None else None

    def write(self, name: str, blob: Blob) -> None:
        """Makes ``blob`` the blob of that name; the first to bear a name gives it to its ONNX value as well."""
        value = blob.value
        if value.name in self.taken or value.is_graph_input():
            value = self.b.op("Identity", value)
        wanted = name if name not in self.taken else self.b.unique(name)
        self.b.rename(value, wanted)
        self.taken[wanted] = value
        self.blobs[name] = Blob(value, blob.hidden)

    def lower(self, layers: Iterable[NeuralNetwork_pb2.NeuralNetworkLayer]) -> None:
        """Lowers layers in their order."""
        for message in layers:
            self._lower_layer(message)

    def _lower_layer(self, message: NeuralNetwork_pb2.NeuralNetworkLayer) -> None:
        kind = message.WhichOneof("layer") or "nothing"
        layer = Layer(message.name, kind, tuple(message.input), tuple(message.output), self.b, self)
        if kind not in LAYERS:
            raise layer.refuse("it is not lowered", expected="a layer of a known type", found=kind)
        inputs = [self._read(layer, name) for name in layer.inputs]
        # a copy layer may overwrite a blob, and so may whatever runs within a loop or a branch
        if self.parent is None and kind != "copy":
            for name in layer.outputs:
                if name in self.blobs:
                    raise layer.refuse(
                        f"it writes the blob {name!r}, which exists already",
                        expected="names that no input and no earlier layer has",
                        found=name,
                    )
        settings: dict[str, object] = {}

        def given() -> dict[str, object]:
            return {**{name: blob.value for name, blob in zip(layer.inputs, inputs, strict=True)}, **plain(settings)}

        with self.b.working_on(layer.name), understood(layer.refuse, given):
            least, most = arity(kind)
            if not least <= len(inputs) <= most:
                wanted = f"{least} or more" if most == MANY else f"{least}" if least == most else f"{least} to {most}"
                raise layer.refuse("it has the wrong number of inputs", expected=wanted, found=list(layer.inputs))
            settings.update(fields(layer, getattr(message, kind)))
            results = LAYERS[kind](layer, *inputs, **settings)
            blobs = [results] if isinstance(results, Blob) else list(results)
            if len(blobs) != len(layer.outputs):
                raise layer.refuse("it has the wrong number of outputs", expected=len(blobs), found=list(layer.outputs))
            for name, blob in zip(layer.outputs, blobs, strict=True):
                self.write(name, blob)

    def _read(self, layer: Layer, name: str) -> Blob:
        blob = self.find(name)
        if blob is None:
            raise layer.refuse(
                f"it reads the blob {name!r}, which nothing makes",
                expected="an input of the model or the output of an earlier layer",
                found=name,
            )
        return blob


def scope_of(layer: Layer) -> Scope:
    """The scope that the layer is lowered in."""
    assert isinstance(layer.scope, Scope)
    return layer.scope


def exact_value(scope: Scope, blob: Blob) -> ir.Value:
    """A blob's value with all its dimensions, made inside ``scope`` (results of a subgraph must be)."""
    if blob.hidden:
        return scope.b.op("Unsqueeze", blob.value, list(range(blob.hidden)))
    return scope.b.copy(blob.value)
