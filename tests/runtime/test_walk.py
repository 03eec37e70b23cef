"""A walk brings out inner values group by group in one pass, and makes of them what whole runs make."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper

import coreproof as cp
from coreproof.runtime.executable import compile_model
from coreproof.runtime.open import session
from coreproof.runtime.segments import segments
from coreproof.runtime.session import Session
from coreproof.runtime.subgraph_pool import SubgraphPool

FED = {"x": np.linspace(-2, 2, 12, dtype=np.float32).reshape(3, 4)}


def chain(length: int, operators: tuple[str, ...] = ("Relu", "Neg", "Tanh")) -> onnx.ModelProto:
    names = ["x", *(f"v{i}" for i in range(length - 1)), "y"]
    nodes = [helper.make_node(operators[i % len(operators)], [names[i]], [names[i + 1]]) for i in range(length)]
    return model(nodes)


def model(nodes: list[onnx.NodeProto], initializers: Any = ()) -> onnx.ModelProto:
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [3, 4]) for name in ("x", "y")]
    graph = helper.make_graph(nodes, "g", ends[:1], ends[1:], list(initializers))
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def skipping() -> onnx.ModelProto:
    """Values read long after they are made, a constant that a node states, a branch, and two outputs of one node."""
    one = helper.make_tensor("one", TensorProto.FLOAT, [], [1.0])
    then = helper.make_graph(
        [helper.make_node("Neg", ["late"], ["t"])], "then", [], [helper.make_empty_tensor_value_info("t")]
    )
    other = helper.make_graph(
        [helper.make_node("Abs", ["a"], ["e"])], "else", [], [helper.make_empty_tensor_value_info("e")]
    )
    return model(
        [
            helper.make_node("Constant", [], ["c"], value=one),
            helper.make_node("Add", ["x", "c"], ["a"]),
            helper.make_node("Split", ["a"], ["left", "right"], axis=1),
            helper.make_node("Neg", ["left"], ["n"]),
            helper.make_node("Concat", ["n", "right"], ["late"], axis=1),
            helper.make_node("ReduceSum", ["late"], ["sum"], keepdims=0),
            helper.make_node("Greater", ["sum", "c"], ["so"]),
            helper.make_node("If", ["so"], ["chosen"], then_branch=then, else_branch=other),
            helper.make_node("Add", ["chosen", "a"], ["y"]),
        ]
    )


def runs_of(proto: onnx.ModelProto, monkeypatch: pytest.MonkeyPatch) -> tuple[Session, list[int]]:
    """A session, and how many nodes each graph has that it opens."""
    opened: list[int] = []
    make = SubgraphPool._session

    def counting(self: SubgraphPool, part: onnx.ModelProto, *, optimised: bool) -> Any:
        opened.append(len(part.graph.node))
        return make(self, part, optimised=optimised)

    monkeypatch.setattr(SubgraphPool, "_session", counting)
    return session(cp.load(proto)), opened


GROUPS = [["a", "left"], ["right", "n"], ["late", "a"], ["so", "chosen"]]


def test_a_walk_brings_what_whole_runs_bring() -> None:
    with session(cp.load(skipping())) as running:
        whole = [running.run(FED, group) for group in GROUPS]
        walked = list(running.walk(FED, GROUPS))
    for group, before, after in zip(GROUPS, whole, walked, strict=True):
        for name in group:
            np.testing.assert_array_equal(after[name], before[name])
    np.testing.assert_array_equal(walked[-1]["y"], whole[-1]["y"])


def test_every_node_runs_once_however_many_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    running, opened = runs_of(chain(60), monkeypatch)
    groups = [[f"v{i}"] for i in range(59)]
    assert len(list(running.walk(FED, groups))) == 59
    assert sum(opened) == 60
    assert max(opened) == 2  # the last one brings the output as well


def test_the_sizes_of_inner_values_cost_one_run(monkeypatch: pytest.MonkeyPatch) -> None:
    running, opened = runs_of(skipping(), monkeypatch)
    assert running.sizes(FED, ["left", "late", "sum", "chosen"]) == {"left": 6, "late": 12, "sum": 1, "chosen": 12}
    assert len(opened) == 1


def test_of_a_sequence_no_size_is_known() -> None:
    nodes = [
        helper.make_node("SplitToSequence", ["x"], ["parts"], axis=0),
        helper.make_node("ConcatFromSequence", ["parts"], ["y"], axis=0),
    ]
    with session(cp.load(model(nodes))) as running:
        assert running.sizes(FED, ["parts"]) == {}


def test_a_value_that_cannot_be_carried_on_makes_whole_runs() -> None:
    nodes = [
        helper.make_node("SplitToSequence", ["x"], ["parts"], axis=0),
        helper.make_node("Neg", ["x"], ["n"]),
        helper.make_node("ConcatFromSequence", ["parts"], ["again"], axis=0),
        helper.make_node("Add", ["again", "n"], ["y"]),
    ]
    with session(cp.load(model(nodes))) as running:
        walked = list(running.walk(FED, [["parts"], ["n"], ["again"]]))
    np.testing.assert_array_equal(walked[1]["n"], -FED["x"])
    np.testing.assert_array_equal(walked[2]["again"], FED["x"])
    np.testing.assert_array_equal(walked[2]["y"], np.zeros((3, 4), np.float32))


def test_what_is_carried_is_let_go_after_its_last_reader() -> None:
    skeleton = SubgraphPool(compile_model(cp.load(skipping()), "stored")).skeleton
    plan = segments(skeleton, [["a"], ["n"], ["late"], ["y"]])
    assert [set(s.makes) for s in plan] == [{"a"}, {"n", "right"}, {"late"}, {"y"}]
    assert [set(s.reads) for s in plan] == [set(), {"a"}, {"n", "right"}, {"late", "a"}]
    assert [set(s.dropped) for s in plan] == [set(), set(), {"n", "right"}, {"late", "a", "y"}]


def test_a_program_of_pytorch_is_walked_once() -> None:
    torch = pytest.importorskip("torch", reason="needs the torch extra")
    module = torch.nn.Sequential(*(torch.nn.Tanh() for _ in range(6)))
    example = torch.from_numpy(FED["x"])
    with session(cp.load((module, (example,)))) as running:
        (fed,) = (f.name for f in running.signature.inputs)
        taps = sorted(running.tappable, key=lambda name: int(name.partition("_")[2] or 0))
        groups = [taps[:2], taps[1:4], taps[4:]]
        whole = [running.run({fed: FED["x"]}, group) for group in groups]
        walked = list(running.walk({fed: FED["x"]}, groups))
    for group, before, after in zip(groups, whole, walked, strict=True):
        assert all(np.array_equal(after[name], before[name]) for name in group)
    outputs = [f.name for f in running.signature.outputs]
    assert all(np.array_equal(walked[-1][name], whole[-1][name]) for name in outputs)


def test_ir_dtype_of_text_is_text() -> None:
    from coreproof.runtime.skeleton import element_type

    assert element_type(np.array(["a"], object)) == ir.DataType.STRING
    assert element_type(np.zeros(2, np.float16)) == ir.DataType.FLOAT16
