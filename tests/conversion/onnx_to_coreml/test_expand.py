"""Operators that the standard defines by others: their definitions are put in place, against ONNX's own reference."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx.parser
import onnx_ir as ir
import pytest
from onnx.reference import ReferenceEvaluator

from coreproof.conversion.onnx_to_coreml.convert import onnx_to_coreml
from coreproof.conversion.onnx_to_coreml.expand import _says_the_same, expand
from coreproof.conversion.operators import ONNX
from coreproof.errors import CoreproofError
from coreproof.model.onnx.model import OnnxModel
from coreproof.runtime.open import session

RANDOM = np.random.default_rng(3)


def _floats(*shape: int) -> np.ndarray:
    return RANDOM.normal(size=shape).astype(np.float32)


MODELS: list[tuple[str, str, dict[str, Any]]] = [
    (
        "attention, causal, of grouped queries, with what came before",
        """<ir_version: 11, opset_import: ["" : 23]>
        g (float[2, 4, 3, 8] q, float[2, 2, 5, 8] k, float[2, 2, 5, 8] v, float[2, 2, 1, 8] pk, float[2, 2, 1, 8] pv) =>
          (float[2, 4, 3, 8] y, float[2, 2, 6, 8] nk, float[2, 2, 6, 8] nv)
        { y, nk, nv = Attention <is_causal = 1> (q, k, v, , pk, pv) }""",
        {
            "q": _floats(2, 4, 3, 8),
            "k": _floats(2, 2, 5, 8),
            "v": _floats(2, 2, 5, 8),
            "pk": _floats(2, 2, 1, 8),
            "pv": _floats(2, 2, 1, 8),
        },
    ),
    (
        "a loss that is defined by another loss",
        """<ir_version: 10, opset_import: ["" : 13]>
        g (float[3, 5] x, int64[3] labels) => (float y, float[3, 5] p)
        { y, p = SoftmaxCrossEntropyLoss <reduction = "mean"> (x, labels) }""",
        {"x": _floats(3, 5), "labels": np.array([1, 0, 4])},
    ),
    (
        "positions rotated in all of their parts",
        """<ir_version: 11, opset_import: ["" : 23]>
        g (float[2, 3, 4, 8] x, float[2, 4, 4] c, float[2, 4, 4] s) => (float[2, 3, 4, 8] y)
        { y = RotaryEmbedding <interleaved = 1> (x, c, s) }""",
        {"x": _floats(2, 3, 4, 8), "c": _floats(2, 4, 4), "s": _floats(2, 4, 4)},
    ),
    (
        "a loss in a model of a later opset than its definition",
        """<ir_version: 10, opset_import: ["" : 22]>
        g (float[3, 5] x, int64[3] labels) => (float y, float[3, 5] p)
        { y, p = SoftmaxCrossEntropyLoss <reduction = "mean"> (x, labels) }""",
        {"x": _floats(3, 5), "labels": np.array([1, 0, 4])},
    ),
    (
        "a crop in a model of a later opset than its definition",
        """<ir_version: 10, opset_import: ["" : 22]>
        g (float[5, 8, 3] x) => (float[7, 3, 3] y) <int64[2] size = {7, 3}>
        { y = CenterCropPad <axes = [0, 1]> (x, size) }""",
        {"x": _floats(5, 8, 3)},
    ),
    (
        "an attribute that is left out has its default",
        """<ir_version: 10, opset_import: ["" : 17]>
        g (float[1] x) => (float[10] y)
        <int32 size = {10}>
        { w = HannWindow (size)  y = Mul (w, x) }""",
        {"x": np.ones(1, np.float32)},
    ),
    (
        "inside a branch",
        """<ir_version: 10, opset_import: ["" : 20]>
        g (float[2, 2, 3] theta, bool c) => (float[2, 4, 5, 2] y)
        <int64[4] size = {2, 3, 4, 5}>
        {
            y = If (c) <
                then_branch = a () => (float[2, 4, 5, 2] t) { t = AffineGrid (theta, size) },
                else_branch = b () => (float[2, 4, 5, 2] e) { e = AffineGrid <align_corners = 1> (theta, size) }
            >
        }""",
        {"theta": _floats(2, 2, 3), "c": np.array(True)},
    ),
]


@pytest.mark.sweep(3)
@pytest.mark.parametrize(("text", "feeds"), [m[1:] for m in MODELS], ids=[m[0] for m in MODELS])
def test_what_the_standard_defines_is_converted(text: str, feeds: dict[str, Any]) -> None:
    proto = onnx.parser.parse_model(text)
    expected = ReferenceEvaluator(proto).run(None, feeds)
    converted = onnx_to_coreml(OnnxModel(ir.from_proto(proto), name="g"), precision="fp32")
    with session(converted, "onnxruntime") as running:
        results = running.run({name: np.atleast_1d(array) for name, array in feeds.items()})
    for (name, got), want in zip(results.items(), expected, strict=True):
        np.testing.assert_allclose(np.reshape(got, np.shape(want)), want, rtol=2e-5, atol=2e-6, err_msg=name)


def test_an_operator_with_a_handler_stays_one() -> None:
    model = ir.from_proto(
        onnx.parser.parse_model(
            """<ir_version: 10, opset_import: ["" : 20]>
            g (float[2, 3] x) => (float[2, 3] y) { h = HardSwish (x)  y = Gelu (h) }"""
        )
    )
    assert {"HardSwish", "Gelu"} <= set(ONNX)
    expand(model)
    assert [node.op_type for node in model.graph] == ["HardSwish", "Gelu"]


@pytest.mark.parametrize(
    ("operator", "attributes", "written", "opset", "same"),
    [
        ("Relu", {}, 13, 22, True),  # opened to further types
        ("Reshape", {}, 13, 22, True),  # given an attribute whose default changes nothing
        ("ReduceMax", {"axes": [1]}, 17, 18, False),  # its axes became an input
    ],
)
def test_a_definition_is_carried_to_a_later_opset_where_its_operators_kept_their_form(
    operator: str, attributes: dict[str, Any], written: int, opset: int, same: bool
) -> None:
    node = onnx.helper.make_node(operator, ["x"], ["y"], **attributes)
    definition = onnx.helper.make_function("d", "f", ["x"], ["y"], [node], [onnx.helper.make_opsetid("", written)])
    assert _says_the_same(definition, opset) is same


def test_functions_of_another_opset_are_brought_to_the_models() -> None:
    """What was an attribute (axes of a reduction until 17, of a squeeze until 12) is an operand in the model's opset."""
    model = onnx.parser.parse_model(
        """<ir_version: 9, opset_import: ["" : 18, "own" : 1, "older" : 1]>
        g (float[2, 3, 4] x) => (float[2, 3] y) { y = own.spread(x) }
        <domain: "own", opset_import: ["" : 16, "older" : 1]>
        spread (x) => (y) {
          high = ReduceMax <axes = [2], keepdims = 1> (x)
          low = ReduceMin <axes = [-1], keepdims = 1> (x)
          apart = Sub (high, low)
          y = older.flat (apart)
        }
        <domain: "older", opset_import: ["" : 11]>
        flat (x) => (y) { y = Squeeze <axes = [2]> (x) }"""
    )
    x = _floats(2, 3, 4)
    converted = onnx_to_coreml(OnnxModel(ir.from_proto(model), name="functions"), "mlprogram", precision="fp32")
    with session(converted, "onnxruntime") as running:
        (found,) = running.run({"x": x}).values()
    np.testing.assert_array_equal(found, x.max(2) - x.min(2))


