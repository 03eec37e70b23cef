"""Quantised weights and activations stay quantised: what is written, its bytes, and that the numbers are the source's."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import onnx_ir as ir
import onnxruntime as ort
import pytest

from coreproof.conversion.onnx_to_coreml.convert import onnx_to_coreml
from coreproof.conversion.onnx_to_coreml.packed import is_writable, pack, packed_array, packed_in
from coreproof.model.coreml.model import CoreMLModel
from coreproof.model.onnx.model import OnnxModel, from_message
from coreproof.runtime.exact_integers import add_exactly
from coreproof.runtime.open import session
from tests.build import graph_model
from tests.conversion.onnx_to_coreml.microsoft_node import microsoft_model

RNG = np.random.default_rng(0)
AFFINE, BLOCKWISE = "constexpr_affine_dequantize", "constexpr_blockwise_shift_scale"


def operators(model: CoreMLModel) -> Counter[str]:
    return Counter(node.operator for node in model.graph.nodes)


def source_answer(model: OnnxModel, fed: dict[str, np.ndarray]) -> np.ndarray:
    """ONNX Runtime's own answer without its fusions, which compute in integers what the graph computes in floats."""
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    exact = ir.to_proto(model.ir)
    add_exactly(
        exact, {}
    )  # some processors' kernels stop in the middle of a sum: see tests/runtime/test_exact_integers.py
    answer = ort.InferenceSession(exact.SerializeToString(), options, providers=["CPUExecutionProvider"]).run(
        None, fed
    )[0]
    return np.asarray(answer)


def answer(model: CoreMLModel, fed: dict[str, np.ndarray]) -> np.ndarray:
    with session(model, "onnxruntime") as running:
        return np.asarray(running.run(fed)[model.signature.outputs[0].name])


def integers(dtype: Any, *shape: int) -> np.ndarray:
    low, high = {"int8": (-128, 128), "uint8": (0, 256), "int4": (-8, 8), "uint4": (0, 16)}[np.dtype(dtype).name]
    return RNG.integers(low, high, size=shape).astype(dtype)


def scales(*shape: int) -> np.ndarray:
    return RNG.uniform(0.005, 0.02, size=shape).astype(np.float32)


def product(weight: np.ndarray, scale: np.ndarray, zero: np.ndarray | None, **attributes: Any) -> OnnxModel:
    said = ", ".join(f"{k} = {v}" for k, v in attributes.items())
    points = "" if zero is None else ", z"
    text = f"""net (float[3, {weight.shape[0]}] x) => (float[3, {weight.shape[1]}] y) {{
        d = DequantizeLinear{f"<{said}>" if said else ""} (w, s{points})  y = MatMul(x, d) }}"""
    return graph_model(text, 21, w=weight, s=scale, **({} if zero is None else {"z": zero}))


FORMS = {
    "one for all": ({}, (), (), 16),
    "one a column": ({"axis": 1}, (24,), (24,), 16),
    "one a row": ({"axis": 0}, (32,), (32,), 16),
    "blocks": ({"axis": 0, "block_size": 8}, (4, 24), (4, 24), 18),
    "blocks of which the last is short": ({"axis": 0, "block_size": 12}, (3, 24), (3, 24), 18),
}


