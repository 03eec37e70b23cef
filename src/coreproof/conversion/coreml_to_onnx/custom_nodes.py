"""custom_node: the ONNX node of a custom layer or model, with the shapes of its outputs where they can be known now."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx_ir as ir

from coreproof.conversion.coreml_to_onnx.builder import OnnxBuilder
from coreproof.conversion.coreml_to_onnx.custom import DOMAIN, WEIGHTS, CustomLayer, outputs_of_zeros


def custom_node(
    b: OnnxBuilder,
    layer: CustomLayer,
    inputs: Sequence[ir.Value],
    count: int,
    dtype: ir.DataType | None = ir.DataType.FLOAT,
) -> tuple[ir.Value, ...]:
    """Appends the node. Its outputs are of ``dtype``; None leaves them as the function makes them of zeros."""
    weights = [b.constant(array, f"{layer.name}/weights") for array in layer.weights]
    attributes: dict[str, Any] = {WEIGHTS: len(weights)}
    for name, value in layer.parameters.items():
        attributes[name] = ir.Tensor(np.array(value)) if isinstance(value, float) else value
        if isinstance(value, bool):
            attributes[name] = int(value)
    results = b.op(layer.class_name, *inputs, *weights, outputs=count, domain=DOMAIN, **attributes)
    node = results[0].producer()
    assert node is not None
    node.name = layer.name
    made = _tried(layer, inputs, count)
    for index, output in enumerate(results):
        known = None if made is None else made[index]
        of = dtype or (ir.DataType.FLOAT if known is None else ir.DataType.from_numpy(known.dtype))
        output.type = ir.TensorType(of)
        if known is not None:
            output.shape = ir.Shape(known.shape)
    return results


def _tried(layer: CustomLayer, inputs: Sequence[ir.Value], count: int) -> list[np.ndarray] | None:
    shapes = [v.shape.numpy() for v in inputs if v.shape is not None and v.shape.is_static()]
    dtypes = [v.dtype.numpy() for v in inputs if v.dtype is not None and v.dtype != ir.DataType.STRING]
    if len(shapes) != len(inputs) or len(dtypes) != len(inputs):
        return None
    return outputs_of_zeros(layer, shapes, dtypes, count)
