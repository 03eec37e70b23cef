"""What a node makes of known operands, and how large that will be."""

from __future__ import annotations

import numpy as np
from onnx import helper

from coreproof.conversion.reference import computed, result_shapes

OPSETS = {"": 17}


def test_the_shape_is_told_before_the_result_is_computed() -> None:
    node = helper.make_node("MatMul", ["a", "b"], ["y"])
    feeds = {"a": np.ones((2, 3), np.float32), "b": np.ones((3, 4), np.float32)}
    assert result_shapes(node, feeds, OPSETS) == {"y": [2, 4]}
    assert np.shape(computed(node, feeds, OPSETS)[0]) == (2, 4)


def test_operands_of_unlike_types_have_no_shape_to_tell() -> None:
    node = helper.make_node("Add", ["a", "b"], ["y"])
    feeds = {"a": np.ones(3, np.float64), "b": np.ones(3, np.float32)}
    assert result_shapes(node, feeds, OPSETS) == {}
