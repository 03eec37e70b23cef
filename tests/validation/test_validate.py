"""inspect: what it names in broken models, and that it names nothing in healthy ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper

from coreproof.model.coreml.model import CoreMLModel
from coreproof.model.load import load
from coreproof.validation.validate import Inspection, inspect
from tests.build import layer, mil, network, onnx_net

LEGACY = {
    "catvec_b4_torch110_oc040": ("shape", "26"),
    "dynreshape_torch110_oc10_ios13": ("rank", "19"),
    "labelcount_torch110_oc040": ("label-count", "198"),
    "oneminus_torch110_oc040": ("dangling-input", "8"),
    "padconst_torch110_oc13_ios13": ("shape", "6"),
    "rn50thin_b10_torch110_oc10_ios13": ("shape", "501"),
    "rn50thin_b32_torch110_oc040": ("shape", "502"),
    "twohead_cls_torch110_oc040": ("label-count", "19"),
    "vggthin_b10_torch110_oc040": ("shape", "38"),
}


def kinds(inspection: Inspection) -> list[tuple[str, str | None]]:
    return [(p.kind, p.layer) for p in inspection.problems]


def named(message: Any, name: str) -> Any:
    message.name = name
    return message


def relu(name: str, reads: str, makes: str) -> Any:
    return named(layer("activation", reads, makes, ReLU={}), name)


# real models


@pytest.mark.parametrize("case", sorted(LEGACY))
def test_loud_faults_are_named_with_their_layer(case: str, shared_data: Path) -> None:
    found = inspect(load(shared_data / "legacy" / case / "broken.mlmodel"))
    assert kinds(found) == [LEGACY[case]]
    assert found.problems[0].fatal


@pytest.mark.sweep(1)
@pytest.mark.parametrize("folder", ["coreml", "onnx", "legacy"])
def test_nothing_is_said_about_healthy_models(folder: str, shared_data: Path) -> None:
    found: dict[str, list[str]] = {}
    pattern = {"coreml": "*.ml*", "onnx": "*.onnx", "legacy": "*/[mr]*[le].*m[lo]*"}[folder]
    paths = [p for p in sorted((shared_data / folder).glob(pattern)) if "broken" not in p.name]
    assert len(paths) > 5
    for path in paths:
        problems = inspect(load(path)).problems
        if problems:
            found[path.name] = [str(p) for p in problems]
    assert found == {}


def test_every_blob_of_a_network_has_its_shape(shared_data: Path) -> None:
    model = load(shared_data / "legacy" / "ok_rn50thin_b1_torch110_oc040" / "model.mlmodel")
    shapes = inspect(model).shapes
    assert set(shapes) == set(model.graph.values)
    assert shapes["493"] == (1, 1, 256, 1, 1)
    assert shapes["502"] == (1, 1, 1000, 1, 1)


# NeuralNetwork


def test_a_network_is_read_by_name() -> None:
    model = network(
        [relu("first", "x", "a"), relu("second", "lost", "b"), relu("third", "c", "d"), relu("fourth", "b", "c")],
        {"x": (3, 4, 4)},
        {"d": None, "nowhere": None},
    )
    found = inspect(model)
    assert kinds(found) == [
        ("dead-layer", "first"),
        ("dangling-input", "second"),
        ("used-before-made", "third"),
        ("missing-output", None),
    ]
    assert "'lost'" in str(found.problems[1])
    assert "'fourth'" in str(found.problems[2])


def test_two_layers_that_write_one_blob() -> None:
    model = network([relu("first", "x", "y"), relu("second", "x", "y")], {"x": (3, 4, 4)}, {"y": None})
    assert ("duplicate-output", "second") in kinds(inspect(model))
    model = network([relu("in place", "x", "x")], {"x": (3, 4, 4)}, {"x": None})
    assert ("duplicate-output", "in place") in kinds(inspect(model))


def test_dead_layers_alone_are_no_problem() -> None:
    model = network([relu("first", "x", "a"), relu("second", "x", "y")], {"x": (3, 4, 4)}, {"y": None})
    assert inspect(model).problems == ()


def test_preprocessing_of_another_input() -> None:
    scaler = {"featureName": "data", "scaler": {"channelScale": 0.5}}
    model = network([relu("first", "image", "y")], {"image": "RGB 4x4"}, {"y": None}, preprocessing=[scaler])
    found = inspect(model)
    assert kinds(found) == [("stale-preprocessing", None)]
    assert not found.problems[0].fatal


def test_independent_faults_are_all_named_and_what_follows_is_not() -> None:
    def reshape(name: str, reads: str, makes: str, *target: int) -> Any:
        return named(layer("reshape", reads, makes, targetShape=target), name)

    model = network(
        [
            reshape("bad left", "x", "l", 10, -1, 1, 1),
            relu("behind", "l", "left"),
            reshape("bad right", "x", "r", 7, 7, 7),
            reshape("good", "x", "g", 1, -1, 1, 1),
        ],
        {"x": (3, 4, 4)},
        {"left": None, "r": None, "g": None},
    )
    found = inspect(model)
    assert kinds(found) == [("shape", "bad left"), ("shape", "bad right")]
    assert found.shapes["g"] == (1, 1, 48, 1, 1)
    assert "left" not in found.shapes


def test_a_declared_output_is_held_against_the_real_one_but_for_ones() -> None:
    layers = [relu("first", "x", "y")]
    assert inspect(network(layers, {"x": (3, 4, 4)}, {"y": (1, 3, 4, 4)})).problems == ()
    found = inspect(network(layers, {"x": (3, 4, 4)}, {"y": (3, 4, 5)}))
    assert kinds(found) == [("declared-shape", "first")]
    assert not found.problems[0].fatal


def test_layers_that_are_newer_than_the_declared_version() -> None:
    model = network([layer("gelu", "x", "y")], {"x": (3, 4, 4)}, {"y": None}, exact=True)
    assert inspect(model).problems == ()
    model.spec.specificationVersion = 3
    found = inspect(model)
    assert ("target", "the gelu") in kinds(found)
    assert "iOS 13" in found.problems[0].expected


def test_labels_are_counted() -> None:
    model = network([relu("scores", "x", "y")], {"x": (5,)}, {"y": None}, labels=["a", "b", "c"])
    found = inspect(model)
    assert kinds(found) == [("label-count", "scores")]
    model = network([relu("scores", "x", "y")], {"x": (3,)}, {"y": None}, labels=["a", "b", "c"])
    assert inspect(model).problems == ()
    model.network.labelProbabilityLayerName = "elsewhere"
    assert ("classifier-blob", "elsewhere") in kinds(inspect(model))


def test_a_rank_above_five() -> None:
    model = network([layer("expandDims", "x", "y", axes=[0])], {"x": (1, 2, 3, 4, 5)}, {"y": None}, exact=True)
    assert ("rank", "the expandDims") in kinds(inspect(model))


# ONNX


def node(operator: str, reads: str, makes: str, **attributes: Any) -> onnx.NodeProto:
    return helper.make_node(operator, reads.split(), makes.split(), name=f"the {operator}", **attributes)


def test_onnx_shapes_that_do_not_fit() -> None:
    model = onnx_net(
        [
            node("Reshape", "x shape", "r"),
            node("Relu", "r", "y"),
            node("MatMul", "x w", "z"),
            node("Add", "lost x", "a"),
        ],
        {"x": [1, 3, 4]},
        {"y": None, "z": None, "a": None},
        shape=np.array([5, -1]),
        w=np.zeros((7, 9), np.float32),
    )
    found = inspect(model)
    assert kinds(found) == [("shape", "the Reshape"), ("shape", "the MatMul"), ("dangling-input", "the Add")]


def test_onnx_channels_that_do_not_fit_large_weights() -> None:
    wide = np.zeros((64, 30, 3, 3), np.float32)
    model = onnx_net([node("Conv", "x w", "y")], {"x": [1, 32, 8, 8]}, {"y": None}, w=wide)
    found = inspect(model)
    assert kinds(found) == [("shape", "the Conv")]
    assert found.problems[0].expected.startswith("30 channels")
    assert (
        inspect(onnx_net([node("Conv", "x w", "y", group=2)], {"x": [1, 60, 8, 8]}, {"y": None}, w=wide)).problems == ()
    )


def test_onnx_shapes_are_followed_through_computed_targets() -> None:
    model = onnx_net(
        [
            node("Shape", "x", "s"),
            node("Gather", "s zero", "n"),
            node("Unsqueeze", "n axes", "u"),
            node("Concat", "u minus", "t", axis=0),
            node("Reshape", "x t", "y"),
        ],
        {"x": [2, 3, 4]},
        {"y": [2, 12]},
        zero=np.array(0),
        axes=np.array([0]),
        minus=np.array([-1]),
    )
    found = inspect(model)
    assert found.problems == ()
    assert found.shapes["y"] == (2, 12)


def test_onnx_declared_outputs() -> None:
    model = onnx_net([node("Relu", "x", "y")], {"x": ["n", 3]}, {"y": ["n", 4]})
    assert kinds(inspect(model)) == [("declared-shape", "the Relu")]


# ML Program


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> CoreMLModel:
    weight = np.zeros((4, 3, 3, 3), np.float32)

    def build(mb: Any, x: Any) -> Any:
        y = mb.conv(x=x, weight=weight, pad_type="valid", name="filtered")
        y = mb.reshape(x=y, shape=[1, -1], name="flat")
        return mb.relu(x=y, name="out")

    return mil(tmp_path_factory.mktemp("program"), build, (1, 3, 6, 6))


def edited(model: CoreMLModel, operation: str, change: Any) -> CoreMLModel:
    """A copy whose first operation of that type was changed by hand."""
    spec = type(model.spec)()
    spec.CopyFrom(model.spec)
    function = spec.mlProgram.functions["main"]
    body = function.block_specializations[function.opset]
    change(next(o for o in body.operations if o.type == operation), body)
    return CoreMLModel(spec, name="net", folder=model.folder)


def test_a_healthy_program(program: CoreMLModel) -> None:
    found = inspect(program)
    assert found.problems == ()
    assert found.shapes["flat"] == (1, 64)


def test_a_program_that_declares_other_shapes_than_it_makes(program: CoreMLModel) -> None:
    def lie(operation: Any, body: Any) -> None:
        operation.outputs[0].type.tensorType.dimensions[1].constant.size = 99

    found = inspect(edited(program, "reshape", lie))
    assert ("declared-type", "flat") in kinds(found)
    assert len(found.problems) == 1, "what follows from it is not said again"


def test_a_program_that_reads_what_nothing_makes(program: CoreMLModel) -> None:
    def cut(operation: Any, body: Any) -> None:
        operation.inputs["x"].arguments[0].name = "lost"

    assert ("dangling-input", "flat") in kinds(inspect(edited(program, "reshape", cut)))


def test_a_program_whose_reshape_cannot_hold_its_values(program: CoreMLModel) -> None:
    def bake(operation: Any, body: Any) -> None:
        shape = operation.inputs["shape"].arguments[0]
        source = next(o for o in body.operations if o.outputs and o.outputs[0].name == shape.name)
        source.attributes["val"].immediateValue.tensor.ints.values[0] = 10

    assert kinds(inspect(edited(program, "reshape", bake)))[0] == ("shape", "flat")


def test_a_program_whose_channels_do_not_fit(program: CoreMLModel) -> None:
    def widen(operation: Any, body: Any) -> None:
        operation.inputs["x"].arguments[0].name = "wide"

    model = edited(program, "conv", widen)
    function = model.spec.mlProgram.functions["main"]
    function.inputs[0].name = "wide"
    function.inputs[0].type.tensorType.dimensions[1].constant.size = 5
    model.spec.description.input[0].name = "wide"
    model.spec.description.input[0].type.multiArrayType.shape[1] = 5
    assert kinds(inspect(model))[0] == ("shape", "filtered")


def test_operations_that_are_newer_than_the_program(program: CoreMLModel) -> None:
    spec = type(program.spec)()
    spec.CopyFrom(program.spec)
    spec.specificationVersion = 6
    found = inspect(CoreMLModel(spec, name="net", folder=program.folder))
    assert kinds(found) == [("target", None)]