@pytest.mark.sweep(6)
@pytest.mark.parametrize("dtype", [np.int8, np.uint8, ml_dtypes.int4, ml_dtypes.uint4])
@pytest.mark.parametrize("form", FORMS)
def test_weights_stay_packed_and_are_the_same_numbers(form: str, dtype: Any) -> None:
    attributes, shape, points, since = FORMS[form]
    model = product(integers(dtype, 32, 24), scales(*shape), integers(dtype, *points), **attributes)
    x = RNG.standard_normal((3, 32)).astype(np.float32)
    expected = source_answer(model, {"x": x})
    for target in (15, 16, 17, 18):
        made = onnx_to_coreml(model, target=f"iOS{target}", precision="fp32")
        four, found = "4" in np.dtype(dtype).name, operators(made)
        table = four and form == "one for all" and 16 <= target < 18
        kept = BLOCKWISE if target == 18 else "constexpr_lut_to_dense" if table else AFFINE
        assert found[kept] == (target >= since), (target, found)
        np.testing.assert_allclose(answer(made, {"x": x}), expected, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(
        answer(onnx_to_coreml(model, target="iOS18"), {"x": x}), expected, atol=2e-3 * np.abs(expected).max()
    )


def test_without_a_zero_point_and_from_a_constant_that_is_quantised_in_the_graph() -> None:
    weight, scale = integers(np.int8, 32, 24), scales(24)
    assert operators(onnx_to_coreml(product(weight, scale, None, axis=1)))[AFFINE] == 1
    text = """net (float[3, 32] x) => (float[3, 24] y) {
        q = QuantizeLinear <axis = 1> (w, s, z)  d = DequantizeLinear <axis = 1> (q, s, z)  y = MatMul(x, d) }"""
    model = graph_model(text, 21, w=weight * scale, s=scale, z=np.zeros(24, np.int8))
    assert operators(onnx_to_coreml(model))[AFFINE] == 1


@pytest.mark.parametrize(
    ("text", "shape"),
    [
        ("c = Conv <pads = [1, 1, 1, 1]> (x, d)", (8, 4, 3, 3)),
        ("c = ConvTranspose (x, d)", (4, 8, 3, 3)),
        ("t = Transpose <perm = [1, 0, 2, 3]> (d)  c = Conv (x, t)", (4, 8, 3, 3)),
        ("f = Flatten (x)  c = Gemm <transB = 1> (f, d)", (5, 256)),
        ("f = Flatten (x)  c = Gemm <alpha = 0.5> (f, d)", (256, 5)),
        ("a = Constant <value_ints = [0]> ()  u = Unsqueeze (d, a)  s0 = Squeeze (u, a)  c = MatMul (x, s0)", (8, 9)),
    ],
)
def test_whatever_reads_a_weight(text: str, shape: tuple[int, ...]) -> None:
    weight = integers(np.int8, *shape)
    model = graph_model(
        f"net (float[1, 4, 8, 8] x) => (float y) {{ d = DequantizeLinear <axis = 0> (w, s)  {text}  y = Relu (c) }}",
        21,
        w=weight,
        s=scales(shape[0]),
    )
    x = RNG.standard_normal((1, 4, 8, 8)).astype(np.float32)
    made = onnx_to_coreml(model, target="iOS17", precision="fp32")
    assert operators(made)[AFFINE] == 1
    np.testing.assert_allclose(answer(made, {"x": x}), source_answer(model, {"x": x}), rtol=1e-5, atol=1e-4)


def test_a_table_of_bytes_is_gathered_as_bytes(tmp_path: Path) -> None:
    text = """net (int64[5] i) => (float[5, 64] y) { g = Gather (w, i)  y = DequantizeLinear (g, s, z) }"""
    weight = integers(np.uint8, 200, 64)
    model = graph_model(text, 21, w=weight, s=np.float32(0.02), z=np.uint8(3))
    made = onnx_to_coreml(model, target="iOS17", precision="fp32")
    made.save(tmp_path / "m.mlpackage")
    assert size(tmp_path) < 1.3 * weight.size
    fed = {"i": np.array([0, 199, 7, 7, 3])}
    np.testing.assert_array_equal(answer(made, fed), source_answer(model, fed))


def size(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def qdq(activation: Any = np.uint8) -> OnnxModel:
    """Two layers as quantisation tools write them, with a pooling of bytes between a quantiser and what reads it."""
    kind = {np.uint8: 120, np.int8: -5}[activation]
    text = """net (float[1, 4, 8, 8] x) => (float[1, 6, 4, 4] y) {
        q0 = QuantizeLinear (x, s0, z0)   d0 = DequantizeLinear (q0, s0, z0)
        dw = DequantizeLinear <axis = 0> (w, sw)
        c = Conv <pads = [1, 1, 1, 1]> (d0, dw)
        q1 = QuantizeLinear (c, s1, z0)   p = MaxPool <kernel_shape = [2, 2], strides = [2, 2]> (q1)
        y = DequantizeLinear (p, s1, z0) }"""
    return graph_model(
        text, 13, w=integers(np.int8, 6, 4, 3, 3), sw=scales(6), s0=np.float32(0.03), s1=np.float32(0.1),
        z0=np.array(kind, activation),
    )  # fmt: skip


@pytest.mark.parametrize("activation", [np.uint8, np.int8])
@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_activations_are_quantised_by_mil_from_ios17_on(activation: Any, precision: Any) -> None:
    model = qdq(activation)
    x = RNG.standard_normal((1, 4, 8, 8)).astype(np.float32)
    expected = source_answer(model, {"x": x})
    for target in ("iOS15", "iOS17", "iOS18"):
        made = onnx_to_coreml(model, target=target, precision=precision)
        # what pools bytes is given int32
        assert (operators(made)["quantize"], operators(made)["dequantize"]) == ((0, 0) if target == "iOS15" else (1, 1))
        steps = (answer(made, {"x": x}) - expected) / 0.1
        # a float that float16 rounds onto the other side of a half becomes the next integer
        assert np.abs(steps).max() <= (1e-3 if precision == "fp32" else 1.1)
        assert np.mean(np.abs(steps) > 0.5) < 0.1


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_operators_on_integers_keep_their_weights_and_are_the_integers_of_the_definition(
    precision: Any, tmp_path: Path
) -> None:
    w = integers(np.int8, 32, 16, 3, 3)
    text = """net (float[1, 16, 8, 8] x) => (float[1, 32, 8, 8] y) {
        q = QuantizeLinear (x, xs, xz)  r = QLinearConv <pads = [1, 1, 1, 1]> (q, xs, xz, w, ws, wz, ys, yz, b)
        y = DequantizeLinear (r, ys, yz) }"""
    model = graph_model(
        text, 13, w=w, ws=scales(32), wz=np.zeros(32, np.int8), xs=np.float32(0.02), xz=np.uint8(128),
        ys=np.float32(0.3), yz=np.uint8(100), b=RNG.integers(-500, 500, size=32).astype(np.int32),
    )  # fmt: skip
    made = onnx_to_coreml(model, target="iOS17", precision=precision)
    assert operators(made)[AFFINE] == 1
    assert operators(made)["quantize"] == 2
    made.save(tmp_path / "m.mlpackage")
    assert size(tmp_path) < w.size + 8000
    x = RNG.standard_normal((1, 16, 8, 8)).astype(np.float32)
    steps = np.abs(answer(made, {"x": x}) - source_answer(model, {"x": x})) / 0.3
    # the next integer at most, and what float16 makes of the number that it stands for
    assert steps.max() <= (1e-3 if precision == "fp32" else 1 + 255 * 2**-11)


@pytest.mark.parametrize("bits", [2, 4, 8])
def test_packed_products_stay_packed_from_ios18_on(bits: int) -> None:
    rows, columns, block = 24, 48, 32
    blob = -(-columns // block) * block * bits // 8
    stored = RNG.integers(0, 256, size=(rows, 2, blob // 2)).astype(np.uint8)
    constants = {"b": stored, "scales": scales(rows * 2)}
    x = RNG.standard_normal((3, columns)).astype(np.float32)
    proto = microsoft_model(
        "MatMulNBits", {"a": x}, constants, ["a", "b", "scales"], K=columns, N=rows, bits=bits, block_size=block
    )
    model = from_message(proto)
    expected = onnx_to_coreml(model, target="iOS15", precision="fp32")
    made = onnx_to_coreml(model, target="iOS18", precision="fp32")
    assert operators(made)[BLOCKWISE] == 1
    assert not operators(expected)[BLOCKWISE]
    np.testing.assert_allclose(answer(made, {"a": x}), answer(expected, {"a": x}), rtol=1e-5, atol=1e-5)


def test_weights_in_blocks_are_made_for_ios18_where_nothing_is_said_and_noted_below() -> None:
    attributes, shape, points, _ = FORMS["blocks"]
    model = product(integers(np.int8, 32, 24), scales(*shape), integers(np.int8, *points), **attributes)
    made = onnx_to_coreml(model)
    assert operators(made)[BLOCKWISE] == 1
    assert any("iOS 18" in note for note in made.notes)
    below = onnx_to_coreml(model, target="iOS17")
    assert not operators(below)[BLOCKWISE]
    assert any("iOS18" in note and "floats" in note for note in below.notes)
    whole = product(integers(np.int8, 32, 24), scales(24), None, axis=1)
    assert not any("iOS" in note for note in onnx_to_coreml(whole).notes)


def test_a_scale_that_float16_does_not_hold_leaves_floats() -> None:
    numbers = integers(np.int8, 32, 24)
    usual, tiny = pack(numbers, scales(24), None, axis=1), pack(numbers, scales(24) * 1e-6, None, axis=1)
    assert usual is not None
    assert tiny is not None
    assert is_writable(usual, 17, np.float16)
    assert is_writable(tiny, 17, np.float32)
    assert not is_writable(tiny, 17, np.float16)
    # one channel of all but zeros beside others does not matter
    mixed = scales(24)
    mixed[3] = 1e-7
    dead = pack(numbers, mixed, None, axis=1)
    assert dead is not None
    assert is_writable(dead, 17, np.float16)


def test_what_is_computed_with_a_packed_array_is_a_plain_one() -> None:
    packed = pack(integers(np.int8, 32, 24), scales(24), None, axis=1)
    assert packed is not None
    array = packed_array(packed)
    assert packed_in(array) is packed
    for made in (array * 2, array[:3], array.T, np.concatenate([array, array]), array.reshape(-1)):
        assert packed_in(made) is None
