"""A Core AI program as it is stored: its operations and those of blocks within them, named and shown."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping

import numpy as np

from coreproof.model.coreai.program import Function, StoredBlock, StoredOperation, operations
from coreproof.model.graph import Graph, Node, Value

_LISTED = 8
"""Constants of so many elements stand as an attribute: they are settings."""
_REDUCED = ("input", "axes")
_POOLED = ("input", "kernel_size", "stride", "dilation", "ceil_mode")
_CONVOLVED = ("input", "weight", "stride", "dilation", "groups")
_TRANSPOSED = ("input", "weight", "stride", "padding", "dilation", "output_pad", "groups")
_SLICED = ("input", "start_indices", "end_indices", "strides", "update")
OPERANDS: Mapping[str, tuple[str, ...]] = {
    **dict.fromkeys(("all", "any", *(f"reduce_{k}" for k in ("max", "mean", "min", "product", "sum"))), _REDUCED),
    **dict.fromkeys(("max_pool_2d", "max_pool_3d", "sum_pool_2d", "sum_pool_3d"), _POOLED),
    **dict.fromkeys(("conv2d", "conv3d"), _CONVOLVED),
    **dict.fromkeys(("conv_transpose2d", "conv_transpose3d"), _TRANSPOSED),
    **dict.fromkeys(("slice", "slice_update"), _SLICED),
    **dict.fromkeys(("sort", "argsort"), ("input", "dim", "descending", "stable")),
    **dict.fromkeys(("expand_dims", "shrink_dims"), ("input", "axes")),
    **dict.fromkeys(("argmax", "softmax"), ("input", "axis")),
    **dict.fromkeys(("dequantize", "quantize"), ("input", "scale", "offset1", "offset2", "axis")),
    "broadcast_in_dims": ("input", "dim_sizes", "axes"),
    "broadcast_to": ("input", "shape"),
    "concat": ("dimension",),
    "gather_along_axis": ("input", "indices", "axis"),
    "interpolate": ("input", "output_shape", "scale", "offset"),
    "lut_to_dense": ("indices", "lut", "axis"),
    "pad": ("input", "padding", "padding_value"),
    "range": ("start", "stop", "step"),
    "reduce": ("input", "axes", "init_value"),
    "reshape": ("input", "new_shape"),
    "reverse": ("input", "dims"),
    "scan": ("input", "axis", "reverse"),
    "scatter_along_axis": ("input", "indices", "updates", "axis"),
    "split": ("input", "split_size_or_sections", "dim"),
    "tile": ("input", "dims"),
    "transpose": ("input", "permutation"),
}  # fmt: skip
"""StoredOperation -> what the dialect calls its operands, where settings are among them."""


def short(kind: str) -> str:
    """An operation without its dialect: "add" for ``coreai.add``, "broadcasting_add" for the decomposable one."""
    return kind.removeprefix("coreai.").removeprefix("decomposable.")


def read_view(function: Function) -> Graph:
    """The read view of a function; constants and the terminators of blocks are no nodes of their own."""
    constants = dict(_constants(function.block))
    graph = _view(function, function.block, constants, function.name)
    inputs = tuple(function.inputs.values())
    return Graph(function.name, graph.nodes, inputs, tuple(function.outputs.values()), _values(function, constants))


_ENDS = ("coreai.output", "coreai.yield", "coreai.condition")


def _view(function: Function, block: StoredBlock, constants: Mapping[str, np.ndarray], name: str) -> Graph:
    nodes = tuple(
        _node(function, operation, constants)
        for operation in block.operations
        if operation.kind not in (*_ENDS, "coreai.constant")
    )
    handed = block.operations[-1].operands if block.operations and block.operations[-1].kind in _ENDS else ()
    return Graph(name, nodes, block.arguments, handed, _values(function, constants))


def _node(function: Function, operation: StoredOperation, constants: Mapping[str, np.ndarray]) -> Node:
    held = {read: constants[read] for read in operation.operands if read in constants}
    settings = _settings(operation, constants)
    said = {
        name: held[read].tolist()
        for read, name in zip(operation.operands, OPERANDS.get(short(operation.kind), ()), strict=False)
        if read in settings
    }
    return Node(
        name=operation.name,
        operator=short(operation.kind),
        inputs=operation.operands,
        outputs=operation.results,
        attributes={**{k: _told(v) for k, v in operation.attributes.items()}, **said},
        parameters={
            read: (_dtype(function, read), tuple(value.shape)) for read, value in held.items() if read not in settings
        },
        source=operation.source,
        blocks=tuple(_view(function, block, constants, operation.name) for block in operation.blocks),
    )


def _told(attribute: str) -> str:
    """An attribute without MLIR's wrapping: "constant" for ``#coreai.padding_mode<constant>``."""
    found = re.fullmatch(r"#[\w.]+<(.*)>(?: : .*)?", attribute)
    return attribute.strip('"') if found is None else found[1]


def _is_setting(array: np.ndarray) -> bool:
    return array.size <= _LISTED and array.dtype.kind in "biu"


def weights(function: Function) -> Iterator[tuple[str, dict[str, np.ndarray]]]:
    """(layer, what it reads of constants that are no settings), for every operation, nested ones too."""
    constants = dict(_constants(function.block))
    for operation in operations(function.block):
        settings = _settings(operation, constants)
        held = {read: constants[read] for read in operation.operands if read in constants and read not in settings}
        yield operation.name, held


def _settings(operation: StoredOperation, constants: Mapping[str, np.ndarray]) -> dict[str, str]:
    """Of the constants that an operation reads, those that say how it computes, with the names of the dialect."""
    called = zip(operation.operands, OPERANDS.get(short(operation.kind), ()), strict=False)
    return {read: name for read, name in called if read in constants and _is_setting(constants[read])}


def _dtype(function: Function, name: str) -> str:
    held = function.types.get(name)
    return "?" if held is None else held.dtype or held.element


def _constants(block: StoredBlock) -> Iterable[tuple[str, np.ndarray]]:
    for operation in block.operations:
        if operation.constant is not None:
            yield operation.results[0], operation.constant
        for inner in operation.blocks:
            yield from _constants(inner)


def _values(function: Function, constants: Mapping[str, np.ndarray]) -> dict[str, Value]:
    values = {
        name: Value(name, held.dtype, held.shape, name in constants, name in function.unnamed)
        for name, held in function.types.items()
    }
    return {**values, **{name: Value(name) for name in function.others}}
