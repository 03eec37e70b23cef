"""Loops that only their count ends are refused when they would run too often; loops that may be left run."""

from __future__ import annotations

import onnx
import pytest
from onnx import TensorProto, helper

import coreproof as cp
from coreproof.errors import RunError
from coreproof.model.coreml.proto import Model_pb2
from coreproof.runtime.loops import ROUNDS
from tests.build import layer, network


def value(name: str, kind: int = TensorProto.FLOAT, shape: tuple[int, ...] = (1, 4)) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, list(shape))


def loop(count: int | None, depth: int = 1, condition: str = "") -> onnx.ModelProto:
    """Loops within each other that run ``count`` times each (None: without a count)."""
    nodes = [helper.make_node("Relu", ["v"], ["w"])]
    given = "m" if count is not None else ""
    for level in range(depth):
        outer = ["v", "w"] if level < depth - 1 else ["x", "y"]
        body = helper.make_graph(
            [*nodes, helper.make_node("Identity", ["c"], ["d"])],
            f"body{level}",
            [value("i", TensorProto.INT64, ()), value("c", TensorProto.BOOL, ()), value("v")],
            [value("d", TensorProto.BOOL, ()), value("w")],
        )
        nodes = [helper.make_node("Loop", [given, condition, outer[0]], [outer[1]], body=body, name=f"loop{level}")]
    stored = [] if count is None else [helper.make_tensor("m", TensorProto.INT64, [], [count])]
    opsets = [helper.make_opsetid("", 17)]
    return helper.make_model(
        helper.make_graph(nodes, "g", [value("x")], [value("y")], stored), opset_imports=opsets, ir_version=9
    )


@pytest.mark.parametrize(
    ("count", "depth", "rounds"), [(ROUNDS + 1, 1, "200,001"), (2, 20, f"{2**18:,}"), (None, 1, "no end")]
)
def test_loops_that_only_their_count_ends_are_counted(count: int | None, depth: int, rounds: str) -> None:
    model = cp.load(loop(count, depth))
    assert model.graph.nodes
    with pytest.raises(RunError, match=rf"at most 200,000 rounds(.|\n)*{rounds}"):
        cp.session(model)


def test_loops_within_the_bound_run() -> None:
    with cp.session(cp.load(loop(2, 3))) as running:
        assert "y" in {f.name for f in running.signature.outputs}


def networks(kind: str, depth: int, *, rounds: int = 2, broken: bool = False) -> Model_pb2.Model:
    """Branches or loops within each other around a ReLU; ``broken``: a loop's body leaves it."""
    spec = network([], {"x": (4,)}, {"y": (4,)}, exact=True).spec
    inside = spec.neuralNetwork
    for level in range(depth):
        added = inside.layers.add(name=f"{kind}{level}")
        if kind == "branch":
            added.input.append("x")
            added.branch.ifBranch.SetInParent()
            inside = added.branch.ifBranch
        else:
            added.loop.maxLoopIterations = rounds
            inside = added.loop.bodyNetwork
    inside.layers.append(layer("activation", "x", "y", ReLU={}))
    if broken:
        inside.layers.add(name="leave").loopBreak.SetInParent()
    return spec


def test_loops_of_a_network_within_each_other_are_counted() -> None:
    model = cp.load(networks("loop", 20))
    assert model.graph.nodes[0].blocks
    with pytest.raises(RunError, match=r"at most 200,000 rounds(.|\n)*262,144"):
        cp.session(model)


def test_a_loop_that_may_be_left_is_not_counted() -> None:
    with cp.session(cp.load(networks("loop", 1, rounds=10**6, broken=True))) as running:
        assert running.signature.outputs
    with pytest.raises(RunError, match="1,000,000"):
        cp.session(cp.load(networks("loop", 1, rounds=10**6)))


def test_branches_of_a_network_multiply_nothing() -> None:
    with cp.session(cp.load(networks("loop", 3))) as running:
        assert running.signature.outputs
    assert cp.load(networks("branch", 25)).graph.nodes[0].blocks
