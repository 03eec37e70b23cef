"""How each operation is done on values of high rank: in which groups of dimensions, and what it makes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import chain, groupby
from math import prod
from typing import TypeAlias

import numpy as np

from coreproof.conversion.onnx_to_coreml.high_ranks import (
    HIGHEST_RANK,
    CannotFoldError,
    Folded,
    Folder,
)
from coreproof.conversion.onnx_to_coreml.mil import Operation, Var, several
from coreproof.conversion.onnx_to_coreml.ops.dtypes import is_known
from coreproof.conversion.registry import registers

Rule: TypeAlias = Callable[[Folder, Operation], Sequence[Var]]
"""Gives the results in any shape that has their elements in their order."""

_RULES: dict[str, Rule] = {}


_rule = registers(_RULES)


def rewritten(folder: Folder, operation: Operation) -> list[Var | None]:
    """What an operation's outputs become: None for those that stay folded. Raises CannotFoldError where no rule is found."""
    rule = _RULES.get(operation.op_type)
    if rule is None:
        raise CannotFoldError
    made = rule(folder, operation)
    if operation.op_type == "reshape" and operation.outputs[0].rank <= HIGHEST_RANK:
        return list(made)  # in the lengths that it was told
    return [folder.keep(old, Folded(new, tuple(old.shape))) for old, new in zip(operation.outputs, made, strict=True)]


def _others(operation: Operation, *read: str) -> dict[str, Var]:
    """The parameters beside what is folded, as they are."""
    return {k: v for k, v in operation.inputs.items() if v is not None and k not in read}


def _known(operation: Operation, parameter: str) -> np.ndarray:
    value = operation.inputs.get(parameter)
    if value is None or value.val is None:
        raise CannotFoldError
    return np.asarray(value.val)


def _numbers(operation: Operation, parameter: str) -> list[int]:
    return [int(n) for n in _known(operation, parameter).reshape(-1)]


def _axis(operation: Operation, rank: int, parameter: str = "axis") -> int:
    return int(_known(operation, parameter).item()) % rank


def _again(folder: Folder, operation: Operation, **operands: object) -> list[Var]:
    """The same operation with other operands and parameters."""
    make = getattr(folder.mb, operation.op_type)
    return several(make(**{**_others(operation, *operands), **operands}))


def _x(folder: Folder, operation: Operation) -> Folded:
    return folder.value(operation.inputs["x"])


# element by element


@_rule(
    *("abs", "acos", "asin", "atan", "atanh", "cast", "ceil", "clip", "clamped_relu", "cos", "cosh", "elu", "erf", "exp", "exp2"),
    *("floor", "gelu", "identity", "inverse", "leaky_relu", "linear_activation", "log", "logical_not", "relu", "relu6", "round"),
    *("rsqrt", "scaled_tanh", "sigmoid", "sigmoid_hard", "sign", "silu", "sin", "sinh", "softplus", "softsign", "sqrt", "square"),
    *("tan", "tanh", "threshold", "thresholded_relu", "dequantize", "quantize"),
)  # fmt: skip
def _element_by_element(folder: Folder, operation: Operation) -> Sequence[Var]:
    x = _x(folder, operation)
    name = "x" if "x" in operation.inputs else "input"
    return _again(folder, operation, **{name: folder.grouped(x, range(len(x.lengths)))})


@_rule(
    *("add", "sub", "mul", "real_div", "floor_div", "mod", "pow", "maximum", "minimum"),
    *(
        "equal",
        "not_equal",
        "less",
        "less_equal",
        "greater",
        "greater_equal",
        "logical_and",
        "logical_or",
        "logical_xor",
    ),
)
def _pairs(folder: Folder, operation: Operation) -> Sequence[Var]:
    return _broadcast(folder, operation, ["x", "y"])


@_rule("select")
def _select(folder: Folder, operation: Operation) -> Sequence[Var]:
    return _broadcast(folder, operation, ["cond", "a", "b"])


