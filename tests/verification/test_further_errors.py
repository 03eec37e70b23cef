"""What operators err beyond their class: loops round in each round, and ONNX Runtime rounds the angles of a Fourier transform."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

import coreproof as cp
from coreproof.conversion.onnx_to_coreml.convert import onnx_to_coreml
from coreproof.model.onnx.model import OnnxModel
from coreproof.model.torch.model import TorchModel
from tests.build import onnx_model

HEAD = '<ir_version: 8, opset_import: ["": 17]> net'
FORMATS: list[tuple[str, dict[str, str]]] = [("mlprogram", {"precision": "fp32"}), ("neuralnetwork", {})]


def transform(length: int, body: str = "y = DFT<axis=1>(x)", **weights: Any) -> OnnxModel:
    return onnx_model(f"{HEAD} (float[2,{length},1] x) => (float y) {{ {body} }}", **weights)


@pytest.mark.sweep(3)
@pytest.mark.parametrize(("to", "options"), FORMATS)
@pytest.mark.parametrize("length", [3, 13, 45, 63, 101, 255])
def test_a_transform_of_any_length_agrees(length: int, to: Any, options: Any) -> None:
    source = transform(length)
    found = cp.verify(source, onnx_to_coreml(source, to, **options))
    assert found, found.summary()


def test_a_transform_of_a_power_of_two_is_held_to_what_it_was() -> None:
    source = transform(64)
    (row,) = cp.verify(source, onnx_to_coreml(source, "mlprogram", precision="fp32")).rows
    assert (row.tolerance.typical or 1.0) < 3e-6


@pytest.mark.parametrize("length", [13, 255])
def test_a_transform_that_is_slightly_off_is_a_fault_all_the_same(length: int) -> None:
    """The angles' rounding grows with the length, to 1e-5 of the scale at 63; a factor of 1.0005 is far more."""
    wrong = transform(length, "d = DFT<axis=1>(x) y = Mul(d, k)", k=np.float32(1.0005))
    assert not cp.verify(transform(length), onnx_to_coreml(wrong, "mlprogram", precision="fp32"))


def scan(rounds: int, body: str, **weights: Any) -> OnnxModel:
    text = f"""{HEAD} (float[{rounds},4] x, float[4] s) => (float[4] last, float[{rounds},4] all) {{
        last, all = Scan<num_scan_inputs=1, body=b (float[4] h, float[4] xi) => (float[4] hn, float[4] o)
        {{ {body} o = Identity(hn) }}>(s, x) }}"""
    return onnx_model(text, **weights)


BODIES = {
    "sums": ("hn = Add(h, xi)", {}),
    "forgets": ("t = Mul(h, k) hn = Add(t, xi)", {"k": 0.97}),
    "saturates": ("t = Add(h, xi) hn = Tanh(t)", {}),
}


@pytest.mark.sweep(2)
@pytest.mark.parametrize("body", BODIES)
@pytest.mark.parametrize("rounds", [20, 700])
def test_a_long_scan_in_float16_rounds_in_each_round(rounds: int, body: str) -> None:
    text, weights = BODIES[body]
    source = scan(rounds, text, **{name: np.float32(value) for name, value in weights.items()})
    found = cp.verify(source, onnx_to_coreml(source, "mlprogram", precision="fp16"))
    assert found, found.summary()
    assert found.proves


def test_another_state_in_a_long_scan_is_a_fault() -> None:
    right, wrong = (scan(700, "t = Mul(h, k) hn = Add(t, xi)", k=np.float32(k)) for k in (0.97, 0.93))
    found = cp.verify(right, onnx_to_coreml(wrong, "mlprogram", precision="fp16"))
    assert not found


@pytest.mark.parametrize(("to", "options"), FORMATS)
def test_places_at_which_a_long_axis_is_read_are_rounded(to: Any, options: Any) -> None:
    """A cubic resize down to few places: the source rounds each place, the converted model multiplies by exact weights."""
    text = f"{HEAD} (float[1,1,1,2048] x) => (float y) {{ y = Resize<mode='cubic'>(x, , , s) }}".replace("'", '"')
    source = onnx_model(text, s=np.array([1, 1, 9, 31], np.int64))
    found = cp.verify(source, onnx_to_coreml(source, to, **options))
    assert found, found.summary()
    assert (found.rows[-1].tolerance.typical or 1.0) < 1e-3


