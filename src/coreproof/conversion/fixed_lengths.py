"""Lengths that were free while a module was traced, and are asked for as fixed: an ONNX model that says so."""

from __future__ import annotations

from collections.abc import Mapping

import onnx_ir as ir

from coreproof.conversion.shapes import read_shape
from coreproof.model.onnx.model import OnnxModel


def with_fixed_lengths(model: OnnxModel, shapes: Mapping[str, object]) -> OnnxModel:
    """The model whose inputs have the one length that was asked for where that is no range; what follows is inferred anew."""
    fixed: dict[str, int] = {}
    for value in model.ir.graph.inputs:
        asked = shapes.get(value.name or "")
        if asked is None or value.shape is None:
            continue
        options = list(zip(*read_shape(value.name or "", asked), strict=True))
        for axis, lengths in enumerate(options):
            known = {end for low_high in lengths for end in low_high}
            dim = value.shape[axis]
            if len(known) == 1 and isinstance(dim, ir.SymbolicDim) and dim.value is not None:
                fixed[dim.value] = known.pop()
    if not fixed:
        return model
    for value in _values(model.ir.graph):
        if value.shape is not None:
            value.shape = ir.Shape([_length(dim, fixed) for dim in value.shape])
    return model


def _length(dim: int | ir.SymbolicDim, fixed: Mapping[str, int]) -> int | ir.SymbolicDim:
    return dim if isinstance(dim, int) or dim.value is None else fixed.get(dim.value, dim)


def _values(graph: ir.Graph) -> list[ir.Value]:
    return [*graph.inputs, *(v for node in graph.all_nodes() for v in node.outputs)]
