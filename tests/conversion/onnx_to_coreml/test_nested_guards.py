"""Whole numbers that leave 32 bits within an If or a Loop fail by their name; sums of nothing do not fail."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import onnxruntime
import pytest

import coreproof as cp
from coreproof.errors import IntegerRangeError
from coreproof.model.onnx.model import OnnxModel
from tests.build import onnx_model

HEAD = '<ir_version: 8, opset_import: ["": 17]> net'
TRUE, NONE = "t = Constant<value = bool {1}>()", "z = Constant<value = int64[1] {0}>()"
IF = "(int64[3] x, bool c) => (int64[3] y) { y = If(c) <then_branch = t () => (int64[3] a) { a = Mul(x, x) }, "
LOOP = "(int64[3] x, int64 c) => (int64[3] y) {{ {} y = Loop(c, t, x) <body = b (int64 i, bool k, int64[3] a) => "
EMPTY = f"(int64[3] x, int64[1] c) => (int64 y) {{ {NONE} s = Slice(x, z, c)"
FORMS = {
    "if": IF + "else_branch = e () => (int64[3] b) { b = Add(x, x) }> }",
    "loop": LOOP.format(TRUE) + "(bool d, int64[3] e) { d = Identity(k) e = Mul(a, a) }> }",
    "sum": EMPTY + " y = ReduceSum<keepdims=0>(s) }",
    "product": EMPTY + " m = Mul(s, s) y = ReduceSum<keepdims=0>(m) }",
}
SMALL, LARGE = np.array([2, 3, 5]), np.array([1 << 30, 1 << 30, 50000])
COUNTS = {"if": np.array(True), "loop": np.array(1), "sum": np.array([2]), "product": np.array([2])}


def _fed(model: OnnxModel, x: np.ndarray, c: np.ndarray) -> tuple[np.ndarray, dict[str, Any]]:
    """ONNX Runtime's answer, and what a Core ML model is fed for the same."""
    [answer] = onnxruntime.InferenceSession(model.stored()).run(None, {"x": x, "c": c})
    return answer, {"x": x.astype(np.int32), "c": np.atleast_1d(c).astype(np.int32)}


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
@pytest.mark.parametrize("form", FORMS)
def test_a_run_fails_by_name_or_answers_as_the_source(form: str, precision: Literal["fp32", "fp16"]) -> None:
    model = onnx_model(f"{HEAD} {FORMS[form]}")
    made = cp.convert(model, "mlprogram", precision=precision, check=False)
    assert len(set(made.notes)) == len(made.notes)
    with cp.session(made) as running:
        # an If that is not taken, a Loop of no turns, a sum of nothing
        none = np.zeros_like(COUNTS[form])
        for x, c in ((SMALL, COUNTS[form]), (SMALL, none), (SMALL if form == "if" else LARGE, none)):
            answer, fed = _fed(model, x, c)
            [got] = running.run(fed).values()
            np.testing.assert_array_equal(np.reshape(got, answer.shape), answer)
        answer, fed = _fed(model, LARGE, COUNTS[form])
        assert np.abs(answer).max() >= 2**31
        with pytest.raises(IntegerRangeError, match="does not fit the 32 bits"):
            running.run(fed)