def test_a_place_between_large_neighbours_is_rounded_however_small_it_is_itself() -> None:
    """63 places become one, whose place is known to 2e-6: its number is small, and those beside it are not."""
    text = f"{HEAD} (float[1,1,1,63] x) => (float[1,1,1,1] y) {{ y = Resize<mode='cubic'>(x, , , s) }}".replace(
        "'", '"'
    )
    source = onnx_model(text, s=np.array([1, 1, 1, 1], np.int64))
    x = np.random.default_rng(0).uniform(-1, 1, (1, 1, 1, 63)).astype(np.float32)
    x[..., 30:33] = 1, 0.01, -1
    right, wrong = x.copy(), x.copy()
    wrong[..., 31] = 0.011
    made = onnx_to_coreml(source, "neuralnetwork")
    found = cp.verify(source, made, {"x": right})
    assert found, found.summary()
    assert not cp.verify(source, made, feeds=({"x": right}, {"x": wrong}))


def test_a_long_axis_is_known_where_the_file_says_no_shape_between_its_nodes() -> None:
    """Two products take the place of the resize: the second one reads what the first made short."""
    text = (
        f"{HEAD} (float[1,9,63,4] x) => (float[1,9,1,455] y)"
        " { a = Neg(x) r = Resize<mode='cubic', coordinate_transformation_mode='half_pixel'>(a, , , s) y = Neg(r) }"
    ).replace("'", '"')
    source = onnx_model(text, s=np.array([1, 9, 1, 455], np.int64))
    made = onnx_to_coreml(source, "mlprogram", precision="fp32")
    x = np.random.default_rng(0).normal(size=(1, 9, 63, 4)).astype(np.float32)
    x[:, :, 30], x[:, :, 32] = 3, -3  # steep, where the place is known to 1e-6
    found = cp.verify(source, made, {"x": x})
    assert found, found.summary()
    turned = {"x": x}, {"x": x[..., ::-1].copy()}
    assert not cp.verify(source, made, feeds=turned)


@pytest.mark.parametrize(("to", "options"), FORMATS)
def test_a_long_axis_is_known_behind_several_products(to: Any, options: Any) -> None:
    """Whichever product has the partner: the long axis lies before all of them."""
    text = (
        f"{HEAD} (float[20,1,60,1] x) => (float[20,1,2,2] y)"
        " { a = Neg(x) y = Resize<mode='cubic', coordinate_transformation_mode='half_pixel'>(a, , , s) }"
    ).replace("'", '"')
    source = onnx_model(text, s=np.array([20, 1, 2, 2], np.int64))
    made = onnx_to_coreml(source, to, **options)
    x = np.random.default_rng(0).normal(size=(20, 1, 60, 1)).astype(np.float32)
    x[:, :, [13, 43]], x[:, :, [16, 46]] = 3, -3
    found = cp.verify(source, made, {"x": x})
    assert found, found.summary()
    assert (found.rows[-1].tolerance.typical or 1.0) < 1e-4
    shifted = {"x": x}, {"x": np.roll(x, 1, 2)}
    assert not cp.verify(source, made, feeds=shifted)


CANCELS = f"{HEAD} (float x) => (float[1] y) {{{{ t = {{}}(x, c) y = Abs(t) }}}}"


@pytest.mark.parametrize(("operator", "sign"), [("Add", 1), ("Sub", -1)])
def test_a_stored_number_that_cancels_is_rounded_by_more_than_the_result(operator: str, sign: int) -> None:
    """All three roundings point the same way here: 7.0e-4, where u of both operands and the result are 1.9e-4, 4.9e-4, 2.6e-4."""
    source, fed = (
        onnx_model(CANCELS.format(operator), c=np.float32([sign * 1.0013107])),
        {"x": np.float32(-0.46350142)},
    )
    made = onnx_to_coreml(source, "mlprogram", precision="fp16")
    found = cp.verify(source, made, fed)
    assert found, found.summary()
    wrong = onnx_model(CANCELS.format(operator), c=np.float32([sign * 1.0053]))
    assert not cp.verify(wrong, made, fed)


