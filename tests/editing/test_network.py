"""Edits of NeuralNetwork models: known repairs of real broken files, and every primitive on real and small networks."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import coreproof as cp
from coreproof.editing.edit import Edit, edit
from coreproof.editing.editor import Editor, NewLayer
from coreproof.editing.editors.layer_fields import _as_text_format
from coreproof.editing.editors.network import NetworkEditor
from coreproof.editing.open import open_editor
from coreproof.editing.verbs import description, layers
from coreproof.errors import CoreproofError, EditError
from coreproof.model.base import Model
from coreproof.model.coreml.model import CoreMLModel, package_spec
from coreproof.model.coreml.proto import Model_pb2
from coreproof.model.files.wire import records

Apply = Callable[[Editor, dict[str, Any]], None]


# the repairs that are known for real broken files


def bilinear_by_deconvolution(editor: Editor, op: dict[str, Any]) -> None:
    """Each pixel of the doubled picture as the source's half-pixel grid weighs it, in layers that the oldest systems have."""
    channels, layer = op["channels"], op["layer"]
    kernel = np.outer([0.25, 0.75, 0.75, 0.25], [0.25, 0.75, 0.75, 0.25]).astype(np.float32)
    (source,) = editor.node(layer).inputs
    edges = {"paddingAmounts": {"borderAmounts": [{"startEdgeSize": 1, "endEdgeSize": 1}] * 2}}
    crop = {"cropAmounts": {"borderAmounts": [{"startEdgeSize": 3, "endEdgeSize": 3}] * 2}}
    before = editor.graph.nodes[[n.name for n in editor.graph.nodes].index(layer) - 1].name
    editor.remove(layer)
    editor.add(NewLayer("padding", "p", [source], ["padded"], {"replication": True, **edges}), before)
    settings = {
        "outputChannels": channels, "kernelChannels": channels, "nGroups": channels, "isDeconvolution": True,
        "kernelSize": [4, 4], "stride": [2, 2], "valid": True, "weights": np.stack([kernel[None]] * channels),
    }  # fmt: skip
    editor.add(NewLayer("convolution", "d", ["padded"], ["doubled"], settings), "p")
    editor.add(NewLayer("crop", layer, ["doubled"], [layer], crop), "d")


OPERATIONS: dict[str, Apply] = {
    "delete_layer": lambda editor, op: editor.remove(op["layer"]),
    "set_inputs": lambda editor, op: editor.set_inputs(op["layer"], op["inputs"]),
    "set_field": lambda editor, op: editor.set(op["layer"], op["field"], op["value"]),
    "set_classifier": lambda editor, op: description.scores(editor, op["value"]),
    "truncate_class_labels": lambda editor, op: editor.interface.relabel(
        (editor.model.signature.labels or ())[: op["count"]]
    ),
    "replace_with_flatten": lambda editor, op: layers.replace(editor, op["layer"], "flatten", mode="CHANNEL_FIRST"),
    "replace_bilinear2x_by_deconv": bilinear_by_deconvolution,
}


