"""The features of ML Programs retyped, reshaped and relabelled: what comes out against numpy and against the model before."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

import coreproof
from coreproof.conversion.onnx_to_coreml.features import ImageInput
from coreproof.editing.edit import Edit, edit
from coreproof.editing.editor import NewLayer
from coreproof.editing.interface import Retyped
from coreproof.editing.open import open_editor
from coreproof.editing.verbs.registry import VERBS
from coreproof.errors import EditError
from coreproof.model.base import Model
from coreproof.model.onnx.model import OnnxModel

RNG = np.random.default_rng(5)
WEIGHT = (RNG.standard_normal((4, 3, 3, 3)) * 0.3).astype(np.float32)
PIXELS = RNG.integers(0, 256, (6, 8, 3), np.uint8)
PHOTO = np.ascontiguousarray(PIXELS.transpose(2, 0, 1)[None]).astype(np.float32)


def source() -> OnnxModel:
    """conv -> relu, and the mean of each channel."""
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c"], ["r"]),
        helper.make_node("ReduceMean", ["r", "axes"], ["y"], keepdims=0),
    ]
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 6, 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 4])],
        [numpy_helper.from_array(WEIGHT, "w"), numpy_helper.from_array(np.array([2, 3]), "axes")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    return OnnxModel(ir.from_proto(model), name="net")


@pytest.fixture(scope="module")
def single() -> Model:
    return coreproof.convert(source(), "mlprogram", precision="fp32")


@pytest.fixture(scope="module")
def half() -> Model:
    return coreproof.convert(source(), "mlprogram", precision="fp16", target="iOS16")


@pytest.fixture(scope="module")
def classifier() -> Model:
    return coreproof.convert(source(), "mlprogram", precision="fp32", labels=["a", "b", "c", "d"])


def run(model: Model, x: Any) -> Any:
    with coreproof.session(model) as session:
        return session.run({"x": x})["y"]


def one(model: Model, verb: str, **arguments: Any) -> Model:
    return edit(model, [Edit(verb, arguments)]).model


def stored(model: Model, folder: Path) -> Model:
    """Saved, read by coremltools, and read again."""
    import coremltools as ct

    path = model.save(folder / "edited.mlpackage")
    ct.models.MLModel(str(path), skip_model_load=True)
    return coreproof.load(path)


def close(made: Any, want: Any, tolerance: float = 1e-5) -> bool:
    return bool(np.abs(np.asarray(made) - np.asarray(want)).max() <= tolerance * np.abs(np.asarray(want)).max())


def test_an_array_becomes_a_picture_and_an_array_again(single: Model, tmp_path: Path) -> None:
    scale, bias = 1 / 127.5, [-1.0, -0.9, -0.8]
    picture = stored(one(single, "retype", feature="x", kind="image", scale=scale, bias=bias), tmp_path)
    assert str(picture.signature.input("x")) == "x: RGB image 8x6"
    seen = PHOTO * np.float32(scale) + np.float32(bias).reshape(1, 3, 1, 1)
    assert close(run(picture, Image.fromarray(PIXELS)), run(single, seen))
    again = stored(one(picture, "retype", feature="x", kind="tensor"), tmp_path)
    assert again.signature.inputs == single.signature.inputs
    assert [n.operator for n in again.graph.nodes] == [n.operator for n in single.graph.nodes]
    assert close(run(again, seen), run(single, seen), 0)


def test_what_is_not_said_of_a_picture_stays(single: Model) -> None:
    picture = one(single, "retype", feature="x", kind="image", scale=0.5, bias=[1.0, 2.0, 3.0])
    other = one(picture, "retype", feature="x", scale=0.25)
    seen = PHOTO * 0.25 + np.float32([1, 2, 3]).reshape(1, 3, 1, 1)
    assert close(run(other, Image.fromarray(PIXELS)), run(single, seen))
    plain = one(other, "retype", feature="x", scale=1.0, bias=0.0)
    assert len(plain.graph.nodes) == len(single.graph.nodes)
    swapped = one(picture, "retype", feature="x", colour="BGR")
    seen = PHOTO[:, ::-1] * np.float32(0.5) + np.float32([1, 2, 3]).reshape(1, 3, 1, 1)
    assert close(run(swapped, Image.fromarray(PIXELS)), run(single, seen))


def test_the_normalisation_of_a_conversion_is_replaced(tmp_path: Path) -> None:
    images = {"x": ImageInput(mean=(0.4, 0.5, 0.6), std=(0.2, 0.25, 0.3), scale=1 / 255)}
    model = coreproof.convert(source(), "mlprogram", precision="fp16", target="iOS16", images=images)
    edited = stored(one(model, "retype", feature="x", scale=0.01, bias=-1.0), tmp_path)
    plain = coreproof.convert(source(), "mlprogram", precision="fp16", target="iOS16")
    assert close(run(edited, Image.fromarray(PIXELS)), run(plain, PHOTO * 0.01 - 1), 2e-3)
    assert sum(n.operator in ("mul", "add") for n in edited.graph.nodes) == 2


def test_features_in_float16_and_back(half: Model, single: Model, tmp_path: Path) -> None:
    steps = [Edit("retype", {"feature": name, "dtype": "float16"}) for name in ("x", "y")]
    narrow = stored(edit(half, steps).model, tmp_path)
    assert [f.dtype for f in (*narrow.signature.inputs, *narrow.signature.outputs)] == ["float16", "float16"]
    # the casts of the conversion are not needed any more
    assert not any(n.operator == "cast" for n in narrow.graph.nodes)
    x = (PHOTO / 255).astype(np.float16)
    assert np.array_equal(run(narrow, x), run(half, x.astype(np.float32)).astype(np.float16))
    steps = [Edit("retype", {"feature": name, "dtype": "float32"}) for name in ("x", "y")]
    wide = stored(edit(narrow, steps).model, tmp_path)
    assert wide.signature.inputs == half.signature.inputs
    assert np.array_equal(run(wide, x.astype(np.float32)), run(half, x.astype(np.float32)))
    steps = [Edit("retype", {"feature": name, "dtype": "float16"}) for name in ("x", "y")]
    cast = stored(edit(single, steps).model, tmp_path)
    assert np.array_equal(run(cast, x), run(single, x.astype(np.float32)).astype(np.float16))


def test_values_that_no_feature_can_be_are_carried_by_one_that_can(single: Model, tmp_path: Path) -> None:
    editor = open_editor(single)
    editor.add(
        NewLayer("reduce_max", "most", ["y"], ["most"], {"axes": [0, 1], "keep_dims": False}), editor.node("y").name
    )
    editor.add(NewLayer("greater", "positive", ["y", "most"], ["positive"], {}), "most")
    editor.interface.set_output("most")
    editor.interface.set_output("positive", instead_of="y")
    model = stored(editor.close(), tmp_path)
    assert [str(f) for f in model.signature.outputs] == ["positive: int32[1x4]", "most: float32[1]"]
    with coreproof.session(model) as session:
        made = session.run({"x": PHOTO})
    assert made["most"] == np.max(run(single, PHOTO))
    assert not made["positive"].any()
    with pytest.raises(EditError, match="cannot be an output"):
        editor.interface.set_output("x")
    editor.interface.drop_output("most")
    with pytest.raises(EditError, match="the only output"):
        editor.interface.drop_output("positive")


def test_an_output_becomes_a_picture(single: Model, tmp_path: Path) -> None:
    editor = open_editor(single)
    editor.add(
        NewLayer("slice_by_size", "three", ["r"], ["p"], {"begin": [0, 0, 0, 0], "size": [1, 3, 6, 8]}),
        editor.node("r").name,
    )
    editor.interface.set_output("p")
    editor.interface.retype("p", Retyped("image"))
    model = stored(editor.close(), tmp_path)
    with coreproof.session(model) as session:
        made = session.run({"x": PHOTO}, taps=["r"])
    want = np.clip(made["r"][0, :3].transpose(1, 2, 0), 0, 255)
    assert np.abs(np.asarray(made["p"].convert("RGB")).astype(np.float32) - want).max() <= 1
    with pytest.raises(EditError, match="the shape of one picture"):
        editor.interface.retype("y", Retyped("image"))


@pytest.mark.sweep(1)
@pytest.mark.parametrize(
    ("shape", "flexible"),
    [
        ([1, 3, 12, 10], {}),
        (None, {"enumerated": [[1, 3, 6, 8], [1, 3, 12, 10]]}),
        (None, {"ranges": [[1, 1], [3, 3], [4, 64], [4, -1]]}),
    ],
)
def test_shapes(single: Model, half: Model, shape: Any, flexible: dict[str, Any], tmp_path: Path) -> None:
    large = RNG.standard_normal((1, 3, 12, 10)).astype(np.float32)
    editor = open_editor(single)
    editor.interface.set_input("x", [1, 3, 12, 10], "float32")
    want = run(editor.close(), large)
    for model, tolerance in ((single, 1e-5), (half, 5e-3)):
        again = stored(one(model, "reshape", feature="x", shape=shape, **flexible), tmp_path)
        assert close(run(again, large), want, tolerance)
        free = [None if flexible else 12, None if flexible else 10]
        assert list(again.graph.values["r"].shape or ())[2:] == free
        if flexible:
            assert close(run(again, PHOTO), run(model, PHOTO))


def test_the_size_of_a_picture(single: Model, tmp_path: Path) -> None:
    picture = one(single, "retype", feature="x", kind="image")
    large = stored(one(picture, "reshape", feature="x", shape=[12, 10]), tmp_path)
    assert str(large.signature.input("x")) == "x: RGB image 10x12"
    pixels = RNG.integers(0, 256, (12, 10, 3), np.uint8)
    whole = one(single, "reshape", feature="x", shape=[1, 3, 12, 10])
    seen = pixels.transpose(2, 0, 1)[None].astype(np.float32)
    assert close(run(large, Image.fromarray(pixels)), run(whole, seen))


def test_labels(classifier: Model, tmp_path: Path) -> None:
    def predicted(model: Model) -> Any:
        with coreproof.session(model) as session:
            made = session.run({"x": PHOTO})
        return made[model.signature.predicted_label], made[model.signature.probabilities]

    label, chances = predicted(classifier)
    names = ["north", "east", "south", "west"]
    renamed = stored(one(classifier, "relabel", labels=names), tmp_path)
    assert renamed.signature.labels == tuple(names)
    again, other = predicted(renamed)
    assert again == names["abcd".index(label)]
    assert list(other.values()) == list(chances.values())
    with pytest.raises(EditError, match="4 labels, one a score"):
        one(classifier, "relabel", labels=names[:3])


def test_labels_of_a_real_classifier(shared_data: Path, tmp_path: Path) -> None:
    model = coreproof.load(shared_data / "coreml" / "dhruvweaver_DrawMNIST_final.mlpackage")
    assert model.signature.labels == tuple(range(10))
    shifted = stored(one(model, "relabel", labels=list(range(1, 11))), tmp_path)
    assert shifted.signature.labels == tuple(range(1, 11))
    named = stored(one(model, "relabel", labels=[f"digit {n}" for n in range(10)]), tmp_path)
    assert named.signature.output("Prediction").kind == "string"
    digit = Image.fromarray(RNG.integers(0, 256, (28, 28), np.uint8))
    with coreproof.session(model) as before, coreproof.session(named) as after:
        assert after.run({"Input": digit})["Prediction"] == f"digit {before.run({'Input': digit})['Prediction']}"


@pytest.mark.parametrize(
    ("verb", "arguments", "words"),
    [
        ("retype", {"feature": "x", "kind": "picture"}, "no such kind"),
        ("retype", {"feature": "x", "kind": "image", "colour": "GRAY"}, "3 channels"),
        ("retype", {"feature": "y", "kind": "image"}, "the shape of one picture"),
        ("retype", {"feature": "x", "kind": "image", "bias": [1.0, 2.0]}, "one bias for each channel"),
        ("retype", {"feature": "z", "dtype": "float16"}, "no feature 'z'"),
        ("retype", {"feature": "x", "dtype": "float64"}, "cannot be float64"),
        ("reshape", {"feature": "y", "shape": [1, 4]}, "is an output"),
        ("reshape", {"feature": "x", "shape": [3, 6, 8]}, "4 lengths"),
        ("reshape", {"feature": "x", "ranges": [[1, 1], [3, 3], [9, 4], [4, 9]]}, "low <= high"),
        ("relabel", {"labels": ["a", "b"]}, "no labels"),
    ],
)
def test_what_does_not_fit_changes_nothing(single: Model, verb: str, arguments: dict[str, Any], words: str) -> None:
    editor = open_editor(single)
    before = editor.model.spec.SerializeToString(deterministic=True)
    with pytest.raises(EditError, match=words):
        VERBS[verb](editor, **arguments)
    assert editor.model.spec.SerializeToString(deterministic=True) == before


def test_float16_features_need_ios_16() -> None:
    old = coreproof.convert(source(), "mlprogram", precision="fp16", target="iOS15")
    with pytest.raises(EditError, match="iOS 16"):
        one(old, "retype", feature="x", dtype="float16")
