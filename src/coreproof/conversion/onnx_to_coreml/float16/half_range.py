"""What float16 has no number for in a graph: which operators are computed in float32, and what masks are held within it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
import onnx_ir as ir

from coreproof.conversion.onnx_to_coreml.float16.epsilons import at_edges, beyond_edges, guarded
from coreproof.conversion.onnx_to_coreml.float16.exponentials import counted_steps, logarithms_of_exponentials
from coreproof.conversion.onnx_to_coreml.float16.faint_epsilons import faint_epsilons
from coreproof.conversion.onnx_to_coreml.float16.faint_factors import faint_factors, fine_steps
from coreproof.conversion.onnx_to_coreml.float16.integer_sums import integer_sums
from coreproof.conversion.onnx_to_coreml.float16.masks import Masks, masks
from coreproof.conversion.onnx_to_coreml.float16.phases import large_angles, phases
from coreproof.conversion.onnx_to_coreml.float16.rooted_powers import roots_of_powers
from coreproof.conversion.onnx_to_coreml.float16.run_time_scales import scales_at_run_time
from coreproof.conversion.onnx_to_coreml.float16.whole_parts import whole_parts
from coreproof.conversion.onnx_to_coreml.known_values import KnownValues
from coreproof.conversion.onnx_to_coreml.lowering import Array
from coreproof.conversion.onnx_to_coreml.paths import is_shaped
from coreproof.model.formats.onnx import nested_ir

_KEEPS_WIDE = (
    *(guarded, beyond_edges, faint_epsilons, at_edges, fine_steps, faint_factors, integer_sums, large_angles),
    *(roots_of_powers, logarithms_of_exponentials, counted_steps, scales_at_run_time, whole_parts, phases),
)
"""Each reads a graph for itself; what one keeps in float32 does not hide it from the others."""


@dataclass(frozen=True)
class HalfRange:
    """What to do about it, by the names of ONNX values: ``wide`` are results of operators that are computed in float32."""

    wide: frozenset[str] = frozenset()
    masks: Masks = field(default_factory=Masks)


def half_range(graph: ir.Graph) -> HalfRange:
    """Finds both kinds in a prepared graph, and in its loops and branches what is to be wide."""
    constants = _constants(graph)
    wide = {name for kind in _KEEPS_WIDE for name in kind(graph, constants)}
    for inner in _nested(graph):
        known = {**constants, **_constants(inner)}
        wide.update(name for kind in _KEEPS_WIDE for name in kind(inner, known))
    found = masks(graph, constants)
    return HalfRange(frozenset(wide) | found.shown, found)


def _nested(graph: ir.Graph) -> Iterator[ir.Graph]:
    """The bodies of its loops and the branches of its ifs, and theirs."""
    for node in graph:
        for inner in nested_ir(node):
            yield inner
            yield from _nested(inner)


def _constants(graph: ir.Graph) -> Mapping[str, Array]:
    """Float constants by name, as initializers, Constant nodes, or handed on from them in another form."""
    found = KnownValues[Array]()
    for name, value in graph.initializers.items():
        if value.const_value is not None and value.dtype is not None and value.dtype.is_floating_point():
            found.store(name, value.const_value)
    for node in graph:
        name = node.outputs[0].name or ""
        if node.op_type == "Constant":
            for key, attribute in node.attributes.items():
                if key == "value":
                    array = attribute.as_tensor().numpy()
                    if array.dtype.kind == "f":
                        found[name] = array
                elif key in ("value_float", "value_floats"):
                    found[name] = np.atleast_1d(np.asarray(attribute.value, np.float32))
        elif node.op_type == "ConstantOfShape" and "value" in node.attributes:
            array = node.attributes["value"].as_tensor().numpy()
            if array.dtype.kind == "f":
                found[name] = array
        elif is_shaped(node.op_type) and node.inputs and node.inputs[0] is not None and node.inputs[0].name in found:
            found.share(name, node.inputs[0].name or "")
    return found
