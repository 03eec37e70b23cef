"""Float16 programs with stored factors below float16's normal numbers: no digit of theirs is lost."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import onnxruntime
import pytest

import coreproof as cp
from coreproof.model.onnx.model import OnnxModel
from tests.build import onnx_model

HEAD = '<ir_version: 8, opset_import: ["": 17, "com.microsoft": 1]> net'
RNG = np.random.default_rng(20)
X = RNG.normal(size=(1, 4)).astype(np.float32)
NUMBERS = RNG.normal(size=(4, 4)).astype(np.float32)
WEIGHTS: dict[str, Any] = {
    "many": np.float32(1000),
    "faint": np.float32(5.68e-6),
    "lost": np.float32(2e-8),
    "row": np.array([3e-6, 7e-6, 2e-6, 9e-6], np.float32),
    "matrix": 1e-6 * NUMBERS,
    "usual": NUMBERS,
    "kernel": 1e-6 * NUMBERS[:, :, None],
    "zero": np.uint8(128),
    "axis": np.array([2]),
    "wide": np.float32(0.02),
}
FAINT = {
    "mul": "u = Mul(x, many) v = Mul(u, faint) y = Mul(v, many)",
    "mul by what becomes zero": "u = Mul(x, many) v = Mul(lost, u) y = Mul(v, many)",
    "mul by one a channel": "u = Mul(x, many) v = Mul(u, row) y = Mul(v, many)",
    "div": "u = Div(x, many) y = Div(u, faint)",
    "matmul": "u = Mul(x, many) v = MatMul(u, matrix) y = Mul(v, many)",
    "gemm": "u = Mul(x, many) v = Gemm<alpha=0.000002>(u, usual) y = Mul(v, many)",
    "conv": "u = Mul(x, many) a = Unsqueeze(u, axis) b = Conv(a, kernel) v = Squeeze(b, axis) y = Mul(v, many)",
    "dequantize": "q = QuantizeLinear(x, wide, zero) v = DequantizeLinear(q, faint, zero) y = Mul(v, many)",
    "quantised product": "q = QuantizeLinear(x, wide, zero) "
    "p = com.microsoft.QLinearMul(q, faint, zero, q, wide, zero, faint, zero) y = DequantizeLinear(p, wide, zero)",
}


def made_of(text: str) -> OnnxModel:
    read = set(re.findall(r"\w+", text))
    used = {name: weight for name, weight in WEIGHTS.items() if name in read}
    return onnx_model(f"{HEAD} (float[1,4] x) => (float[1,4] y) {{ {text} }}", **used)


@pytest.mark.sweep(3)
@pytest.mark.parametrize("name", FAINT)
def test_a_faint_factor_keeps_its_digits(name: str) -> None:
    model = made_of(FAINT[name])
    wanted = onnxruntime.InferenceSession(model.stored()).run(None, {"x": X})[0]
    assert np.abs(wanted).max() > 1e-4
    with cp.session(cp.convert(model, "mlprogram", precision="fp16", check=False)) as running:
        made = running.run({"x": X})["y"]
    # the input, the factor's product and the last one are rounded to float16, each by half a step
    np.testing.assert_allclose(made, wanted, rtol=4 * 2.0**-11, atol=4 * 2.0**-11 * np.abs(wanted).max())


def test_usual_weights_stay_in_float16() -> None:
    model = onnx_model(
        f"{HEAD} (float[1,4] x) => (float[1,4] y) {{ u = MatMul(x, w) y = Mul(u, c) }}",
        # a few faint numbers among usual ones are none of the matrix
        w=np.where(np.arange(16).reshape(4, 4) % 3 == 0, 1e-7, NUMBERS).astype(np.float32),
        c=np.float32(0.001),
    )
    program = cp.convert(model, "mlprogram", precision="fp16", check=False)
    assert not any(node.operator == "cast" for node in program.graph.nodes[1:-1])
