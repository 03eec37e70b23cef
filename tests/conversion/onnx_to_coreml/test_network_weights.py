"""Large numbers of a NeuralNetwork are put in after coremltools has written the layers around them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

import coreproof as cp
from tests.build import onnx_proto


@pytest.mark.parametrize("shape", [(3,), (5000,), (2, 40, 50)])
@pytest.mark.parametrize("dtype", [np.float32, np.int32])
def test_an_output_that_is_stored_is_given_out(shape: tuple[int, ...], dtype: type, tmp_path: Path) -> None:
    """Nobody reads it but the user: as a constant of no layer's it was cut to a placeholder, and the model refused."""
    held = np.arange(np.prod(shape)).reshape(shape).astype(dtype)
    nodes = [onnx.helper.make_node("Neg", ["held"], ["k"]), onnx.helper.make_node("Relu", ["x"], ["y"])]
    outputs = {"k": (onnx.helper.np_dtype_to_tensor_dtype(held.dtype), list(shape)), "y": [4]}
    source = onnx_proto(nodes, {"x": [4]}, outputs, {"held": held})
    onnx.save(source, tmp_path / "net.onnx")
    answer = cp.session(cp.convert(tmp_path / "net.onnx", "neuralnetwork")).run({"x": np.ones(4, np.float32)})
    assert np.array_equal(answer["k"], -held)