def _broadcast(folder: Folder, operation: Operation, names: Sequence[str], kept: int = 0) -> Sequence[Var]:
    """Dimensions along which the same operands are repeated are one; where too many are left, they are repeated first.

    The last ``kept`` dimensions are those of matrices, and stay.
    """
    rank = len(operation.outputs[0].shape)
    lengths = tuple(operation.outputs[0].shape)[: rank - kept]
    values = [_aligned(folder.value(operation.inputs[name]), rank) for name in names]
    groups = _alike(values, lengths)
    if len(groups) > HIGHEST_RANK - kept:
        values = [v if not v.lengths else _repeated(folder, v, lengths) for v in values]
        groups = _alike(values, lengths)
    seen = {}
    for name, value in zip(names, values, strict=True):
        if not value.lengths:
            seen[name] = value.held
            continue
        front = [1 if _is_one(own, wanted) else wanted for own, wanted in zip(value.lengths, lengths, strict=False)]
        own_lengths = Folded(value.held, (*front, *value.lengths[len(lengths) :]))
        seen[name] = folder.grouped(own_lengths, *groups, *([axis] for axis in range(len(lengths), rank)))
    return _again(folder, operation, **seen)


def _aligned(value: Folded, rank: int) -> Folded:
    """With ones before its own lengths; a single number stays one."""
    return Folded(value.held, (*[1] * (rank - len(value.lengths)), *value.lengths)) if value.lengths else value


def _is_one(length: int, wanted: int) -> bool:
    return is_known(length) and length == 1 and not (is_known(wanted) and wanted == 1)


def _alike(values: Sequence[Folded], lengths: tuple[int, ...]) -> list[list[int]]:
    """Neighbouring dimensions in which the same values are repeated; dimensions of length 1 belong to their neighbours."""
    longer = [axis for axis, length in enumerate(lengths) if not (is_known(length) and length == 1)]

    def repeated(axis: int) -> tuple[bool, ...]:
        return tuple(bool(v.lengths) and _is_one(v.lengths[axis], lengths[axis]) for v in values)

    return [list(run) for _, run in groupby(longer, repeated)] or [[0]]


def _repeated(folder: Folder, value: Folded, lengths: tuple[int, ...]) -> Folded:
    """The value in these lengths, which are its first ones, an axis after the other."""
    for axis, length in enumerate(lengths):
        if _is_one(value.lengths[axis], length):
            if not is_known(length):
                raise CannotFoldError
            held = folder.mb.tile(x=folder.around(value, axis), reps=np.array([1, int(length), 1], np.int32))
            value = Folded(held, (*value.lengths[:axis], int(length), *value.lengths[axis + 1 :]))
    return value


# along an axis


@_rule("softmax", "reduce_argmax", "reduce_argmin", "argsort", "topk", "cumsum")
def _along_an_axis(folder: Folder, operation: Operation) -> Sequence[Var]:
    x = _x(folder, operation)
    # kept as lengths of 1, so that the elements' order is that of the folded result
    said = {"keep_dims": True} if "keep_dims" in operation.inputs else {}
    return _again(folder, operation, x=folder.around(x, _axis(operation, len(x.lengths))), axis=1, **said)


@_rule("reverse")
def _reverse(folder: Folder, operation: Operation) -> Sequence[Var]:
    x, mb = _x(folder, operation), folder.mb
    axes = operation.inputs.get("axes")
    chosen = range(len(x.lengths)) if axes is None else _numbers(operation, "axes")
    for axis in chosen:
        x = Folded(mb.reverse(x=folder.around(x, axis % len(x.lengths)), axes=[1]), x.lengths)
    return [x.held]


_STEPWISE = frozenset(["reduce_sum", "reduce_mean", "reduce_max", "reduce_min", "reduce_prod", "reduce_l1_norm", "reduce_l2_norm",
                       "reduce_log_sum_exp"])  # fmt: skip
"""Reductions that may be done one axis after the other."""


