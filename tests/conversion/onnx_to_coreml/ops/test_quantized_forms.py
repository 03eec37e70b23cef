"""The forms that ONNX Runtime's quantisation tool writes, counted as they are defined."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import helper, numpy_helper

import coreproof as cp

RNG = np.random.default_rng(0)


def microsoft(
    operator: str, inputs: dict[str, np.ndarray], parameters: list[Any], order: list[int | str], **attributes: Any
) -> onnx.ModelProto:
    """A model of one of ONNX Runtime's own operators on bytes, its result dequantised."""
    names = [name if isinstance(name, str) else f"p{name}" for name in order]
    nodes = [
        helper.make_node(operator, names, ["q"], name="node", domain="com.microsoft", **attributes),
        helper.make_node("DequantizeLinear", ["q", "one"], ["y"], name="out"),
    ]
    constants = {f"p{at}": np.asarray(value) for at, value in enumerate(parameters)} | {"one": np.float32(1)}
    graph = helper.make_graph(
        nodes,
        "one",
        [
            helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(a.dtype), a.shape)
            for n, a in inputs.items()
        ],
        [helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8)


BYTES = RNG.integers(0, 256, size=(2, 3, 4, 4)).astype(np.uint8)
TWO = {"a": BYTES, "b": BYTES[:, ::-1].copy()}
ONE_OF_BYTES = [np.float32(0.02), np.uint8(120), np.float32(0.031), np.uint8(90)]
ROWS = RNG.integers(0, 256, size=(3, 5)).astype(np.uint8)
WEIGHT = RNG.integers(-127, 128, size=(5, 4)).astype(np.int8)
FORMS: dict[str, onnx.ModelProto] = {
    "QLinearMul": microsoft("QLinearMul", TWO, [*ONE_OF_BYTES, np.float32(0.061), np.uint8(100)], ["a", 0, 1, "b", 2, 3, 4, 5]),
    "QLinearAdd": microsoft("QLinearAdd", TWO, [*ONE_OF_BYTES, np.float32(0.061), np.uint8(100)], ["a", 0, 1, "b", 2, 3, 4, 5]),
    "QLinearConcat": microsoft(
        "QLinearConcat", TWO, [*ONE_OF_BYTES, np.float32(0.025), np.uint8(100)], [4, 5, "a", 0, 1, "b", 2, 3], axis=1
    ),
    "QLinearSigmoid": microsoft(
        "QLinearSigmoid", {"a": BYTES}, [*ONE_OF_BYTES[:2], np.float32(1 / 256), np.uint8(0)], ["a", 0, 1, 2, 3]
    ),
    "QLinearLeakyRelu": microsoft("QLinearLeakyRelu", {"a": BYTES}, ONE_OF_BYTES, ["a", 0, 1, 2, 3], alpha=0.3),
    "QLinearSoftmax": microsoft(
        "QLinearSoftmax", {"a": BYTES}, [*ONE_OF_BYTES[:2], np.float32(1 / 256), np.uint8(0)], ["a", 0, 1, 2, 3],
        axis=-1, opset=13,
    ),
    "QLinearAveragePool": microsoft(
        "QLinearAveragePool", {"a": BYTES}, ONE_OF_BYTES, ["a", 0, 1, 2, 3], kernel_shape=[2, 2], strides=[2, 2]
    ),
    "QLinearGlobalAveragePool": microsoft("QLinearGlobalAveragePool", {"a": BYTES}, ONE_OF_BYTES, ["a", 0, 1, 2, 3]),
    "QGemm": microsoft(
        "QGemm", {"a": ROWS},
        [np.float32(0.02), np.uint8(120), WEIGHT, np.float32(0.01), np.int8(3), np.array([900, -40, 0, 5], np.int32),
         np.float32(0.2), np.uint8(128)],
        ["a", 0, 1, 2, 3, 4, 5, 6, 7],
    ),
    "QGemm of a transposed weight with a scale for each column": microsoft(
        "QGemm", {"a": ROWS},
        [np.float32(0.02), np.uint8(120), WEIGHT.T.copy(), np.array([0.01, 0.02, 0.005, 0.01], np.float32),
         np.zeros(4, np.int8), np.array([900, -40, 0, 5], np.int32), np.float32(0.2), np.uint8(128)],
        ["a", 0, 1, 2, 3, 4, 5, 6, 7], transB=1, alpha=1.0,
    ),
}  # fmt: skip


def in_steps(form: str) -> np.ndarray:
    """What a form's result is by its definition, in steps, before it is rounded and shifted."""
    first, zero, second, shift = (float(each) for each in ONE_OF_BYTES)
    a, b = (TWO[name].astype(np.float64) for name in "ab")
    left, right = (a - zero) * first, (b - shift) * second
    byte, made = float(np.float32(1 / 256)), float(np.float32(0.061))
    if form == "QLinearMul":
        return left * right / made
    if form == "QLinearAdd":
        return (left + right) / made
    if form == "QLinearConcat":
        return np.concatenate([left, right], 1) / float(np.float32(0.025))
    if form == "QLinearSigmoid":
        return 1 / (1 + np.exp(-left)) / byte
    if form == "QLinearSoftmax":
        powers = np.exp(left - left.max(-1, keepdims=True))
        return powers / powers.sum(-1, keepdims=True) / byte
    if form == "QLinearLeakyRelu":
        return np.where(left < 0, left * float(np.float32(0.3)), left) / second
    if form == "QLinearAveragePool":
        return left.reshape(2, 3, 2, 2, 2, 2).mean((3, 5)) / second
    if form == "QLinearGlobalAveragePool":
        return left.mean((2, 3), keepdims=True) / second
    each = np.array([0.01] * 4 if form == "QGemm" else [0.01, 0.02, 0.005, 0.01], np.float32).astype(np.float64)
    whole = WEIGHT.astype(np.float64) - (3 if form == "QGemm" else 0)
    sums = (ROWS.astype(np.float64) - 120) @ whole + [900, -40, 0, 5]
    return sums * float(np.float32(0.02)) * each / float(np.float32(0.2))


ROUNDED = 8 * 2.0**-24 * 512


@pytest.mark.sweep(5)
@pytest.mark.parametrize("to", ["mlprogram", "neuralnetwork"])
@pytest.mark.parametrize("form", FORMS)
def test_the_forms_of_onnx_runtime_s_quantisation_tool_count_as_they_are_defined(form: str, to: Any) -> None:
    model = FORMS[form]
    fed = {i.name: TWO.get(i.name, BYTES) if i.name != "a" or form[1] != "G" else ROWS for i in model.graph.input}
    constants = [numpy_helper.to_array(each) for each in model.graph.initializer]
    zero = int(constants[5 if form in ("QLinearMul", "QLinearAdd", "QLinearConcat") else 3].reshape(-1)[0])
    zero = 128 if form[1] == "G" else 0 if form in ("QLinearSigmoid", "QLinearSoftmax") else zero
    steps = in_steps(form)
    sure = np.abs(steps - np.floor(steps) - 0.5) > ROUNDED
    assert sure.mean() > 0.95, "the test would hold nothing to account"
    expected = np.clip(np.rint(steps) + zero, 0, 255)
    (theirs,) = ort.InferenceSession(model.SerializeToString()).run(None, fed)
    converted = cp.convert(cp.load(model), to, precision="fp32" if to == "mlprogram" else None, check=False)
    (got,) = cp.session(converted).run(fed).values()
    for each in (np.asarray(theirs, np.float64), np.asarray(got, np.float64)):
        np.testing.assert_array_equal(each[sure], expected[sure])
        assert np.abs(each - expected).max() <= 1
