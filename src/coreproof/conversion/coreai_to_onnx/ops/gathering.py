"""Core AI operations that read from and write to places that other tensors name."""

from __future__ import annotations

import onnx_ir as ir

from coreproof.conversion.coreai_to_onnx.lowering import CoreAILowering, Operand, lowers

_REDUCTIONS = {"update": "none", "add": "add", "sub": "add", "mul": "mul", "max": "max", "min": "min"}


@lowers("gather_along_axis", exact=True, error="move", places=(1,))
def gather_along_axis(low: CoreAILowering, x: Operand, indices: Operand, axis: Operand) -> ir.Value:
    return low.op("GatherElements", x, low.i64(indices), axis=low.integer(axis, "axis"))


@lowers("gather_nd", exact=True, error="move", places=(1,))
def gather_nd(low: CoreAILowering, x: Operand, indices: Operand) -> ir.Value:
    return low.op("GatherND", x, low.i64(indices))


@lowers("scatter_along_axis", places=(1,))
def scatter_along_axis(low: CoreAILowering, x: Operand, indices: Operand, updates: Operand, axis: Operand) -> ir.Value:
    mode = low.attribute("scatter_mode") or "update"
    if mode == "div" and low.is_float(x):
        updates, mode = low.op("Reciprocal", updates), "mul"
    if mode not in _REDUCTIONS:
        raise low.refuse("its mode is not lowered", found=mode)
    written = low.op("Neg", updates) if mode == "sub" else updates
    return low.op(
        "ScatterElements", x, low.i64(indices), written, axis=low.integer(axis, "axis"), reduction=_REDUCTIONS[mode]
    )


@lowers("scatter_nd", exact=True, error="move", places=(1,))
def scatter_nd(low: CoreAILowering, x: Operand, indices: Operand, updates: Operand) -> ir.Value:
    block = low.blocks[0]
    # the dialect allows nothing else yet
    if len(block.operations) != 1 or block.operations[0].operands != block.arguments[1:]:
        raise low.refuse("its block does more than to take what is written", found=[o.kind for o in block.operations])
    return low.op("ScatterND", x, low.i64(indices), updates)


@lowers("non_zero", exact=True, positions=True)
def non_zero(low: CoreAILowering, x: Operand) -> ir.Value:
    return low.op("Transpose", low.op("NonZero", x), perm=[1, 0])


@lowers("sort", exact=True)
def sort(low: CoreAILowering, x: Operand, dim: Operand, descending: Operand, stable: Operand) -> ir.Value:
    return _sorted(low, x, dim, descending)[0]


@lowers("argsort", exact=True, indices=0)
def argsort(low: CoreAILowering, x: Operand, dim: Operand, descending: Operand, stable: Operand) -> ir.Value:
    return _sorted(low, x, dim, descending)[1]


def _sorted(low: CoreAILowering, x: Operand, dim: Operand, descending: Operand) -> tuple[ir.Value, ir.Value]:
    """By TopK of all: where two are alike the first comes first, which is stable in either order."""
    axis = low.integer(dim, "dim")
    length = low.op("Slice", low.dims(x), [axis], [axis + 1 if axis != -1 else low.rank(x)])
    values, indices = low.ops(
        "TopK", x, length, axis=axis, largest=int(low.true(descending, "descending")), sorted=1, outputs=2
    )
    return values, indices
