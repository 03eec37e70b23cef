"""Layers that change the shape and keep the values: reshape, flatten, permute, transpose, expandDims, squeeze, ..."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from coreproof.conversion.coreml_to_onnx.neuralnetwork.blobs import Blob, Layer, i64, known
from coreproof.conversion.coreml_to_onnx.neuralnetwork.layer_arguments import lowers


def check_fits(layer: Layer, shape: Sequence[int | None], target: Sequence[int]) -> None:
    """Refuses a reshape whose target cannot hold exactly the values of ``shape`` (where all of it is known)."""
    if any(n is None for n in shape) or any(n < 0 and n != -1 for n in target):
        return
    have = int(np.prod([n or 0 for n in shape]))
    wanted = int(np.prod([n for n in target if n != -1]))
    fits = have % wanted == 0 if -1 in target and wanted else have == wanted
    if not fits:
        raise layer.refuse(
            "its input cannot be reshaped to its target",
            expected=f"values for the target shape {list(target)}",
            found=f"{have} values in {list(shape)}",
            fix="a batch size above 1 that was baked into the target while exporting is the usual cause",
        )


# rank 5 networks


@lowers("reshape")
def reshape(layer: Layer, x: Blob, *, targetShape: Sequence[int] = (), mode: str = "CHANNEL_FIRST") -> Blob:
    """[Seq, B, C, H, W] to [C, H, W] (sequence kept) or to [Seq, C, H, W]."""
    if layer.rank(x) == 4 and not x.hidden:
        x = Blob(x.value, 1)
    if layer.rank(x) != 5 or len(targetShape) not in (3, 4):
        raise layer.refuse(
            "it reshapes rank 5 blobs to 3 or 4 dimensions",
            expected="a rank 5 input and 3 or 4 numbers",
            found=f"{list(layer.shape(x))} to {list(targetShape)}",
        )
    shape = layer.shape(x)
    check_fits(layer, shape if len(targetShape) == 4 else shape[2:], targetShape)
    # four numbers begin with the sequence's own; three keep it and the batch
    lead = [] if len(targetShape) == 4 or x.hidden else layer.fixed(shape[:2], "its sequence and batch length")
    sequence = [targetShape[0]] if len(targetShape) == 4 else lead[:1]
    chw = list(targetShape[-3:])
    batch = [1] if len(targetShape) == 4 else lead[1:] or [0]
    hidden = 1 if not sequence or sequence == [1] else 0
    before = batch if hidden else sequence + batch
    value = x.value
    if mode == "CHANNEL_LAST":
        # the elements are read and written with the channels last
        value = _moved(layer, value, -3, last=True)
        flat = layer.b.op("Reshape", value, i64([*before, chw[1], chw[2], chw[0]]))
        return Blob(_moved(layer, flat, -1, last=False), hidden)
    return Blob(layer.b.op("Reshape", value, i64([*before, *chw])), hidden)


def _moved(layer: Layer, value: ir.Value, axis: int, *, last: bool) -> ir.Value:
    """Moves the channels (axis -3) to the end, or the last axis to the channels' place."""
    order = list(range(len(value.shape or ())))
    axis += len(order)
    moved = order.pop(axis)
    order.insert(len(order) if last else len(order) - 2, moved)
    return layer.b.op("Transpose", value, perm=order)


@lowers("flatten")
def flatten(layer: Layer, x: Blob, *, mode: str = "CHANNEL_FIRST") -> Blob:
    layer.at_least(x, 3)
    value = _moved(layer, x.value, -3, last=True) if mode == "CHANNEL_LAST" else x.value
    leading = len(x.value.shape or ()) - 3
    return Blob(layer.b.op("Reshape", value, i64([0] * leading + [-1, 1, 1])), x.hidden)


@lowers("permute", error="move")
def permute(layer: Layer, x: Blob, *, axis: Sequence[int] = (0, 1, 2, 3)) -> Blob:
    """``axis`` counts [Seq, C, H, W]; the batch stays where it is."""
    if layer.rank(x) == 4 and not x.hidden:
        x = Blob(x.value, 1)
    if layer.rank(x) != 5 or sorted(axis) != [0, 1, 2, 3]:
        raise layer.refuse(
            "it permutes the four dimensions Seq, C, H, W of a rank 5 blob",
            expected="a rank 5 input and a permutation of [0, 1, 2, 3]",
            found=f"{list(layer.shape(x))} and {list(axis)}",
        )
    if x.hidden == 1 and axis[0] == 0:
        return Blob(layer.b.op("Transpose", x.value, perm=[0, *axis[1:]]), 1)
    # Seq, C, H, W among [Seq, B, C, H, W]
    place = (0, 2, 3, 4)
    order = [place[a] for a in axis]
    return Blob(layer.b.op("Transpose", layer.exact(x), perm=[order[0], 1, *order[1:]]))


@lowers("sequenceRepeat")
def sequence_repeat(layer: Layer, x: Blob, *, nRepetitions: int = 1) -> Blob:
    layer.at_least(x, 5)
    value = layer.exact(x)
    repeats = [1] * len(value.shape or ())
    repeats[-5] = nRepetitions
    return Blob(layer.b.op("Tile", value, i64(repeats)))