def test_an_operator_that_has_come_to_mean_something_else_in_the_models_opset_is_refused_by_name() -> None:
    model = onnx.parser.parse_model(
        """<ir_version: 9, opset_import: ["" : 18, "own" : 1]>
        g (float[2, 3, 4] x) => (float[2, 3, 4] y) { y = own.shares(x) }
        <domain: "own", opset_import: ["" : 12]>
        shares (x) => (y) { y = Softmax (x) }"""
    )
    with pytest.raises(
        CoreproofError, match=r"(?s)Softmax means something else.*own::shares.*opset 18.*opset 12: what it does without"
    ):
        onnx_to_coreml(OnnxModel(ir.from_proto(model), name="functions"), "mlprogram")


def test_what_reads_a_refused_value_within_a_branch_is_not_refused_too() -> None:
    model = onnx.parser.parse_model(
        """<ir_version: 9, opset_import: ["" : 18]>
        g (float[4] x, bool c) => (float[4] y) {
          n = NonZero (x)
          bad = StringNormalizer (x)
          y = If (c) <
            then_branch = a () => (float[4] one) { one = Identity (bad) },
            else_branch = b () => (float[4] two) { two = Neg (x) }>
        }"""
    )
    with pytest.raises(CoreproofError) as raised:
        onnx_to_coreml(OnnxModel(ir.from_proto(model), name="branches"), "mlprogram")
    assert "KeyError" not in str(raised.value)
    assert "StringNormalizer" in str(raised.value)
