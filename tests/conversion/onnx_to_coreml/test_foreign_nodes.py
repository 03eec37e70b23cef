"""A node that is not what its operator needs is named, with what it has; nothing else comes out of a conversion."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import coreproof as cp
from coreproof.errors import ConversionError


def model(*nodes: onnx.NodeProto, shape: tuple[int, ...] = (1, 4, 8, 8), **constants: np.ndarray) -> cp.Model:
    graph = helper.make_graph(
        list(nodes),
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, list(shape))],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    return cp.load(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8))


W = np.ones((4, 4, 3, 3), np.float32)
FOREIGN = {
    "a required attribute is missing": (model(helper.make_node("LRN", ["x"], ["y"], name="n")), "'size'"),
    "an attribute that the operator does not have": (
        model(helper.make_node("Relu", ["x"], ["y"], name="n", negative=1.0)),
        "'negative'",
    ),
    "inputs are missing": (model(helper.make_node("Conv", ["x"], ["y"], name="n")), r"1 input \("),
    "no input at all": (model(helper.make_node("Relu", [], ["y"], name="n")), "0 inputs"),
    "groups of zero": (model(helper.make_node("Conv", ["x", "w"], ["y"], name="n", group=0), w=W), "node 'n'"),
    "a permutation of another rank": (
        model(helper.make_node("Transpose", ["x"], ["y"], name="n", perm=[0, 1, 9])),
        "node 'n'",
    ),
    "a block of length zero": (
        model(helper.make_node("DepthToSpace", ["x"], ["y"], name="n", blocksize=0)),
        "node 'n'",
    ),
    "a data type that there is not": (model(helper.make_node("Cast", ["x"], ["y"], name="n", to=999)), "node 'n'"),
    "a target beyond int32": (
        model(helper.make_node("Reshape", ["x", "s"], ["y"], name="n"), s=np.array([2**40, -1], np.int64)),
        "node 'n'",
    ),
    "a merged normalisation of another length": (
        model(
            helper.make_node("Conv", ["x", "w"], ["c"], name="conv"),
            helper.make_node("BatchNormalization", ["c", "v", "v", "v", "v"], ["y"], name="n"),
            w=W,
            v=np.ones(3, np.float32),
        ),
        "made ready",
    ),
}


@pytest.mark.parametrize("to", ["mlprogram", "neuralnetwork"])
@pytest.mark.parametrize("case", FOREIGN)
def test_a_node_that_makes_no_sense_is_named(case: str, to: str) -> None:
    foreign, words = FOREIGN[case]
    with pytest.raises(ConversionError, match=words):
        cp.convert(foreign, to)


@pytest.mark.sweep(1)
@pytest.mark.parametrize("case", FOREIGN)
def test_other_verbs_answer_for_such_a_node(case: str) -> None:
    foreign, _ = FOREIGN[case]
    assert cp.diagnose(foreign).findings
    with pytest.raises(cp.CoreproofError):
        cp.verify(foreign, foreign)
    assert not cp.diff(foreign, foreign)


def test_an_output_that_its_node_does_not_give_is_refused_by_name() -> None:
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 4])
    outputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 4]) for name in ("r", "more")]
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["r", "more"])], "g", [x], outputs)
    model = cp.load(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8))
    with pytest.raises(ConversionError, match="'more'"):
        cp.convert(model, "mlprogram", check=False)
