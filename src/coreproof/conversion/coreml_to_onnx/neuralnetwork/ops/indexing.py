"""Layers that pick and place by index: gathers, scatters, sorting, one-hot, masks of positions."""

from __future__ import annotations

import onnx_ir as ir

from coreproof.conversion.coreml_to_onnx.builder import Operand
from coreproof.conversion.coreml_to_onnx.neuralnetwork.blobs import Blob, Layer, f32, i64
from coreproof.conversion.coreml_to_onnx.neuralnetwork.layer_arguments import lowers

_REDUCTIONS = {
    "SCATTER_UPDATE": "none",
    "SCATTER_ADD": "add",
    "SCATTER_SUB": "add",
    "SCATTER_MUL": "mul",
    "SCATTER_DIV": "mul",
    "SCATTER_MAX": "max",
    "SCATTER_MIN": "min",
}


@lowers("gather")
def gather(layer: Layer, x: Blob, indices: Blob, *, axis: int = 0) -> Blob:
    return Blob(layer.b.op("Gather", layer.exact(x), layer.integers(indices), axis=layer.axis(x, axis)))


@lowers("gatherND")
def gather_nd(layer: Layer, x: Blob, indices: Blob) -> Blob:
    return Blob(layer.b.op("GatherND", layer.exact(x), layer.integers(indices)))


@lowers("gatherAlongAxis")
def gather_along_axis(layer: Layer, x: Blob, indices: Blob, *, axis: int = 0) -> Blob:
    return Blob(layer.b.op("GatherElements", layer.exact(x), layer.integers(indices), axis=layer.axis(x, axis)))


def _updates(layer: Layer, updates: Blob, mode: str) -> ir.Value:
    """The updates such that ONNX's reductions (which neither subtract nor divide) do what ``mode`` says."""
    turned = {"SCATTER_SUB": "Neg", "SCATTER_DIV": "Reciprocal"}.get(mode)
    value = layer.exact(updates)
    return value if turned is None else layer.b.op(turned, value)


@lowers("scatter")
def scatter(
    layer: Layer, x: Blob, indices: Blob, updates: Blob, *, axis: int = 0, mode: str = "SCATTER_UPDATE"
) -> Blob:
    """Updates have ``axis`` replaced by all dimensions of the indices; ScatterND wants those first."""
    b = layer.b
    rank, count = layer.rank(x), layer.rank(indices)
    place = layer.axis(x, axis) + rank
    to_front = [place, *(i for i in range(rank) if i != place)]
    total = rank - 1 + count
    updates_to_front = [*range(place, place + count), *(i for i in range(total) if not place <= i < place + count)]
    # ScatterND picks along the first axis
    container = b.op("Transpose", layer.exact(x), perm=to_front)
    placed = b.op("Transpose", _updates(layer, updates, mode), perm=updates_to_front)
    where = b.op("Unsqueeze", layer.integers(indices), i64([-1]))
    # NeuralNetwork.proto, ScatterLayerParams: the first axes of the updates are those of the indices once the axis lies in front
    result = b.op("ScatterND", container, where, placed, reduction=_REDUCTIONS[mode])
    return Blob(b.op("Transpose", result, perm=[to_front.index(i) for i in range(rank)]))


@lowers("scatterND")
def scatter_nd(layer: Layer, x: Blob, indices: Blob, updates: Blob, *, mode: str = "SCATTER_UPDATE") -> Blob:
    placed = _updates(layer, updates, mode)
    return Blob(layer.b.op("ScatterND", layer.exact(x), layer.integers(indices), placed, reduction=_REDUCTIONS[mode]))


@lowers("scatterAlongAxis")
def scatter_along_axis(
    layer: Layer, x: Blob, indices: Blob, updates: Blob, *, axis: int = 0, mode: str = "SCATTER_UPDATE"
) -> Blob:
    value = layer.b.op(
        "ScatterElements",
        layer.exact(x),
        layer.integers(indices),
        _updates(layer, updates, mode),
        axis=layer.axis(x, axis),
        reduction=_REDUCTIONS[mode],
    )
    return Blob(value)


