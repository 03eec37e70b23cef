"""What the reference makes of inputs a rounding apart bounds what an honest engine is off by, and no more."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import coreproof as cp
from coreproof.verification.nudged import ROUNDINGS, drawn_near, spread
from tests.conversion.torch_to_onnx.test_forms import Called

torch = pytest.importorskip("torch", reason="needs the torch extra")


def test_the_spread_is_the_slope_times_a_step_to_a_neighbour() -> None:
    x = np.array([0.3, 1.5, 1.57, 1.5707], np.float32)
    moved = spread(lambda given: {"y": np.tan(np.asarray(given["x"], np.float64))}, {"x": x, "n": np.array(3)})
    steps = np.spacing(x).astype(np.float64)
    np.testing.assert_allclose(moved["y"], steps / np.cos(x.astype(np.float64)) ** 2, rtol=0.05)


def test_what_is_further_off_stays_off_and_what_moves_by_its_half_excuses_nothing() -> None:
    again = np.array([1.0, 1.0, 1.0], np.float32)
    other = np.array([1.0 + 2e-4, 1.1, 1.4], np.float32)
    moved = np.array([1e-4, 1e-4, 0.2])
    expected = [other[0], 1 + ROUNDINGS * 1e-4, 1.0]
    np.testing.assert_allclose(drawn_near(again, other, moved), expected, rtol=1e-6)


NEAR = torch.tensor([[-7.9506, 1.7, -3.973, 0.3], [-0.98, 2.5, -5.02, 0.7]])


@pytest.mark.thorough
@pytest.mark.parametrize("n", [1, 2, 3])
@pytest.mark.parametrize("off", [0.0, 1e-3])
def test_an_operator_near_its_pole_agrees_with_what_it_is_written_out_as(n: int, off: float) -> None:
    """PyTorch rounds the argument times pi; a share of a thousandth, as of a wrong constant, is no rounding."""

    def gamma(x: Any) -> Any:
        return torch.polygamma(n, x)

    made = cp.convert(cp.Source(Called(gamma).eval(), (NEAR,)), "mlprogram", precision="fp32")
    source = cp.Source(Called(lambda x: gamma(x) * (1 + off)).eval(), (NEAR,))
    assert bool(cp.verify(source, made, {"input_0": NEAR.numpy()})) == (off == 0.0)