@_rule(*_STEPWISE, "reduce_sum_square", "reduce_log_sum")
def _reduce(folder: Folder, operation: Operation) -> Sequence[Var]:
    """In runs of dimensions that are reduced, or kept, together; where these are too many, one run after the other."""
    x = _x(folder, operation)
    rank = len(x.lengths)
    said = operation.inputs.get("axes")
    axes = set(range(rank)) if said is None else {a % rank for a in _numbers(operation, "axes")}
    runs = [list(run) for _, run in groupby(range(rank), axes.__contains__)]
    reduced = [i for i, run in enumerate(runs) if run[0] in axes]
    if len(runs) <= HIGHEST_RANK:
        return _again(folder, operation, x=folder.grouped(x, *runs), axes=reduced, keep_dims=True)
    if operation.op_type not in _STEPWISE:
        raise CannotFoldError
    for i in reduced:
        run = runs[i]
        seen = folder.grouped(x, range(run[0]), run, range(run[-1] + 1, rank))
        (held,) = _again(folder, operation, x=seen, axes=[1], keep_dims=True)
        x = Folded(held, tuple(1 if a in run else n for a, n in enumerate(x.lengths)))
    return [x.held]


@_rule("layer_norm")
def _layer_norm(folder: Folder, operation: Operation) -> Sequence[Var]:
    x = _x(folder, operation)
    rank = len(x.lengths)
    axes = sorted(a % rank for a in _numbers(operation, "axes"))
    # elements that are normalised together have to lie together
    if axes != list(range(axes[0], rank)):
        raise CannotFoldError
    # the axes are one now, and gamma and beta with them
    flat = {k: _known(operation, k).reshape(-1) for k in ("gamma", "beta") if operation.inputs.get(k) is not None}
    return _again(folder, operation, x=folder.grouped(x, range(axes[0]), axes), axes=[1], **flat)


@_rule("band_part")
def _band_part(folder: Folder, operation: Operation) -> Sequence[Var]:
    x = _x(folder, operation)
    rank = len(x.lengths)
    return _again(folder, operation, x=folder.grouped(x, range(rank - 2), [rank - 2], [rank - 1]))


# products


@_rule("matmul")
def _matmul(folder: Folder, operation: Operation) -> Sequence[Var]:
    return _broadcast(folder, operation, ["x", "y"], kept=2)


@_rule("linear")
def _linear(folder: Folder, operation: Operation) -> Sequence[Var]:
    x = _x(folder, operation)
    rank = len(x.lengths)
    return _again(folder, operation, x=folder.grouped(x, range(rank - 1), [rank - 1]))


@_rule("scaled_dot_product_attention")
def _attention(folder: Folder, operation: Operation) -> Sequence[Var]:
    names = [n for n in ("query", "key", "value", "attn_mask") if operation.inputs.get(n) is not None]
    batch = folder.value(operation.inputs["query"]).lengths[:-2]
    seen = {}
    for name in names:
        value = folder.value(operation.inputs[name])
        value = _repeated(folder, _aligned(value, len(batch) + 2), batch)
        seen[name] = folder.grouped(value, range(len(batch)), [len(batch)], [len(batch) + 1])
    return _again(folder, operation, **seen)


# shapes


@_rule("reshape", "squeeze", "expand_dims")
def _relabelled(folder: Folder, operation: Operation) -> Sequence[Var]:
    """Nothing moves; only what reads it sees other lengths."""
    held = _x(folder, operation).held
    if operation.op_type == "reshape" and operation.outputs[0].rank <= HIGHEST_RANK:
        return _again(folder, operation, x=held)
    if operation.op_type == "reshape" and not all(map(is_known, operation.outputs[0].shape)):
        folder.tell(operation.outputs[0], operation.inputs["shape"], held)
    return [held]


@_rule("shape")
def _shape(folder: Folder, operation: Operation) -> Sequence[Var]:
    """The lengths as they are known; a free one as it was told, or what all elements leave for it."""
    x, mb = _x(folder, operation), folder.mb
    known = [int(n) for n in x.lengths if is_known(n)]
    if len(known) == len(x.lengths):
        return [mb.const(val=np.array(known, np.int32))]
    told = [folder.told(n, x.held) for n in x.lengths]
    if any(n is None for n in told):
        # one product cannot tell two free lengths apart
        if len(known) < len(x.lengths) - 1:
            raise CannotFoldError
        count = mb.reduce_prod(x=mb.shape(x=x.held), axes=[0], keep_dims=True)
        free = mb.floor_div(x=count, y=np.int32(prod(known)))
        told = [free if n is None else n for n in told]
    return [mb.concat(values=told, axis=0)]