@lowers("argMax", "argMin")
def arg_extreme(layer: Layer, x: Blob, *, axis: int = 0, removeDim: bool = False) -> Blob:
    operator = "ArgMax" if layer.kind == "argMax" else "ArgMin"
    # nothing has a rank below 1
    keep = not removeDim or layer.rank(x) == 1
    return Blob(layer.floats(layer.b.op(operator, layer.exact(x), axis=layer.axis(x, axis), keepdims=int(keep))))


@lowers("topK")
def top_k(
    layer: Layer, x: Blob, count: Blob | None = None, *, axis: int = 0, K: int = 0, useBottomK: bool = False
) -> list[Blob]:
    k: Operand = i64([K]) if count is None else layer.b.op("Reshape", layer.integers(count), i64([1]))
    values, indices = layer.b.op(
        "TopK", layer.exact(x), k, axis=layer.axis(x, axis), largest=int(not useBottomK), sorted=1, outputs=2
    )
    return [Blob(values), Blob(layer.floats(indices))][: len(layer.outputs)]


@lowers("argSort")
def arg_sort(layer: Layer, x: Blob, *, axis: int = 0, descending: bool = False) -> Blob:
    value = layer.exact(x)
    where = layer.axis(x, axis)
    length = layer.shape(x)[where]
    # ONNX sorts nothing but by TopK: all elements are the k largest
    k: Operand = i64([length]) if length is not None else layer.b.op("Gather", layer.b.op("Shape", value), i64([where]))
    _, indices = layer.b.op("TopK", value, k, axis=where, largest=int(descending), sorted=1, outputs=2)
    return Blob(layer.floats(indices))


@lowers("oneHot")
def one_hot(
    layer: Layer,
    x: Blob,
    size: Blob | None = None,
    *,
    oneHotVectorSize: int = 0,
    axis: int = 0,
    onValue: float = 0.0,
    offValue: float = 0.0,
) -> Blob:
    """An index outside the vector gives a vector of ``offValue`` only (ONNX's OneHot would wrap negative ones)."""
    b = layer.b
    rank = layer.rank(x) + 1
    place = axis % rank
    positions: Operand
    if size is None:
        positions = f32(range(oneHotVectorSize))
    else:
        # Range wants a scalar, and Core ML has none
        length = b.op("Reshape", layer.integers(size), i64([]))
        positions = layer.floats(b.op("Range", i64(0), length, i64(1)))
    along = b.op("Reshape", positions, i64([-1 if i == place else 1 for i in range(rank)]))
    # indices come as floats
    hit = b.op("Equal", b.op("Unsqueeze", b.op("Floor", layer.exact(x)), i64([place])), along)
    return Blob(b.op("Where", hit, f32(onValue), f32(offValue)))


@lowers("whereNonZero")
def where_non_zero(layer: Layer, x: Blob) -> Blob:
    # ONNX lists the places axis by axis, [rank, n]; Core ML place by place, [n, rank]
    return Blob(layer.floats(layer.b.op("Transpose", layer.b.op("NonZero", layer.exact(x)), perm=[1, 0])))


@lowers("matrixBandPart")
def matrix_band_part(layer: Layer, x: Blob, *, numLower: int = 0, numUpper: int = 0) -> Blob:
    layer.at_least(x, 2)
    value = x.value
    # NeuralNetwork.proto, MatrixBandPartLayerParams: a negative number keeps the whole triangle
    if numLower >= 0:
        value = layer.b.op("Trilu", value, i64(-numLower), upper=1)
    if numUpper >= 0:
        value = layer.b.op("Trilu", value, i64(numUpper), upper=0)
    return Blob(value, x.hidden)


@lowers("upperTriangular", "lowerTriangular")
def triangular(layer: Layer, x: Blob, *, k: int = 0) -> Blob:
    layer.at_least(x, 2)
    return Blob(layer.b.op("Trilu", x.value, i64(k), upper=int(layer.kind == "upperTriangular")), x.hidden)
