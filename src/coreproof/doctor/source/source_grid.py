"""PyTorch's Upsample in ONNX: the grid that the exporter meant, which the file does not say.

Before opset 11 ONNX has no word for the grid of a linear Upsample, and ONNX Runtime takes the plain product of index and
scale. PyTorch wrote the operator for ``align_corners=False`` only (it refused the other), which is half a pixel off that.
A model that is held against such a file is therefore held against what its exporter meant.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from coreproof.editing.edit import Edit, edit
from coreproof.errors import CoreproofError
from coreproof.model.base import Model
from coreproof.model.graph import Node
from coreproof.model.layer_weights import layer_weights
from coreproof.model.onnx.model import OnnxModel
from coreproof.validation.validate import inspect


def with_meant_grid(source: Model) -> Model:
    """The source with every linear Upsample of a PyTorch exporter on half-pixel centres; as it is where there is none."""
    found = unsaid_grids(source)
    if not found or not isinstance(source, OnnxModel):
        return source
    shapes = inspect(source).shapes
    steps = [step for node in found for step in _on_half_pixels(source, node, shapes.get(node.inputs[0]))]
    try:
        return edit(source, steps, check=False).model if steps else source
    except CoreproofError:
        return source


def unsaid_grids(model: Model) -> list[Node]:
    """The linear Upsamples of a PyTorch exporter: ONNX Runtime takes another grid than PyTorch meant."""
    if not isinstance(model, OnnxModel) or model.ir.producer_name != "pytorch":
        return []
    return [n for n in model.graph.nodes if n.operator == "Upsample" and n.attributes.get("mode") == "linear"]


def _on_half_pixels(source: OnnxModel, node: Node, shape: tuple[int, ...] | None) -> list[Edit]:
    factors = _factors(source, node)
    if factors is None or shape is None or len(shape) != 4:
        return []
    kernel, cuts = bilinear_kernel(shape[1], factors)
    padded = f"{node.outputs[0]}_edge_pad"
    return [
        Edit("insert", {
            "operator": "Pad", "name": padded, "after": node.inputs[0], "before": [node.name], "mode": "edge",
            "pads": [0, 0, 1, 1, 0, 0, 1, 1],
        }),
        Edit("replace", {
            "layer": node.name, "operator": "ConvTranspose", "inputs": [padded], "W": kernel, "group": shape[1],
            "strides": list(factors), "pads": [*cuts, *cuts], "kernel_shape": list(kernel.shape[2:]),
        }),
    ]  # fmt: skip


def _factors(source: OnnxModel, node: Node) -> tuple[int, int] | None:
    """The enlargement of height and width, where it is by whole factors and of nothing else."""
    stored = node.attributes.get("scales")
    if stored is None and len(node.inputs) > 1:
        maker = source.graph.producer(node.inputs[1])
        held = layer_weights(source, maker.name if maker is not None else node.name)
        stored = held.get(node.inputs[1])
    if stored is None:
        return None
    scales = [float(n) for n in np.asarray(stored).reshape(-1)]
    # of [batch, channels, height, width] the last two alone are enlarged
    if len(scales) != 4 or scales[:2] != [1, 1] or any(s != int(s) for s in scales):
        return None
    return int(scales[2]), int(scales[3])


def bilinear_kernel(channels: int, factors: tuple[int, int]) -> tuple[npt.NDArray[np.float32], tuple[int, int]]:
    """The deconvolution that enlarges each channel bilinearly on half-pixel centres, and what it cuts off each border.

    [channels, 1, rows, columns]: the triangle that a pixel spreads over its neighbours. The border has to be repeated once
    before, so that a sample beyond it finds the last pixel.
    """
    rows, columns = (_triangle(f) for f in factors)
    kernel = np.tile(np.outer(rows, columns)[None, None], (channels, 1, 1, 1)).astype(np.float32)
    return kernel, (3 * factors[0] // 2, 3 * factors[1] // 2)


def _triangle(factor: int) -> npt.NDArray[np.float64]:
    # an odd factor has a pixel's centre among the new ones, and the triangle its peak there
    size = 2 * factor - factor % 2
    centre = (size - 1) / 2
    weights: npt.NDArray[np.float64] = 1 - np.abs(np.arange(size) - centre) / factor
    return weights
