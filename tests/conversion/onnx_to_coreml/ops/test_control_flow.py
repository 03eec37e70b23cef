"""If, Loop and Scan, against ONNX Runtime: known and computed conditions and counts, written out and as loops of Core ML."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
import onnx
import onnx.parser
import onnx_ir as ir
import onnxruntime
import pytest

import coreproof as cp
from coreproof.conversion.onnx_to_coreml.convert import onnx_to_coreml
from coreproof.conversion.onnx_to_coreml.ops import control_flow
from coreproof.errors import ConversionError
from coreproof.model.onnx.model import OnnxModel
from coreproof.runtime.open import session
from tests.build import onnx_model

X = np.random.default_rng(5).normal(size=(4, 3)).astype(np.float32)
HEADER = '<ir_version: 10, opset_import: ["" : 21]>'


def check(
    text: str, *samples: Mapping[str, Any], precision: str = "fp32", rtol: float = 1e-5, keep_fp32: Collection[str] = ()
) -> set[str]:
    """Converts the model, compares each sample with ONNX Runtime, and says which operations of MIL were made."""
    proto = onnx.parser.parse_model(HEADER + text)
    onnx.checker.check_model(proto, full_check=True)
    judge = onnxruntime.InferenceSession(proto.SerializeToString())
    source = OnnxModel(ir.from_proto(proto), name="agraph")
    made = onnx_to_coreml(source, precision=precision, keep_fp32=keep_fp32)  # type: ignore[arg-type]
    with session(made, "onnxruntime") as running:
        for sample in samples:
            expected = judge.run(None, dict(sample))
            results = running.run({n: np.atleast_1d(v) for n, v in sample.items()})
            for (name, got), want in zip(results.items(), expected, strict=True):
                np.testing.assert_allclose(
                    np.reshape(got, want.shape), want, rtol=rtol, atol=rtol, err_msg=f"{name} of {sorted(sample)}"
                )
    function = next(iter(made.spec.mlProgram.functions.values()))
    return {operation.type for operation in next(iter(function.block_specializations.values())).operations}


BRANCHES = """
agraph ({inputs}) => (float[4, 3] y)
{constants}
{{
    y = If (c) <
        then_branch = positive () => (float[4, 3] t) {{ t = Relu (x) }},
        else_branch = negative () => (float[4, 3] e) {{ n = Neg (x)  e = Relu (n) }}
    >
}}"""


@pytest.mark.parametrize("known", [True, False])
def test_a_known_condition_takes_its_branch(known: bool) -> None:
    text = BRANCHES.format(inputs="float[4, 3] x", constants=f"<bool c = {{{int(known)}}}>")
    assert "cond" not in check(text, {"x": X})


@pytest.mark.parametrize("condition", ["bool c", "bool[1] c"])
def test_a_condition_that_is_fed_chooses_while_the_model_runs(condition: str) -> None:
    text = BRANCHES.format(inputs=f"float[4, 3] x, {condition}", constants="")
    shape = (1,) if "[1]" in condition else ()
    samples = [{"x": X, "c": np.full(shape, value)} for value in (True, False)]
    assert "cond" in check(text, *samples)


def test_a_branch_that_hands_on_an_input_leaves_its_name_alone() -> None:
    text = """
    agraph (float[4, 3] x, float s) => (float[4, 3] y, float[4, 3] z)
    <bool yes = {1}>
    {
        y = If (yes) <
            then_branch = a () => (float[4, 3] t) { t = Identity (x) },
            else_branch = b () => (float[4, 3] e) { e = Neg (x) }
        >
        z = Mul (x, s)
    }"""
    check(text, {"x": X, "s": np.array(3, np.float32)})


COUNTED = """
agraph (float[3] x) => (float[3] last, float[{count}, 3] all)
<int64 count = {{{count}}}, bool yes = {{1}}>
{{
    last, all = Loop (count, yes, x) < body = b (int64 i, bool c, float[3] v) => (bool again, float[3] w, float[3] row) {{
        again = Identity (c)
        f = Cast <to = 1> (i)
        half = Constant <value = float {{0.5}}> ()
        scaled = Mul (v, half)
        w = Add (scaled, f)
        row = Sub (w, v)
    }} >
}}"""


@pytest.mark.parametrize("count", [1, 5])
def test_few_rounds_are_written_out(count: int) -> None:
    assert "while_loop" not in check(COUNTED.format(count=count), {"x": X[0]})


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_many_rounds_are_a_loop(precision: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control_flow, "_WRITTEN_OUT", 8)
    text = COUNTED.format(count=6)
    rtol = 1e-5 if precision == "fp32" else 2e-2
    assert "while_loop" in check(text, {"x": X[0]}, {"x": X[1]}, precision=precision, rtol=rtol)


def test_a_loop_in_float16_starts_from_what_is_kept_in_float32() -> None:
    text = """
    agraph (int64 count, float[3] x) => (float[3] last, float[n, 3] all)
    <bool yes = {1}>
    {
        wide = Exp (x)
        last, all = Loop (count, yes, wide) < body = b (int64 i, bool c, float[3] v) => (bool c, float[3] w, float[3] row) {
            w = Add (v, x)
            row = Identity (v)
        } >
    }"""
    samples = [{"count": np.array(n), "x": X[0]} for n in (2, 5)]
    assert "while_loop" in check(text, *samples, precision="fp16", rtol=1e-2, keep_fp32=["wide"])


def test_a_count_that_is_fed_and_a_condition_that_is_computed_end_the_loop() -> None:
    text = """
    agraph (int64 count, float[3] x) => (float[3] last, float[n, 3] all)
    <bool yes = {1}>
    {
        last, all = Loop (count, yes, x) < body = b (int64 i, bool c, float[3] v) => (bool again, float[3] w, float[3] row) {
            w = Add (v, v)
            sum = ReduceSum <keepdims = 0> (w)
            size = Abs (sum)
            limit = Constant <value = float {40}> ()
            again = Less (size, limit)
            row = Identity (w)
        } >
    }"""
    values = np.array([1, 2, 0.5], np.float32)
    check(text, *({"count": np.array(n), "x": values} for n in (1, 2, 9)))


def test_rounds_that_were_tried_in_vain_leave_nothing_behind() -> None:
    """A known count, and a condition that is computed: what was written out at first is taken out again."""
    text = """
    agraph (float[3] x) => (float[3] last)
    <int64 count = {9}, bool yes = {1}>
    {
        last = Loop (count, yes, x) < body = b (int64 i, bool c, float[3] v) => (bool again, float[3] w) {
            w = Add (v, v)
            sum = ReduceSum <keepdims = 0> (w)
            limit = Constant <value = float {40}> ()
            again = Less (sum, limit)
        } >
    }"""
    made = check(text, {"x": np.array([1, 2, 0.5], np.float32)})
    assert "while_loop" in made
    assert not made & {"add", "reduce_sum", "less"}


def test_an_endless_loop_ends_by_its_condition() -> None:
    text = """
    agraph (float x) => (float last)
    <bool yes = {1}>
    {
        last = Loop (, yes, x) < body = b (int64 i, bool c, float v) => (bool again, float w) {
            w = Add (v, v)
            limit = Constant <value = float {100}> ()
            again = Less (w, limit)
        } >
    }"""
    check(text, {"x": np.array(3, np.float32)}, {"x": np.array(70, np.float32)})


@pytest.mark.sweep(2)
@pytest.mark.parametrize(
    "body",
    [
        "float[3] v, float[3] w) => (bool c, float[3] w, float[3] v, float[3] v) { }",
        """float[3] v, float[3] w) => (bool again, float[3] t, float[3] u, float[3] row) {
            again = Identity (c)
            t = Add (v, x)
            u = Mul (w, t)
            row = Neg (u)
        }""",
        """float[3] v, float[3] w) => (bool again, float[3] t, float[3] u, float[3] row) {
            again = Identity (c)
            t = Add (v, w)
            u = Constant <value = float[3] {3, 4, 5}> ()
            row = Neg (t)
        }""",
    ],
)
@pytest.mark.parametrize("to", ["mlprogram", "neuralnetwork"])
def test_rounds_hand_on_what_they_read_what_they_make_and_constants(body: str, to: Any) -> None:
    proto = onnx.parser.parse_model(
        f"""{HEADER} agraph (float[3] x, float[3] z, int64 count) => (float[3] a, float[3] b, float[n, 3] rows)
        <bool yes = {{1}}> {{ a, b, rows = Loop (count, yes, x, z) < body = bo (int64 i, bool c, {body} > }}"""
    )
    judge = onnxruntime.InferenceSession(proto.SerializeToString())
    precision: Any = "fp32" if to == "mlprogram" else None
    made = onnx_to_coreml(OnnxModel(ir.from_proto(proto), name="agraph"), to, precision=precision)
    with session(made, "onnxruntime") as running:
        for count in (1, 3, 4):
            expected = judge.run(None, {"x": X[0], "z": X[1], "count": np.array(count)})
            results = running.run({"x": X[0], "z": X[1], "count": np.array([count])})
            for (name, got), want in zip(results.items(), expected, strict=True):
                np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5, err_msg=f"{name} of {count} rounds")


def test_a_loop_starts_from_constants_and_exchanges_them() -> None:
    text = """
    agraph (int64 count) => (int64 last, int64[n] all)
    <bool yes = {1}, int64 zero = {0}, int64 one = {1}>
    {
        last, next, all = Loop (count, yes, zero, one) <
            body = b (int64 i, bool c, int64 a, int64 b) => (bool again, int64 d, int64 e, int64 row) {
                d = Identity (b)
                e = Add (a, b)
                row = Identity (a)
                again = Identity (c)
        } >
    }"""
    check(text, {"count": np.array(7)}, {"count": np.array(1)})


def test_a_limit_that_is_fed_ends_a_loop_of_known_length() -> None:
    text = """
    agraph (float[3] x, float limit) => (float[3] last, int64[n] all)
    <bool yes = {1}, int64 most = {5}>
    {
        last, all = Loop (most, yes, x) < body = b (int64 i, bool c, float[3] v) => (bool again, float[3] w, int64 row) {
            w = Add (v, v)
            sum = ReduceSum <keepdims = 0> (w)
            again = Less (sum, limit)
            row = Identity (i)
        } >
    }"""
    check(text, *({"x": np.ones(3, np.float32), "limit": np.array(n, np.float32)} for n in (1, 20, 10000)))


def test_a_node_without_a_name_is_refused_by_its_output() -> None:
    text = """
    agraph (float[3] x) => (float[3] last, float[n, 3] all) <bool yes = {1}, int64 none = {0}>
    { last, all = Loop (none, yes, x) < body = b (int64 i, bool c, float[3] v) => (bool c, float[3] w, float[3] v) {
        w = Neg (v) } > }"""
    with pytest.raises(ConversionError, match="node 'last'"):
        check(text, {"x": X[0]})


SCAN = """
agraph (float[3] start, float[4, 3] x, float[3, 4] t) => (float[3] last, float[{shape}] rows)
{{
    last, rows = Scan <num_scan_inputs = 2, {attributes},
        body = b (float[3] s, float[3] a, float[3] c) => (float[3] u, float[3] row) {{
        m = Mul (a, c)
        u = Add (s, m)
        row = Sub (u, a)
    }} > (start, x, t)
}}"""


@pytest.mark.sweep(3)
@pytest.mark.parametrize("written_out", [512, 1])
@pytest.mark.parametrize(
    ("attributes", "shape"),
    [
        ("scan_input_axes = [0, 1]", "4, 3"),
        ("scan_input_axes = [0, -1], scan_input_directions = [1, 0]", "4, 3"),
        ("scan_input_axes = [0, 1], scan_output_axes = [1], scan_output_directions = [1]", "3, 4"),
        ("scan_input_axes = [0, 1], scan_input_directions = [1, 1], scan_output_axes = [-1]", "3, 4"),
    ],
)
def test_scan(attributes: str, shape: str, written_out: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control_flow, "_WRITTEN_OUT", written_out)
    text = SCAN.format(attributes=attributes, shape=shape)
    made = check(text, {"start": X[1], "x": X, "t": np.ascontiguousarray(X.T[::-1])})
    assert ("while_loop" in made) == (written_out == 1)


@pytest.mark.parametrize("to", ["mlprogram", "neuralnetwork"])
@pytest.mark.parametrize("holds", [True, False])
def test_branches_may_give_other_lengths(holds: bool, to: Any) -> None:
    text = """<ir_version: 8, opset_import: ["": 17]> net (float[2,3] x, bool[1] c) => (float[3] y) {
        q = If (c) <then_branch = a () => (float[2,3] t) { t = Relu(x) },
                    else_branch = b () => (float[1,3] e) { e = ReduceMax<axes=[0]>(x) }>
        y = ReduceSum<keepdims=0>(q, first) }"""
    x = np.random.default_rng(0).normal(size=(2, 3)).astype(np.float32)
    converted = cp.convert(onnx_model(text, first=np.array([0])), to, precision="fp32", check=False)
    with cp.session(converted) as running:
        (got,) = running.run({"x": x, "c": np.array([holds])}).values()
    want = np.maximum(x, 0).sum(0) if holds else x.max(0)
    np.testing.assert_allclose(got, want, rtol=1e-5)


def test_branches_of_other_ranks_are_refused_by_name() -> None:
    text = """<ir_version: 8, opset_import: ["": 17]> net (float[2,3] x, bool[1] c) => (float[?,?] y) {
        y = If (c) <then_branch = a () => (float[2,3] t) { t = Relu(x) },
                    else_branch = b () => (float[3] e) { e = ReduceMax<axes=[0], keepdims=0>(x) }> }"""
    with pytest.raises(ConversionError, match=r"branches that give \[\(2, 3\)\] and \[\(3,\)\]"):
        cp.convert(onnx_model(text), "mlprogram")


def test_what_a_branch_lists_as_its_inputs_is_read_from_outside() -> None:
    # the standard's branches have none; ONNX Runtime takes those that exporters list
    text = """agraph (float[4,3] x, bool[1] c) => (float[4,3] y)
    { a = Relu(x)
      y = If (c) <then_branch = t (float[4,3] a) => (float[4,3] p) { p = Neg(a) },
                  else_branch = e (float[4,3] a) => (float[4,3] q) { q = If (c) <then_branch = u () => (float[4,3] m)
                  { m = Abs(a) }, else_branch = w (float[4,3] a) => (float[4,3] n) { n = Exp(a) }> }> }"""
    proto = onnx.parser.parse_model(HEADER + text)
    made = onnx_to_coreml(OnnxModel(ir.from_proto(proto), name="listed"), precision="fp32")
    relu = np.maximum(X, 0)
    with session(made, "onnxruntime") as running:
        for condition, expected in ((True, -relu), (False, np.exp(relu))):
            got = running.run({"x": X, "c": np.array([condition])})["y"]
            np.testing.assert_allclose(got, expected, rtol=1e-6)


def test_a_loop_carries_what_branches_of_free_lengths_are_joined_to() -> None:
    text = """
    agraph (float[2, 3] x, int64 n, bool c) => (float[2, 3] y)
    <bool yes = {1}, int64[1] zero = {0}>
    {
        y = Loop (n, yes, x) <body = rounds (int64 i, bool go, float[2, 3] held) => (bool on, float[2, 3] next)
        {
            on = Identity (go)
            row = If (c) <
                then_branch = a () => (float[3] t) { t = ReduceSum <keepdims = 0> (held, zero) },
                else_branch = b () => (float[3] e) { h = Neg (held)  e = ReduceMax <keepdims = 0> (h, zero) }
            >
            one = Unsqueeze (row, zero)
            next = Concat <axis = 0> (one, one)
        }>
    }"""
    samples = [{"x": X[:2], "n": np.array(count), "c": np.array(c)} for count in (0, 3) for c in (True, False)]
    assert "while_loop" in check(text, *samples)
