"""Operators on six dimensions and more, against ONNX Runtime: in ranks that Core ML takes, with the same numbers."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnxruntime
import pytest

import coreproof as cp
from coreproof.errors import ConversionError
from tests.build import onnx_model

HEAD = '<ir_version: 8, opset_import: ["": 17]> net'
X = np.random.default_rng(0).normal(size=(2, 24, 15)).astype(np.float32)
SHAPE = (2, 3, 4, 2, 5, 3)
CONSTANTS: dict[str, Any] = {
    "wide": np.array(SHAPE),
    "back": np.array([2, 24, -1]),
    "flat": np.array([-1]),
    "row": np.random.default_rng(1).normal(size=(5, 3)).astype(np.float32),
    "col": np.random.default_rng(2).normal(size=(1, 3, 1, 2, 1, 3)).astype(np.float32),
    "odd": np.random.default_rng(3).normal(size=(2, 1, 4, 1, 5, 1)).astype(np.float32),
    "mat": np.random.default_rng(4).normal(size=(3, 7)).astype(np.float32),
    "many": np.random.default_rng(5).normal(size=(3, 1, 2, 3, 4)).astype(np.float32),
    "scale": np.random.default_rng(6).normal(size=3).astype(np.float32),
    "ends": np.array([2, 4]),
    "starts": np.array([1, 0]),
    "axes": np.array([1, 4]),
    "steps": np.array([1, 2]),
    "picks": np.array([[2, 0], [1, 1]]),
    "reps": np.array([1, 2, 1, 1, 1, 2]),
    "pads": np.array([0, 1, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0]),
    "parts": np.array([1, 3]),
    "half": np.float32(0.5),
    "a14": np.array([1, 4]),
    "a024": np.array([0, 2, 4]),
    "one": np.array([0]),
    "k": np.array([2]),
    "zero": np.array(2),
}


def agree(body: str, to: Any, precision: str = "fp32", shape: str = "?,?,?", **tolerance: float) -> None:
    used = {name: value for name, value in CONSTANTS.items() if f" {name})" in body or f" {name}," in body}
    model = onnx_model(f"{HEAD} (float[2,24,15] x) => (float[{shape}] y) {{ {body} }}", **used)
    (want,) = onnxruntime.InferenceSession(model.stored()).run(None, {"x": X})
    converted = cp.convert(model, to, precision=None if to == "neuralnetwork" else precision)
    ranks = [len(v.shape or ()) for v in converted.graph.values.values()]
    assert max(ranks) <= 5
    with cp.session(converted) as running:
        (got,) = running.run({"x": X}).values()
    assert got.shape == want.shape
    np.testing.assert_allclose(got, want, **{"rtol": 1e-4, "atol": 1e-5, **tolerance})


BODIES = [
    "r = Relu(w) z = Reshape(r, back)",
    "a = Exp(w) b = Neg(a) c = Sigmoid(b) z = Reshape(c, back)",
    "t = Transpose<perm=[0,3,1,4,2,5]>(w) z = Reshape(t, flat)",
    "t = Transpose<perm=[5,3,1,4,2,0]>(w) z = Reshape(t, flat)",
    "t = Transpose<perm=[5,4,3,2,1,0]>(w) r = Relu(t) u = Transpose<perm=[2,0,4,1,5,3]>(r) z = Reshape(u, flat)",
    "a = Add(w, row) z = Reshape(a, back)",
    "a = Mul(w, col) z = Reshape(a, back)",
    "a = Add(w, odd) b = Mul(a, col) z = Reshape(b, back)",
    "a = Mul(w, half) b = Sub(half, a) z = Reshape(b, back)",
    "c = Less(w, odd) a = Where(c, w, col) z = Reshape(a, back)",
    "s = Softmax<axis=1>(w) z = Reshape(s, back)",
    "s = Softmax<axis=-1>(w) z = Reshape(s, back)",
    "s = LogSoftmax<axis=2>(w) z = Reshape(s, back)",
    "m = MatMul(w, mat) z = Reshape(m, flat)",
    "t = Transpose<perm=[0,1,2,3,5,4]>(w) m = MatMul(t, w) z = Reshape(m, flat)",
    "m = MatMul(w, many) z = Reshape(m, flat)",
    "z = ReduceMean<axes=[3,4,5], keepdims=0>(w)",
    "m = ReduceMax<axes=[0,2,4], keepdims=0>(w) z = Identity(m)",
    "m = ReduceL2<axes=[1,3,5]>(w) n = Div(w, m) z = Reshape(n, back)",
    "m = ReduceSumSquare<axes=[4]>(w) n = Div(w, m) z = Reshape(n, back)",
    "m = ReduceLogSumExp<axes=[0,2,4], keepdims=0>(w) z = Identity(m)",
    "g = Gather<axis=2>(w, picks) z = Reshape(g, flat)",
    "g = Gather<axis=4>(w, zero) z = Reshape(g, flat)",
    "s = Slice(w, starts, ends, axes) z = Reshape(s, flat)",
    "s = Slice(w, starts, ends, axes, steps) z = Reshape(s, flat)",
    "t = Tile(w, reps) z = Reshape(t, flat)",
    "p = Pad(w, pads, half) z = Reshape(p, flat)",
    "p = Pad<mode=\"edge\">(w, pads) z = Reshape(p, flat)",
    "a, b = Split<axis=2>(w, parts) c = Concat<axis=2>(b, a) z = Reshape(c, flat)",
    "c = Concat<axis=1>(w, w) z = Reshape(c, flat)",
    "a = LayerNormalization<axis=-1>(w, scale) z = Reshape(a, flat)",
    "i = ArgMax<axis=4, keepdims=0>(w) c = Cast<to=1>(i) z = Reshape(c, flat)",
    "v, i = TopK<axis=2>(w, k) z = Reshape(v, flat)",
    "c = CumSum(w, zero) z = Reshape(c, flat)",
    "u = Unsqueeze(w, one) v = Unsqueeze(u, one) r = Tanh(v) s = Squeeze(r, one) z = Reshape(s, flat)",
    "e = Einsum<equation=\"abcdef,abcdgf->abcdeg\">(w, w) z = Reshape(e, flat)",
    "e = Einsum<equation=\"abcdef,abchef->abcdhe\">(w, w) z = Reshape(e, flat)",
]  # fmt: skip


@pytest.mark.sweep(5)
@pytest.mark.parametrize("to", ["mlprogram", "neuralnetwork"])
@pytest.mark.parametrize("body", BODIES)
def test_six_dimensions(body: str, to: Any) -> None:
    rank = {"ReduceMean": "?,?,?", "ReduceMax": "?,?,?", "ReduceLog": "?,?,?", "flat": "?"}
    agree(
        f"w = Reshape(x, wide) {body} y = Identity(z)",
        to,
        shape=next((v for k, v in rank.items() if k in body), "?,?,?"),
    )


@pytest.mark.parametrize("body", BODIES[::4])
def test_six_dimensions_in_float16(body: str) -> None:
    shape = "?" if "flat" in body else "?,?,?"
    agree(f"w = Reshape(x, wide) {body} y = Identity(z)", "mlprogram", "fp16", shape, rtol=2e-2, atol=2e-2)


def test_windowed_attention_in_seven_dimensions_keeps_the_names_of_its_ends() -> None:
    """Windows of a picture, attended to among themselves by head, and put back."""
    body = """w = Reshape(x, cut) t = Transpose<perm=[0,1,3,5,2,4,6]>(w) q = Mul(t, half)
        k = Transpose<perm=[0,1,2,3,4,6,5]>(t) s = MatMul(q, k) p = Softmax<axis=-1>(s) o = MatMul(p, t)
        u = Transpose<perm=[0,1,4,2,5,3,6]>(o) y = Reshape(u, whole)"""
    constants = {"cut": np.array([1, 2, 2, 4, 3, 4, 3]), "whole": np.array([1, 2, 8, 12, 3]), "half": np.float32(0.5)}
    model = onnx_model(f"{HEAD} (float[1,2,8,12,3] x) => (float[1,2,8,12,3] y) {{ {body} }}", **constants)
    x = np.random.default_rng(0).normal(size=(1, 2, 8, 12, 3)).astype(np.float32)
    (want,) = onnxruntime.InferenceSession(model.stored()).run(None, {"x": x})
    converted = cp.convert(model, "mlprogram", precision="fp32")
    assert [o.name for o in converted.signature.outputs] == ["y"]
    with cp.session(converted) as running:
        np.testing.assert_allclose(running.run({"x": x})["y"], want, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("batch", [1, 3])
def test_a_free_batch_goes_through_six_dimensions(batch: int) -> None:
    body = """w = Reshape(x, wide) t = Transpose<perm=[0,3,1,4,2,5]>(w) r = Mul(t, half) s = Softmax<axis=2>(r)
        y = Reshape(s, back)"""
    constants = {"wide": np.array([-1, *SHAPE[1:]]), "back": np.array([-1, 360]), "half": np.float32(0.5)}
    model = onnx_model(f"{HEAD} (float[n,24,15] x) => (float[n,360] y) {{ {body} }}", **constants)
    x = np.random.default_rng(0).normal(size=(batch, 24, 15)).astype(np.float32)
    (want,) = onnxruntime.InferenceSession(model.stored()).run(None, {"x": x})
    converted = cp.convert(model, "mlprogram", precision="fp32", shapes={"x": [(1, 4), 24, 15]})
    with cp.session(converted) as running:
        np.testing.assert_allclose(running.run({"x": x})["y"], want, rtol=1e-4, atol=1e-5)


def test_what_has_no_rule_is_refused_by_name() -> None:
    body = "w = Reshape(x, wide) n = NonZero(w) y = Cast<to=1>(n)"
    with pytest.raises(ConversionError, match=r"more dimensions than Core ML has(?s:.)*non_zero"):
        cp.convert(
            onnx_model(f"{HEAD} (float[2,24,15] x) => (float[6,?] y) {{ {body} }}", wide=np.array(SHAPE)), "mlprogram"
        )


def test_the_shape_of_six_dimensions_of_which_one_is_free() -> None:
    model = onnx_model(
        f"""{HEAD} (float[n,6,8] x) => (int64[6] y, float[n,3,16] z) {{
            w = Reshape (x, wide) t = Transpose <perm = [0, 2, 1, 4, 3, 5]> (w) y = Shape (t)
            own = Slice (y, first, second) target = Concat <axis = 0> (own, rest) z = Reshape (t, target)
        }}""",
        wide=np.array([-1, 2, 3, 2, 2, 2]),
        first=np.array([0]),
        second=np.array([1]),
        rest=np.array([3, 16]),
    )
    made = cp.convert(model, "mlprogram", precision="fp32", shapes={"x": [(1, 4), 6, 8]})
    with cp.session(made) as running:
        for batch in (1, 3):
            x = np.random.default_rng(batch).normal(size=(batch, 6, 8)).astype(np.float32)
            turned = x.reshape(batch, 2, 3, 2, 2, 2).transpose(0, 2, 1, 4, 3, 5)
            found = running.run({"x": x})
            np.testing.assert_array_equal(found["y"], turned.shape)
            np.testing.assert_array_equal(found["z"], turned.reshape(batch, 3, 16))


def test_windows_of_a_picture_whose_height_and_width_are_free() -> None:
    model = onnx_model(
        f"""{HEAD} (float[1,3,h,w] x) => (float[k,4,3] y, float[1,3,h,w] z) {{
            size = Shape (x) hw = Slice (size, two, four) grid = Div (hw, two)
            rows = Slice (grid, zero, one) columns = Slice (grid, one, two)
            cut = Concat <axis = 0> (first, rows, two, columns, two)
            w = Reshape (x, cut) t = Transpose <perm = [0, 2, 4, 3, 5, 1]> (w) y = Reshape (t, flat)
            joined = Concat <axis = 0> (one, rows, columns, two, two, three)
            v = Reshape (y, joined) u = Transpose <perm = [0, 5, 1, 3, 2, 4]> (v) z = Reshape (u, size)
        }}""",
        zero=np.array([0]), one=np.array([1]), two=np.array([2]), three=np.array([3]), four=np.array([4]),
        first=np.array([1, 3]), flat=np.array([-1, 4, 3]),
    )  # fmt: skip
    made = cp.convert(model, "mlprogram", precision="fp32", shapes={"x": [1, 3, (2, 8), (2, 8)]}, check=False)
    with cp.session(made) as running:
        for height, width in ((4, 6), (8, 2)):
            x = np.random.default_rng(height).normal(size=(1, 3, height, width)).astype(np.float32)
            cut = x.reshape(1, 3, height // 2, 2, width // 2, 2).transpose(0, 2, 4, 3, 5, 1).reshape(-1, 4, 3)
            found = running.run({"x": x})
            np.testing.assert_array_equal(found["y"], cut)
            np.testing.assert_array_equal(found["z"], x)