@lowers("reorganizeData", error="move")
def reorganize_data(layer: Layer, x: Blob, *, mode: str = "SPACE_TO_DEPTH", blockSize: int = 2) -> Blob:
    value, restore = layer.batched(x)
    if mode == "SPACE_TO_DEPTH":
        return restore(layer.b.op("SpaceToDepth", value, blocksize=blockSize))
    order = "DCR" if mode == "DEPTH_TO_SPACE" else "CRD"
    return restore(layer.b.op("DepthToSpace", value, blocksize=blockSize, mode=order))


# any rank


@lowers("transpose")
def transpose(layer: Layer, x: Blob, *, axes: Sequence[int] = ()) -> Blob:
    value = layer.exact(x)
    leading = layer.rank(x) - len(axes)
    if leading > 0 and all(n == 1 for n in layer.shape(x)[:leading]):
        # an image arrives as [1, C, H, W] where the network was made for an array [C, H, W]
        axes = [*range(leading), *(a + leading for a in axes)]
    if sorted(axes) != list(range(layer.rank(x))):
        raise layer.refuse(
            "its axes do not fit its input",
            expected=f"a permutation of the {layer.rank(x)} axes of {list(layer.shape(x))}",
            found=list(axes),
        )
    return Blob(layer.b.op("Transpose", value, perm=list(axes)))


@lowers("expandDims")
def expand_dims(layer: Layer, x: Blob, *, axes: Sequence[int] = ()) -> Blob:
    return Blob(layer.b.op("Unsqueeze", layer.exact(x), i64(axes)))


@lowers("squeeze")
def squeeze(layer: Layer, x: Blob, *, axes: Sequence[int] = (), squeezeAll: bool = False) -> Blob:
    value = layer.exact(x)
    shape = known(value)
    if shape is not None:
        removed = {a % len(shape) for a in axes} if not squeezeAll else {i for i, n in enumerate(shape) if n == 1}
        wrong = [i for i in sorted(removed) if shape[i] not in (1, None)]
        if wrong:
            raise layer.refuse("it removes dimensions that are not 1", expected=f"1 at axes {wrong}", found=list(shape))
        if len(removed) == len(shape):  # nothing has a rank below 1
            return Blob(layer.b.op("Reshape", value, i64([1])))
        if squeezeAll:
            return Blob(layer.b.op("Squeeze", value, i64(sorted(removed))) if removed else value)
    return Blob(layer.b.op("Squeeze", value, None if squeezeAll else i64(axes)))


@lowers("flattenTo2D", error="move")
def flatten_to_2d(layer: Layer, x: Blob, *, axis: int = 0) -> Blob:
    return Blob(layer.b.op("Flatten", layer.exact(x), axis=axis))


@lowers("reshapeStatic", error="move", keeps_order=True)
def reshape_static(layer: Layer, x: Blob, *, targetShape: Sequence[int] = ()) -> Blob:
    return Blob(_reshaped(layer, x, targetShape))


@lowers("rankPreservingReshape")
def rank_preserving_reshape(layer: Layer, x: Blob, *, targetShape: Sequence[int] = ()) -> Blob:
    if len(targetShape) != layer.rank(x):
        raise layer.refuse(
            "its target has another rank than its input", expected=f"{layer.rank(x)} numbers", found=list(targetShape)
        )
    return Blob(_reshaped(layer, x, targetShape))


def _reshaped(layer: Layer, x: Blob, target: Sequence[int]) -> ir.Value:
    value = layer.exact(x)
    shape = known(value)
    if shape is not None:
        kept = [shape[i] if n == 0 and i < len(shape) else n for i, n in enumerate(target)]
        whole = [n for n in kept if n is not None]
        if len(whole) == len(kept):
            check_fits(layer, shape, whole)
    return layer.b.op("Reshape", value, i64(target))


@lowers("reshapeDynamic")
def reshape_dynamic(layer: Layer, x: Blob, target: Blob) -> Blob:
    constant = target.value.const_value
    if constant is not None:
        return Blob(_reshaped(layer, x, [int(n) for n in constant.numpy().reshape(-1)]))
    value = layer.b.op("Reshape", layer.exact(x), layer.integers(target))
    return Blob(with_rank(value, target))


def with_rank(value: ir.Value, target: Blob) -> ir.Value:
    """A value shaped by a run-time list: its rank is the length of the list."""
    length = (known(target.value) or (None,))[0]
    if value.shape is None and length is not None:
        value.shape = ir.Shape([None] * length)
    return value


@lowers("reshapeLike")
def reshape_like(layer: Layer, x: Blob, like: Blob) -> Blob:
    shape = layer.shape(like)
    if None not in shape:
        return Blob(_reshaped(layer, x, [n for n in shape if n is not None]))
    value = layer.b.op("Reshape", layer.exact(x), layer.b.op("Shape", layer.exact(like)))
    value.shape = value.shape or ir.Shape(shape)
    return Blob(value)
