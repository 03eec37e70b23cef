"""An epsilon of zero stays zero, also in a NeuralNetwork, whose file does not tell zero from what is not said."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import coreproof as cp
from tests.build import onnx_model

HEAD = '<ir_version: 8, opset_import: ["": 17]> net'
X = np.array([[1e-5, 3e-5, 0, 2e-5], [1e-5, 4e-5, 0, 7e-5]], np.float32) + np.float32(1e-6)
ONES, ZEROS = np.ones(4, np.float32), np.zeros(4, np.float32)


@pytest.mark.parametrize("to", ["mlprogram", "neuralnetwork"])
@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("y = Log(x)", lambda x: torch.log(x)),
        ("y = ReduceLogSum<axes=[1], keepdims=1>(x)", lambda x: torch.log(x.sum(1, keepdim=True))),
        (
            "y = BatchNormalization<epsilon=0.0>(x, ones, zeros, zeros, small)",
            lambda x: x / torch.sqrt(torch.full((4,), 1e-10)),
        ),
        (
            "y = LayerNormalization<axis=-1, epsilon=0.0>(x, ones, zeros)",
            lambda x: (x - x.mean(-1, keepdim=True)) / torch.sqrt(x.var(-1, correction=0, keepdim=True)),
        ),
    ],
)
def test_an_epsilon_of_zero_is_none(body: str, expected: Any, to: Any) -> None:
    x = X * np.float32(1e-3) if "Layer" in body else X
    shape = "2,1" if "Reduce" in body else "2,4"
    known = {"ones": ONES, "zeros": ZEROS, "small": np.full(4, 1e-10, np.float32)}
    model = onnx_model(
        f"{HEAD} (float[2,4] x) => (float[{shape}] y) {{ {body} }}", **{n: v for n, v in known.items() if n in body}
    )
    want = expected(torch.from_numpy(x).double()).numpy()
    with cp.session(cp.convert(model, to, precision="fp32")) as running:
        (got,) = running.run({"x": x}).values()
    np.testing.assert_allclose(got, want, rtol=3e-6)


@pytest.mark.parametrize(("to", "precision"), [("mlprogram", "fp32"), ("mlprogram", "fp16"), ("neuralnetwork", "fp32")])
def test_the_logarithm_of_a_sigmoid_has_a_finite_answer_where_the_sigmoid_has_none(to: Any, precision: Any) -> None:
    x = np.linspace(-60, 60, 41, dtype=np.float32)[None]
    model = onnx_model(f"{HEAD} (float[1,41] x) => (float[1,41] y) {{ s = Sigmoid(x) y = Log(s) }}")
    want = torch.nn.functional.logsigmoid(torch.from_numpy(x).double()).numpy()
    with cp.session(cp.convert(model, to, precision=precision)) as running:
        (got,) = running.run({"x": x}).values()
    np.testing.assert_allclose(got, want, rtol=2e-3 if precision == "fp16" else 1e-5, atol=1e-4)
