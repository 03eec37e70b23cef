"""64-bit integers that Core ML's 32 bits cannot hold are refused by name, or fail while they run; an end is neither."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import onnxruntime
import pytest

import coreproof as cp
from coreproof.errors import ConversionError, CoreproofError
from tests.build import onnx_model

HEAD = '<ir_version: 8, opset_import: ["": 17]> net'
FORMATS: tuple[Literal["mlprogram", "neuralnetwork"], ...] = ("mlprogram", "neuralnetwork")
BIG = 3_000_000_000


@pytest.mark.parametrize("to", FORMATS)
@pytest.mark.parametrize(
    ("text", "weights"),
    [
        ("(int64[3] x) => (int64[3] y) { y = Mod(x, k) }", {"k": np.array([BIG])}),
        ("(int64[3] x) => (int64[3] y) { y = Add(x, k) }", {"k": np.array([BIG])}),
        ("(int64[3] x) => (int64[3] y) { y = Gather(k, x) }", {"k": np.array([1, -BIG, 2])}),
        ("(int64[3] x, bool[3] m) => (int64[3] y) { y = Where(m, x, k) }", {"k": np.array(np.iinfo(np.int64).min)}),
        ("(int64[3] x) => (bool[3] y) { y = Equal(x, k) }", {"k": np.array([BIG])}),
        ("(int64[3] x) => (int64[3] y) { y = Max(x, k) }", {"k": np.array([BIG])}),
        ("(int64[3] x) => (int64[6] y) { y = Concat<axis=0>(x, k) }", {"k": np.array([BIG, 1, 2])}),
        ("(uint32[3] x) => (uint32[3] y) { y = Sub(x, k) }", {"k": np.array([BIG], np.uint32)}),
        ("(float[3] x) => (float[3] y, int64[1] z) { y = Relu(x) z = Identity(k) }", {"k": np.array([BIG])}),
    ],
)  # fmt: skip
def test_a_constant_beyond_32_bits_is_refused_by_name(to: Any, text: str, weights: dict[str, Any]) -> None:
    with pytest.raises(ConversionError, match=r"cannot hold the integer -?(3000000000|9223372036854775808)") as caught:
        cp.convert(onnx_model(f"{HEAD} {text}", **weights), to)
    assert "'k'" in str(caught.value) or "output 'z'" in str(caught.value)


PRODUCTS = [
    ("(int64[3] x) => (int64[3] y) { y = Mul(x, x) }", [1000, -46340, 7], [3, 46341, 9]),
    ("(int64[3] x) => (int64[3] y) { a = Add(x, k) y = Mul(a, a) }", [45340, -1000, 0], [1, 2, 46000]),
    ("(int64[3] x) => (float[3] y) { p = Mul(x, k) y = Cast<to=1>(p) }", [65, -60, 5], [1, -2147484, 3]),
    ("(int64[3] x) => (int64 y) { y = ReduceProd<keepdims=0>(x) }", [1000, 1000, -2000], [3000, 1000, 1000]),
    ("(int64[3] x) => (int64[3] y) { y = Pow(x, t) }", [1000, -1200, 3], [1300, 1, 1]),
    ("(uint32[3] x) => (uint32[3] y) { y = Mul(x, x) }", [1000, 46340, 7], [3, 65535, 9]),
]


def product_model(text: str) -> Any:
    used = {"k": np.array([1000]), "t": np.array(3)}
    return onnx_model(f"{HEAD} {text}", **{n: v for n, v in used.items() if f" {n})" in text})


@pytest.mark.parametrize(("text", "fits", "leaves"), PRODUCTS)
@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_a_product_that_32_bits_may_not_hold_is_right_or_fails_while_it_runs(
    text: str, fits: list[int], leaves: list[int], precision: Any
) -> None:
    model = product_model(text)
    dtype = np.uint32 if "uint32" in text else np.int64
    fed = {"x": np.array(fits, dtype)}
    (want,) = onnxruntime.InferenceSession(model.stored()).run(None, fed)
    converted = cp.convert(model, "mlprogram", precision=precision, check=False)
    assert any("64-bit integers" in note for note in converted.notes)
    with cp.session(converted) as running:
        (got,) = running.run(fed).values()
        np.testing.assert_allclose(np.reshape(got, want.shape), want, rtol=1e-3 if want.dtype.kind == "f" else 0)
        with pytest.raises(CoreproofError, match="a product of whole numbers does not fit the 32 bits"):
            running.run({"x": np.array(leaves, dtype)})


@pytest.mark.parametrize(("text", "fits", "leaves"), PRODUCTS)
def test_a_neural_network_refuses_it_by_name(text: str, fits: list[int], leaves: list[int]) -> None:
    with pytest.raises(ConversionError, match="integers may not fit the 32 bits"):
        cp.convert(product_model(text), "neuralnetwork")


HASHED = [
    ("p = Mul(x, k) i = Mod(p, n)", [60, -3, 2], [3_000_000, 2, 3], "a product"),
    ("p = Mul(x, x) s = Add(p, x) i = Mod(s, n)", [100, -3, 2], [60_000, 2, 3], "a product"),
    ("p = Mul(x, k) i = Min(p, l)", [0, 0, 2], [3_000_000, 0, 0], "a product"),
    ("p = Mul(x, k) i = Clip(p, z, l)", [0, -3, 2], [3_000_000, -3_000_000, 0], "a product"),
    ("p = Mul(x, k) q = Max(p, z) i = Min(q, l)", [0, -3, 2], [3_000_000, 0, 0], "a product"),
    (
        "p = Mul(x, k) q = Reshape(p, r) i = ReduceMin<keepdims=1, axes=[0]>(q)",
        [0, 1, 2],
        [3_000_000, 0, 0],
        "a product",
    ),
    ("s = Add(x, b) i = Mod(s, n)", [60, -3, 2], [2_147_483_647, 2, 3], "a sum"),
    ("s = CumSum(x, z) i = Mod(s, n)", [60, -3, 2], [2_147_483_647, 2, 3], "a sum"),
    (
        "f = Cast<to=1>(x) g = Mul(f, h) c = Cast<to=7>(g) i = Mod(c, n)",
        [60, -3, 2],
        [3_000_000, 2, 3],
        "a whole number",
    ),
]
"""How a row is picked by a number that may leave 32 bits before it is made one in range; what fits, and what leaves them."""
HASHES = {name: np.array(value) for name, value in {"k": 1000, "n": 7, "l": 6, "z": 0, "b": 2**30, "r": [3]}.items()}


def hash_model(text: str) -> Any:
    used = {n: v for n, v in {**HASHES, "h": np.float32(1000)}.items() if f" {n})" in text or f" {n}," in text}
    used["e"] = np.arange(14, dtype=np.float32).reshape(7, 2)
    rows = 1 if "ReduceMin" in text else 3
    return onnx_model(f"{HEAD} (int64[3] x) => (float[{rows},2] y) {{ {text} y = Gather(e, i) }}", **used)


@pytest.mark.sweep(4)
@pytest.mark.parametrize(("text", "fits", "leaves", "what"), HASHED)
@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_a_row_picked_by_a_remainder_or_by_what_was_cut_to_range_is_the_sources_or_the_run_fails(
    text: str, fits: list[int], leaves: list[int], what: str, precision: Any
) -> None:
    model = hash_model(text)
    (want,) = onnxruntime.InferenceSession(model.stored()).run(None, {"x": np.array(fits)})
    converted = cp.convert(model, "mlprogram", precision=precision, check=False)
    with cp.session(converted) as running:
        (got,) = running.run({"x": np.array(fits)}).values()
        np.testing.assert_array_equal(got, want)
        with pytest.raises(CoreproofError, match=f"{what}.* does not fit the 32 bits"):
            running.run({"x": np.array(leaves)})


@pytest.mark.parametrize(("text", "fits", "leaves", "what"), HASHED[:6])
def test_a_neural_network_refuses_the_product_of_a_hash(
    text: str, fits: list[int], leaves: list[int], what: str
) -> None:
    with pytest.raises(ConversionError, match="integers may not fit the 32 bits"):
        cp.convert(hash_model(text), "neuralnetwork")


SUMS: list[tuple[str, dict[str, Any], list[Any], list[Any]]] = [
    ("(int64[3] x) => (int64[3] y) { y = CumSum(x, a) }", {"a": np.array(0)}, [2**30, 2**30 - 1, 0], [2**30, 2**30, 0]),
    ("(int64[3] x) => (int64 y) { y = ReduceSum<keepdims=0>(x) }", {}, [-(2**30), -(2**30), 0], [-(2**30), -(2**30), -1]),
    ("(int64[n] x) => (int64 y) { y = ReduceSum<keepdims=0>(x) }", {}, [2**30, 2**30 - 1, 0], [2**30, 2**30 - 1, 1]),
    ("(int64[3] x) => (int64[3] y) { y = Add(x, k) }", {"k": np.array(2_000_000_000)}, [147483647, 0, -5], [147483648, 0, 1]),
    ("(int64[3] x) => (int64[3] y) { y = Sub(k, x) }", {"k": np.array(-2_000_000_000)}, [147483648, 0, -5], [147483649, 0, 1]),
    ("(int64[3] x) => (int64[3] y) { y = Add(x, x) }", {}, [2**30 - 1, -(2**30), 1], [2**30, 0, 0]),
    ("(int64[3] x) => (int64[1] y) { y = ReduceL1<axes=[0]>(x) }", {}, [2**30, -(2**29), 7], [2**30, -(2**30), 0]),
    ('(int64[3] x) => (int64[2] y) { y = ScatterElements<reduction="add",axis=0>(d, i, x) }',
     {"d": np.zeros(2, np.int64), "i": np.array([0, 0, 1])}, [2**30, 2**30 - 1, 0], [2**30, 2**30, 0]),
    ("(float[3] x) => (int64[3] y) { f = Mul(x, k) y = Cast<to=7>(f) }", {"k": np.float32(1000)}, [2.1, -30, 1.5], [2.2e6, 0, 1]),
]  # fmt: skip


@pytest.mark.sweep(4)
@pytest.mark.parametrize(("text", "weights", "fits", "leaves"), SUMS)
@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_a_sum_or_a_cast_float_that_32_bits_may_not_hold_is_right_or_fails_while_it_runs(
    text: str, weights: dict[str, Any], fits: list[Any], leaves: list[Any], precision: Any
) -> None:
    model = onnx_model(f"{HEAD} {text}", **weights)
    dtype = np.float32 if "(float" in text else np.int64
    fed = {"x": np.array(fits, dtype)}
    (want,) = onnxruntime.InferenceSession(model.stored()).run(None, fed)
    shapes = {"x": ["1..9"]} if "[n]" in text else None
    converted = cp.convert(model, "mlprogram", precision=precision, check=False, shapes=shapes)
    assert any("32 bits" in note and "a run in which it does not fit them fails" in note for note in converted.notes)
    with cp.session(converted) as running:
        (got,) = running.run(fed).values()
        np.testing.assert_array_equal(np.reshape(got, want.shape), want)
        with pytest.raises(CoreproofError, match=r"whole numbers? does not fit the 32 bits"):
            running.run({"x": np.array(leaves, dtype)})


SMALL: list[tuple[str, dict[str, Any], list[Any]]] = [
    ("(int64[3] x) => (int64[3] y) { y = Add(x, k) }", {"k": np.array(1)}, [5, 2**31 - 2, 0]),
    ("(int64[3] x) => (int64[3] y) { y = Sub(x, k) }", {"k": np.array(1)}, [5, 2**31 - 1, 0]),
    ("(int64[3] attention_mask) => (int64 y) { y = ReduceSum<keepdims=0>(attention_mask) }", {}, [1, 1, 0]),
    ("(int64[3] x) => (int64 y, int64[3] z) { y = ReduceSum<keepdims=0>(x) z = Sub(o, x) }", {"o": np.array(1)}, [1, 1, 0]),
    ("(int64[3] x) => (int64[3] y) { b = Cast<to=9>(x) c = Cast<to=7>(b) y = CumSum(c, a) }", {"a": np.array(0)}, [5, 0, 7]),
    ("(int64[3] x) => (int64 y) { m = Mod(x, k) y = ReduceSum<keepdims=0>(m) }", {"k": np.array(1000)}, [5, 2000, -7]),
    ("(float[3] x) => (int64[3] y) { s = Sigmoid(x) t = Mul(s, k) y = Cast<to=7>(t) }", {"k": np.float32(100)}, [5.0, 0.0, -7.0]),
    ("(int64[2] x) => (float[2,2] y) { c = CumSum(x, a) y = Gather(t, c) }",
     {"a": np.array(0), "t": np.eye(5, 2, dtype=np.float32)}, [1, 3]),
    ("(float[3] x) => (float[3,2] y) { c = Cast<to=7>(x) d = Clip(c, l, h) y = Gather(t, d) }",
     {"l": np.array(0), "h": np.array(4), "t": np.eye(5, 2, dtype=np.float32)}, [1.5, 3.0, 9.0]),
    ("(int64[2] x) => (float[2,2] y) { d = Sub(x, f) e = Clip(d, l, h) y = Gather(t, e) }",
     {"f": np.array(1), "l": np.array(0), "h": np.array(4), "t": np.eye(5, 2, dtype=np.float32)}, [1, 9]),
    ("(int64[2] x) => (float[2,2] y) { m = Mod(x, k) p = Mul(m, n) e = Min(p, h) y = Gather(t, e) }",
     {"k": np.array(3), "n": np.array(2), "h": np.array(4), "t": np.eye(5, 2, dtype=np.float32)}, [1, 9]),
]  # fmt: skip


@pytest.mark.parametrize(("text", "weights", "fed"), SMALL)
@pytest.mark.parametrize("to", FORMATS)
def test_what_is_small_or_only_picks_gets_no_check(text: str, weights: dict[str, Any], fed: list[Any], to: Any) -> None:
    model = onnx_model(f"{HEAD} {text}", **weights)
    name = "attention_mask" if "attention_mask" in text else "x"
    feeds = {name: np.array(fed, np.float32 if "(float[3] x)" in text else np.int64)}
    (want, *_) = onnxruntime.InferenceSession(model.stored()).run(None, feeds)
    converted = cp.convert(model, to, check=False)
    assert not any("32 bits" in note for note in converted.notes)
    assert "beyond_32_bits" not in str(converted.stored())
    if to == "mlprogram":
        with cp.session(converted) as running:
            got = next(iter(running.run(feeds).values()))
        np.testing.assert_allclose(np.reshape(got, want.shape), want, atol=0)


@pytest.mark.parametrize(
    ("text", "weights", "feeds"),
    [
        ("(float[6] x) => (float[4] y) { y = Slice(x, s, e) }",
         {"s": np.array([2]), "e": np.array([np.iinfo(np.int64).max])}, {"x": np.arange(6, dtype=np.float32)}),
        ("(float[6] x) => (float[6] y) { y = Slice(x, s, e, a, d) }",
         {"s": np.array([-1]), "e": np.array([np.iinfo(np.int64).min]), "a": np.array([0]), "d": np.array([-1])},
         {"x": np.arange(6, dtype=np.float32)}),
        ("(int64[3] x) => (int64[3] y) { y = Min(x, k) }", {"k": np.array([BIG])}, {"x": np.array([1, -5, 7])}),
        ("(int64[3] x) => (int64[3] y) { y = Clip(x, l, h) }",
         {"l": np.array(-BIG), "h": np.array(BIG)}, {"x": np.array([1, -5, 7])}),
        ("(int64[3] x, float[3] f) => (int64[3] y) { c = Less(f, z) m = Cast<to=7>(c) y = Mul(x, m) }",
         {"z": np.float32(0)}, {"x": np.array([70_000, -5, 7]), "f": np.array([-1, 1, -1], np.float32)}),
        ("(int64[3] x) => (int64[3] y) { m = Mod(x, k) y = Mul(m, m) }", {"k": np.array([100])}, {"x": np.array([1, 250, 99])}),
        ("(int64[2] x, int64[2] z) => (float[2,2] y) { p = Mul(x, z) y = Gather(t, p) }",
         {"t": np.eye(5, 2, dtype=np.float32)}, {"x": np.array([1, 2]), "z": np.array([0, 2])}),
        ("(float[2,3] x) => (float[6] y) { s = Shape(x) p = ReduceProd<keepdims=1>(s) y = Reshape(x, p) }",
         {}, {"x": np.ones((2, 3), np.float32)}),
        ("(float[3] x) => (float[3] y) { c = Cast<to=1>(k) y = Add(x, c) }", {"k": np.array([BIG])},
         {"x": np.ones(3, np.float32)}),
    ],
)  # fmt: skip
def test_what_fits_or_means_an_end_is_converted(text: str, weights: dict[str, Any], feeds: dict[str, Any]) -> None:
    model = onnx_model(f"{HEAD} {text}", **weights)
    (want,) = onnxruntime.InferenceSession(model.stored()).run(None, feeds)
    with cp.session(cp.convert(model, "mlprogram", precision="fp32")) as running:
        (got,) = running.run(feeds).values()
    np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("dtype", ["int64", "int32"])
@pytest.mark.parametrize("constant", [1_600_000_000, 2**24])
def test_a_neural_network_refuses_an_addition_that_float32_does_not_hold(dtype: str, constant: int) -> None:
    held = np.array(constant, dtype)
    model = onnx_model(f"{HEAD} ({dtype}[3] x) => ({dtype}[3] y) {{ y = Sub(x, k) }}", k=held)
    with pytest.raises(ConversionError, match="Sub of integers may not fit"):
        cp.convert(model, "neuralnetwork")


NARROW = [
    ("Add(x, x)", lambda x: x + x),
    ("Sub(x, x1)", lambda x: x - x.flip(0)),
    ("Mul(x, x)", lambda x: x * x),
    ("Neg(x)", lambda x: -x),
    ("Abs(x)", lambda x: x.abs()),
    ("CumSum(x, a)", lambda x: x.cumsum(0, dtype=x.dtype)),
    ("ReduceSum<keepdims=0>(x)", lambda x: x.sum(dtype=x.dtype)),
]


@pytest.mark.sweep(15)
@pytest.mark.parametrize(("text", "judge"), NARROW)
@pytest.mark.parametrize("dtype", ["uint8", "int8", "int16"])
@pytest.mark.parametrize(("to", "precision"), [("mlprogram", "fp32"), ("mlprogram", "fp16"), ("neuralnetwork", None)])
def test_narrow_integers_wrap_around_as_pytorchs_do(text: str, judge: Any, dtype: str, to: Any, precision: Any) -> None:
    torch = pytest.importorskip("torch")
    ends = np.iinfo(dtype)
    x = np.array([ends.max, ends.min, ends.max // 2 + 1, 5, 1], dtype)
    want = judge(torch.from_numpy(x)).numpy()
    given, used = f"{dtype}[5] x", {"a": np.array(0)} if "CumSum" in text else {}
    feeds = {"x": x}
    if "x1" in text:
        given, feeds["x1"] = f"{given}, {dtype}[5] x1", x[::-1].copy()
    model = onnx_model(f"{HEAD} ({given}) => ({dtype}{[5] if want.ndim else ''} y) {{ y = {text} }}", **used)
    if to == "neuralnetwork" and dtype == "int16" and text.startswith("Mul"):
        with pytest.raises(ConversionError, match="Mul of integers may not fit"):
            cp.convert(model, to, check=False)
        return
    with cp.session(cp.convert(model, to, check=False, **({"precision": precision} if precision else {}))) as running:
        (got,) = running.run(feeds).values()
    np.testing.assert_array_equal(np.reshape(got, want.shape), want)


def test_narrow_integers_that_fit_get_no_layer() -> None:
    text = "(uint8[3] x) => (uint8[3] y) { m = Mod(x, k) y = Add(m, m) }"
    converted = cp.convert(onnx_model(f"{HEAD} {text}", k=np.array(100, np.uint8)), "mlprogram", check=False)
    assert [node.operator for node in converted.graph.nodes if node.operator in ("mod", "sub")] == ["mod"]
