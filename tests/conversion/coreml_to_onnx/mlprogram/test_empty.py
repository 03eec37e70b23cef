"""Tensors without elements, through operations that may meet them: what comes is as empty, or what of nothing comes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.conversion.coreml_to_onnx.mlprogram.family import Row, Trial
from tests.conversion.coreml_to_onnx.mlprogram.test_families import tried_by


def zeros(*shape: int) -> np.ndarray:
    return np.zeros(shape, np.float32)


def ones(*shape: int) -> np.ndarray:
    return np.ones(shape, np.float32)


NONE, NO_INDEX, PAIR = zeros(2, 0, 4), np.zeros(0, np.int32), np.int32([0, 2])
EMPTY: list[tuple[str, str, str, dict[str, Any]]] = [
    ("activation", "relu", "x", {"x": zeros(0, 3)}),
    ("activation", "softmax", "x", {"x": zeros(0, 3)}),
    ("activation", "gelu", "x", {"x": NONE}),
    ("elementwise_unary", "exp", "x", {"x": NONE}),
    ("elementwise_unary", "clip", "x", {"x": NONE, "alpha": np.float32(0), "beta": np.float32(1)}),
    ("elementwise_unary", "cast", "x", {"x": NONE, "dtype": "int32"}),
    ("elementwise_binary", "add", "x y", {"x": NONE, "y": np.float32(1)}),
    ("elementwise_binary", "add", "x y", {"x": zeros(0, 3), "y": zeros(1, 3)}),
    ("elementwise_binary", "mod", "x y", {"x": NONE, "y": NONE}),
    ("elementwise_binary", "select", "cond a b", {"cond": NONE > 0, "a": NONE, "b": NONE}),
    ("reduction", "reduce_sum", "x", {"x": NONE}),
    ("reduction", "reduce_sum", "x", {"x": NONE, "axes": [1]}),
    ("reduction", "reduce_prod", "x", {"x": NONE, "axes": [1]}),
    ("reduction", "reduce_mean", "x", {"x": NONE, "axes": [2]}),
    ("linear", "matmul", "x y", {"x": NONE, "y": ones(4, 2)}),
    ("linear", "matmul", "x y", {"x": ones(2, 3, 0), "y": ones(0, 4)}),
    ("linear", "linear", "x", {"x": zeros(0, 3), "weight": ones(2, 3)}),
    ("gathering", "gather", "x indices", {"x": zeros(0, 3), "indices": PAIR, "axis": 1}),
    ("gathering", "gather", "x indices", {"x": ones(3, 2), "indices": NO_INDEX}),
    ("gathering", "gather_along_axis", "x indices", {"x": ones(3, 2), "indices": NO_INDEX.reshape(0, 2)}),
    ("gathering", "gather_nd", "x indices", {"x": ones(3, 2), "indices": NO_INDEX.reshape(0, 1)}),
    (
        "scattering",
        "scatter",
        "data indices updates",
        {"data": ones(3, 2), "indices": NO_INDEX, "updates": zeros(0, 2)},
    ),
    (
        "scattering",
        "scatter_nd",
        "data indices updates",
        {"data": ones(3, 2), "indices": NO_INDEX.reshape(0, 1), "updates": zeros(0, 2)},
    ),
    ("shaping", "transpose", "x", {"x": NONE, "perm": [2, 0, 1]}),
    ("shaping", "reshape", "x", {"x": NONE, "shape": [0, 5]}),
    ("shaping", "expand_dims", "x", {"x": NONE, "axes": [0]}),
    ("shaping", "flatten2d", "x", {"x": NONE}),
    ("shaping", "squeeze", "x", {"x": zeros(1, 0, 2)}),
    ("slicing", "reverse", "x", {"x": NONE}),
    ("tensor_operation", "concat", "values", {"values": [zeros(0, 3), ones(2, 3)], "axis": 0}),
    ("tensor_operation", "stack", "values", {"values": [NONE, NONE], "axis": 0}),
    ("tensor_operation", "tile", "x", {"x": NONE, "reps": [2, 3, 1]}),
    ("tensor_operation", "pad", "x", {"x": NONE, "pad": [1, 1]}),
    ("tensor_operation", "pad", "x", {"x": NONE, "pad": [1, 0, 0, 0], "constant_val": np.float32(2)}),
    ("tensor_operation", "cumsum", "x", {"x": NONE, "axis": 1}),
    ("tensor_operation", "topk", "x", {"x": NONE, "k": 2}),
    ("tensor_operation", "argsort", "x", {"x": NONE}),
    ("tensor_operation", "shape", "x", {"x": NONE}),
    ("tensor_operation", "fill_like", "ref_tensor", {"ref_tensor": NONE}),
    ("tensor_operation", "non_zero", "x", {"x": NONE}),
    ("tensor_operation", "one_hot", "indices", {"indices": NO_INDEX, "one_hot_vector_size": 3}),
    ("tensor_operation", "split", "x", {"x": NONE, "axis": 2, "num_splits": 2}),
    ("tensor_operation", "band_part", "x", {"x": NONE, "lower": 0}),
    ("normalization", "layer_norm", "x", {"x": NONE, "axes": [2]}),
    ("normalization", "batch_norm", "x", {"x": zeros(0, 3, 2), "mean": ones(3), "variance": ones(3)}),
    ("quantization", "dequantize", "input", {"input": np.zeros((0, 3), np.uint8), "scale": np.float32(0.5)}),
    ("convolution", "conv", "x", {"x": zeros(0, 2, 5), "weight": ones(3, 2, 2)}),
    ("pooling", "max_pool", "x", {"x": zeros(0, 2, 5), "kernel_sizes": [2], "pad_type": "valid"}),
    ("resizing", "resize_bilinear", "x", {"x": zeros(0, 2, 3, 4), "target_size_height": 2, "target_size_width": 2}),
]


@pytest.mark.sweep(4)
@pytest.mark.parametrize("family", sorted({family for family, *_ in EMPTY}))
def test_nothing_is_taken_for_what_it_is(family: str, tmp_path: Path) -> None:
    definitions = {trial.operator: trial.definition for trial in tried_by(family).trials}
    for number, (_, operator, fed, arguments) in enumerate(row for row in EMPTY if row[0] == family):
        folder = tmp_path / str(number)
        folder.mkdir()
        row = Row(arguments, tuple(fed.split()))
        Trial("", operator, definitions[operator], [row], "iOS17", 1e-5, half=False).hold(folder)
