"""Files that nest, call or loop too much are refused by the bound that they break; those within it load."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import onnx
import pytest
from onnx import TensorProto, helper

import coreproof as cp
from coreproof.errors import ConversionError, RunError, UnreadableModelError
from coreproof.model.coreml.proto import Model_pb2
from coreproof.model.files.nesting import CALLS, UNFOLDED


def value(name: str, kind: int = TensorProto.FLOAT, shape: Sequence[int] = (1, 4)) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, list(shape))


def varint(number: int) -> bytes:
    spelled = bytearray()
    while number > 127:
        spelled.append(number & 127 | 128)
        number >>= 7
    return bytes([*spelled, number])


def field(number: int, content: bytes) -> bytes:
    return varint(number << 3 | 2) + varint(len(content)) + content


def branches(depth: int) -> bytes:
    """An ONNX file with so many If within each other, which no writer of protobuf makes."""
    inside = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "g", [], [value("y")]).SerializeToString()
    other = helper.make_graph([helper.make_node("Neg", ["x"], ["y"])], "e", [], [value("y")])
    for level in range(depth):
        node = helper.make_node("If", ["c"], ["y"], else_branch=other).SerializeToString()
        node += field(5, field(1, b"then_branch") + field(6, inside) + b"\xa0\x01\x05")
        inputs = [value("x"), value("c", TensorProto.BOOL, ())] if level == depth - 1 else []
        inside = field(1, node) + field(2, b"g") + b"".join(field(11, v.SerializeToString()) for v in inputs)
        inside += field(12, value("y").SerializeToString())
    return b"\x08\x09" + field(8, b"\x10\x11") + field(7, inside)


def network() -> Any:
    spec = Model_pb2.Model()
    spec.specificationVersion = 4
    for features, name in ((spec.description.input, "x"), (spec.description.output, "y")):
        feature = features.add(name=name)
        feature.type.multiArrayType.shape.append(4)
        feature.type.multiArrayType.dataType = 65568
    return spec


def relu(layers: Any) -> None:
    layer = layers.add(name="relu", input=["x"], output=["y"])
    layer.activation.ReLU.SetInParent()


def pipelines(depth: int) -> bytes:
    leaf = network()
    relu(leaf.neuralNetwork.layers)
    content, head = leaf.SerializeToString(), network().SerializeToString()
    number = Model_pb2.Model.DESCRIPTOR.fields_by_name["pipeline"].number
    for _ in range(depth):
        content = head + field(number, field(1, content))
    return content


def functions(calls: Sequence[Sequence[int]]) -> onnx.ModelProto:
    """Function i calls those of ``calls[i]`` one after the other, or is a Relu; the graph calls the first."""
    made = []
    for index, called in enumerate(calls):
        names = ["a", *(f"t{i}" for i in range(len(called) - 1)), "b"]
        nodes = [helper.make_node(f"f{c}", [names[i]], [names[i + 1]], domain="d") for i, c in enumerate(called)]
        nodes = nodes or [helper.make_node("Relu", ["a"], ["b"])]
        opsets = [helper.make_opsetid("", 17), helper.make_opsetid("d", 1)]
        made.append(helper.make_function("d", f"f{index}", ["a"], ["b"], nodes, opsets))
    graph = helper.make_graph([helper.make_node("f0", ["x"], ["y"], domain="d")], "g", [value("x")], [value("y")])
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("d", 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=9, functions=made)


def doubling(count: int) -> onnx.ModelProto:
    return functions([*([i + 1, i + 1] for i in range(count - 1)), []])


def graph(nodes: Sequence[onnx.NodeProto], initializers: Any = ()) -> onnx.ModelProto:
    made = helper.make_graph(list(nodes), "g", [value("x")], [value("y")], list(initializers))
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


@pytest.mark.sweep(1)
@pytest.mark.parametrize("depth", [33, 500, 5000])
def test_graphs_within_graphs_are_refused_by_their_depth(tmp_path: Path, depth: int) -> None:
    path = tmp_path / "deep.onnx"
    path.write_bytes(branches(depth))
    with pytest.raises(UnreadableModelError, match=r"nested too deeply(.|\n)*at most 100 messages"):
        cp.load(path)


def test_graphs_as_deep_as_protobuf_reads_load_and_run(tmp_path: Path) -> None:
    path = tmp_path / "deep.onnx"
    path.write_bytes(branches(30))
    assert cp.verify(cp.load(path), cp.load(path))


@pytest.mark.parametrize("depth", [100, 5000])
def test_pipelines_within_pipelines_are_refused_by_their_depth(tmp_path: Path, depth: int) -> None:
    path = tmp_path / "deep.mlmodel"
    path.write_bytes(pipelines(depth))
    with pytest.raises(UnreadableModelError, match=r"nested too deeply(.|\n)*49 pipelines"):
        cp.load(path)


def test_pipelines_as_deep_as_protobuf_reads_load(tmp_path: Path) -> None:
    path = tmp_path / "deep.mlmodel"
    path.write_bytes(pipelines(40))
    assert cp.load(path).format == "pipeline"


def test_bytes_that_are_damaged_and_not_deep_are_called_damaged(tmp_path: Path) -> None:
    path = tmp_path / "cut.onnx"
    path.write_bytes(branches(20)[:-7])
    with pytest.raises(UnreadableModelError, match="damaged"):
        cp.load(path)


def test_functions_that_unfold_without_measure_are_counted() -> None:
    assert UNFOLDED < 2**15
    for count in (16, 24, 60):
        with pytest.raises(
            UnreadableModelError, match=rf"at most 30,000 nodes(.|\n)*{2 ** (count - 1):,}, of which 'd::f0'"
        ):
            cp.load(doubling(count))


def test_functions_within_the_bound_unfold() -> None:
    model = cp.load(doubling(8))
    assert cp.verify(model, model)
    converted = cp.convert(model, "mlprogram")
    assert sum(node.operator == "relu" for node in converted.graph.nodes) == 2**7


def test_functions_that_call_themselves_are_named() -> None:
    with pytest.raises(UnreadableModelError, match="'d::f0' -> 'd::f1' -> 'd::f0'"):
        cp.load(functions([[1], [0]]))
    with pytest.raises(UnreadableModelError, match="'d::f1' -> 'd::f1'"):
        cp.load(functions([[], [1]]))


def test_long_rows_of_calls_are_counted() -> None:
    deep = CALLS + 1
    with pytest.raises(UnreadableModelError, match=rf"at most {CALLS} functions(.|\n)*{deep}, from 'd::f0'"):
        cp.load(functions([*([i + 1] for i in range(deep - 1)), []]))
    assert cp.load(functions([*([i + 1] for i in range(CALLS - 2)), []]))


def test_nodes_in_a_circle_are_no_program() -> None:
    circle = graph([helper.make_node("Add", ["x", "b"], ["a"]), helper.make_node("Relu", ["a"], ["b"]),
                    helper.make_node("Neg", ["b"], ["y"])])  # fmt: skip
    with pytest.raises(ConversionError, match="circle"):
        cp.convert(cp.load(circle), "mlprogram")
    with pytest.raises(RunError, match="acyclic"):
        cp.verify(cp.load(circle), cp.load(circle))


def test_nodes_out_of_order_are_converted_in_order() -> None:
    model = cp.load(graph([helper.make_node("Neg", ["a"], ["y"]), helper.make_node("Relu", ["x"], ["a"])]))
    assert cp.verify(model, cp.convert(model, "mlprogram", precision="fp32"))
