"""Layers of two or more blobs that broadcast: arithmetic, comparison, logic, selection."""

from __future__ import annotations

from functools import reduce

from coreproof.conversion.coreml_to_onnx.builder import Operand
from coreproof.conversion.coreml_to_onnx.neuralnetwork.blobs import Blob, Layer, f32, i64
from coreproof.conversion.coreml_to_onnx.neuralnetwork.layer_arguments import lowers

_COMPARISON = {
    "equal": "Equal",
    # turned around behind it: ONNX has no such comparison
    "notEqual": "Equal",
    "lessThan": "Less",
    "lessEqual": "LessOrEqual",
    "greaterThan": "Greater",
    "greaterEqual": "GreaterOrEqual",
}
_LOGIC = {"logicalAnd": "And", "logicalOr": "Or", "logicalXor": "Xor"}


def _combined(layer: Layer, operator: str, blobs: tuple[Blob, ...]) -> Blob:
    """The blobs combined from left to right."""
    value = reduce(lambda left, right: layer.b.op(operator, left, right), [x.value for x in blobs])
    return layer.broadcast(blobs, value)


@lowers("add")
@lowers("multiply", word="mul")
def add_or_multiply(layer: Layer, *blobs: Blob, alpha: float = 0.0) -> Blob:
    """One blob is taken with ``alpha``, several with each other."""
    operator = "Add" if layer.kind == "add" else "Mul"
    if len(blobs) == 1:
        # NeuralNetwork.proto, AddLayerParams and MultiplyLayerParams: alpha counts where there is one input
        return Blob(layer.b.op(operator, blobs[0].value, f32(alpha)), blobs[0].hidden)
    return _combined(layer, operator, blobs)


@lowers("average")
def average(layer: Layer, *blobs: Blob) -> Blob:
    total = _combined(layer, "Add", blobs)
    return Blob(layer.b.op("Div", total.value, f32(len(blobs))), total.hidden)


@lowers("max", "min")
def extreme(layer: Layer, *blobs: Blob) -> Blob:
    return _combined(layer, layer.kind.capitalize(), blobs)


@lowers("dot")
def dot(layer: Layer, x: Blob, y: Blob, *, cosineSimilarity: bool = False) -> Blob:
    b = layer.b
    left, right = x.value, y.value
    if cosineSimilarity:
        # the cosine of two vectors is the product of what they are at length 1
        left, right = (b.op("Div", v, b.op("ReduceL2", v, i64([-3]))) for v in (left, right))
    return layer.broadcast((x, y), b.op("ReduceSum", b.op("Mul", left, right), i64([-3])))


@lowers("subtractBroadcastable", error="add")
@lowers("addBroadcastable", "multiplyBroadcastable", "divideBroadcastable")
@lowers("powBroadcastable", "minBroadcastable", "maxBroadcastable")
def arithmetic(layer: Layer, x: Blob, y: Blob) -> Blob:
    # ONNX's names are the first three letters: Add, Sub, Mul, ...
    return _combined(layer, layer.kind[:3].capitalize(), (x, y))


@lowers("modBroadcastable")
def mod_broadcastable(layer: Layer, x: Blob, y: Blob) -> Blob:
    # the sign of the divisor, as numpy has it; ONNX's Mod of floats takes that of the dividend
    quotient = layer.b.op("Floor", layer.b.op("Div", x.value, y.value))
    return layer.broadcast((x, y), layer.b.op("Sub", x.value, layer.b.op("Mul", quotient, y.value)))


@lowers("floorDivBroadcastable")
def floor_div_broadcastable(layer: Layer, x: Blob, y: Blob) -> Blob:
    return layer.broadcast((x, y), layer.b.op("Floor", layer.b.op("Div", x.value, y.value)))


@lowers(*_COMPARISON, compares=True)
def comparison(layer: Layer, x: Blob, y: Blob | None = None, *, alpha: float = 0.0) -> Blob:
    right: Operand = f32(alpha) if y is None else y.value
    result = layer.b.op(_COMPARISON[layer.kind], x.value, right)
    result = layer.floats(layer.b.op("Not", result) if layer.kind == "notEqual" else result)
    return layer.broadcast((x,) if y is None else (x, y), result)


@lowers(*_LOGIC)
def logic(layer: Layer, x: Blob, y: Blob) -> Blob:
    result = layer.b.op(_LOGIC[layer.kind], layer.truth(x.value), layer.truth(y.value))
    return layer.broadcast((x, y), layer.floats(result))


@lowers("logicalNot")
def logical_not(layer: Layer, x: Blob) -> Blob:
    return Blob(layer.floats(layer.b.op("Not", layer.truth(x.value))), x.hidden)


@lowers("whereBroadcastable")
def where_broadcastable(layer: Layer, condition: Blob, x: Blob, y: Blob) -> Blob:
    value = layer.b.op("Where", layer.truth(condition.value), x.value, y.value)
    return layer.broadcast((condition, x, y), value)
