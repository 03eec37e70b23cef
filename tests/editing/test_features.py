"""retype, reshape and relabel on NeuralNetwork models: what a feature becomes, judged by running the model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import coreproof as cp
from coreproof.editing.edit import Edit, edit
from coreproof.errors import EditError
from coreproof.model.base import Model
from coreproof.model.coreml.model import CoreMLModel
from coreproof.model.coreml.proto import Model_pb2

RNG = np.random.default_rng(5)
PICTURE = RNG.integers(0, 256, (6, 5, 3), dtype=np.uint8)
KERNEL = RNG.normal(size=(2, 3)).astype(np.float32)


def net(shape: tuple[int, ...] = (3, 6, 5), *, exact: bool = False, classifier: bool = False) -> CoreMLModel:
    """A 1x1 convolution of two channels, and their mean over the picture: x -> c -> y."""
    spec = Model_pb2.Model(specificationVersion=4 if exact else 1)
    kind = "neuralNetworkClassifier" if classifier else "neuralNetwork"
    network = getattr(spec, kind)
    network.arrayInputShapeMapping = int(exact)
    array = spec.description.input.add(name="x").type.multiArrayType
    array.shape.extend(shape)
    array.dataType = 65568
    settings = {"outputChannels": 2, "kernelChannels": 3, "kernelSize": [1, 1], "valid": {}}
    weights = {"floatValue": KERNEL.reshape(-1).tolist()}
    network.layers.add(name="conv", input=["x"], output=["c"], convolution={**settings, "weights": weights})
    network.layers.add(
        name="mean", input=["c"], output=["y"], pooling={"type": "AVERAGE", "globalPooling": True, "valid": {}}
    )
    if classifier:
        network.stringClassLabels.vector.extend(["cat", "dog"])
        network.labelProbabilityLayerName = "y"
        spec.description.output.add(name="label").type.stringType.SetInParent()
        spec.description.output.add(name="scores").type.dictionaryType.stringKeyType.SetInParent()
        spec.description.predictedFeatureName = "label"
        spec.description.predictedProbabilitiesName = "scores"
    for name, shape in () if classifier else (("c", (2, 6, 5)), ("y", (2,))):
        made = spec.description.output.add(name=name).type.multiArrayType
        made.dataType = 65568
        if not exact:
            made.shape.extend(shape)
    return CoreMLModel(spec, name="net")


def operate(model: Model, verb: str, **arguments: Any) -> CoreMLModel:
    made = edit(model, [Edit(verb, arguments)]).model
    assert isinstance(made, CoreMLModel)
    return made


def run(model: Model, given: Any) -> dict[str, Any]:
    with cp.session(model) as running:
        return dict(running.run({"x": given}))


def means(tensor: np.ndarray) -> np.ndarray:
    """What the network makes of [3, H, W]."""
    return KERNEL @ tensor.reshape(3, -1).mean(axis=1)


CHANNELS = PICTURE.transpose(2, 0, 1).astype(np.float32)


def check(model: Model, given: Any, expected: np.ndarray) -> None:
    np.testing.assert_allclose(np.asarray(run(model, given)["y"]).reshape(-1), means(expected), rtol=2e-5, atol=1e-3)


@pytest.mark.parametrize("exact", [False, True])
def test_an_array_becomes_a_picture_with_its_numbers(exact: bool) -> None:
    model = net((1, 3, 6, 5) if exact else (3, 6, 5), exact=exact)
    bias = [-10.0, 20.0, 3.0]
    wanted = {"RGB": CHANNELS, "BGR": CHANNELS[::-1]}
    for colour, channels in wanted.items():
        made = operate(model, "retype", feature="x", kind="image", colour=colour, scale=0.5, bias=bias)
        assert str(made.signature.inputs[0]) == f"x: {colour} image 5x6"
        check(made, Image.fromarray(PICTURE), channels * 0.5 + np.float32(bias).reshape(3, 1, 1))
    plain = operate(model, "retype", feature="x", kind="image")
    check(plain, Image.fromarray(PICTURE), CHANNELS)


@pytest.mark.parametrize("exact", [False, True])
def test_a_picture_becomes_the_array_that_the_network_saw(exact: bool) -> None:
    """There and back: the numbers are then those behind the preprocessing, which goes."""
    model = net((1, 3, 6, 5) if exact else (3, 6, 5), exact=exact)
    made = operate(model, "retype", feature="x", kind="image", scale=0.5, bias=-10)
    back = operate(made, "retype", feature="x", kind="tensor")
    assert not back.network.preprocessing
    assert back.signature.inputs[0].shape == model.signature.inputs[0].shape
    given = CHANNELS.reshape(tuple(int(n) for n in back.signature.inputs[0].shape or ()))  # type: ignore[arg-type]
    np.testing.assert_array_equal(run(back, given)["y"], run(model, given)["y"])


def test_another_colour_leaves_each_channel_its_numbers() -> None:
    bias = np.float32([-10.0, 20.0, 3.0])
    made = operate(net(), "retype", feature="x", kind="image", colour="RGB", scale=2, bias=bias.tolist())
    check(made, Image.fromarray(PICTURE), CHANNELS * 2 + bias.reshape(3, 1, 1))
    turned = operate(made, "retype", feature="x", colour="BGR")
    check(turned, Image.fromarray(PICTURE), CHANNELS[::-1] * 2 + bias.reshape(3, 1, 1))
    again = operate(turned, "retype", feature="x", colour="RGB")
    assert again.spec == made.spec


def test_what_is_not_said_about_preprocessing_stays() -> None:
    made = operate(net(), "retype", feature="x", kind="image", scale=2, bias=[1, 2, 3])
    scaled = operate(made, "retype", feature="x", scale=4)
    check(scaled, Image.fromarray(PICTURE), CHANNELS * 4 + np.float32([1, 2, 3]).reshape(3, 1, 1))
    moved = operate(made, "retype", feature="x", bias=5)
    check(moved, Image.fromarray(PICTURE), CHANNELS * 2 + 5)
    assert len(moved.network.preprocessing) == 1


def test_an_output_becomes_a_picture_where_it_has_the_shape_of_one() -> None:
    steps = [Edit("set", {"layer": "conv", "attribute": a, "value": v}) for a, v in THREE_CHANNELS]
    model = edit(net(), [*steps, Edit("declare", {"output": "c"})], check=False).model
    made = operate(model, "retype", feature="c", kind="image")
    assert str(made.signature.output("c")) == "c: RGB image 5x6"
    picture = run(made, CHANNELS)["c"]
    np.testing.assert_array_equal(np.asarray(picture.convert("RGB")), PICTURE)
    back = operate(made, "retype", feature="c", kind="tensor")
    assert back.signature.output("c") == model.signature.output("c")


THREE_CHANNELS = (("outputChannels", 3), ("weights", np.eye(3, dtype=np.float32)))


def test_half_precision_inputs_and_outputs() -> None:
    made = operate(operate(net(), "retype", feature="x", dtype="float16"), "retype", feature="y", dtype="float16")
    assert made.spec.specificationVersion == 7
    assert (made.signature.input("x").dtype, made.signature.output("y").dtype) == ("float16", "float16")
    given = (CHANNELS / 255).astype(np.float16)
    found = run(made, given)["y"]
    assert found.dtype == np.float16
    np.testing.assert_allclose(found.reshape(-1), means(given.astype(np.float32)), atol=2e-3)
    back = operate(operate(made, "retype", feature="x", dtype="float32"), "retype", feature="y", dtype="float32")
    assert back.signature == net().signature


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"feature": "z", "kind": "image"}, "no feature 'z'"),
        ({"feature": "x"}, "does not say"),
        ({"feature": "x", "kind": "picture"}, "image or tensor"),
        ({"feature": "x", "kind": "image", "colour": "CMYK"}, "colour layout"),
        ({"feature": "x", "kind": "image", "colour": "GRAY"}, "3 channels"),
        ({"feature": "x", "kind": "image", "bias": [1, 2]}, "one bias for each channel"),
        ({"feature": "x", "scale": 2.0}, "belong to pictures"),
        ({"feature": "x", "dtype": "float8"}, "cannot be float8"),
        ({"feature": "y", "kind": "image"}, "shape of one picture"),
    ],
)
def test_what_cannot_be_is_refused(arguments: dict[str, Any], said: str) -> None:
    with pytest.raises(EditError, match=said):
        operate(net(), "retype", **arguments)


def test_a_refused_change_leaves_nothing_behind() -> None:
    from coreproof.editing.interface import Retyped
    from coreproof.editing.open import open_editor

    editor = open_editor(net())
    before = editor.model.spec.SerializeToString(deterministic=True)  # type: ignore[attr-defined]
    with pytest.raises(EditError):
        editor.interface.retype("x", Retyped("image", scale=2.0, bias=[1, 2]))
    assert editor.model.spec.SerializeToString(deterministic=True) == before  # type: ignore[attr-defined]


def test_a_batch_or_another_size_and_the_outputs_follow() -> None:
    made = operate(net(), "reshape", feature="x", shape=[3, 8, 4])
    assert made.signature.input("x").shape == (3, 8, 4)
    assert made.signature.output("c").shape == (2, 8, 4)
    assert made.signature.output("y").shape == (2,)
    given = RNG.normal(size=(3, 8, 4)).astype(np.float32)
    assert np.asarray(run(made, given)["c"]).shape == (2, 8, 4)


def test_several_sizes() -> None:
    made = operate(net(), "reshape", feature="x", enumerated=[[3, 6, 5], [3, 8, 4]])
    assert made.spec.specificationVersion == 3
    assert made.signature.input("x").enumerated == ((3, 6, 5), (3, 8, 4))
    for shape in ((3, 6, 5), (3, 8, 4)):
        given = RNG.normal(size=shape).astype(np.float32)
        np.testing.assert_allclose(np.reshape(run(made, given)["y"], -1), means(given), atol=1e-5)
    fixed = operate(made, "reshape", feature="x", shape=[3, 6, 5])
    assert str(fixed.signature.input("x")) == "x: float32[3x6x5]"


def test_ranges_of_a_picture() -> None:
    picture = operate(net(), "retype", feature="x", kind="image", scale=2)
    made = operate(picture, "reshape", feature="x", ranges=[[4, 16], [5, -1]])
    assert [str(r) for r in made.signature.input("x").ranges] == ["4..16", "5.."]
    large = RNG.integers(0, 256, (9, 12, 3), dtype=np.uint8)
    with cp.session(made) as running:
        found = running.run({"x": large.transpose(2, 0, 1)[None].astype(np.float32)})["y"]
    expected = means(large.transpose(2, 0, 1).astype(np.float32) * 2)
    np.testing.assert_allclose(np.reshape(found, -1), expected, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({}, "does not say"),
        ({"shape": [1, 3, 6, 5]}, "cannot read|do not go together"),
        ({"shape": [3, 0, 5]}, "do not go together"),
        ({"enumerated": [[3, 6, 5], [3, 6]]}, "do not go together"),
        ({"ranges": [[3, 3], [9, 6], [5, 5]]}, "lowest and its highest"),
        ({"enumerated": [[3, 6, 5]], "ranges": [[3, 3], [6, 9], [5, 5]]}, "not both"),
        ({"ranges": [[3, 3], [6, 9]]}, "do not go together"),
        ({"shape": [4, 6, 5]}, "would not run"),
    ],
)
def test_impossible_shapes_are_refused(arguments: dict[str, Any], said: str) -> None:
    with pytest.raises(EditError, match=said):
        operate(net(), "reshape", feature="x", **arguments)


def test_outputs_are_not_reshaped() -> None:
    with pytest.raises(EditError, match="is an output"):
        operate(net(), "reshape", feature="y", shape=[3])


def test_labels_from_a_list_and_from_files(tmp_path: Path) -> None:
    model = net(classifier=True)
    lines, as_json = tmp_path / "labels.txt", tmp_path / "labels.json"
    lines.write_text("tench\nelectric ray\n\n")
    as_json.write_text(json.dumps(["tench", "electric ray"]))
    for labels in (["tench", "electric ray"], str(lines), str(as_json)):
        made = operate(model, "relabel", labels=labels)
        assert made.signature.labels == ("tench", "electric ray")
        assert list(run(made, CHANNELS)["scores"]) == ["tench", "electric ray"]
    assert operate(made, "relabel", labels=["cat", "dog"]).spec == model.spec


def test_whole_numbers_stay_numbers() -> None:
    model = net(classifier=True)
    spec = model.spec
    spec.neuralNetworkClassifier.int64ClassLabels.vector.extend([3, 4])
    spec.description.output[0].type.int64Type.SetInParent()
    spec.description.output[1].type.dictionaryType.int64KeyType.SetInParent()
    assert operate(model, "relabel", labels=[7, 8]).signature.labels == (7, 8)
    named = operate(model, "relabel", labels=["a", "b"])
    assert named.signature.labels == ("a", "b")
    assert named.spec.description.output[0].type.WhichOneof("Type") == "stringType"
    assert named.spec.description.output[1].type.dictionaryType.WhichOneof("KeyType") == "stringKeyType"


def test_labels_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    with pytest.raises(EditError, match="2 labels, one a score") as caught:
        operate(net(classifier=True), "relabel", labels=["a", "b", "c"])
    assert "3 labels" in str(caught.value)
    with pytest.raises(EditError, match="no labels"):
        operate(net(), "relabel", labels=["a", "b"])
    with pytest.raises(EditError, match="cannot be read"):
        operate(net(classifier=True), "relabel", labels=str(tmp_path / "absent.txt"))


def test_a_real_classifier_sees_the_same_as_picture_and_as_array(shared_data: Path, tmp_path: Path) -> None:
    model = cp.load(shared_data / "coreml" / "Apple_SqueezeNetInt8LUT.mlmodel")
    photo = next(iter(sorted((shared_data / "photos").glob("0207*.jpg"))), None) or next(
        (shared_data / "photos").glob("*.jpg")
    )
    with Image.open(photo) as opened:
        picture = opened.convert("RGB").resize((227, 227))
    with cp.session(model) as running:
        first = running.run({"image": picture})["classLabelProbs"]
    (step,) = [s for s in model.network.preprocessing if s.WhichOneof("preprocessor") == "scaler"]  # type: ignore[attr-defined]
    tensor = np.asarray(picture, np.float32)[..., ::-1].transpose(2, 0, 1)
    bias = np.float32([step.scaler.blueBias, step.scaler.greenBias, step.scaler.redBias]).reshape(3, 1, 1)
    made = cp.load(operate(model, "retype", feature="image", kind="tensor").save(tmp_path / "array.mlmodel"))
    with cp.session(made) as running:
        second = running.run({"image": tensor * step.scaler.channelScale + bias})["classLabelProbs"]
    np.testing.assert_allclose(list(second.values()), list(first.values()), atol=1e-6)
    assert list(second) == list(first)
