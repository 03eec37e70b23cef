"""Errors spread over channels as the weights say, measured on a real convolution in half precision."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from coreproof.verification.channels import Profile, profiles
from coreproof.verification.tolerance import Tolerance, judge


def convolution(weights: np.ndarray, group: int = 1) -> ir.Graph:
    tensor = ir.Tensor(weights, name="w")
    w = ir.Value(name="w", const_value=tensor, type=ir.TensorType(tensor.dtype), shape=tensor.shape)
    x, y, z = (ir.Value(name=n, type=ir.TensorType(ir.DataType.FLOAT)) for n in "xyz")
    nodes = [
        ir.Node("", "Conv", [x, w], [ir.AttrInt64("group", group)], outputs=[y]),
        ir.Node("", "Relu", [y], outputs=[z]),
    ]
    return ir.Graph([x], [z], nodes=nodes, initializers=[w], opset_imports={"": 20})


def test_shares_are_those_that_half_precision_shows() -> None:
    rng = np.random.default_rng(0)
    weights = rng.normal(size=(8, 16)) * np.geomspace(0.1, 10, 8)[:, None]
    x = rng.normal(size=(16, 20000))
    error = weights @ x.astype(np.float16).astype(np.float64) - weights @ x
    measured = np.sqrt(np.mean(error**2, axis=1))
    measured /= np.sqrt(np.mean(measured**2))
    found = profiles(convolution(weights[:, :, None, None].astype(np.float32)))
    np.testing.assert_allclose(found["y"].shares, measured, rtol=0.05)
    np.testing.assert_array_equal(found["z"].shares, found["y"].shares)


def test_noise_grows_by_the_gain() -> None:
    rng = np.random.default_rng(1)
    weights = rng.normal(size=(8, 16))
    noise = rng.normal(size=(16, 50000))
    found = profiles(convolution(weights[:, :, None, None].astype(np.float32)))
    assert found["y"].gain == pytest.approx(np.sqrt(np.mean((weights @ noise) ** 2)), rel=0.02)
    assert found["z"].gain is None


def test_a_depthwise_channel_depends_on_its_own_input_alone() -> None:
    found = profiles(convolution(np.array([1, 2, 4], np.float32).reshape(3, 1, 1, 1), group=3))
    np.testing.assert_allclose(found["y"].shares / found["y"].shares[0], [1, 2, 4])


def test_a_fault_in_a_quiet_channel_is_not_excused_by_a_loud_one() -> None:
    reference = np.ones((1, 2, 4, 4))
    candidate = reference.copy()
    candidate[0, 0, 1, 1] += 0.05
    profile = Profile(np.array([0.1, 1.4]), 1)
    assert not judge(reference, candidate, Tolerance(relative=0.04), profile)
    candidate = reference.copy()
    candidate[0, 1, 1, 1] += 0.05
    assert judge(reference, candidate, Tolerance(relative=0.04), profile)


@pytest.mark.parametrize("shape", [(), (3,), (1, 5, 2, 2)])
def test_a_profile_that_does_not_fit_says_nothing(shape: tuple[int, ...]) -> None:
    assert Profile(np.ones(2), 1).over(shape) is None