def output_of(model: Model, case: dict[str, Any], folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """What the model gives for the case's input, flat, and what torch gave."""
    with np.load(folder / "data.npz") as data:
        feature = model.signature.inputs[0]
        if feature.image is not None:
            given: Any = Image.fromarray(data["image_u8_hwc_rgb"])
        else:
            given = data["x_nchw"].reshape(feature.shape)
        expected = data[case["data"]["expected_key"]].reshape(-1)
    with cp.session(model) as running:
        outputs = running.run({feature.name: given})
    found = outputs[model.signature.probabilities or model.signature.outputs[0].name]
    values = list(found.values()) if isinstance(found, dict) else found
    return np.asarray(values, np.float32).reshape(-1), expected


@pytest.mark.thorough
def test_the_known_repairs_give_what_torch_gave(shared_data: Path, tmp_path: Path) -> None:
    """Loaded, operated on, stored, loaded again, run."""
    repaired = 0
    for file in sorted(shared_data.glob("legacy/*/case.json")):
        case = json.loads(file.read_text())
        if case["repair"] is None:
            continue
        editor = open_editor(cp.load(file.parent / "broken.mlmodel"))
        for op in case["repair"]["ops"]:
            OPERATIONS[op["op"]](editor, op)
        model = cp.load(editor.close().save(tmp_path / f"{file.parent.name}.mlmodel"))
        found, expected = output_of(model, case, file.parent)
        error = np.abs(found - expected).max() / np.abs(expected).max()
        assert error < case["expected"]["tolerance_rel_max"], f"{file.parent.name}: {error}"
        repaired += 1
    assert repaired == 11


def test_the_broken_files_do_not_give_it(shared_data: Path) -> None:
    """The measure of the test above tells broken from repaired."""
    for file in sorted(shared_data.glob("legacy/*/case.json")):
        case = json.loads(file.read_text())
        if case["repair"] is None:
            continue
        try:
            found, expected = output_of(cp.load(file.parent / "broken.mlmodel"), case, file.parent)
        except CoreproofError:
            continue
        right = case["expected"]["tolerance_rel_max"]
        same = found.shape == expected.shape and np.abs(found - expected).max() / np.abs(expected).max() < right
        assert not same, file.parent.name


# every real network


def networks(folder: Path) -> list[Path]:
    files = [*sorted(folder.glob("coreml/*")), *sorted(folder.glob("legacy/*/*.mlmodel"))]
    return [f for f in files if cp.load(f).format == "neuralnetwork"]


def stored(path: Path) -> bytes:
    """The bytes of the model itself, of a file or a package."""
    return (package_spec(path) if path.is_dir() else path).read_bytes()


def there_and_back(model: Model) -> list[Edit]:
    """Edits of every kind, each followed by the one that undoes it."""
    graph = model.graph
    computed = [node for node in graph.nodes if node.inputs]
    name, middle = graph.inputs[0], computed[len(computed) // 2]
    return [
        Edit("rename", {"old": name, "new": "renamed input"}),
        Edit("rename", {"old": "renamed input", "new": name}),
        Edit("insert", {"operator": "activation", "name": "same", "after": middle.outputs[0], "linear": {"alpha": 1}}),
        Edit("delete", {"layer": "same"}),
    ]


@pytest.mark.thorough
def test_what_is_done_and_undone_leaves_the_file_as_it_was(shared_data: Path, tmp_path: Path) -> None:
    for file in networks(shared_data):
        model = cp.load(file)
        edited = edit(model, there_and_back(model), check=False).model
        saved = edited.save(tmp_path / file.name)
        assert stored(saved) == stored(file), file
        for item in file.rglob("*") if file.is_dir() else ():
            assert item.is_dir() or (saved / item.relative_to(file)).read_bytes() == item.read_bytes(), item


def layer_bytes(path: Path) -> list[bytes]:
    data = stored(path)
    spec = Model_pb2.Model.FromString(data)
    number = spec.DESCRIPTOR.fields_by_name[spec.WhichOneof("Type")].number
    network = next(r.payload for r in records(data) if r.number == number)
    return [r.payload for r in records(network) if r.number == 1]


def test_an_edit_leaves_the_rest_of_every_file(shared_data: Path, tmp_path: Path) -> None:
    for file in networks(shared_data):
        model = cp.load(file)
        place = len(model.graph.nodes) // 2
        step = Edit("rename", {"old": model.graph.nodes[place].name, "new": "another name"})
        if model.graph.nodes[place].name in model.graph.nodes[place].outputs:
            editor = open_editor(model)
            editor.rename_layer(model.graph.nodes[place].name, "another name")
            edited: Model = editor.close()
        else:
            edited = edit(model, [step], check=False).model
        before, after = layer_bytes(file), layer_bytes(edited.save(tmp_path / file.name))
        assert [i for i, (b, a) in enumerate(zip(before, after, strict=True)) if b != a] == [place], file
        spec = cp.load(tmp_path / file.name).spec  # type: ignore[attr-defined]
        getattr(spec, spec.WhichOneof("Type")).layers[place].name = model.graph.nodes[place].name
        assert spec == model.spec, file  # type: ignore[attr-defined]


# small networks


def network(*parts: dict[str, Any], kind: str = "neuralNetwork", version: int = 4) -> CoreMLModel:
    """Layers on an input x of [3, 4, 4]; the last one's output is the model's."""
    spec = Model_pb2.Model(specificationVersion=version)
    array = spec.description.input.add(name="x").type.multiArrayType
    array.shape.extend([3, 4, 4])
    array.dataType = 65568
    for part in parts:
        getattr(spec, kind).layers.add(**part)
    feature = spec.description.output.add(name=parts[-1]["output"][0])
    feature.type.multiArrayType.dataType = 65568
    return CoreMLModel(spec, name="small")


def conv(**more: Any) -> dict[str, Any]:
    weights = {"floatValue": np.arange(12, dtype=np.float32).tolist()}
    settings = {"outputChannels": 4, "kernelChannels": 3, "kernelSize": [1, 1], "valid": {}, "weights": weights, **more}
    return {"name": "conv", "input": ["x"], "output": ["c"], "convolution": settings}


def relu(**more: Any) -> dict[str, Any]:
    return {"name": "act", "input": ["c"], "output": ["y"], "activation": {"ReLU": {}}, **more}


def layer(model: Model, name: str) -> Any:
    found = [m for m in model.network.layers if m.name == name]  # type: ignore[attr-defined]
    assert len(found) == 1
    return found[0]


def with_set(attribute: str, value: Any, **more: Any) -> Any:
    """The convolution's settings after an edit; the model that was given stays as it was."""
    model = network(conv(**more), relu())
    before = model.spec.SerializeToString(deterministic=True)
    changed = edit(model, [Edit("set", {"layer": "conv", "attribute": attribute, "value": value})], check=False).model
    assert model.spec.SerializeToString(deterministic=True) == before
    return layer(changed, "conv").convolution


def test_attributes_are_set_as_the_graph_shows_them() -> None:
    amounts = [{"startEdgeSize": 1, "endEdgeSize": 2}, {"startEdgeSize": 3}]
    made = with_set("valid.paddingAmounts.borderAmounts", amounts)
    assert [(b.startEdgeSize, b.endEdgeSize) for b in made.valid.paddingAmounts.borderAmounts] == [(1, 2), (3, 0)]
    shown = network(conv(valid=made.valid), relu()).graph.nodes[0].attributes["valid.paddingAmounts.borderAmounts"]
    assert with_set("valid.paddingAmounts.borderAmounts", shown).valid == made.valid
    assert shown == ("{startEdgeSize=1 endEdgeSize=2}", "{startEdgeSize=3}")
    assert (
        with_set("valid.paddingAmounts.borderAmounts", ["startEdgeSize: 1 endEdgeSize: 2", "startEdgeSize: 3"]) == made
    )
    one = with_set("valid.paddingAmounts.borderAmounts[1].endEdgeSize", 7, valid=made.valid)
    assert [(b.startEdgeSize, b.endEdgeSize) for b in one.valid.paddingAmounts.borderAmounts] == [(1, 2), (3, 7)]
    assert list(with_set("stride", [2, 3]).stride) == [2, 3]
    assert list(with_set("stride", np.int64([2, 3])).stride) == [2, 3]
    assert with_set("nGroups", np.int32(3)).nGroups == 3
    assert with_set("isDeconvolution", True).isDeconvolution
    assert list(with_set("kernelSize", None).kernelSize) == []


@pytest.mark.parametrize(
    ("shown", "text"),
    [
        ("{a=1 b={c=2}}", "a:1 b:{c:2}"),
        (r'{s="x=\"y=z" n=1}', r's:"x=\"y=z" n:1'),
        ("a: 1", "a: 1"),
        ("{}", ""),
    ],
)
def test_a_message_as_it_is_shown_is_read_whole(shown: str, text: str) -> None:
    assert _as_text_format(shown) == text


def test_one_of_several_messages_is_chosen_by_its_name() -> None:
    assert with_set("same", True).WhichOneof("ConvolutionPaddingType") == "same"
    chosen = with_set("same", {"asymmetryMode": "TOP_LEFT_HEAVY"})
    assert chosen.WhichOneof("ConvolutionPaddingType") == "same"
    assert chosen.same.asymmetryMode == 1
    assert with_set("same.asymmetryMode", 1).same.asymmetryMode == 1


@pytest.mark.parametrize(
    ("attribute", "value", "said"),
    [
        ("kernel", [3, 3], "kernelSize"),
        ("valid.padding", 1, "paddingAmounts"),
        ("nGroups", -1, "0 or more"),
        ("nGroups", 1.5, "whole number"),
        ("isDeconvolution", "yes", "true or false"),
        ("same.asymmetryMode", "LEFT", "BOTTOM_RIGHT_HEAVY, TOP_LEFT_HEAVY"),
        ("valid.paddingAmounts.borderAmounts[2].startEdgeSize", 1, "is a list"),
        ("stride[5]", 1, "no item 5"),
        ("weights", "many", "array of numbers"),
        ("weights", np.zeros((3, 4), np.float32), "laid out differently"),
        ("same", 3, "asymmetryMode"),
    ],
)
def test_what_does_not_fit_is_refused_and_changes_nothing(attribute: str, value: Any, said: str) -> None:
    editor = NetworkEditor(network(conv(), relu()))
    before = editor.model.spec.SerializeToString(deterministic=True)
    with pytest.raises(EditError, match=said.replace("[", r"\[")):
        editor.set("conv", attribute, value)
    assert editor.model.spec.SerializeToString(deterministic=True) == before


def test_weights_keep_how_they_were_stored() -> None:
    new = np.linspace(-1, 1, 12, dtype=np.float32).reshape(4, 3, 1, 1)
    as_floats = with_set("weights", new).weights
    np.testing.assert_array_equal(np.float32(as_floats.floatValue), new.reshape(-1))
    half = {"float16Value": np.arange(12, dtype=np.float16).tobytes()}
    stored_half = with_set("weights", new, weights=half).weights
    assert stored_half.float16Value == new.astype(np.float16).tobytes()
    assert not stored_half.floatValue
    too_large = with_set("weights", new * 1e6, weights=half).weights
    assert not too_large.float16Value
    np.testing.assert_array_equal(np.float32(too_large.floatValue), (new * 1e6).reshape(-1))
    table = {"numberOfBits": 8, "linearQuantization": {"scale": [1.0], "bias": [0.0]}}
    quantised = {"rawValue": bytes(range(12)), "quantization": table, "isUpdatable": True}
    replaced = with_set("weights", new, weights=quantised).weights
    assert not replaced.rawValue
    assert not replaced.HasField("quantization")
    assert replaced.isUpdatable
    np.testing.assert_array_equal(np.float32(replaced.floatValue), new.reshape(-1))


def test_a_bias_is_switched_on_and_off_with_its_numbers() -> None:
    given = with_set("bias", np.float32([1, 2, 3, 4]))
    assert given.hasBias
    assert list(given.bias.floatValue) == [1, 2, 3, 4]
    taken = with_set("bias", None, hasBias=True, bias={"floatValue": [1, 2, 3, 4]})
    assert not taken.hasBias
    assert not taken.HasField("bias")


def test_ranks_that_edited_layers_noted_are_forgotten() -> None:
    rank = {"inputTensor": [{"rank": 3}], "outputTensor": [{"rank": 3}]}
    model = network({**conv(), **rank}, relu(**rank))
    changed = edit(model, [Edit("set", {"layer": "conv", "attribute": "nGroups", "value": 1})], check=False).model
    assert not layer(changed, "conv").outputTensor
    assert layer(changed, "conv").inputTensor
    assert layer(changed, "act").outputTensor


def branching() -> CoreMLModel:
    """x is read inside a branch and inside a loop's condition; the loop's variable is made inside."""
    inner = {"layers": [{"name": "inside", "input": ["x"], "output": ["v"], "activation": {"ReLU": {}}}]}
    condition = {"layers": [{"name": "is", "input": ["v", "x"], "output": ["go"], "lessThan": {}}]}
    branch = {"name": "branch", "input": ["x"], "branch": {"ifBranch": inner, "elseBranch": inner}}
    loop = {
        "name": "loop",
        "input": ["x"],
        "loop": {"conditionVar": "go", "conditionNetwork": condition, "bodyNetwork": inner},
    }
    last = {"name": "last", "input": ["v"], "output": ["y"], "activation": {"ReLU": {}}}
    return network(branch, loop, last)


@pytest.mark.parametrize("name", ["x", "v", "go", "y"])
def test_a_value_is_renamed_wherever_it_is_named(name: str) -> None:
    model = branching()
    editor = NetworkEditor(model)
    editor.rename_value(name, "another")
    text, before = str(editor.close().spec), str(model.spec)
    assert f'"{name}"' not in text
    assert text == before.replace(f'"{name}"', '"another"')


def test_where_a_value_came_from_is_known_after_a_rename() -> None:
    model = network(conv(), relu())
    model.provenance = {"c": "Conv_0", "y": "Relu_1"}
    edited = edit(model, [Edit("rename", {"old": "c", "new": "features"})]).model
    assert edited.provenance == {"features": "Conv_0", "y": "Relu_1"}  # type: ignore[attr-defined]
    assert model.provenance == {"c": "Conv_0", "y": "Relu_1"}


def test_a_layer_inside_a_branch_is_renamed() -> None:
    editor = NetworkEditor(branching())
    editor.rename_layer("inside", "within")
    assert '"inside"' not in str(editor.close().spec)


def test_preprocessing_and_classifier_follow_a_rename() -> None:
    model = network(conv(), relu(), kind="neuralNetworkClassifier")
    spec = model.spec
    spec.neuralNetworkClassifier.preprocessing.add(featureName="x").scaler.channelScale = 2
    spec.neuralNetworkClassifier.labelProbabilityLayerName = "y"
    spec.neuralNetworkClassifier.updateParams.lossLayers.add().categoricalCrossEntropyLossLayer.input = "y"
    spec.description.output.add(name="label").type.stringType.SetInParent()
    spec.description.predictedFeatureName = "label"
    spec.description.predictedProbabilitiesName = "y"
    names = [("x", "image"), ("y", "scores"), ("label", "class")]
    edited = edit(model, [Edit("rename", {"old": a, "new": b}) for a, b in names], check=False).model
    assert isinstance(edited, CoreMLModel)
    made, description = edited.network, edited.spec.description
    assert [made.preprocessing[0].featureName, made.layers[0].input[0], description.input[0].name] == ["image"] * 3
    assert made.labelProbabilityLayerName == "scores"
    assert made.updateParams.lossLayers[0].categoricalCrossEntropyLossLayer.input == "scores"
    assert description.predictedProbabilitiesName == "scores"
    assert [description.predictedFeatureName, description.output[1].name] == ["class"] * 2


def test_names_that_are_taken_are_refused() -> None:
    editor = NetworkEditor(network(conv(), relu()))
    for old, new in (("x", "c"), ("c", "y")):
        with pytest.raises(EditError, match="taken"):
            editor.rename_value(old, new)
    with pytest.raises(EditError, match="already"):
        editor.rename_layer("conv", "act")
    with pytest.raises(EditError, match="no value"):
        editor.rename_value("nothing", "anything")


def test_an_output_is_declared_with_the_shape_that_it_has() -> None:
    editor = NetworkEditor(network(conv(), relu()))
    editor.interface.set_output("c")
    editor.add(
        NewLayer("pooling", "mean", ["y"], ["m"], {"type": "AVERAGE", "globalPooling": True, "valid": True}), "act"
    )
    editor.interface.set_output("m", instead_of="y")
    features = {f.name: f for f in editor.close().signature.outputs}
    assert list(features) == ["m", "c"]
    assert features["c"].shape == (4, 4, 4)
    assert features["m"].shape == (4,)
    assert features["m"].dtype == "float32"
    with pytest.raises(EditError, match="no output"):
        editor.interface.set_output("c", instead_of="nothing")


def test_inputs_are_declared_and_outputs_taken_away() -> None:
    editor = NetworkEditor(network(conv(), relu()))
    editor.interface.set_input("z", [3, 8, 8], "float16")
    assert editor.model.signature.input("z").dtype == "float16"
    assert editor.model.spec.specificationVersion == 7
    editor.interface.set_input("z", [3], "int32")
    assert (editor.model.signature.input("z").shape, editor.model.signature.input("z").dtype) == ((3,), "int32")
    with pytest.raises(EditError, match="cannot read"):
        editor.interface.set_input("z", [1, 3, 8, 8], "float32")
    with pytest.raises(EditError, match="only output"):
        editor.interface.drop_output("y")


def test_an_unknown_layer_type_is_answered_with_near_ones() -> None:
    editor = NetworkEditor(network(conv(), relu()))
    with pytest.raises(EditError, match="innerProduct"):
        editor.add(NewLayer("innerproduct", "fc", ["y"], ["z"], {}), None)


def test_the_weights_are_those_that_the_layer_has() -> None:
    weights = NetworkEditor(network(conv(), relu())).weights("conv")
    np.testing.assert_array_equal(weights["weights"], np.arange(12, dtype=np.float32).reshape(4, 3, 1, 1))
