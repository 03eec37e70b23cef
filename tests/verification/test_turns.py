"""Angles of the negative axis are pi or -pi, as rounding has it: either is right, and any other angle is not."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import coreproof as cp
from coreproof.verification.turns import turned_back

torch = pytest.importorskip("torch", reason="needs the torch extra")

SPECTRUM = (torch.randn(2, 512, generator=torch.Generator().manual_seed(0)),)
NEAR_THE_CUT = (torch.tensor([[-0.0, 0.0, -1e-9, 1e-9, 0.5, -0.5, 2.0, -2.0]]).repeat(2, 1), torch.full((2, 8), -1.0))
FORMATS = [("onnx", None), ("mlprogram", "fp32"), ("mlprogram", "fp16"), ("neuralnetwork", None)]


class Called(torch.nn.Module):  # type: ignore[misc,name-defined]
    """A function as a module."""

    def __init__(self, function: Any) -> None:
        super().__init__()
        self.function = function

    def forward(self, *inputs: Any) -> Any:
        return self.function(*inputs)


def phases(wave: Any) -> Any:
    lines = torch.stft(wave, 64, 16, window=torch.hann_window(64), return_complex=True)
    return torch.abs(lines), torch.angle(lines)


@pytest.mark.thorough
@pytest.mark.parametrize(("to", "precision"), FORMATS)
def test_the_phases_of_a_spectrum_agree_in_every_verb(to: Any, precision: Any) -> None:
    source = cp.Source(Called(phases), SPECTRUM)
    made = cp.convert(source, to, precision=precision)
    assert made.notes[-1].startswith("checked")
    found = cp.verify(source, made)
    assert found.proves, found.summary()
    assert "pi on one side" in found.summary()


@pytest.mark.sweep(1)
@pytest.mark.parametrize(("to", "precision"), FORMATS)
@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        (torch.atan2, lambda y, x: torch.atan2(x, y)),
        (torch.atan2, lambda y, x: -torch.atan2(y, x)),
        (torch.atan2, lambda y, x: torch.atan(y / x)),
    ],
    ids=["exchanged", "negated", "half"],
)
def test_another_angle_is_a_fault(right: Any, wrong: Any, to: Any, precision: Any) -> None:
    source = cp.Source(Called(right), NEAR_THE_CUT)
    assert cp.verify(source, cp.convert(source, to, precision=precision, check=False))
    other = cp.convert(cp.Source(Called(wrong), NEAR_THE_CUT), to, precision=precision, check=False)
    assert not cp.verify(source, other)


def test_only_what_is_a_full_turn_off_is_turned() -> None:
    pi = np.float32(np.pi)
    a = np.array([pi, -pi, 3.0, 1.0, -1.0, 9.0], np.float32)
    b = np.array([-pi, pi, -3.0, -1.0, 1.0, 1.0], np.float32)
    back, turned = turned_back(a, b)
    np.testing.assert_allclose(back, [pi, -pi, 2 * pi - 3, -1, 1, 1], rtol=1e-6)
    assert turned == 3