@_rule("transpose")
def _transpose(folder: Folder, operation: Operation) -> Sequence[Var]:
    """Dimensions that stay neighbours move as one; where more than five are left, one after the other moves forward."""
    x, mb = _x(folder, operation), folder.mb
    rank = len(x.lengths)
    perm = [p % rank for p in _numbers(operation, "perm")]
    groups = _neighbours([p for p in perm if not (is_known(x.lengths[p]) and x.lengths[p] == 1)])
    order = sorted(range(len(groups)), key=lambda i: groups[i][0])  # as they stand in x
    place = [order.index(i) for i in range(len(groups))]
    if len(groups) < 2:
        return [x.held]
    if len(groups) <= HIGHEST_RANK:
        return [mb.transpose(x=folder.grouped(x, *(groups[i] for i in order)), perm=place)]
    now = list(range(len(groups)))  # which group of x stands where
    for at, wanted in enumerate(place):
        found = now.index(wanted)
        if found == at:
            continue
        stand = [groups[order[i]] for i in now]
        several_groups = [
            list(chain(*run)) for run in (stand[:at], stand[at:found], [stand[found]], stand[found + 1 :])
        ]
        seen = folder.grouped(x, *several_groups)
        x = Folded(mb.transpose(x=seen, perm=[0, 2, 1, 3]), x.lengths)
        now = [*now[:at], wanted, *now[at:found], *now[found + 1 :]]
    return [x.held]


def _neighbours(perm: Sequence[int]) -> list[list[int]]:
    """The order of a transposition in runs that stand next to each other before it, too."""
    ranks = {axis: i for i, axis in enumerate(sorted(perm))}
    runs = groupby(enumerate(perm), lambda placed: ranks[placed[1]] - placed[0])
    return [[axis for _, axis in run] for _, run in runs]


@_rule("concat")
def _concat(folder: Folder, operation: Operation) -> Sequence[Var]:
    values = [folder.value(v) for v in _listed(operation, "values")]
    if bool(_known(operation, "interleave").item()):
        raise CannotFoldError
    axis = _axis(operation, len(values[0].lengths))
    return [folder.mb.concat(values=[folder.around(v, axis) for v in values], axis=1)]


@_rule("stack")
def _stack(folder: Folder, operation: Operation) -> Sequence[Var]:
    values = [folder.value(v) for v in _listed(operation, "values")]
    axis = _axis(operation, len(values[0].lengths) + 1)
    widened = [Folded(v.held, (*v.lengths[:axis], 1, *v.lengths[axis:])) for v in values]
    return [folder.mb.concat(values=[folder.around(v, axis) for v in widened], axis=1)]


def _listed(operation: Operation, parameter: str) -> list[Var]:
    return several(operation.inputs[parameter])


@_rule("split")
def _split(folder: Folder, operation: Operation) -> Sequence[Var]:
    x = _x(folder, operation)
    return _again(folder, operation, x=folder.around(x, _axis(operation, len(x.lengths))), axis=1)


