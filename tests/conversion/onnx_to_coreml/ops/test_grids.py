"""AffineGrid against PyTorch, MelWeightMatrix against ONNX's reference implementation; what they follow from known, or fed."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx.reference import ReferenceEvaluator

from coreproof.runtime.open import session
from tests.build import node_model
from tests.conversion.onnx_to_coreml.one_node import check_node, convert_node

PROGRAMS = [("mlprogram", "iOS15"), ("mlprogram", "iOS18")]
RNG = np.random.default_rng(0)


@pytest.mark.sweep(1)
@pytest.mark.filterwarnings("ignore:Since version 1.3.0, affine_grid behavior has changed for unit-size grids")
@pytest.mark.parametrize("aligned", [0, 1])
@pytest.mark.parametrize("size", [(2, 3, 5, 6), (1, 1, 1, 4), (2, 3, 3, 2, 4), (1, 2, 1, 1, 1)])
def test_affine_grid(size: tuple[int, ...], aligned: int) -> None:
    count = len(size) - 2
    theta = RNG.normal(size=(size[0], count, count + 1)).astype(np.float32)
    want = torch.nn.functional.affine_grid(torch.from_numpy(theta), list(size), align_corners=bool(aligned)).numpy()
    said: dict[str, Any] = {"opset": 20, "align_corners": aligned}
    check_node("AffineGrid", {"theta": theta}, want, {"size": np.array(size)}, **said)
    check_node("AffineGrid", {"theta": theta, "size": np.array(size)}, want, targets=PROGRAMS, **said)


def test_an_affine_grid_of_a_size_that_is_fed_in_a_float16_program() -> None:
    theta, size = RNG.normal(size=(1, 2, 3)).astype(np.float32), np.array([1, 3, 5, 4])
    want = torch.nn.functional.affine_grid(torch.from_numpy(theta), size.tolist(), align_corners=False).numpy()
    model = node_model("AffineGrid", {"theta": theta, "size": size}, opset=20)
    with session(convert_node(model, "mlprogram", "iOS16", precision="fp16")) as running:
        found = running.run({"theta": theta, "size": size})["y0"]
    np.testing.assert_allclose(found, want, atol=5e-3)


@pytest.mark.sweep(1)
@pytest.mark.parametrize(
    "numbers", [(8, 16, 8192, 0.0, 4096.0), (20, 64, 16000, 20.0, 7600.0), (3, 15, 8000, 100.0, 3000.0)]
)
def test_mel_weight_matrix(numbers: tuple[float, ...]) -> None:
    names = ["bands", "length", "rate", "low", "high"]
    values = [np.array(n, np.int64 if i < 3 else np.float32) for i, n in enumerate(numbers)]
    node = onnx.helper.make_node("MelWeightMatrix", names, ["y"])
    described = [
        onnx.helper.make_tensor_value_info(n, onnx.helper.np_dtype_to_tensor_dtype(v.dtype), [])
        for n, v in zip(names, values, strict=True)
    ]
    result = onnx.helper.make_tensor_value_info("y", 1, None)
    model = onnx.helper.make_model(
        onnx.helper.make_graph([node], "mel", described, [result]), opset_imports=[onnx.helper.make_opsetid("", 17)]
    )
    (want,) = ReferenceEvaluator(model).run(None, dict(zip(names, values, strict=True)))
    fed = {n: np.atleast_1d(v) for n, v in zip(names, values, strict=True)}
    check_node("MelWeightMatrix", fed, np.asarray(want, np.float32), targets=PROGRAMS)
