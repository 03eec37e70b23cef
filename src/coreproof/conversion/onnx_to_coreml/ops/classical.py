"""ai.onnx.ml's transforms of features: scaling, filling in, encoding, picking."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from coreproof.conversion.onnx_to_coreml.lowering import Array, Context, Result, lowering
from coreproof.conversion.onnx_to_coreml.mil import Operand
from coreproof.conversion.onnx_to_coreml.ops.classes import ML
from coreproof.conversion.onnx_to_coreml.ops.dtypes import cast, float_name, is_known, without_bool
from coreproof.model.budget import afford


def in_float(ctx: Context, x: Operand) -> Operand:
    """The operand as floats, which these operators compute in whatever they are fed."""
    return cast(ctx, x, float_name(ctx))


@lowering("ArrayFeatureExtractor", domain=ML, error="move", hands_on="part", places=(1,))
def array_feature_extractor(ctx: Context, x: Operand, y: Operand) -> Result:
    """Columns by their numbers; a vector counts as one row."""
    places = y.reshape(-1) if isinstance(y, np.ndarray) else ctx.mb.reshape(x=y, shape=[-1])
    rows = ctx.mb.expand_dims(x=x, axes=[0]) if ctx.rank(x) == 1 else x
    return without_bool(ctx, [rows], lambda v: ctx.mb.gather(x=v, indices=places, axis=ctx.rank(rows) - 1))


@lowering("Binarizer", domain=ML)
def binarizer(ctx: Context, x: Operand, *, threshold: float = 0.0) -> Result:
    """1 above the threshold, else 0."""
    # a whole number is above 0.5 exactly where it is above 0
    limit = ctx.scalar(threshold) if ctx.is_float(x) else np.int32(np.floor(threshold))
    return cast(ctx, ctx.mb.greater(x=x, y=limit), float_name(ctx) if ctx.is_float(x) else "int32")


@lowering("Scaler", domain=ML, error="add")
def scaler(
    ctx: Context, x: Operand, *, offset: Sequence[float] | None = None, scale: Sequence[float] | None = None
) -> Result:
    """(x - offset) * scale, each one number or one a column."""
    value = in_float(ctx, x)
    if offset is not None:
        value = ctx.mb.sub(x=value, y=ctx.floats(offset))
    return value if scale is None else ctx.mb.mul(x=value, y=ctx.floats(scale))


@lowering("Normalizer", domain=ML, error="norm")
def normalizer(ctx: Context, x: Operand, *, norm: str = "MAX") -> Result:
    """Each row divided by its largest element, the sum of its magnitudes or its length; a row whose norm is 0 stays as it is."""
    mb, value = ctx.mb, in_float(ctx, x)
    if norm == "MAX":
        size = mb.reduce_max(x=value, axes=[-1], keep_dims=True)
    elif norm == "L1":
        size = mb.reduce_l1_norm(x=value, axes=[-1], keep_dims=True)
    elif norm == "L2":
        size = mb.reduce_l2_norm(x=value, axes=[-1], keep_dims=True)
    else:
        raise ctx.refuse(f"norm {norm!r}", "MAX, L1 or L2")
    # divided by 1, a row of zeros stays one
    return mb.real_div(x=value, y=mb.select(cond=mb.equal(x=size, y=ctx.scalar(0)), a=ctx.scalar(1), b=size))


@lowering("Imputer", domain=ML, error="move", hands_on="part")
def imputer(
    ctx: Context,
    x: Operand,
    *,
    imputed_value_floats: Sequence[float] | None = None,
    imputed_value_int64s: Sequence[int] | None = None,
    replaced_value_float: float = 0.0,
    replaced_value_int64: int = 0,
) -> Result:
    """What equals the replaced value, or is NaN where that is NaN, becomes the column's own value."""
    mb = ctx.mb
    if ctx.is_float(x):
        if not imputed_value_floats:
            raise ctx.refuse("floats without imputed_value_floats", "a value for each column, or one for all")
        missing = (
            # NaN alone is not equal to itself
            mb.not_equal(x=x, y=x)
            if np.isnan(replaced_value_float)
            else mb.equal(x=x, y=ctx.scalar(replaced_value_float))
        )
        return mb.select(cond=missing, a=_row(ctx, x, ctx.floats(imputed_value_floats)), b=x)
    if not imputed_value_int64s:
        raise ctx.refuse("integers without imputed_value_int64s", "a value for each column, or one for all")
    missing = mb.equal(x=x, y=np.int32(replaced_value_int64))
    return mb.select(cond=missing, a=_row(ctx, x, np.asarray(imputed_value_int64s, np.int32)), b=x)


def _row(ctx: Context, x: Operand, values: Array) -> Array:
    """One value a column, in the operand's rank."""
    return values.reshape([1] * (ctx.rank(x) - 1) + [-1])


