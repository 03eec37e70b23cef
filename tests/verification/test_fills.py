"""Values that hold a mask's minimum, or any number far larger than the rest, are judged by what else they hold."""

from __future__ import annotations

import numpy as np
import pytest

from coreproof.conversion.onnx_to_coreml.convert import onnx_to_coreml
from coreproof.model.onnx.model import OnnxModel
from coreproof.verification.converted import check_conversion
from coreproof.verification.fills import _sizes, ordinary_part
from coreproof.verification.tolerance import Tolerance, judge
from coreproof.verification.verify import verify
from tests.build import graph_model, weights

PLACES = np.random.default_rng(1).random((12, 16)) < 0.3
ONE = np.arange(192).reshape(12, 16) == 77
WEIGHTS = weights(16, 16)
HEAD = "agraph (float[12,16] x) => (float[12,16] y) {\n s = MatMul(x, w)\n"


def masked(how: str, fill: float, factor: float = 1.0, where: np.ndarray = PLACES) -> OnnxModel:
    """Scores, some of which are masked in one of the ways that networks do it."""
    w, mask = WEIGHTS * np.float32(factor), np.where(where, fill, 0).astype(np.float32)
    number = np.array(fill, np.float32)
    if how == "chosen":
        return graph_model(HEAD + "y = Where(c, f, s)\n}", w=w, c=where, f=number)
    if how == "scaled":
        return graph_model(HEAD + "t = Add(s, m)\n y = Mul(t, k)\n}", w=w, m=mask, k=np.array(0.3, np.float32))
    if how == "computed":
        text = HEAD.replace("x)", "x, float[12,16] mask)") + "u = Sub(o, mask)\n v = Mul(u, f)\n y = Add(s, v)\n}"
        return graph_model(text, w=w, o=np.array(1, np.float32), f=number)
    if how == "bias":
        text = "agraph (float[12,16] x) => (float[12,16] y) {\n y = Gemm(x, w, b)\n}"
        return graph_model(text, w=w, b=np.where(where[0], fill, 0).astype(np.float32))
    return graph_model(HEAD + "y = Add(s, m)\n}", w=w, m=mask)


@pytest.mark.sweep(4)
@pytest.mark.parametrize(
    ("how", "fill", "precision"),
    [
        ("added", -1e9, "fp32"), ("added", 1e9, "fp16"), ("added", -65504.0, "fp16"), ("added", -3.4e38, "fp32"),
        ("added", -1e4, "fp16"), ("added", -np.inf, "fp16"), ("chosen", -1e9, "fp16"), ("chosen", np.inf, "fp32"),
        ("scaled", -1e9, "fp16"), ("computed", -1e4, "fp16"), ("computed", -1e9, "fp32"), ("bias", 6e4, "fp16"),
    ],
)  # fmt: skip
def test_scores_beside_a_fill_are_judged_as_scores(how: str, fill: float, precision: str) -> None:
    source = masked(how, fill)
    assert verify(source, onnx_to_coreml(source, "mlprogram", precision=precision))
    found = verify(source, onnx_to_coreml(masked(how, fill, 1.02), "mlprogram", precision=precision))
    output = found.rows[-1]
    assert not output.agrees
    assert output.judgement.used > 1.5
    # of the scores, not of the fills
    assert output.judgement.rms_relative_error == pytest.approx(0.02, rel=0.3)


@pytest.mark.parametrize("fill", [1e9, -1e4])
def test_one_element_that_is_huge_hides_none_of_the_others(fill: float) -> None:
    source = masked("added", fill, where=ONE)
    found = verify(source, masked("added", fill, 1.001, where=ONE))
    assert not found.rows[-1].agrees
    assert found.rows[-1].judgement.filled == 1
    assert "beside 1 that" in found.rows[-1].judgement.problem


def test_a_fill_that_is_another_one_is_a_fault() -> None:
    found = verify(masked("added", -1e9), masked("added", -1.01e9))
    assert not found.rows[-1].agrees
    assert verify(masked("added", -1e9), masked("added", -1e9)).summary().count("fills far larger than all else") == 1


def test_a_tolerance_of_the_callers_is_a_share_of_the_ordinary_scale() -> None:
    tolerance = Tolerance(relative=1e-3)
    assert not verify(masked("added", -1e9), masked("added", -1e9, 1.02), tolerance=tolerance)
    assert verify(masked("added", -1e9), masked("added", -1e9, 1.00005), tolerance=tolerance)


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_convert_refuses_wrong_scores_beside_a_mask(precision: str) -> None:
    wrong = onnx_to_coreml(masked("added", -1e9, 1.05), "mlprogram", precision=precision)
    assert not check_conversion(masked("added", -1e9), wrong)
    assert check_conversion(masked("added", -1e9, 1.05), wrong)


def test_behind_a_softmax_only_what_is_kept_counts() -> None:
    text = HEAD + "t = Add(s, m)\n u = Mul(t, k)\n y = Softmax<axis=-1>(u)\n}"
    named = {"m": np.where(PLACES, -1e9, 0).astype(np.float32), "k": np.array(0.3, np.float32)}
    found = verify(graph_model(text, w=WEIGHTS, **named), graph_model(text, w=WEIGHTS, **named))
    assert found
    assert not found.weak
    assert found.rows[-1].tolerance.relative < 1e-4


