"""What the judge of random graphs allows an output to be off: near poles the largest of a few draws bounds nothing."""

from __future__ import annotations

import math

import numpy as np
import onnx
from conformance.allowed import allowances, run_source

from tests.build import onnx_proto


def allowed(operators: list[str], x: np.ndarray, half: bool = False) -> float:
    names = ["x", *(f"v{i}" for i in range(1, len(operators))), "y"]
    nodes = [onnx.helper.make_node(op, [a], [b]) for op, a, b in zip(operators, names, names[1:], strict=False)]
    model = onnx_proto(nodes, {"x": list(x.shape)}, {"y": list(x.shape)})
    found = allowances(model, {"x": x}, run_source(model, {"x": x}), half)
    assert found is not None
    return found["y"]


def test_a_pole_that_lies_within_what_rounding_moves_leaves_no_bound() -> None:
    """The tangent of a tangent near its pole: 881.2 moves by more than the poles of the second are apart."""
    x = np.float32([0.5, 1.0, np.arctan(881.2312)])
    assert math.isinf(allowed(["Tan", "Tan"], x))


def test_what_has_no_pole_or_moves_by_less_than_itself_keeps_its_bound() -> None:
    x = np.float32([0.5, 1.0, np.arctan(881.2312)])
    assert allowed(["Tan", "Sin"], x) < math.inf
    assert allowed(["Tan"], x) < 100
    assert allowed(["Tan"], x[:2]) < 1e-3


def test_what_rounding_cancels_to_zero_may_answer_otherwise() -> None:
    """float16 makes 0 of 0.70005 - 0.7, and what asks whether it is zero chooses the other number."""
    nodes = [
        onnx.helper.make_node("Sub", ["x", "z"], ["d"]),
        onnx.helper.make_node("Cast", ["d"], ["c"], to=onnx.TensorProto.BOOL),
        onnx.helper.make_node("Where", ["c", "x", "k"], ["y"]),
    ]
    kept = {"k": np.float32([5])}
    model = onnx_proto(nodes, {"x": [3], "z": [3]}, {"y": [3]}, kept)
    apart = {"x": np.float32([1, 2, 3]), "z": np.float32([0.5, 0.5, 0.5])}
    alike = {"x": np.float32([0.70005, 2, 3]), "z": np.float32([0.7, 0.5, 0.5])}

    def found(feed: dict[str, np.ndarray]) -> float:
        allowance = allowances(model, feed, run_source(model, feed), half=True)
        assert allowance is not None
        return allowance["y"]

    assert found(apart) < 0.1
    assert found(alike) > 4