@_rule("slice_by_index")
def _slice(folder: Folder, operation: Operation) -> Sequence[Var]:
    x, mb = _x(folder, operation), folder.mb
    rank = len(x.lengths)

    def flags(parameter: str, default: int) -> list[int]:
        return [default] * rank if operation.inputs.get(parameter) is None else _numbers(operation, parameter)

    begin, end, stride = _numbers(operation, "begin"), _numbers(operation, "end"), flags("stride", 1)
    begin_mask, end_mask, squeezed = (flags(name, 0) for name in ("begin_mask", "end_mask", "squeeze_mask"))
    for axis in range(rank):
        if squeezed[axis]:
            last = begin[axis] + 1
            bounds = {"begin": [0, begin[axis], 0], "end": [0, last, 0], "begin_mask": [True, False, True],
                      "end_mask": [True, last == 0, True]}  # fmt: skip
        elif begin_mask[axis] and end_mask[axis] and stride[axis] == 1:
            continue
        else:
            bounds = {
                "begin": [0, begin[axis], 0],
                "end": [0, end[axis], 0],
                "stride": [1, stride[axis], 1],
                "begin_mask": [True, bool(begin_mask[axis]), True],
                "end_mask": [True, bool(end_mask[axis]), True],
            }
        held = mb.slice_by_index(x=folder.around(x, axis), **bounds)
        x = Folded(held, (*x.lengths[:axis], held.shape[1], *x.lengths[axis + 1 :]))
    return [x.held]


@_rule("slice_by_size")
def _slice_by_size(folder: Folder, operation: Operation) -> Sequence[Var]:
    x, mb = _x(folder, operation), folder.mb
    begins, sizes = _numbers(operation, "begin"), _numbers(operation, "size")
    for axis, (begin, count) in enumerate(zip(begins, sizes, strict=True)):
        if begin == 0 and (count == -1 or count == x.lengths[axis]):
            continue
        held = mb.slice_by_size(x=folder.around(x, axis), begin=[0, begin, 0], size=[-1, count, -1])
        x = Folded(held, (*x.lengths[:axis], held.shape[1], *x.lengths[axis + 1 :]))
    return [x.held]


@_rule("gather")
def _gather(folder: Folder, operation: Operation) -> Sequence[Var]:
    """The indices in a row, put where the axis was."""
    x, indices = _x(folder, operation), folder.value(operation.inputs["indices"])
    batch = operation.inputs.get("batch_dims")
    if batch is not None and batch.val is not None and int(np.asarray(batch.val).item()):
        raise CannotFoldError
    axis = _axis(operation, len(x.lengths))
    flat = folder.grouped(indices, range(len(indices.lengths))) if indices.lengths else folder.as_lengths(indices, [1])
    return _again(folder, operation, x=folder.around(x, axis), indices=flat, axis=1)


@_rule("gather_along_axis")
def _gather_along_axis(folder: Folder, operation: Operation) -> Sequence[Var]:
    x, indices = _x(folder, operation), folder.value(operation.inputs["indices"])
    axis = _axis(operation, len(x.lengths))
    return _again(folder, operation, x=folder.around(x, axis), indices=folder.around(indices, axis), axis=1)


@_rule("tile")
def _tile(folder: Folder, operation: Operation) -> Sequence[Var]:
    x, mb = _x(folder, operation), folder.mb
    for axis, times in enumerate(_numbers(operation, "reps")):
        if times != 1:
            held = mb.tile(x=folder.around(x, axis), reps=np.array([1, times, 1], np.int32))
            x = Folded(held, (*x.lengths[:axis], held.shape[1], *x.lengths[axis + 1 :]))
    return [x.held]


@_rule("pad")
def _pad(folder: Folder, operation: Operation) -> Sequence[Var]:
    x = _x(folder, operation)
    rank = len(x.lengths)
    pairs = np.array(_numbers(operation, "pad")).reshape(-1, 2)
    amounts = np.concatenate([np.zeros((rank - len(pairs), 2), int), pairs])
    for axis, (before, after) in enumerate(amounts.tolist()):
        if before or after:
            seen = folder.around(x, axis)
            around = np.array([0, 0, before, after, 0, 0], np.int32)
            if str(_known(operation, "mode")) != "constant":  # which knows the last two dimensions alone
                around = around[2:]
            (held,) = _again(folder, operation, x=seen, pad=around)
            x = Folded(held, (*x.lengths[:axis], held.shape[1], *x.lengths[axis + 1 :]))
    return [x.held]


@_rule("fill")
def _fill(folder: Folder, operation: Operation) -> Sequence[Var]:
    return _again(folder, operation, shape=np.array([int(np.prod(_numbers(operation, "shape")))], np.int32))