@pytest.mark.sweep(1)
@pytest.mark.parametrize(("to", "options"), FORMATS)
def test_a_long_sum_of_constants_is_folded_by_other_kernels(to: Any, options: Any) -> None:
    drawn = np.random.default_rng(0)
    c, w = (drawn.standard_normal(shape).astype(np.float32) for shape in ((16, 256, 1), (256, 256, 65)))
    body = "{ y = Conv<pads=[32,32]>(c, w) z = Abs(x) }"
    text = f"{HEAD} (float[4] x) => (float[16,256,1] y, float[4] z) {body}"
    made = onnx_to_coreml(onnx_model(text, c=c, w=w), to, **options)
    found = cp.verify(onnx_model(text, c=c, w=w), made)
    assert found, found.summary()
    assert not cp.verify(onnx_model(text, c=c * np.float32(1.0001), w=w), made)


@pytest.mark.thorough
@pytest.mark.parametrize("operator", ["softmax", "log_softmax"])
@pytest.mark.parametrize("length", [8, 3137, 20000])
def test_a_softmax_along_a_long_axis_agrees_with_pytorch(operator: str, length: int) -> None:
    """PyTorch adds up one after the other along any axis but the last."""
    torch = pytest.importorskip("torch")

    class Net(torch.nn.Module):  # type: ignore[misc, name-defined]
        def forward(self, x: Any) -> Any:
            return getattr(torch, operator)(x, 1)

    module, x = Net(), torch.randn(1, length, 8, generator=torch.Generator().manual_seed(1))
    source = cp.load(cp.Source(module, (x,)))
    for to, options in FORMATS:
        found = cp.verify(source, cp.convert(source, to, **options), {"x": x.numpy()})  # type: ignore[arg-type]
        assert found, found.summary()
        # no more is let through than the sum explains
        assert max(row.tolerance.typical or 1.0 for row in found.rows) < 3e-7 * max(3.0, length**0.5 / 3)


def test_a_softmax_along_the_last_axis_is_held_to_what_it_was() -> None:
    source = onnx_model(f"{HEAD} (float[4,3137] x) => (float[4,3137] y) {{ y = Softmax<axis=-1>(x) }}")
    (row,) = cp.verify(source, onnx_to_coreml(source, "mlprogram", precision="fp32")).rows
    assert (row.tolerance.typical or 1.0) < 5e-7


class Unit(torch.nn.Module):
    """An activation of numbers about a thousandth."""

    def __init__(self, unit: Callable[[torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self.unit = unit

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.unit(x * 1e-3)


UNITS: dict[str, tuple[Callable[[torch.Tensor], torch.Tensor], Callable[[torch.Tensor], torch.Tensor]]] = {
    "elu": (torch.nn.ELU(), torch.nn.ELU(1.01)),
    "selu": (torch.nn.SELU(), lambda x: 1.0507 * torch.nn.functional.elu(x)),
    "celu": (torch.nn.CELU(0.5), lambda x: torch.nn.functional.celu(x, 0.5) + 1e-2 * x.clamp(max=0)),
}
"""Each, and another that is a hundredth off where numbers are negative, or more."""


@pytest.mark.sweep(2)
@pytest.mark.parametrize(("to", "options"), FORMATS)
@pytest.mark.parametrize("unit", UNITS)
def test_exponential_units_of_small_numbers_lose_what_is_beside_one(unit: str, to: Any, options: Any) -> None:
    x = torch.randn(16, 8, generator=torch.Generator().manual_seed(0))
    right, wrong = (TorchModel(Unit(each).eval(), (x,), name=unit) for each in UNITS[unit])
    found = cp.verify(right, cp.convert(right, to, **options, check=False))
    assert found.proves, found.summary()
    assert not cp.verify(right, cp.convert(wrong, to, **options, check=False))