@pytest.mark.parametrize("dtype", [np.float32, np.float16, np.float64])
@pytest.mark.parametrize("shape", [(5,), (7, 9), (3, 64, 65), (1, 2, 300, 300)])
def test_ordinary_numbers_hold_no_fills(shape: tuple[int, ...], dtype: type) -> None:
    for seed in range(20):
        values = np.random.default_rng(seed).normal(size=shape).astype(dtype)
        assert values.size < 10 or ordinary_part(values, float(np.abs(values).max())) is None
        positive = np.maximum(values, 0) + dtype(0.5)
        assert ordinary_part(positive, float(positive.max())) is None


@pytest.mark.parametrize("size", [6, 192, 5_000, 300_000])
@pytest.mark.parametrize("share", [0.0, 0.3, 0.9])
def test_fills_are_told_from_the_rest(size: int, share: float) -> None:
    rng = np.random.default_rng(0)
    where = rng.random(size) < share
    where[size // 2] = True
    where[0] = False
    values = np.where(where, -1e9, rng.normal(size=size) + 3).astype(np.float32)
    part = ordinary_part(values, 1e9)
    assert part is not None
    assert part.elements == np.count_nonzero(~where)
    assert part.scale == pytest.approx(np.sqrt(np.mean(np.square(values[~where], dtype=np.float64))))


def test_two_kinds_of_fills_are_both_taken_off() -> None:
    values = np.concatenate([np.linspace(1, 2, 50), np.full(40, -1e4), np.full(60, -1e9)])
    part = ordinary_part(values, 1e9)
    assert part is not None
    assert part.elements == 50


def test_the_place_that_is_worst_is_one_of_the_whole_value() -> None:
    reference = np.ones((4, 5), np.float32)
    reference[:2] = -1e9
    candidate = reference.copy()
    candidate[3, 1] += 1
    judgement = judge(reference, candidate, Tolerance(1e-3, filled=(1e-3, None)))
    assert judgement.worst == (3, 1)
    assert judgement.filled == 10
    assert judgement.scale == 1.0


def test_a_mask_that_is_lost_is_no_agreement() -> None:
    assert not verify(masked("added", -1e9), onnx_to_coreml(masked("added", 0.0), "mlprogram", precision="fp32"))


ACTIVATIONS = {
    "softplus": "y = Softplus(t)",
    "gelu": "y = Gelu(t)",
    "swish": "g = Sigmoid(t)\n y = Mul(t, g)",
    "tanh": "y = Tanh(t)",
    "elu": "y = Elu(t)",
    "relu": "y = Relu(t)",
    "exp": "y = Exp(t)",
    "logarithm of a softmax": "y = LogSoftmax(t)",
}


def activated(activation: str, fill: float, factor: float = 1.0) -> OnnxModel:
    text = HEAD + f"t = Add(s, m)\n {ACTIVATIONS[activation]}\n}}"
    mask = np.where(PLACES, fill, 0).astype(np.float32)
    return graph_model(text, opset=20, w=WEIGHTS * np.float32(factor), m=mask)


@pytest.mark.sweep(3)
@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize(
    ("fill", "to", "precision"),
    [(-1e9, "mlprogram", "fp32"), (-1e4, "mlprogram", "fp16"), (-65504.0, "neuralnetwork", "fp32")],
)
def test_what_an_activation_leaves_of_a_fill_excuses_nothing(
    activation: str, fill: float, to: str, precision: str
) -> None:
    if activation == "logarithm of a softmax" and to == "neuralnetwork":
        pytest.skip("its last sum is the fill again, which hides nothing")
    source = activated(activation, fill)
    options = {"precision": precision} if to == "mlprogram" else {}
    found = verify(source, onnx_to_coreml(source, to, **options))
    assert found
    assert not any(weakness.fails for weakness in found.weaknesses)
    assert (found.rows[-1].tolerance.typical or 0) < (2e-2 if precision == "fp16" else 2e-4)
    wrong = verify(source, onnx_to_coreml(activated(activation, fill, 1.02), to, **options))
    assert wrong.first_divergence is not None
    assert wrong.first_divergence.reference in "st"
    assert precision == "fp16" or not wrong.rows[-1].agrees


@pytest.mark.parametrize("size", [2, 3, 4, 7])
def test_a_few_numbers_of_several_sizes_hold_no_fills(size: int) -> None:
    drawn = np.random.default_rng(0).normal(size=(500, size)).astype(np.float32)
    assert sum(ordinary_part(values, float(np.abs(values).max())) is not None for values in drawn) <= 5
    drawn[:, 0] = -1e9
    assert all(ordinary_part(values, 1e9) is not None for values in drawn)


@pytest.mark.parametrize("seed", range(6))
def test_octaves_are_the_same_from_the_bits(seed: int) -> None:
    """Float32 is counted by its bits, other formats with frexp: zeros, infinities and the smallest numbers included."""
    rng = np.random.default_rng(seed)
    block = (rng.normal(size=500) * 2.0 ** rng.integers(-100, 100, 500)).astype(np.float32)
    strange = [0.0, -0.0, np.inf, -np.inf, np.nan, 1.0, -1.0, np.finfo(np.float32).max, np.finfo(np.float32).tiny]
    block[: len(strange)] = strange
    if seed % 2:  # below these, the exponent says nothing
        block[20:30] = np.float32(1e-42)
    assert _sizes(block, {3: 1}) == _sizes(block.astype(np.float64), {3: 1})
