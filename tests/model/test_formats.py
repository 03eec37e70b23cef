"""Walking stored graphs: what a node reads and writes, nested graphs included, alike in every format and in the read view."""

from __future__ import annotations

from onnx import TensorProto, helper

from coreproof.editing.submodels.open import submodel_builder
from coreproof.editing.submodels.submodel import Submodel
from coreproof.model.coreml.graph import read_graph
from coreproof.model.coreml.model import CoreMLModel
from coreproof.model.coreml.proto import MIL_pb2, Model_pb2
from coreproof.model.formats import network, onnx, program
from coreproof.model.formats.free_name import free_name


def counting_network() -> Model_pb2.Model:
    """x copied to ``sum`` and ``go``, a loop that adds x to ``sum`` while ``go`` holds, and a layer that reads it."""
    spec = Model_pb2.Model(specificationVersion=5)
    for features, name in ((spec.description.input, "x"), (spec.description.output, "y")):
        feature = features.add(name=name)
        feature.type.multiArrayType.dataType = 65568
        feature.type.multiArrayType.shape.extend([4])
    net = spec.neuralNetwork
    net.arrayInputShapeMapping = 1
    for name in ("sum", "go"):
        net.layers.add(name=f"set_{name}", input=["x"], output=[name]).copy.SetInParent()
    loop = net.layers.add(name="repeat").loop
    loop.maxLoopIterations = 3
    loop.conditionVar = "go"
    loop.bodyNetwork.layers.add(name="next", input=["sum", "x"], output=["after"]).addBroadcastable.SetInParent()
    loop.bodyNetwork.layers.add(name="keep", input=["after"], output=["sum"]).copy.SetInParent()
    net.layers.add(name="end", input=["sum"], output=["y"]).activation.ReLU.SetInParent()
    return spec


def test_a_loop_of_a_network_reads_what_it_goes_on_from_and_its_condition() -> None:
    loop = counting_network().neuralNetwork.layers[2]
    assert set(network.reads(loop)) == {"sum", "x", "go"}
    assert network.writes(loop) == ["after", "sum"]


def test_what_a_blob_is_before_a_loop_stays_in_the_part_that_ends_behind_it() -> None:
    model = CoreMLModel(counting_network(), name="counting")
    kept = [layer.name for layer in submodel_builder(model).select(Submodel()).layers]
    assert kept == ["set_sum", "set_go", "repeat", "end"]


def test_blobs_are_renamed_in_nested_networks_and_conditions_too() -> None:
    spec = counting_network()
    network.rename(spec.neuralNetwork, {"sum": "total", "go": "on"})
    loop = spec.neuralNetwork.layers[2]
    assert set(network.reads(loop)) == {"total", "x", "on"}
    assert network.writes(loop) == ["after", "total"]


def test_the_read_view_lists_the_layers_between_values_with_those_before_a_loop() -> None:
    graph = read_graph(counting_network())
    assert [node.name for node in graph.between(["x"], ["y"])] == ["set_sum", "set_go", "repeat", "end"]
    assert [node.name for node in graph.between(["sum"], ["y"])] == ["end"]
    assert [node.name for node in graph.between(["y"], ["y"])] == [node.name for node in graph.nodes]


def test_a_branch_of_onnx_reads_from_outside_what_it_does_not_make() -> None:
    inner = helper.make_graph(
        [helper.make_node("Add", ["outer", "own"], ["sum"])],
        "inner",
        [],
        [helper.make_tensor_value_info("sum", TensorProto.FLOAT, None), helper.make_tensor_value_info("z", 1, None)],
        [helper.make_tensor("own", TensorProto.FLOAT, [1], [1.0])],
    )
    node = helper.make_node("If", ["condition"], ["y", "w"], then_branch=inner, else_branch=inner)
    assert set(onnx.reads(node)) == {"condition", "outer", "z"}
    onnx.rename_reads(node, {"outer": "a", "z": "b"})
    assert set(onnx.reads(node)) == {"condition", "a", "b"}


def test_an_operation_reads_what_its_blocks_read_and_hand_out_from_outside() -> None:
    operation = MIL_pb2.Operation(type="cond")
    operation.inputs["pred"].arguments.add(name="p")
    block = operation.blocks.add()
    made = block.operations.add(type="relu")
    made.inputs["x"].arguments.add(name="outer")
    made.outputs.add(name="inside")
    block.outputs.extend(["inside", "handed"])
    assert list(program.reads(operation)) == ["p", "outer", "handed"]
    assert program.writes(operation) == []


def test_blobs_are_found_in_attributes_literal_arguments_and_lists() -> None:
    operation = MIL_pb2.Operation(type="make")
    operation.attributes["val"].blobFileValue.offset = 1
    operation.inputs["x"].arguments.add().value.blobFileValue.offset = 2
    listed = operation.inputs["y"].arguments.add().value.immediateValue.list
    listed.values.add().blobFileValue.offset = 3
    assert sorted(blob.offset for blob in program.blobs([operation])) == [1, 2, 3]


def test_a_free_name_counts_on_where_the_wish_is_taken() -> None:
    assert free_name("a", {"b"}) == "a"
    assert free_name("a", {"a", "a_1"}) == "a_2"
