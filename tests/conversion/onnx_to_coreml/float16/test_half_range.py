"""Float16 programs on zeros, repeated values and masked rows: epsilons still guard, and masks still mask."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnxruntime
import pytest

import coreproof as cp
from tests.build import onnx_model

HEAD = '<ir_version: 8, opset_import: ["": 17]> net'
LOW = float(np.finfo(np.float32).min)


def both(text: str, feeds: dict[str, Any], **weights: Any) -> list[tuple[np.ndarray, np.ndarray]]:
    """What ONNX Runtime answers in float32 beside what the float16 program answers, output by output."""
    model = onnx_model(f"{HEAD} {text}", **weights)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    source = onnxruntime.InferenceSession(model.stored(), options)
    wanted = source.run(None, feeds)
    # compared here on the case's own inputs: drawn ones are no masks
    with cp.session(cp.convert(model, "mlprogram", precision="fp16", check=False)) as running:
        made = running.run(feeds)
    return [(want, made[output.name]) for want, output in zip(wanted, source.get_outputs(), strict=True)]


GUARDED = {
    "normalize": "n = ReduceL2<axes=[1]>(x) m = Clip(n, e) y = Div(x, m)",
    "norm plus epsilon": "n = ReduceL2<axes=[1]>(x) m = Add(n, e) y = Div(x, m)",
    "written out": "q = Mul(x, x) s = ReduceSum<keepdims=1>(q, axis) r = Sqrt(s) m = Add(r, e) y = Div(x, m)",
    "root of a sum": "q = Pow(x, two) s = ReduceSum<keepdims=1>(q, axis) m = Add(s, e) r = Sqrt(m) y = Div(x, r)",
    "times the inverse": "n = ReduceL2<axes=[1]>(x) m = Add(n, e) r = Reciprocal(m) y = Mul(x, r)",
    "layer norm by hand": "a = ReduceMean<axes=[1]>(x) c = Sub(x, a) q = Pow(c, two) v = ReduceMean<axes=[1]>(q) m = Add(v, e) "
    "r = Sqrt(m) y = Div(c, r)",
    "rms norm by hand": "q = Pow(x, two) v = ReduceMean<axes=[1]>(q) m = Add(v, e) r = Sqrt(m) i = Reciprocal(r) y = Mul(x, i)",
    "logarithm": "a = Abs(x) m = Add(a, e) y = Log(m)",
    "logarithm of a clipped one": "a = Abs(x) m = Clip(a, e) y = Log(m)",
    "logarithm of the largest": "a = Abs(x) m = Max(a, e) y = Log(m)",
    "power": "a = Abs(x) m = Add(a, e) y = Pow(m, half)",
    "root": "a = Abs(x) m = Add(a, e) y = Sqrt(m)",
    "share of a sum": "a = Abs(x) s = ReduceSum<keepdims=1>(a, axis) m = Clip(s, e) y = Div(a, m)",
    "scale of eight bits": "a = Abs(x) n = ReduceMax<axes=[1]>(a) m = Clip(n, e) s = Div(m, many) y = Div(x, s)",
    "scale by a product": "a = Abs(x) n = ReduceMax<axes=[1]>(a) m = Add(n, e) s = Mul(m, part) y = Div(x, s)",
    "nothing counted as something": "(float[4,3] x) => (bool[4,3] y) { a = Abs(x) y = Less(a, e) }",
    "layer norm": "y = LayerNormalization<epsilon=1e-12>(x, ones)",
    "instance norm": "(float[1,4,3,2,2] x) => (float[1,4,3,2,2] y) { y = InstanceNormalization<epsilon=1e-12>(x, four, four) }",
}  # fmt: skip
WEIGHTS = {
    "two": np.float32(2),
    "half": np.float32(0.5),
    "many": np.float32(127),
    "part": np.float32(1 / 127),
    "axis": np.array([1]),
    "ones": np.ones(3, np.float32),
    "four": np.ones(4, np.float32),
}


def rows_to_rows(body: str) -> str:
    return body if "=>" in body else f"(float[4,3] x) => (float[4,3] y) {{ {body} }}"


@pytest.mark.sweep(1, each="pattern")
@pytest.mark.parametrize("epsilon", [1e-7, 1e-8, 1e-12])
@pytest.mark.parametrize("pattern", GUARDED)
def test_an_epsilon_still_guards_in_float16(pattern: str, epsilon: float) -> None:
    rows = np.array([[0, 0, 0], [0.5, 0.5, 0.5], [1, 0, -2], [0, 0, 3]], np.float32)
    x = np.broadcast_to(rows[None, :, :, None, None], (1, 4, 3, 2, 2)) if pattern == "instance norm" else rows
    text = rows_to_rows(GUARDED[pattern])
    used = {k: v for k, v in {**WEIGHTS, "e": np.float32(epsilon)}.items() if f" {k})" in text or f" {k}," in text}
    ((want, got),) = both(text, {"x": np.ascontiguousarray(x)}, **used)
    np.testing.assert_allclose(got, want, rtol=4e-3, atol=1e-6 if pattern == "root" else 1e-3)


def test_small_vectors_are_normalized_although_their_squares_vanish() -> None:
    text = rows_to_rows(GUARDED["written out"])
    ((want, got),) = both(text, {"x": np.full((4, 3), 1e-4, np.float32)}, axis=np.array([1]), e=np.float32(1e-8))
    np.testing.assert_allclose(got, want, rtol=4e-3)


def test_an_epsilon_that_float16_holds_widens_nothing() -> None:
    text = rows_to_rows(GUARDED["share of a sum"])
    model = onnx_model(f"{HEAD} {text}", axis=np.array([1]), e=np.float32(1e-6))
    made = cp.convert(model, "mlprogram")
    inner = {n: v.dtype for n, v in made.graph.values.items() if n in ("a", "s", "m")}
    assert inner
    assert set(inner.values()) == {"float16"}


@pytest.mark.parametrize("operator", ["Sin", "Cos", "Tan"])
def test_an_angle_beyond_float16_is_turned_as_far(operator: str) -> None:
    x = np.random.default_rng(0).uniform(-1, 1, (4, 16)).astype(np.float16).astype(np.float32)
    text = f"(float[4,16] x) => (float[4,16] y) {{ m = Mul(x, k) y = {operator}(m) }}"
    ((want, got),) = both(text, {"x": x}, k=np.float32(2e5))
    np.testing.assert_allclose(got, want, rtol=4e-3, atol=1e-3)
    assert cp.convert(onnx_model(f"{HEAD} {text}", k=np.float32(2e5)), "mlprogram").notes[-1].startswith("checked")


def test_a_variance_that_float16_makes_zero_is_folded_before() -> None:
    text = """(float[1,2,3,1] x) => (float[1,2,3,1] y) { y = BatchNormalization<epsilon=1e-12>(x, k, b, m, v) }"""
    vectors = {"k": [1e-4, 1], "b": [0, 1], "m": [0.5, 0], "v": [1e-9, 1]}
    ((want, got),) = both(
        text, {"x": np.ones((1, 2, 3, 1), np.float32)}, **{n: np.array(v, np.float32) for n, v in vectors.items()}
    )
    np.testing.assert_allclose(got, want, rtol=4e-3)


SCORES = np.array([[0.5, -1, 2, 30], [-20, -25, -30, -31], [1, 2, 3, 4], [-17, 0, 1, 2]], np.float32)
MASKED = {
    "filled": "f = Where(m, low, x) y = Softmax(f)",
    "added": "c = Cast<to=1>(m) p = Mul(c, low) f = Add(x, p) y = Softmax(f)",
    "one minus": "n = Not(m) c = Cast<to=1>(n) o = Sub(one, c) p = Mul(o, low) f = Add(x, p) y = Softmax(f)",
    "minus one": "n = Not(m) c = Cast<to=1>(n) o = Sub(c, one) p = Mul(o, high) f = Add(x, p) y = Softmax(f)",
    "added twice": "c = Cast<to=1>(m) p = Mul(c, low) f = Add(x, p) g = Add(f, p) y = Softmax(g)",
    "subtracted": "z = Sub(x, x) p = Where(m, high, z) f = Sub(x, p) y = Softmax(f)",
    "logarithm": "c = Cast<to=1>(m) p = Mul(c, low) f = Add(x, p) l = LogSoftmax(f) y = Exp(l)",
    "by hand": "c = Cast<to=1>(m) p = Mul(c, low) f = Add(x, p) t = ReduceMax<axes=[1]>(f) d = Sub(f, t) e = Exp(d) "
    "z = ReduceSum<keepdims=1>(e, axis) y = Div(e, z)",
    "at an output as well": "(float[4,4] s, bool[4,4] m) => (float[4,4] y, float[4,4] f) "
    "{ x = MatMul(s, eye) c = Cast<to=1>(m) p = Mul(c, low) f = Add(x, p) y = Softmax(f) }",
}  # fmt: skip


@pytest.mark.sweep(1, each="pattern")
@pytest.mark.parametrize("low", [-1e9, -1e30])
@pytest.mark.parametrize("pattern", MASKED)
def test_a_masks_minimum_still_masks_in_float16(pattern: str, low: float) -> None:
    mask = np.array([[0, 0, 1, 1], [1, 1, 1, 1], [0, 1, 0, 1], [1, 1, 1, 1]], bool)
    body = MASKED[pattern]
    text = body if "=>" in body else f"(float[4,4] s, bool[4,4] m) => (float[4,4] y) {{ x = MatMul(s, eye) {body} }}"
    used = {"low": low, "high": -low, "one": 1.0}
    weights: dict[str, Any] = {k: np.float32(v) for k, v in used.items() if f"{k})" in text or f"{k}," in text}
    if "axis" in text:
        weights["axis"] = np.array([1])
    (want, got), *others = both(text, {"s": SCORES, "m": mask}, eye=np.eye(4, dtype=np.float32), **weights)
    np.testing.assert_allclose(got, want, atol=4e-3)
    for wide, half in others:
        np.testing.assert_allclose(half, wide, rtol=1e-3)


def test_what_is_masked_once_outweighs_what_is_masked_twice() -> None:
    text = """(float[2,4] x, float[2,4] a, float[2,4] b) => (float[2,4] y)
    { p = Mul(a, low) q = Mul(b, low) f = Add(x, p) g = Add(f, q) y = Softmax(g) }"""
    x = np.array([[0.5, -1, 2, 3], [1, 2, 3, 4]], np.float32)
    a, b = np.float32([[1, 1, 1, 1], [1, 1, 1, 1]]), np.float32([[0, 1, 1, 0], [1, 1, 1, 1]])
    ((want, got),) = both(text, {"x": x, "a": a, "b": b}, low=np.float32(LOW / 2))
    np.testing.assert_allclose(got, want, atol=1e-3)


BESIDE_INFINITY = {
    "before": "e = Add(x, causal) f = Add(e, p) y = Softmax(f)",
    "behind": "e = Add(x, p) f = Add(e, causal) y = Softmax(f)",
    "with it": "e = Add(p, causal) f = Add(x, e) y = Softmax(f)",
    "filled": "e = Where(hidden, endless, x) f = Add(e, p) y = Softmax(f)",
    "logarithm": "e = Add(x, causal) f = Add(e, p) l = LogSoftmax(f) y = Exp(l)",
}


@pytest.mark.sweep(1)
@pytest.mark.parametrize("low", [-1e9, LOW / 2])
@pytest.mark.parametrize("pattern", BESIDE_INFINITY)
def test_what_is_infinitely_far_counts_nothing_beside_a_minimum(pattern: str, low: float) -> None:
    """A causal mask of infinities beside the padding of a text that is filled up at its front: no row sees anything else."""
    text = f"(float[4,4] x, float[1,4] m) => (float[4,4] y) {{ p = Mul(m, low) {BESIDE_INFINITY[pattern]} }}"
    hidden = np.triu(np.ones((4, 4), bool), 1)
    weights: dict[str, Any] = {"low": np.float32(low)}
    if "hidden" in text:
        weights |= {"hidden": hidden, "endless": np.float32(-np.inf)}
    else:
        weights |= {"causal": np.where(hidden, -np.inf, 0).astype(np.float32)}
    x = np.array([[0.5, -1, 2, 3], [1, 2, 3, 4], [-1, 0, 1, 2], [3, 2, 1, 0]], np.float32)
    for padded in ([1, 1, 0, 0], [1, 1, 1, 1], [0, 0, 0, 1]):
        ((want, got),) = both(text, {"x": x, "m": np.float32([padded])}, **weights)
        np.testing.assert_allclose(got, want, atol=1e-3)


@pytest.mark.thorough
@pytest.mark.parametrize("low", [-1e9, LOW])
@pytest.mark.parametrize("scores", [[0.5, -1, 2, 3], [-20, -25, -30, -31]])
def test_a_mask_that_is_fed_still_masks(low: float, scores: list[float]) -> None:
    x = np.array([[scores, [1, 2, 3, 4]]], np.float32)
    for body, weights in (
        ("f = Add(x, m)", {}),
        ("n = Mul(m, k) f = Add(x, n)", {"k": 1.0}),
        ("n = Mul(k, m) f = Add(x, n)", {"k": 0.0}),  # infinity times 0 is no number
        ("n = Neg(m) p = Div(n, k) f = Sub(x, p)", {"k": 2.0}),
    ):
        text = f"(float[1,2,4] x, float[1,1,4] m) => (float[1,2,4] y) {{ {body} y = Softmax(f) }}"
        for mask in ([0, low, low, 0], [low] * 4):
            feeds = {"x": x, "m": np.array([[mask]], np.float32)}
            ((want, got),) = both(text, feeds, **{name: np.float32(value) for name, value in weights.items()})
            np.testing.assert_allclose(got, want, atol=3e-3)


SHOWN = {
    "Where": "y = Where(m, low, x)",
    "Add": "c = Cast<to=1>(m) p = Mul(c, low) y = Add(x, p)",
    "Min": "y = Min(x, low)",
    "Max": "y = Max(x, low)",
    "Clip": "y = Clip(x, low)",
    "moved": "f = Where(m, low, x) g = Transpose(f) h = Unsqueeze(g, axis) i = Neg(h) y = Neg(i)",
    "both": "c = Cast<to=1>(m) p = Mul(c, low) q = Where(m, low, x) y = Concat<axis=0>(p, q)",
    "a logarithm": "f = Where(m, low, x) y = LogSoftmax(f)",
    "a slope": "f = Where(m, low, x) y = LeakyRelu<alpha=0.5>(f)",
    "a bias": "c = Cast<to=1>(m) y = Gemm(c, k, b)",
    "and a softmax": "f = Where(m, low, x) s = Softmax(f) y = Add(f, s)",
}


@pytest.mark.sweep(1, each="operator")
@pytest.mark.parametrize("low", [LOW, -1e9, -1e5])
@pytest.mark.parametrize("operator", SHOWN)
def test_a_minimum_at_an_output_is_the_sources_own(operator: str, low: float) -> None:
    """Who reads an output asks for the number (x > -1e8), and verify and the check of convert hold it against the source's."""
    text = f"(float[1,4] x, bool[1,4] m) => (float y, bool[1,4] n) {{ {SHOWN[operator]} n = Not(m) }}"
    feeds = {"x": np.array([[-100, 5, 100, 0]], np.float32), "m": np.array([[1, 1, 0, 0]], bool)}
    others: dict[str, Any] = {"axis": np.array([0])} if "axis" in SHOWN[operator] else {}
    if operator == "a bias":
        others = {"k": np.eye(4, dtype=np.float32), "b": np.array([low, 0, 1, low], np.float32)}
    else:
        others["low"] = np.float32(low)
    (want, got), _ = both(text, feeds, **others)
    np.testing.assert_allclose(got.reshape(want.shape), want, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("low", [LOW, -1e9])
def test_verify_and_the_check_of_convert_say_the_same_of_a_minimum_at_an_output(low: float) -> None:
    text = "(float[4,4] x, bool[4,4] m) => (float[4,4] y) { f = MatMul(x, w) y = Where(m, low, f) }"
    weights = np.random.default_rng(0).standard_normal((4, 4)).astype(np.float32)
    source = onnx_model(f"{HEAD} {text}", low=np.float32(low), w=weights)
    made = cp.convert(source, "mlprogram", precision="fp16")
    assert made.notes[-1].startswith("checked: ran once")
    assert cp.verify(source, made)


@pytest.mark.sweep(3)
@pytest.mark.parametrize("fed", ["x", "added", "twice"])
@pytest.mark.parametrize("asked", ["equal", "infinite", "below"])
def test_infinity_that_is_fed_stays_infinity(fed: str, asked: str) -> None:
    """A safe softmax: rows of which nothing is left are zero, and the model asks for them by their infinity."""
    scores = {"x": "f = Identity(x)", "added": "f = Add(x, m)", "twice": "g = Add(x, m) f = Add(g, m)"}[fed]
    question = {"equal": "e = Equal(f, infinity)", "infinite": "e = IsInf(f)", "below": "e = Less(f, bottom)"}[asked]
    text = f"""(float[2,4] x, float[2,4] m) => (float[2,4] y, float[2,4] z)
    {{ {scores} s = Softmax(f) {question} c = Cast<to=7>(e) r = ReduceMin<axes=[1]>(c) d = Cast<to=9>(r)
       y = Where(d, zero, s) n = Not(e) z = Cast<to=1>(n) }}"""
    lost = -np.inf
    x = np.array([[0.5, lost, 2, 3], [lost] * 4], np.float32)
    m = np.array([[0, 0, lost, -1e9], [lost, lost, 0, -1e9]], np.float32)
    constants = {"infinity": np.float32(lost), "zero": np.float32(0), "bottom": np.float32(LOW)}
    for want, got in both(text, {"x": x, "m": m}, **constants):
        np.testing.assert_allclose(got, want, atol=1e-3)


@pytest.mark.parametrize("factor", [1e6, -3e8, np.array([1e6, 2.0, -7e4, 0.5], np.float32)])
def test_a_factor_beyond_the_range_scales_what_stays_within_it(factor: Any) -> None:
    text = """(float[2,4] x, float[2,4] w) => (float[2,4] y, float[2,4] z, float[2,4] s)
    { y = Mul(x, k) z = Div(w, k) t = Mul(k, w) s = Sigmoid(t) }"""
    x = np.array([[1e-4, -2e-4, 0, 1e-4], [3e-5, 1e-4, 2e-5, -1e-4]], np.float32)
    w = np.array([[400, -300, 200, 0.5], [5e4, -5e4, 3e4, 1e3]], np.float32)
    k = np.asarray(factor, np.float32)
    (y, a), (z, b), (s, c) = both(text, {"x": x, "w": w}, k=k)
    held = np.clip(y, -65504, 65504)
    np.testing.assert_allclose(a, held, rtol=4e-3, atol=1e-6)
    np.testing.assert_allclose(b, z, rtol=4e-3, atol=1e-6)
    np.testing.assert_allclose(c, s, atol=1e-3)


CLIPPED = "c = Clip(x, none, one)"
EDGES = {
    "inverse sigmoid": f"{CLIPPED} a = Max(c, e) d = Sub(one, c) b = Max(d, e) q = Div(a, b) y = Log(q)",
    "logit": "c = Clip(x, e, last) d = Sub(one, c) q = Div(c, d) y = Log(q)",
    "logit by choices": "l = Less(x, e) c = Where(l, e, x) m = LessOrEqual(c, last) k = Where(m, c, last) d = Sub(one, k)"
    " q = Div(k, d) y = Log(q)",
    "difference of logarithms": "c = Clip(x, e, last) d = Sub(one, c) a = Log(c) b = Log(d) y = Sub(a, b)",
    "logarithm of the rest": f"{CLIPPED} d = Sub(one, c) m = Max(d, e) y = Log(m)",
    "logarithm of an inverse": "a = Relu(x) m = Add(a, e) r = Reciprocal(m) y = Log(r)",
    "inverse hyperbolic tangent": "c = Clip(x, first, last) y = Atanh(c)",
}


@pytest.mark.sweep(1, each="body")
@pytest.mark.parametrize("epsilon", [1e-5, 1e-6, 1e-7])
@pytest.mark.parametrize("body", EDGES.values(), ids=EDGES)
def test_what_is_held_off_an_edge_stays_off_it(body: str, epsilon: float) -> None:
    """A sigmoid's inverse divides by 1e-5: float16 has no number for the quotient, and takes 1 - 1e-5 for 1."""
    fed = np.array([[0, 1, 0.5, 0.25, -1, 2, 0.125, 0.75]], np.float32)
    weights = {"e": epsilon, "one": 1, "none": 0, "last": 1 - epsilon, "first": epsilon - 1}
    text = f"(float[1,8] x) => (float[1,8] y) {{ {body} }}"
    constants = {name: np.float32(value) for name, value in weights.items() if name in body.replace("=", " ")}
    ((wanted, got),) = both(text, {"x": fed}, **constants)
    assert np.isfinite(got).all()
    np.testing.assert_allclose(got, wanted, rtol=2e-3, atol=2e-3)


@pytest.mark.parametrize("body", ["inverse sigmoid", "logit", "difference of logarithms"])
def test_a_sigmoid_that_comes_near_its_edge_is_told_from_it(body: str) -> None:
    """From 9 on a sigmoid is 1 in float16, and a step of 0.0005 away from it before: its inverse was 7.6 of 8.5."""
    fed = np.array([[-12, -8.5, -3, 0, 3, 8.5, 12, 6]], np.float32)
    weights = {"e": 1e-6, "one": 1, "none": 0, "last": 1 - 1e-6}
    text = f"(float[1,8] z) => (float[1,8] y) {{ x = Sigmoid(z) {EDGES[body]} }}"
    constants = {name: np.float32(value) for name, value in weights.items() if name in EDGES[body].replace("=", " ")}
    ((wanted, got),) = both(text, {"z": fed}, **constants)
    np.testing.assert_allclose(got, wanted, rtol=2e-3, atol=2e-3)


ASKED = {
    "below": "Less(t, low)",
    "not above": "LessOrEqual(t, low)",
    "above": "Greater(t, low)",
    "not below": "GreaterOrEqual(t, low)",
    "the other way round": "Greater(low, t)",
}


@pytest.mark.parametrize("operator", ASKED)
@pytest.mark.parametrize("sign", [1, -1])
def test_a_minimum_is_told_by_a_bound_that_float16_does_not_have(operator: str, sign: int) -> None:
    """A row that is masked as a whole is found by ``max < -1e30``, of which both sides would be -65504 in float16."""
    reduce = "ReduceMax" if sign > 0 else "ReduceMin"
    text = f"""(float[3,4] x, bool[3,4] m) => (bool[3] y)
    {{ f = Where(m, filled, x) t = {reduce}<axes=[1], keepdims=0>(f) y = {ASKED[operator]} }}"""
    mask = np.array([[0, 0, 1, 1], [1, 1, 1, 1], [0, 0, 0, 0]], bool)
    feeds = {"x": SCORES[:3], "m": mask}
    ((want, got),) = both(text, feeds, filled=np.float32(sign * LOW), low=np.float32(sign * -1e30))
    assert len(set(want.tolist())) == 2
    np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("scaled", ["s = Div(f, k)", "h = Mul(f, k) s = Transpose<perm=[0,1]>(h)"])
def test_a_minimum_that_is_scaled_before_the_softmax_is_no_fault(scaled: str) -> None:
    mask = np.array([[0, 0, 1, 1], [0, 0, 0, 0], [1, 1, 0, 1]], bool)
    text = f"{HEAD} (float[3,4] x, bool[3,4] m) => (float[3,4] y) {{ f = Where(m, low, x) {scaled} y = Softmax(s) }}"
    source = onnx_model(text, low=np.float32(LOW), k=np.float32(0.125))
    feeds = {"x": SCORES[:3], "m": mask}
    found = cp.verify(source, cp.convert(source, "mlprogram", precision="fp16"), feeds)
    assert found, found.summary()
    assert "without harm" in found.summary()
    # where it is scaled otherwise, an output tells
    wrong = onnx_model(text, low=np.float32(LOW), k=np.float32(0.25))
    assert not cp.verify(source, cp.convert(wrong, "mlprogram", precision="fp16"), feeds)
