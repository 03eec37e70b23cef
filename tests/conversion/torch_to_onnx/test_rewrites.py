"""The exporter's rewrites: exact, tried where they can begin, and what they make of a graph is what they always made."""

from __future__ import annotations

import onnx
import onnx_ir as ir
import pytest
from onnx import parser

from coreproof.conversion.torch_to_onnx.rewrites import exact_rewrites

pytest.importorskip("onnxscript", reason="needs the torch extra")

GRAPH = """
<ir_version: 10, opset_import: ["" : 18]>
net (float[2, 8] x) => (float[2, 4] first, float[2, 4] second, float[8, 2] turned, float[2, 8] held, float[16] flat)
<int64[1] zero = {0}, int64[1] four = {4}, int64[1] eight = {8}, int64[1] one = {1}, float unit = {1.0},
 float low = {-0.5}, float high = {0.5}, int64[1] all = {16}, int64[2] rows = {4, 4}>
{
    twice = Relu(x)
    positive = Relu(twice)
    first = Slice(positive, zero, four, one)
    second = Slice(positive, four, eight, one)
    scaled = Mul(x, unit)
    there = Transpose<perm = [1, 0]>(scaled)
    back = Transpose<perm = [1, 0]>(there)
    turned = Transpose<perm = [1, 0]>(back)
    least = Min(back, high)
    held = Max(least, low)
    shaped = Reshape(held, rows)
    flat = Reshape(shaped, all)
}
"""


def graph() -> ir.Model:
    return ir.from_proto(onnx.shape_inference.infer_shapes(parser.parse_model(GRAPH)))


def written(model: ir.Model) -> list[str]:
    return [str(node) for node in model.graph]


def test_the_exporter_is_left_as_it_was() -> None:
    from onnxscript.rewriter import _pattern_ir, _rewrite_rule

    before, tried = _pattern_ir.Constant(0.0), _rewrite_rule.RewriteRule.try_rewrite
    with exact_rewrites():
        within = _pattern_ir.Constant(0.0)
        assert before._abs_tol == within._abs_tol == 0.0
    assert before._abs_tol == within._abs_tol > 0.0
    assert _rewrite_rule.RewriteRule.try_rewrite is tried


def test_a_graph_is_rewritten_as_when_each_rule_is_tried_at_each_node() -> None:
    from onnxscript import optimizer

    whole, found = graph(), graph()
    optimizer.optimize(whole)
    with exact_rewrites():
        optimizer.optimize(found)
    assert written(found) == written(whole)
    kinds = [node.op_type for node in found.graph]
    assert len(kinds) < len(graph().graph)
    assert "Clip" in kinds, "of Min and Max"
    assert kinds.count("Relu") == 1
    assert kinds.count("Transpose") == 1
    assert kinds.count("Reshape") == 1
    assert "Mul" not in kinds


def test_a_rule_of_two_outputs_is_tried_where_the_first_of_them_is_computed() -> None:
    from onnxscript.rewriter import RewriteRule, RewriteRuleSet

    text = '<ir_version: 10, opset_import: ["" : 18]> net (float[2] x) => (float[2] a, float[2] b) { b = Neg(x) a = Abs(x) }'
    found = ir.from_proto(parser.parse_model(text))
    rule = RewriteRule(lambda op, x: (op.Abs(x), op.Neg(x)), lambda op, x: (op.Relu(x), op.Sigmoid(x)))
    with exact_rewrites():
        assert RewriteRuleSet([rule]).apply_to_model(found) == 1
    assert {value.name: value.producer().op_type for value in found.graph.outputs} == {"a": "Relu", "b": "Sigmoid"}


def test_at_a_node_that_no_rule_begins_with_none_is_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    from onnxscript import optimizer
    from onnxscript.rewriter import _matcher

    steps = "\n".join(f"v{n + 1} = Abs(v{n})" for n in range(40))
    text = f'<ir_version: 10, opset_import: ["" : 18]> net (float[2] v0) => (float[2] v40) {{ {steps} }}'
    model = ir.from_proto(parser.parse_model(text))
    monkeypatch.setattr(_matcher.SimplePatternMatcher, "match", lambda *_, **__: pytest.fail("it was tried"))
    with exact_rewrites():
        optimizer.optimize(model)
    assert len(model.graph) == 40