@lowering("FeatureVectorizer", domain=ML, error="move", hands_on="part")
def feature_vectorizer(ctx: Context, *features: Operand, inputdimensions: Sequence[int] = ()) -> Result:
    """All features side by side, each cut or filled up with zeros to its number of columns."""
    mb, columns = ctx.mb, []
    if len(inputdimensions) != len(features):
        raise ctx.refuse(f"{len(features)} inputs and {len(inputdimensions)} inputdimensions", "as many as inputs")
    for feature, wanted in zip(features, inputdimensions, strict=True):
        value = in_float(ctx, feature)
        # a vector is one column where one is wanted, else the one row
        rows = mb.expand_dims(x=value, axes=[1 if wanted == 1 else 0]) if ctx.rank(value) == 1 else value
        length = rows.shape[1]
        if not is_known(length):
            raise ctx.refuse("a free number of columns", "a fixed one")
        if wanted < length:
            rows = mb.slice_by_size(x=rows, begin=[0, 0], size=[-1, wanted])
        elif wanted > length:
            rows = mb.pad(x=rows, pad=[0, 0, 0, wanted - int(length)], mode="constant", constant_val=ctx.scalar(0))
        columns.append(rows)
    return mb.concat(values=columns, axis=1)


@lowering("OneHotEncoder", domain=ML, error="move")
def one_hot_encoder(
    ctx: Context,
    x: Operand,
    *,
    cats_int64s: Sequence[int] | None = None,
    cats_strings: Sequence[str] | None = None,
    zeros: int = 1,
) -> Result:
    """A new last axis with a 1 at the element's category, and zeros alone where it is none.

    With ``zeros=0`` the standard wants an error there, which Core ML has no way to raise.
    """
    if not cats_int64s:
        raise ctx.refuse("categories that are texts", "whole numbers, since a Core ML multi-array holds no text")
    if not zeros:
        ctx.notes.append(
            f"{ctx.node.name or ctx.node.outputs[0].name}: a category that is not listed is an error in the source (zeros=0), "
            "and a row of zeros here"
        )
    # ONNX Runtime cuts the fraction off before it looks a category up
    cut = ctx.mb.cast(x=x, dtype="int32") if ctx.is_float(x) else cast(ctx, x, "int32")
    hit = ctx.mb.equal(x=ctx.mb.expand_dims(x=cut, axes=[-1]), y=np.asarray(cats_int64s, np.int32))
    return ctx.mb.cast(x=hit, dtype=float_name(ctx))


@lowering("LabelEncoder", since=2, domain=ML, error="move")
def label_encoder(
    ctx: Context,
    x: Operand,
    *,
    default_float: float = -0.0,
    default_int64: int = -1,
    default_string: str = "_Unused",
    default_tensor: Array | None = None,
    keys_floats: Sequence[float] | None = None,
    keys_int64s: Sequence[int] | None = None,
    keys_strings: Sequence[str] | None = None,
    keys_tensor: Array | None = None,
    values_floats: Sequence[float] | None = None,
    values_int64s: Sequence[int] | None = None,
    values_strings: Sequence[str] | None = None,
    values_tensor: Array | None = None,
) -> Result:
    """What stands beside the key that the element equals, or the default; of keys that are equal the first counts."""
    mb = ctx.mb
    keys = _one_of(ctx, "keys", keys_tensor, keys_floats, keys_int64s, keys_strings)
    values = _one_of(ctx, "values", values_tensor, values_floats, values_int64s, values_strings)
    is_whole = values.dtype.kind in "iu"
    default = (
        (default_int64 if is_whole else default_float) if default_tensor is None else default_tensor.reshape(-1)[0]
    )
    if isinstance(x, np.ndarray):
        raise ctx.refuse("a constant that could not be folded", "an operand that is computed")
    known = [int(length) for length in x.shape if is_known(length)]
    afford("the comparisons with all keys", (*known, len(keys)), 4)
    # float16 would take neighbouring keys for one
    seen = mb.expand_dims(x=mb.cast(x=x, dtype="fp32") if ctx.is_float(x) else cast(ctx, x, "int32"), axes=[-1])
    table = keys.astype(np.float32) if ctx.is_float(x) else keys.astype(np.int32)
    hit = mb.equal(x=seen, y=table)
    if ctx.is_float(x) and np.isnan(table).any():  # a key of NaN stands for every NaN
        hit = mb.logical_or(x=hit, y=mb.logical_and(x=mb.not_equal(x=seen, y=seen), y=np.isnan(table)))
    found = mb.cast(x=hit, dtype="int32")
    # of equal keys the first, and the first of all where none is met: the default replaces that
    place = mb.reduce_argmax(x=found, axis=-1, keep_dims=False)
    told = values.astype(np.int32) if is_whole else ctx.floats(values)
    taken = mb.gather(x=told, indices=place, axis=0)
    is_known_key = mb.greater(x=mb.reduce_max(x=found, axes=[-1], keep_dims=False), y=np.int32(0))
    return mb.select(cond=is_known_key, a=taken, b=np.int32(default) if is_whole else ctx.scalar(float(default)))


def _one_of(ctx: Context, name: str, *given: Sequence[object] | Array | None) -> Array:
    found = [np.asarray(values).reshape(-1) for values in given if values is not None and len(values)]
    if len(found) != 1:
        raise ctx.refuse(f"{len(found)} lists of {name}", "one")
    if found[0].dtype.kind in "OSU":
        raise ctx.refuse(f"{name} that are texts", "numbers, since a Core ML multi-array holds no text")
    return found[0]
