"""Values of the reference that depend on no input: a converter computes them once, with other kernels than the engine's.

Two correct kernels differ in the last bits, and where the function is steep (a tangent near its pole) by more. So the
stretches that ``carried`` runs read what the converter would have stored, where exact arithmetic says that both are right.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
import onnx_ir as ir

from coreproof.conversion.onnx_to_coreml.fold import fold, is_foldable
from coreproof.model.base import Model
from coreproof.model.numbers import rms
from coreproof.model.onnx.model import OnnxModel
from coreproof.verification.tolerance import U32

Array = np.ndarray

_MOST_ELEMENTS = 1 << 22
_LAST_BITS = 64 * U32


def folded_values(model: Model) -> Mapping[str, tuple[Array, Array]]:
    """Per computed constant of an ONNX model that something else reads: as a converter folds it, and in float64."""
    if not isinstance(model, OnnxModel):
        return {}
    graph, domains = model.ir.graph, dict(model.ir.opset_imports)
    entered = {v.name for v in graph.inputs}
    # read when a node of constants alone asks for them: most weights are read by none
    stored = {
        name: value.const_value
        for name, value in graph.initializers.items()
        if value.const_value is not None and name not in entered and _is_plain(value.const_value)
    }
    single: dict[str, Array] = {}
    double: dict[str, Array] = {}
    computed: set[str] = set()
    for node in graph:
        names = [None if v is None else v.name or "" for v in node.inputs]
        if any(n is not None and n not in single and n not in stored for n in names):
            continue
        for name in {n for n in names if n is not None} - single.keys():
            single[name] = stored[name].numpy()
            double[name] = _wide(single[name])
        operands = [None if n is None else single[n] for n in names]
        if not is_foldable(node, operands) or any(o is not None and o.dtype.kind not in "fiub" for o in operands):
            continue
        made = fold(node, operands, model.opset, domains)
        # in float64 the same cast would round as float32 does: the number before it is the exact one
        if node.op_type == "Cast" and made is not None and made[0].dtype == np.float32:
            wide: list[Array] | None = [np.asarray(double[names[0] or ""], np.float64)]
        else:
            wide = fold(node, [None if n is None else double[n] for n in names], model.opset, domains)
        if made is None or sum(a.size for a in made) > _MOST_ELEMENTS:
            continue
        for output, array, exact in zip(node.outputs, made, wide if wide is not None else made, strict=True):
            single[output.name or ""], double[output.name or ""] = array, exact
            if node.op_type != "Constant" and array.dtype == np.float32:
                computed.add(output.name or "")
    read = set(_read(graph, computed))
    return {name: (single[name], double[name]) for name in computed & read}


def _is_plain(tensor: ir.TensorProtocol) -> bool:
    return tensor.dtype != ir.DataType.STRING and tensor.size <= _MOST_ELEMENTS


def _read(graph: ir.Graph, computed: set[str]) -> Iterable[str]:
    """What nodes that are not folded read, and what the graph gives out."""
    for node in graph:
        if not {v.name for v in node.outputs} <= computed:
            yield from (v.name for v in node.inputs if v is not None and v.name)
    yield from (v.name for v in graph.outputs if v.name)


def both_right(folded: Array, exact: Array, engine: Array) -> bool:
    """Whether what was folded and what the engine computes are within the last bits, or as far apart as from the exact value."""
    a, b, c = (np.asarray(v, np.float64).ravel() for v in (folded, exact, engine))
    if not a.size == b.size == c.size or not (np.isfinite(a) & np.isfinite(b) & np.isfinite(c)).all():
        return False
    scale = rms(b)
    # four times what either is off itself: where the function is steep, both kernels are
    allowed = _LAST_BITS * np.maximum(np.abs(b), scale) + 4 * np.maximum(np.abs(a - b), np.abs(c - b))
    return bool((np.abs(a - c) <= allowed).all() and (np.abs(a - b) <= 0.05 * np.maximum(np.abs(b), scale)).all())


def _wide(array: Array) -> Array:
    return array.astype(np.float64) if array.dtype == np.float32 else array
