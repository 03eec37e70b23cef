"""Layers that cut out, join, pad and repeat: slices, crops, splits, concatenations, paddings, tiles, windows."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from coreproof.conversion.coreml_to_onnx.builder import Operand
from coreproof.conversion.coreml_to_onnx.neuralnetwork.blobs import Blob, Layer, f32, i64, known
from coreproof.conversion.coreml_to_onnx.neuralnetwork.layer_arguments import lowers
from coreproof.conversion.coreml_to_onnx.neuralnetwork.padding import borders
from coreproof.model.coreml.proto import NeuralNetwork_pb2

# ONNX's Slice cuts its bounds off at the ends of an axis, so that these reach either end of any
_END = int(np.iinfo(np.int64).max)
_BEFORE_START = int(np.iinfo(np.int64).min)
# counted from the end, where C, H and W stand in a blob of any rank
_SLICE_AXES = {"CHANNEL_AXIS": -3, "HEIGHT_AXIS": -2, "WIDTH_AXIS": -1}


# rank 5 networks


@lowers("slice")
def slice_(
    layer: Layer, x: Blob, *, startIndex: int = 0, endIndex: int = 0, stride: int = 1, axis: str = "CHANNEL_AXIS"
) -> Blob:
    where = _SLICE_AXES[axis]
    layer.at_least(x, -where)
    return Blob(layer.b.op("Slice", x.value, i64([startIndex]), i64([endIndex]), i64([where]), i64([stride])), x.hidden)


@lowers("crop")
def crop(
    layer: Layer,
    x: Blob,
    like: Blob | None = None,
    *,
    cropAmounts: NeuralNetwork_pb2.BorderAmounts | None = None,
    offset: Sequence[int] = (0, 0),
) -> Blob:
    if like is None:
        (top, bottom), (left, right) = borders(layer, cropAmounts)
        # a crop of 0 must not become the end -0, which is the beginning
        ends = [-n if n else _END for n in (bottom, right)]
        return Blob(layer.b.op("Slice", x.value, i64([top, left]), i64(ends), i64([-2, -1])), x.hidden)
    size = layer.shape(like)[-2:]
    stop: Operand
    if None in size:
        stop = layer.b.op("Add", layer.b.op("Shape", like.value, start=-2), i64(offset))
    else:
        stop = i64([o + (n or 0) for o, n in zip(offset, size, strict=True)])
    return Blob(layer.b.op("Slice", x.value, i64(offset), stop, i64([-2, -1])), x.hidden)


@lowers("padding", error="move")
def padding(
    layer: Layer,
    x: Blob,
    *,
    constant: NeuralNetwork_pb2.PaddingLayerParams.PaddingConstant | None = None,
    reflection: object = None,
    replication: object = None,
    paddingAmounts: NeuralNetwork_pb2.BorderAmounts | None = None,
) -> Blob:
    layer.at_least(x, 2)
    (top, bottom), (left, right) = borders(layer, paddingAmounts)
    rest = [0] * (len(x.value.shape or ()) - 2)
    pads = i64([*rest, top, left, *rest, bottom, right])
    if reflection is not None:
        return Blob(layer.b.op("Pad", x.value, pads, mode="reflect"), x.hidden)
    if replication is not None:
        return Blob(layer.b.op("Pad", x.value, pads, mode="edge"), x.hidden)
    return Blob(layer.b.op("Pad", x.value, pads, f32(0.0 if constant is None else constant.value)), x.hidden)


@lowers("concat")
def concat(layer: Layer, *blobs: Blob, sequenceConcat: bool = False) -> Blob:
    axis = -5 if sequenceConcat else -3
    for blob in blobs:
        layer.at_least(blob, -axis)
    if sequenceConcat:
        values, hidden = [layer.exact(x) for x in blobs], 0
    else:
        values, hidden = layer.same_rank(blobs)
    _check_joinable(layer, blobs, axis)
    return Blob(layer.b.op("Concat", *values, axis=axis), hidden)


@lowers("split")
def split(layer: Layer, x: Blob, *, nOutputs: int = 1) -> list[Blob]:
    layer.at_least(x, 3)
    return [Blob(v, x.hidden) for v in _split(layer, x.value, layer.shape(x)[-3], -3, nOutputs)]


# any rank


@lowers("concatND", error="move", word="cat")
def concat_nd(layer: Layer, *blobs: Blob, axis: int = 0, interleave: bool = False) -> Blob:
    layer.same_rank(blobs)
    values = [layer.exact(x) for x in blobs]
    where = layer.axis(blobs[0], axis)
    _check_joinable(layer, blobs, where)
    if not interleave:
        return Blob(layer.b.op("Concat", *values, axis=where))
    place = layer.rank(blobs[0]) + where
    # element by element in turn: joined along a new axis behind, which is then made part of this one
    stacked = layer.b.op("Concat", *(layer.b.op("Unsqueeze", v, i64([place + 1])) for v in values), axis=place + 1)
    shape = [-1 if n is None else n for n in layer.shape(blobs[0])]
    shape[place] = -1 if shape[place] == -1 else shape[place] * len(values)
    return Blob(layer.b.op("Reshape", stacked, i64(shape)))


def _check_joinable(layer: Layer, blobs: Sequence[Blob], axis: int) -> None:
    shapes = [list(layer.shape(x)) for x in blobs]
    for shape in shapes:
        place = axis % len(shape)
        for i, (n, first) in enumerate(zip(shape, shapes[0], strict=True)):
            if i != place and None not in (n, first) and n != first:
                raise layer.refuse(
                    "its inputs do not fit together",
                    expected=f"equal lengths except along axis {axis}",
                    found=" and ".join(f"{name} {s}" for name, s in zip(layer.inputs, shapes, strict=True)),
                )


@lowers("splitND", error="move")
def split_nd(layer: Layer, x: Blob, *, axis: int = 0, numSplits: int = 0, splitSizes: Sequence[int] = ()) -> list[Blob]:
    where = layer.axis(x, axis)
    value = layer.exact(x)
    if splitSizes:
        return [Blob(v) for v in layer.b.op("Split", value, i64(splitSizes), axis=where, outputs=len(splitSizes))]
    return [Blob(v) for v in _split(layer, value, layer.shape(x)[where], where, numSplits)]


def _split(layer: Layer, value: ir.Value, length: int | None, axis: int, count: int) -> list[ir.Value]:
    """Even parts; the first ones are longer by 1 where the length is no multiple of ``count``."""
    if length is None:
        return list(layer.b.op("Split", value, axis=axis, num_outputs=count, outputs=count))
    sizes = [length // count + (1 if i < length % count else 0) for i in range(count)]
    return list(layer.b.op("Split", value, i64(sizes), axis=axis, outputs=count))


@lowers("stack")
def stack(layer: Layer, *blobs: Blob, axis: int = 0) -> Blob:
    layer.same_rank(blobs)
    # negative axes count in the result, whose rank is higher by 1
    place = axis if axis >= 0 else axis + layer.rank(blobs[0]) + 1
    expanded = [layer.b.op("Unsqueeze", layer.exact(x), i64([place])) for x in blobs]
    return Blob(layer.b.op("Concat", *expanded, axis=place))


@lowers("sliceStatic", error="move")
def slice_static(
    layer: Layer,
    x: Blob,
    *,
    beginIds: Sequence[int] = (),
    beginMasks: Sequence[bool] = (),
    endIds: Sequence[int] = (),
    endMasks: Sequence[bool] = (),
    strides: Sequence[int] = (),
    squeezeMasks: Sequence[bool] = (),
) -> Blob:
    rank = layer.rank(x)
    if len(beginIds) != rank or len(endIds) != rank:
        raise layer.refuse(
            "its begins and ends do not fit its input", expected=f"{rank} each", found=[len(beginIds), len(endIds)]
        )
    squeezed = [i for i, s in enumerate(squeezeMasks) if s]
    steps = list(strides) or [1] * rank
    begins, ends = list(beginIds), list(endIds)
    for i in range(rank):
        if i in squeezed:
            # one element, whatever its stride and masks say
            steps[i] = 1
            # behind -1 comes the end: 0 would be the beginning
            ends[i] = begins[i] + 1 if begins[i] != -1 else _END
            continue
        if i < len(beginMasks) and beginMasks[i]:
            begins[i] = 0 if steps[i] > 0 else _END
        if i < len(endMasks) and endMasks[i]:
            ends[i] = _END if steps[i] > 0 else _BEFORE_START
    value = layer.b.op("Slice", layer.exact(x), i64(begins), i64(ends), i64(range(rank)), i64(steps))
    return Blob(_without(layer, value, squeezed, rank))


def _without(layer: Layer, value: ir.Value, axes: Sequence[int], rank: int) -> ir.Value:
    if len(axes) == rank:  # nothing has a rank below 1
        return layer.b.op("Reshape", value, i64([1]))
    return layer.b.op("Squeeze", value, i64(axes)) if axes else value


@lowers("sliceDynamic", error="move")
def slice_dynamic(
    layer: Layer,
    x: Blob,
    *given: Blob,
    beginMasks: Sequence[bool] = (),
    endIds: Sequence[int] = (),
    endMasks: Sequence[bool] = (),
    strides: Sequence[int] = (),
    squeezeMasks: Sequence[bool] = (),
) -> Blob:
    """Inputs after ``x``: begins, ends, strides, begin masks, end masks, squeeze masks; missing ones are fields."""
    b = layer.b
    rank = layer.rank(x)
    inputs = [layer.integers(g) for g in given] + [None] * (6 - len(given))
    begins = inputs[0]
    ends = inputs[1] if inputs[1] is not None else i64(list(endIds)[:rank])
    steps = inputs[2] if inputs[2] is not None else i64(list(strides or [1] * rank)[:rank])
    begin_masks = _mask(layer, inputs[3], beginMasks, rank)
    end_masks = _mask(layer, inputs[4], endMasks, rank)
    squeezed = squeezeMasks
    if inputs[5] is not None:
        constant = inputs[5].const_value
        if constant is None:
            raise layer.refuse("which dimensions it removes is only known when the model runs")
        squeezed = [bool(n) for n in constant.numpy()]
    axes = [i for i, s in enumerate(squeezed[:rank]) if s]
    backwards = b.op("Less", steps, i64(0))
    begins = b.op("Where", begin_masks, b.op("Where", backwards, i64(_END), i64(0)), begins)
    ends = b.op("Where", end_masks, b.op("Where", backwards, i64(_BEFORE_START), i64(_END)), ends)
    if axes:
        chosen = np.asarray([i in axes for i in range(rank)])
        start = inputs[0]
        # behind -1 comes the end: 0 would be the beginning
        one = b.op("Where", b.op("Equal", start, i64(-1)), i64(_END), b.op("Add", start, i64(1)))
        begins, ends, steps = (b.op("Where", chosen, n, o) for n, o in ((start, begins), (one, ends), (i64(1), steps)))
    value = b.op("Slice", layer.exact(x), begins, ends, i64(range(rank)), steps)
    return Blob(_without(layer, shaped_like(value, [None] * rank), axes, rank))


def _mask(layer: Layer, given: ir.Value | None, field: Sequence[bool], rank: int) -> Operand:
    if given is not None:
        return layer.truth(given)
    return np.asarray((list(field) + [False] * rank)[:rank])


@lowers("sliceBySize")
def slice_by_size(layer: Layer, x: Blob, begin: Blob, *, size: int = 0, axis: int = 0) -> Blob:
    where = layer.axis(x, axis)
    start = layer.b.op("Reshape", layer.integers(begin), i64([1]))
    value = layer.b.op("Slice", layer.exact(x), start, layer.b.op("Add", start, i64([size])), i64([where]))
    lengths: list[int | None] = list(layer.shape(x))
    lengths[where] = size
    value.shape = ir.Shape(lengths)
    return Blob(value)


@lowers("tile")
def tile(layer: Layer, x: Blob, repeats: Blob | None = None, *, reps: Sequence[int] = ()) -> Blob:
    rank = layer.rank(x)
    if repeats is None:
        return Blob(layer.b.op("Tile", layer.exact(x), i64([1] * (rank - len(reps)) + list(reps))))
    counts = layer.integers(repeats)
    # repetitions are those of the last dimensions; the others stay
    missing = rank - (layer.shape(repeats)[0] or rank)
    if missing:
        counts = layer.b.op("Concat", i64([1] * missing), counts, axis=0)
    value = layer.b.op("Tile", layer.exact(x), counts)
    return Blob(shaped_like(value, [None] * rank))


@lowers("constantPad", error="move")
def constant_pad(
    layer: Layer,
    x: Blob,
    amounts: Blob | None = None,
    *,
    value: float = 0.0,
    padAmounts: Sequence[int] = (),
    padToGivenOutputSizeMode: bool = False,
) -> Blob:
    """Pads before and after each dimension, interleaved; in the second mode positive amounts are lengths to reach."""
    rank = layer.rank(x)
    b = layer.b
    if amounts is not None and amounts.value.const_value is not None:
        padAmounts = [int(n) for n in amounts.value.const_value.numpy().reshape(-1)]
    if amounts is not None and not padAmounts:
        pairs = b.op("Reshape", layer.integers(amounts), i64([rank, 2]))
        if padToGivenOutputSizeMode:
            missing = b.op("Sub", pairs, b.op("Unsqueeze", b.op("Shape", layer.exact(x)), i64([1])))
            pairs = b.op("Where", b.op("Greater", pairs, i64(0)), b.op("Max", missing, i64(0)), i64(0))
        pads: Operand = b.op("Reshape", b.op("Transpose", pairs, perm=[1, 0]), i64([-1]))
    else:
        if len(padAmounts) != 2 * rank:
            raise layer.refuse(
                "its pad amounts do not fit its input",
                expected=f"{2 * rank} for {list(layer.shape(x))}",
                found=list(padAmounts),
            )
        pairs_known = np.asarray(padAmounts, np.int64).reshape(rank, 2)
        if padToGivenOutputSizeMode:
            lengths = i64(layer.fixed(layer.shape(x), "it pads to a length, and the size of its input"))[:, None]
            pairs_known = np.where(pairs_known > 0, np.maximum(pairs_known - lengths, 0), 0)
        # ONNX has the amounts before all dimensions first, then those behind them
        pads = i64(pairs_known.T.reshape(-1))
    return Blob(shaped_like(b.op("Pad", layer.exact(x), pads, f32(value)), [None] * rank))


@lowers("slidingWindows")
def sliding_windows(layer: Layer, x: Blob, *, axis: int = 0, windowSize: int = 1, step: int = 1) -> Blob:
    where = layer.axis(x, axis)
    length = layer.shape(x)[where]
    b = layer.b
    within = i64(range(windowSize)).reshape(1, -1)
    if length is not None:
        starts = i64(range(0, length - windowSize + 1, step)).reshape(-1, 1)
        indices: Operand = starts + within
    else:
        shape = b.op("Shape", layer.exact(x))
        stop = b.op("Sub", b.op("Gather", shape, i64(where)), i64(windowSize - 1))
        indices = b.op("Add", b.op("Unsqueeze", b.op("Range", i64(0), stop, i64(step)), i64([1])), within)
    return Blob(b.op("Gather", layer.exact(x), indices, axis=where))


@lowers("reverse")
def reverse(layer: Layer, x: Blob, *, reverseDim: Sequence[bool] = ()) -> Blob:
    axes = [i for i, flipped in enumerate(reverseDim) if flipped]
    value = layer.exact(x)
    if not axes:
        return Blob(value)
    # backwards, from beyond the end to before the beginning
    n = len(axes)
    return Blob(layer.b.op("Slice", value, i64([_END] * n), i64([_BEFORE_START] * n), i64(axes), i64([-1] * n)))


@lowers("reverseSeq")
def reverse_seq(layer: Layer, x: Blob, lengths: Blob, *, batchAxis: int = 0, sequenceAxis: int = 0) -> Blob:
    rank = layer.rank(x)
    batch, time = batchAxis % rank, sequenceAxis % rank
    order = [batch, time, *(i for i in range(rank) if i not in (batch, time))]
    # ONNX's ReverseSequence knows the first two axes alone
    moved = layer.b.op("Transpose", layer.exact(x), perm=order)
    turned = layer.b.op("ReverseSequence", moved, layer.integers(lengths), batch_axis=0, time_axis=1)
    return Blob(layer.b.op("Transpose", turned, perm=[order.index(i) for i in range(rank)]))


def shape_of(layer: Layer, x: Blob) -> ir.Value | npt.NDArray[np.int64]:
    """The Core ML shape as an ONNX int64 list: a constant where it is known."""
    shape = layer.shape(x)
    return layer.b.op("Shape", layer.exact(x)) if None in shape else i64(layer.fixed(shape))


def shaped_like(value: ir.Value, shape: Sequence[int | None]) -> ir.Value:
    """Notes the shape of a value that ONNX could not infer."""
    if known(value) is None:
        value.shape = ir.Shape(shape)
    return value
