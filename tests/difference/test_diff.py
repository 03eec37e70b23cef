"""Two versions of a model: what is said to differ is what was changed, and nothing else."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest

import coreproof as cp
from coreproof.difference.diff import Difference, diff
from coreproof.errors import InputError
from coreproof.model.base import Model
from coreproof.model.coreml.model import CoreMLModel
from coreproof.model.load import load
from coreproof.model.onnx.model import OnnxModel

WIDTH = 6


def chain(operators: str = "cr cr cr", prefix: str = "layer", seed: int = 0) -> OnnxModel:
    """x -> a convolution for every "c", a Relu for "r", a Sigmoid for "s" ... -> y; layers are numbered as they come."""
    rng = np.random.default_rng(seed)
    value = ir.Value(name="x", type=ir.TensorType(ir.DataType.FLOAT), shape=ir.Shape([1, WIDTH, 8, 8]))
    graph_input, nodes, initializers = value, [], []
    kinds = {"c": "Conv", "r": "Relu", "s": "Sigmoid", "t": "Tanh"}
    for index, letter in enumerate(operators.replace(" ", "")):
        read = [value]
        if letter == "c":
            tensor = ir.Tensor(rng.normal(size=(WIDTH, WIDTH, 1, 1)).astype(np.float32), name=f"w{index}")
            weight = ir.Value(
                name=f"w{index}", const_value=tensor, type=ir.TensorType(tensor.dtype), shape=tensor.shape
            )
            initializers.append(weight)
            read.append(weight)
        value = ir.Value(name=f"v{index}", type=ir.TensorType(ir.DataType.FLOAT), shape=ir.Shape([1, WIDTH, 8, 8]))
        nodes.append(ir.Node("", kinds[letter], read, outputs=[value], name=f"{prefix}{index}"))
    graph = ir.Graph([graph_input], [value], nodes=nodes, initializers=initializers, opset_imports={"": 17}, name="g")
    return OnnxModel(ir.Model(graph, ir_version=9), name="chain")


@pytest.mark.thorough
def test_a_model_does_not_differ_from_itself(shared_data: Path) -> None:
    paths = [*(shared_data / "coreml").iterdir(), *(shared_data / "onnx").glob("*.onnx")]
    assert paths
    for path in sorted(paths):
        difference = diff(path, path)
        assert not difference, path.name
        assert difference.same


def test_the_verb_is_public() -> None:
    assert not cp.diff(chain(), chain())


def test_a_layer_that_is_one_more_renumbers_the_others() -> None:
    """The names of all layers behind it name others: they are renamed, not changed."""
    difference = diff(chain("cr cr cr"), chain("cr s cr cr"))
    # the seeds of the weights are drawn in order, so that all convolutions are the same
    assert [(n.name, n.operator) for n in difference.added] == [("layer2", "Sigmoid")]
    assert difference.removed == ()
    assert all(c.only_renamed for c in difference.changed if not c.rewired)
    assert [(c.before, c.rewired) for c in difference.changed if c.rewired] == [("layer2", (("v1", "v2"),))]
    assert difference.unchanged == 2


def test_a_layer_taken_out() -> None:
    difference = diff(chain("cr s cr"), chain("cr cr"))
    assert [n.operator for n in difference.removed] == ["Sigmoid"]
    assert difference.added == ()


def test_another_operation_in_the_place_of_a_layer() -> None:
    difference = diff(chain("cr cr cr"), chain("cr cs cr"))
    assert (difference.added, difference.removed) == ((), ())
    (change,) = difference.changed
    assert change.operators == ("Relu", "Sigmoid")
    assert change.before == change.after == "layer3"


def test_weights_that_two_layers_exchanged_are_changed_weights() -> None:
    before, after = chain("cr cr cr"), chain("cr cr cr")
    held = after.ir.graph.initializers
    held["w0"].const_value, held["w4"].const_value = held["w4"].const_value, held["w0"].const_value
    difference = diff(before, after)
    assert [c.before for c in difference.changed] == ["layer0", "layer4"]
    assert all(c.weights and not c.rewired and not c.renamed for c in difference.changed)


def test_retrained_under_other_names_is_renamed_and_changed_not_another_model() -> None:
    difference = diff(chain("cr cr cr"), chain("cr cr cr", prefix="node", seed=5))
    assert (difference.added, difference.removed, difference.unchanged) == ((), (), 0)
    assert [len(c.weights) for c in difference.changed] == [1, 0, 1, 0, 1, 0]


def test_attributes_before_and_after() -> None:
    after = chain("cr cr")
    after.ir.graph.node("layer2").attributes["pads"] = ir.AttrInt64s("pads", [1, 1, 1, 1])
    (change,) = diff(chain("cr cr"), after).changed
    assert [(s.name, s.before, s.after) for s in change.settings] == [("pads", None, (1, 1, 1, 1))]


def test_a_value_with_another_name_is_not_rewired() -> None:
    after = chain("cr cr")
    after.ir.graph.node("layer1").outputs[0].name = "another"
    assert not diff(chain("cr cr"), after).changed


@pytest.mark.parametrize(
    ("case", "changed", "removed", "added"),
    [
        ("vggthin_b10_torch110_oc040", ["38"], [], []),
        ("catvec_b4_torch110_oc040", ["25"], ["15", "24"], []),
        ("dynreshape_torch110_oc10_ios13", ["19"], ["17"], []),
        ("padconst_torch110_oc13_ios13", ["5", "8"], [], []),
        ("upbilinear_torch101_oc040", ["8"], [], ["8_edge_pad"]),
    ],
)
def test_a_repair_is_what_differs(
    shared_data: Path, case: str, changed: list[str], removed: list[str], added: list[str]
) -> None:
    folder = shared_data / "legacy" / case
    difference = diff(folder / "broken.mlmodel", folder / "repaired.mlmodel")
    assert [c.after for c in difference.changed] == changed
    assert [n.name for n in difference.removed] == removed
    assert [n.name for n in difference.added] == added


def around(difference: Difference, section: str) -> list[tuple[str, str | None, str | None, str]]:
    return [(c.what, c.before, c.after, c.words) for c in difference.around if c.section == section]


@pytest.fixture
def classifier(shared_data: Path) -> CoreMLModel:
    model = load(shared_data / "legacy" / "twohead_cls_torch110_oc040" / "broken.mlmodel")
    assert isinstance(model, CoreMLModel)
    return model


def changed_copy(model: CoreMLModel) -> CoreMLModel:
    return CoreMLModel(copy.deepcopy(model.spec), name="changed")


def test_labels_that_moved_say_how(classifier: CoreMLModel) -> None:
    labels = list(classifier.signature.labels or ())
    for wrong, words in (
        ([*labels[1:], labels[0]], "shifted by -1, round the end"),
        ([labels[-1], *labels[:-1]], "shifted by +1, round the end"),
        (labels[::-1], "reversed"),
        (["background", *labels], "1 added in front (background): every other one is shifted by 1"),
        (labels[:-1], f"1 removed at the end ({labels[-1]})"),
        (["background", *labels[:-1]], f"shifted by +1: without {labels[-1]}, with background"),
        ([str(label).upper() + "_" for label in labels], f"{len(labels)} spelt differently"),
    ):
        after = changed_copy(classifier)
        held = after.network.stringClassLabels.vector
        del held[:]
        held.extend(map(str, wrong))
        ((_, _, _, said),) = around(diff(classifier, after), "labels")
        assert said == words


def test_preprocessing_features_and_metadata(classifier: CoreMLModel) -> None:
    after = changed_copy(classifier)
    image = after.spec.description.input[0]
    (scaler,) = (p.scaler for p in after.network.preprocessing)
    before = f"{scaler.channelScale:.9g}"
    scaler.channelScale = 1 / 255
    image.type.imageType.colorSpace = 30
    assert image.type.imageType.ColorSpace.Name(30) == "BGR"
    after.spec.description.metadata.author = "somebody"
    after.spec.specificationVersion += 1
    difference = diff(classifier, after)
    assert [c[:3] for c in around(difference, "preprocessing")] == [
        (f"preprocessing[{image.name}].scaler.channelScale", before, "0.00392156886")
    ]
    assert [c[3] for c in around(difference, "features")] == ["channel order"]
    assert around(difference, "metadata") == [("author", None, "somebody", "")]
    assert [c[0] for c in around(difference, "format")] == ["specification version"]
    assert difference.changed == ()


def test_a_conversion_has_the_weights_of_its_source_and_its_layers_are_not_compared(shared_data: Path) -> None:
    folder = shared_data / "legacy" / "ok_resnet18thin_torch110_oc040"
    difference = diff(folder / "model.onnx", folder / "model.mlmodel")
    assert not difference.same_format
    assert (difference.changed, difference.added, difference.removed) == ((), (), ())
    assert difference.lost == difference.gained == ()
    assert {w.words for w in difference.found} == {"equal"}


def test_a_weight_that_only_one_format_holds(shared_data: Path) -> None:
    folder = shared_data / "legacy" / "ok_resnet18thin_torch110_oc040"
    model = load(folder / "model.mlmodel")
    assert isinstance(model, CoreMLModel)
    first = model.network.layers[0]
    spoilt = np.random.default_rng(0).normal(size=len(first.convolution.weights.floatValue))
    first.convolution.weights.floatValue[:] = spoilt.tolist()
    difference = diff(folder / "model.onnx", model)
    assert [name.rsplit("/", 1)[-1] for name in difference.lost] == ["conv1.weight"]
    assert list(difference.gained) == [f"{first.name}/weights"]


def test_trees_and_a_network_have_nothing_to_compare(shared_data: Path) -> None:
    with pytest.raises(InputError, match="nothing that could be compared"):
        diff(shared_data / "coreml" / "likedan_PlotCVPredict.mlmodel", chain())


def test_json_holds_everything() -> None:
    document = diff(chain("cr cr"), chain("cr cs")).to_json()
    assert document["same"] is False
    assert document["changed"][0]["operators"] == ["Relu", "Sigmoid"]


def test_json_knows_no_infinity() -> None:
    after = chain("cr cr")
    weight = after.ir.graph.initializers["w0"]
    weight.const_value = ir.Tensor(np.full((WIDTH, WIDTH, 1, 1), np.nan, np.float32), name="w0")
    document = diff(chain("cr cr"), after).to_json()
    assert json.loads(json.dumps(document, allow_nan=False))["changed"][0]["weights"][0]["relative_rms"] == "infinity"


@pytest.mark.thorough
def test_one_number_changed_anywhere_is_what_differs(shared_data: Path) -> None:
    """In every published network and ONNX model: the first number of one weight, picked by seed."""
    rng = np.random.default_rng(0)
    paths = [*(shared_data / "coreml").glob("*.mlmodel"), *(shared_data / "onnx").glob("*.onnx")]
    tried = 0
    for path in sorted(paths):
        model = load(path)
        if isinstance(model, OnnxModel):
            held = [v for v in model.ir.graph.initializers.values() if v.const_value is not None and v.uses()]
            floats = [v for v in held if v.const_value is not None and v.const_value.dtype.is_floating_point()]
            if not floats:
                continue
            value = floats[rng.integers(len(floats))]
            assert value.const_value is not None
            readers = {use.node.name or f"{use.node.op_type}:{use.node.outputs[0].name}" for use in value.uses()}
            numbers = value.const_value.numpy().copy()
            numbers.flat[0] += 1
            value.const_value = ir.Tensor(numbers, name=value.name)
        elif isinstance(model, CoreMLModel) and model.format == "neuralnetwork":
            layers = [m for m in model.network.layers if m.WhichOneof("layer") in ("convolution", "innerProduct")]
            if not layers:
                continue
            layer = layers[rng.integers(len(layers))]
            weights = getattr(layer, layer.WhichOneof("layer")).weights
            if weights.floatValue:
                weights.floatValue[0] += 1
            elif weights.float16Value:
                weights.float16Value = np.float16(7).tobytes() + weights.float16Value[2:]
            else:
                weights.rawValue = bytes([weights.rawValue[0] ^ 0x81]) + weights.rawValue[1:]
            readers = {layer.name}
        else:
            continue
        difference = diff(path, model)
        assert {c.after for c in difference.changed} == readers, path.name
        assert (difference.added, difference.removed, difference.around) == ((), (), ()), path.name
        tried += 1
    assert tried >= 12


def test_a_constant_whose_value_has_an_unknown_name_is_no_weight() -> None:
    def made(attribute: str) -> Model:
        nodes = [
            onnx.helper.make_node("Constant", [], ["k"], "constant", **{attribute: 2.0}),
            onnx.helper.make_node("Mul", ["x", "k"], ["y"], "mul"),
        ]
        ends = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [2]) for name in ("x", "y")]
        return cp.load(onnx.helper.make_model(onnx.helper.make_graph(nodes, "g", ends[:1], ends[1:])))

    found = cp.diff(made("value_float"), made("value_flaot"))
    assert [change.before for change in found.changed] == ["mul"]
