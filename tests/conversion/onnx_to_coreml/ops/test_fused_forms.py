"""What ONNX Runtime's optimiser puts together, against its own kernels."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
import torch

from coreproof.conversion.onnx_to_coreml.convert import onnx_to_coreml
from coreproof.errors import ConversionError
from coreproof.model.onnx.model import OnnxModel
from coreproof.runtime.open import session
from tests.conversion.onnx_to_coreml.microsoft_node import check_microsoft, microsoft_model
from tests.drawn import normal


@pytest.mark.sweep(2)
@pytest.mark.parametrize(
    ("activation", "parameters"),
    [
        ("Relu", []),
        ("Tanh", []),
        ("Sigmoid", []),
        ("LeakyRelu", [0.2]),
        ("Clip", [-0.5, 0.7]),
        ("HardSigmoid", [0.3, 0.4]),
    ],
)
@pytest.mark.parametrize("rest", [(), ("b",), ("b", "z")])
def test_fused_conv(activation: str, parameters: list[float], rest: tuple[str, ...]) -> None:
    inputs = {"x": normal(1, 3, 7, 8), **({"z": normal(1, 4, 7, 8)} if "z" in rest else {})}
    constants = {"w": normal(4, 3, 3, 3), **({"b": normal(4)} if rest else {})}
    said: dict[str, Any] = {"activation_params": parameters} if parameters else {}
    check_microsoft("FusedConv", inputs, constants, ["x", "w", *rest], pads=[1, 1, 1, 1], activation=activation, **said)


@pytest.mark.parametrize(("activation", "said"), [("Relu", {}), ("LeakyRelu", {"activation_alpha": 0.3}), ("Tanh", {})])
def test_fused_gemm(activation: str, said: dict[str, float]) -> None:
    constants = {"b": normal(4, 5), "c": normal(4)}
    check_microsoft("FusedGemm", {"a": normal(3, 5)}, constants, activation=activation, transB=1, alpha=0.5, **said)


@pytest.mark.sweep(4)
@pytest.mark.parametrize(
    ("shapes", "said"),
    [
        (((2, 3, 4), (2, 4, 5)), {}),
        (((2, 4, 3), (2, 5, 4)), {"transA": 1, "transB": 1, "alpha": 0.25}),
        (((3, 2, 4), (3, 4, 5)), {"transBatchA": 0, "alpha": 2.0}),
        (((4, 2, 3, 6), (4, 2, 5, 6)), {"transB": 1}),
        (((3, 2, 4), (2, 4, 5)), {"transBatchA": 1}),
        (((4, 2, 3), (2, 4, 5)), {"transBatchA": 1, "transA": 1}),
    ],
)
@pytest.mark.parametrize("is_constant", [False, True])
def test_fused_matmul(shapes: tuple[tuple[int, ...], ...], said: dict[str, Any], is_constant: bool) -> None:
    a, b = (normal(*shape) for shape in shapes)
    if is_constant:
        check_microsoft("FusedMatMul", {"a": a}, {"b": b}, **said)
    else:
        check_microsoft("FusedMatMul", {"a": a, "b": b}, **said)


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("operator", ["Gelu", "FastGelu", "QuickGelu", "BiasGelu"])
def test_gelu_forms(operator: str, bias: bool) -> None:
    x = np.concatenate([normal(3, 6) * 3, np.array([[0, -0.0, 30, -30, 1e-4, -1e-4]], np.float32)])
    if operator == "BiasGelu" or (operator == "FastGelu" and bias):
        check_microsoft(operator, {"x": x}, {"b": normal(6)})
    else:
        check_microsoft(operator, {"x": x}, **({"alpha": 1.2} if operator == "QuickGelu" and bias else {}))


def converted(
    operator: str, inputs: dict[str, np.ndarray], constants: dict[str, np.ndarray], **said: Any
) -> np.ndarray:
    """For what ONNX Runtime computes on other devices alone."""
    proto = microsoft_model(operator, inputs, constants, [*inputs, *constants], **said)
    model = onnx_to_coreml(
        OnnxModel(ir.from_proto(proto), name=operator), "mlprogram", precision="fp32", target="iOS17"
    )
    with session(model) as running:
        return np.asarray(next(iter(running.run(inputs).values())))


def test_forms_of_diffusion_models_against_pytorch() -> None:
    x, bias, skip = torch.randn(2, 6, 8), torch.randn(8), torch.randn(2, 6, 8)
    fed = {"x": x.numpy(), "b": bias.numpy(), "s": skip.numpy()}
    np.testing.assert_allclose(converted("BiasAdd", fed, {}), (x + bias + skip).numpy(), rtol=1e-5, atol=1e-6)
    left, right = (x + bias).chunk(2, -1)
    fed.pop("s")
    want = (left * torch.nn.functional.gelu(right)).numpy()
    np.testing.assert_allclose(converted("BiasSplitGelu", fed, {}), want, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("last", [0, 1])
@pytest.mark.parametrize("activation", [0, 1])
def test_group_norm_of_pictures_against_pytorch(last: int, activation: int) -> None:
    x, scale, shift = torch.randn(2, 6, 4, 5), torch.randn(6), torch.randn(6)
    want = torch.nn.functional.group_norm(x, 3, scale, shift, 1e-4)
    want = torch.nn.functional.silu(want) if activation else want
    order = (0, 2, 3, 1) if last else (0, 1, 2, 3)
    fed = {"x": np.ascontiguousarray(x.permute(order).numpy())}
    constants = {"g": scale.numpy(), "b": shift.numpy()}
    said = {"groups": 3, "channels_last": last, "activation": activation, "epsilon": 1e-4}
    got = converted("GroupNorm", fed, constants, **said)
    np.testing.assert_allclose(got, want.permute(order).numpy(), rtol=1e-4, atol=1e-5)


def test_an_activation_that_nobody_fuses_is_refused_by_name() -> None:
    constants = {"b": normal(5, 4), "c": normal(4)}
    with pytest.raises(ConversionError, match="the activation 'Sine'"):
        converted("FusedGemm", {"a": normal(3, 5)}, constants, activation="Sine")


@pytest.mark.parametrize("biased", [False, True])
def test_a_product_and_its_gelu(biased: bool) -> None:
    """ONNX Runtime computes it on a GPU alone: PyTorch says what it is."""
    x, w, b = normal(3, 4), normal(4, 5), normal(5)
    proto = microsoft_model(
        "GemmFastGelu", {"x": x}, {"w": w, **({"b": b} if biased else {})}, ["x", "w", *"b" * biased]
    )
    product = torch.from_numpy(x) @ torch.from_numpy(w) + (torch.from_numpy(b) if biased else 0)
    expected = torch.nn.functional.gelu(product, approximate="tanh").numpy()
    converted = onnx_to_coreml(OnnxModel(ir.from_proto(proto), name="net"), "mlprogram", precision="fp32")
    with session(converted, "onnxruntime") as running:
        (found,) = running.run({"x": x}).values()
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_a_product_by_its_former_name() -> None:
    check_microsoft("TransposeMatMul", {"a": normal(2, 4, 3), "b": normal(2, 4, 5)}, transA=1, alpha=0.5)
