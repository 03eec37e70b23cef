"""Quotients near their poles, and what levels off behind them: what rounding explains is no fault, and a fault is one."""

from __future__ import annotations

import numpy as np
import pytest

import coreproof as cp
from tests.build import onnx_model

HEAD = '<ir_version: 10, opset_import: ["": 21]> net'
ANGLE = """(float[4,16] x, float[4,16] y) => (float[4,16] z) {
    lifted = Add(y, e)
    q = Div(x, lifted)
    a = Atan(q)
    z = Mul(a, k)
}"""
"""The middle of arctan2(x, y + 1e-8): zeros among y make quotients of 1e8."""
LEVELS = """(float[4,16] x, float[4,16] y) => (float[4,16] z) {{
    size = Abs(y)
    lifted = Add(size, e)
    q = Div(x, lifted)
    z = {function}(q)
}}"""
DICE = """(float[2,100] a, float[2,100] b) => (float[2] z) {
    both = Mul(a, b)
    met = ReduceSum<keepdims=0>(both, axis)
    twice = Mul(met, two)
    upper = Add(twice, e)
    of_a = ReduceSum<keepdims=0>(a, axis)
    of_b = ReduceSum<keepdims=0>(b, axis)
    lower = Add(of_a, of_b)
    guarded = Add(lower, e)
    z = Div(upper, guarded)
}"""
LOGSUMEXP = """(float[4,16] x, float[4,16] mask) => (float[4,1] z) {
    far = Mul(mask, low)
    kept = Add(x, far)
    z = ReduceLogSumExp<keepdims=1>(kept, axis)
}"""
NUMBERS = {"axis": np.array([-1 % 2]), "two": np.float32(2), "low": np.float32(-1e9)}


def built(text: str, **more: np.generic) -> object:
    return onnx_model(
        f"{HEAD} {text}", **{k: v for k, v in {**NUMBERS, **more}.items() if f" {k})" in text or f"({k}," in text}
    )


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_an_angle_of_a_lifted_denominator_proves_something(precision: str) -> None:
    source = built(ANGLE, e=np.float32(1e-8), k=np.float32(1))
    found = cp.verify(source, cp.convert(source, "mlprogram", precision=precision, check=False))
    assert found.agrees, found.summary()
    assert found.proves, found.summary()
    wrong = built(ANGLE, e=np.float32(1e-8), k=np.float32(1.03))
    assert not cp.verify(source, cp.convert(wrong, "mlprogram", precision=precision, check=False))


@pytest.mark.parametrize("function", ["Tanh", "Erf", "Sigmoid", "Atan"])
def test_a_quotient_beyond_float16_is_harmless_before_what_levels_off(function: str) -> None:
    source = built(LEVELS.format(function=function), e=np.float32(1e-6))
    found = cp.verify(source, cp.convert(source, "mlprogram", precision="fp16", check=False))
    assert found.agrees, found.summary()
    assert found.proves, found.summary()
    wrong = built(LEVELS.format(function=function), e=np.float32(1e-2))
    assert not cp.verify(source, cp.convert(wrong, "mlprogram", precision="fp16", check=False))


@pytest.mark.parametrize("seed", [1, 9, 12])
def test_a_quotient_that_zeros_make_too_small_for_float16_is_told_and_no_fault(seed: int) -> None:
    """Of the seeds of which one draw has two rows of zeros: 1e-6 over a sum of 20 is below float16's smallest number."""
    source = built(DICE, e=np.float32(1e-6))
    found = cp.verify(source, cp.convert(source, "mlprogram", precision="fp16", check=False), seed=seed)
    assert found.agrees, found.summary()
    assert found.proves, found.summary()
    assert "in 1 of 3 samples rounding changes half of output" in found.summary()
    wrong = built(DICE, e=np.float32(1e-6), two=np.float32(1.94))
    assert not cp.verify(source, cp.convert(wrong, "mlprogram", precision="fp16", check=False), seed=seed)


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_a_logarithm_of_masked_exponentials_proves_something(precision: str) -> None:
    source = built(LOGSUMEXP)
    made = cp.convert(source, "mlprogram", precision=precision, check=False)
    found = cp.verify(source, made)
    assert found.agrees, found.summary()
    assert found.proves, found.summary()
    # a row that is masked as a whole has the minimum itself
    x = np.random.default_rng(0).normal(0, 1, (4, 16)).astype(np.float32)
    mask = np.tile([[1.0], [0.0]], (2, 16)).astype(np.float32)
    with cp.session(made) as running:
        got = running.run({"x": x, "mask": mask})["z"]
    want = np.log(np.exp(x[1::2].astype(np.float64)).sum(axis=1))
    np.testing.assert_allclose(got[::2, 0], -1e9, rtol=1e-6)
    np.testing.assert_allclose(got[1::2, 0], want, rtol=2e-3)


def test_a_harmonic_mean_proves_something() -> None:
    """A number divided by what drawn zeros make large is small, and so is its error."""
    text = """(float[4,8] x) => (float[4,1] z) {
        size = Abs(x)
        lifted = Add(size, e)
        one = Reciprocal(lifted)
        mean = ReduceMean<keepdims=1>(one, axis)
        inverse = Reciprocal(mean)
        z = Mul(inverse, k)
    }"""
    source, wrong = (built(text, e=np.float32(1e-3), k=np.float32(k)) for k in (1.5, 1.54))
    found = cp.verify(source, cp.convert(source, "mlprogram", precision="fp16", check=False))
    assert found.agrees, found.summary()
    assert found.proves, found.summary()
    assert not cp.verify(source, cp.convert(wrong, "mlprogram", precision="fp16", check=False))


@pytest.mark.thorough
def test_what_is_only_cast_from_an_explained_value_is_explained() -> None:
    """A focal loss: near 0 its power is small and its logarithm large, and the output is the product in float32."""
    text = """(float[4,8] x, float[4,8] t) => (float[4,8] z) {
        q = Sigmoid(x)
        rest = Sub(one, q)
        other = Sub(one, t)
        a = Mul(q, t)
        b = Mul(rest, other)
        met = Add(a, b)
        missed = Sub(one, met)
        power = Pow(missed, k)
        held = Clip(met, e)
        sunk = Log(held)
        z = Mul(power, sunk)
    }"""
    source, wrong = (built(text, one=np.float32(1), e=np.float32(1e-8), k=np.float32(k)) for k in (2, 1.9))
    made, planted = (cp.convert(model, "mlprogram", precision="fp16", check=False) for model in (source, wrong))
    for seed in range(6):
        assert cp.verify(source, made, seed=seed), seed
        assert not cp.verify(source, planted, seed=seed), seed


@pytest.mark.parametrize("length", [8, 64])
def test_an_epsilon_that_float16_raises_is_no_fault_where_zeros_are_fed(length: int) -> None:
    """A weighted loss: of weights that are all zero the sum is the epsilon, 1e-8, for which float16 has 6e-8."""
    text = f"""(float[{length}] l, float[{length}] w) => (float z) {{
        weighted = Mul(l, w)
        upper = ReduceSum<keepdims=0>(weighted)
        lower = ReduceSum<keepdims=0>(w)
        guarded = Add(lower, e)
        z = Div(upper, guarded)
    }}"""
    source, other = built(text, e=np.float32(1e-8)), built(text, e=np.float32(1e-2))
    made = cp.convert(source, "mlprogram", precision="fp16")
    found = cp.verify(source, made)
    assert found, found.summary()
    assert not cp.verify(other, made)
