"""Edits of ONNX models: every primitive through the verbs, judged by running the model that comes out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import coreproof as cp
from coreproof.editing.edit import Edit, edit
from coreproof.errors import EditError
from coreproof.model.base import Model

RNG = np.random.default_rng(3)
WEIGHT = RNG.normal(size=(4, 3, 3, 3)).astype(np.float32)
BIAS = RNG.normal(size=4).astype(np.float32)
X = RNG.normal(size=(1, 3, 8, 8)).astype(np.float32)


@pytest.fixture
def stored(tmp_path: Path) -> Path:
    """x -> conv (with bias) -> relu -> leaky -> y, in a file; ``shared`` is read by two nodes."""
    nodes = [
        helper.make_node("Conv", ["x", "w", "b"], ["c"], name="conv", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c"], ["r"], name="relu"),
        helper.make_node("Add", ["r", "shared"], ["a"], name="add"),
        helper.make_node("Mul", ["a", "shared"], ["y"], name="mul"),
    ]
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 8, 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 4, 8, 8])],
        [
            numpy_helper.from_array(WEIGHT, "w"),
            numpy_helper.from_array(BIAS, "b"),
            numpy_helper.from_array(np.float32([3.0]), "shared"),
        ],
        value_info=[helper.make_tensor_value_info("c", TensorProto.FLOAT, [1, 4, 8, 8])],
    )
    path = tmp_path / "net.onnx"
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], producer_name="by hand")
    onnx.save(model, path)
    return path


def run(model: Model, taps: tuple[str, ...] = ()) -> dict[str, np.ndarray]:
    with cp.session(model) as running:
        return {k: np.asarray(v) for k, v in running.run({"x": X}, taps).items()}


def operate(path: Path, *edits: tuple[str, dict[str, object]]) -> Model:
    return edit(path, [Edit(verb, arguments) for verb, arguments in edits]).model


def test_no_edit_leaves_every_byte(stored: Path, tmp_path: Path) -> None:
    operate(stored).save(tmp_path / "same.onnx")
    assert (tmp_path / "same.onnx").read_bytes() == stored.read_bytes()


def test_delete_reconnects_the_readers(stored: Path) -> None:
    conv = run(cp.load(stored), ("c",))["c"]
    np.testing.assert_array_equal(run(operate(stored, ("delete", {"layer": "relu"})))["y"], (conv + 3) * 3)


def test_delete_of_the_last_layer_keeps_the_output(stored: Path) -> None:
    before = run(cp.load(stored), ("a",))["a"]
    np.testing.assert_array_equal(run(operate(stored, ("delete", {"layer": "mul"})))["y"], before)


def test_cutting_out_a_layer_leaves_a_model_that_is_refused(stored: Path) -> None:
    with pytest.raises(EditError, match="would not run") as caught:
        operate(stored, ("delete", {"layer": "relu", "reconnect": False}))
    assert "edit 1 (delete" in str(caught.value)


def test_cut_then_connect(stored: Path) -> None:
    conv = run(cp.load(stored), ("c",))["c"]
    model = operate(
        stored,
        ("delete", {"layer": "relu", "reconnect": False}),
        ("connect", {"source": "conv", "to": "add", "input": "r"}),
    )
    np.testing.assert_array_equal(run(model)["y"], (conv + 3) * 3)


def test_set_an_attribute_and_a_weight_by_its_formal_name(stored: Path) -> None:
    model = operate(
        stored,
        ("set", {"layer": "conv", "attribute": "B", "value": BIAS * 2}),
        ("set", {"layer": "conv", "attribute": "group", "value": 1}),
    )
    before = run(cp.load(stored), ("c",))["c"]
    np.testing.assert_allclose(run(model, ("c",))["c"], before + BIAS[None, :, None, None], atol=1e-5)


def test_set_of_a_shared_constant_changes_one_reader_only(stored: Path) -> None:
    relu = run(cp.load(stored), ("r",))["r"]
    model = operate(stored, ("set", {"layer": "add", "attribute": "B", "value": np.float32([1.0])}))
    np.testing.assert_array_equal(run(model)["y"], (relu + 1) * 3)


def test_a_weight_can_be_taken_away(stored: Path) -> None:
    before = run(cp.load(stored), ("c",))["c"]
    model = operate(stored, ("set", {"layer": "conv", "attribute": "B", "value": None}))
    np.testing.assert_allclose(run(model, ("c",))["c"], before - BIAS[None, :, None, None], atol=1e-5)
    assert "b" not in {i.name for i in onnx.ModelProto.FromString(model.stored()).graph.initializer}


def test_insert_in_the_middle_and_at_the_end(stored: Path) -> None:
    plain = run(cp.load(stored), ("c", "y"))
    middle = operate(stored, ("insert", {"operator": "Neg", "name": "neg", "after": "c"}))
    np.testing.assert_array_equal(run(middle, ("neg",))["neg"], -plain["c"])
    end = operate(stored, ("insert", {"operator": "Neg", "name": "neg", "after": "y"}))
    assert [f.name for f in end.signature.outputs] == ["y"]
    np.testing.assert_array_equal(run(end)["y"], -plain["y"])


def test_replace_keeps_name_inputs_and_outputs(stored: Path) -> None:
    conv = run(cp.load(stored), ("c",))["c"]
    model = operate(stored, ("replace", {"layer": "relu", "operator": "LeakyRelu", "alpha": 0.5}))
    assert model.graph.node("relu").operator == "LeakyRelu"
    np.testing.assert_allclose(run(model, ("r",))["r"], np.where(conv > 0, conv, conv / 2), rtol=1e-6)


def test_a_refused_replace_leaves_the_layer(stored: Path) -> None:
    with pytest.raises(EditError, match="no operator 'LekyRelu'"):
        operate(stored, ("replace", {"layer": "relu", "operator": "LekyRelu"}))


def test_rename_reaches_features_layers_and_noted_types(stored: Path) -> None:
    model = operate(
        stored,
        ("rename", {"old": "x", "new": "image"}),
        ("rename", {"old": "c", "new": "features"}),
        ("rename", {"old": "conv", "new": "stem"}),
    )
    assert [f.name for f in model.signature.inputs] == ["image"]
    assert model.graph.node("stem").inputs[0] == "image"
    assert "features" in {v.name for v in onnx.ModelProto.FromString(model.stored()).graph.value_info}


def test_what_is_not_touched_keeps_its_bytes(stored: Path, tmp_path: Path) -> None:
    operate(stored, ("set", {"layer": "conv", "attribute": "pads", "value": [1, 1, 1, 1]})).save(tmp_path / "a.onnx")
    after, before = (onnx.ModelProto.FromString(p.read_bytes()) for p in (tmp_path / "a.onnx", stored))
    assert [n.SerializeToString() for n in after.graph.node[1:]] == [
        n.SerializeToString() for n in before.graph.node[1:]
    ]
    assert before.graph.initializer[0].SerializeToString() in (tmp_path / "a.onnx").read_bytes()
    assert after.producer_name == "by hand"


def test_types_behind_an_edit_are_not_kept_when_they_changed(stored: Path) -> None:
    model = operate(stored, ("set", {"layer": "conv", "attribute": "pads", "value": [0, 0, 0, 0]}))
    noted = {v.name for v in onnx.ModelProto.FromString(model.stored()).graph.value_info}
    assert "c" not in noted
    assert run(model, ("c",))["c"].shape == (1, 4, 6, 6)


@pytest.mark.parametrize(
    ("verb", "arguments", "message"),
    [
        ("delete", {"layer": "rleu"}, "no layer 'rleu'"),
        ("connect", {"source": "nothing", "to": "relu"}, "no layer 'nothing'"),
        ("connect", {"source": "c", "to": "add"}, "would not|2 inputs|1"),
        ("set", {"layer": "conv", "attribute": "epsilon", "value": 1}, "no attribute and no weight 'epsilon'"),
        ("set", {"layer": "conv", "attribute": "group", "value": "many"}, "another kind of value"),
        ("rename", {"old": "c", "new": "r"}, "is taken"),
        ("explode", {"layer": "conv"}, "no verb 'explode'"),
        ("delete", {"lair": "conv"}, "does not take these arguments"),
    ],
)
def test_mistakes_are_said(stored: Path, verb: str, arguments: dict[str, object], message: str) -> None:
    if message.startswith("would"):
        # one data input and a constant: the data input is meant
        assert operate(stored, (verb, arguments)).graph.node("add").inputs[0] == "c"
        return
    with pytest.raises(EditError, match=message):
        operate(stored, (verb, arguments))


def test_external_weights_are_copied_along(stored: Path, tmp_path: Path) -> None:
    there = tmp_path / "there"
    there.mkdir()
    proto = onnx.load(stored)
    onnx.save(
        proto,
        tmp_path / "external.onnx",
        save_as_external_data=True,
        location="weights.bin",
        size_threshold=0,
    )
    operate(tmp_path / "external.onnx", ("rename", {"old": "relu", "new": "act"})).save(there / "moved.onnx")
    np.testing.assert_array_equal(run(cp.load(there / "moved.onnx"))["y"], run(cp.load(stored))["y"])


def test_an_input_and_an_output_in_another_dtype(stored: Path) -> None:
    model = operate(
        stored,
        ("retype", {"feature": "x", "dtype": "float16"}),
        ("retype", {"feature": "y", "dtype": "float16"}),
    )
    assert [(f.name, f.dtype) for f in (*model.signature.inputs, *model.signature.outputs)] == [
        ("x", "float16"),
        ("y", "float16"),
    ]
    rounded = X.astype(np.float16).astype(np.float32)
    with cp.session(cp.load(stored)) as running:
        expected = running.run({"x": rounded})["y"].astype(np.float16)
    with cp.session(model) as running:
        answer = running.run({"x": rounded.astype(np.float16)})["y"]
    assert answer.dtype == np.float16
    np.testing.assert_array_equal(answer, expected)


def test_a_free_batch(stored: Path) -> None:
    model = operate(stored, ("reshape", {"feature": "x", "ranges": [[1, 8], [3, 3], [8, 8], [8, 8]]}))
    three = np.concatenate([X, -X, X * 2])
    with cp.session(model) as running:
        answer = running.run({"x": three})["y"]
    assert answer.shape == (3, 4, 8, 8)
    np.testing.assert_allclose(answer[:1], run(cp.load(stored))["y"], rtol=1e-5)
    with pytest.raises(EditError, match="keeps its rank"):
        operate(stored, ("reshape", {"feature": "x", "shape": [3, 8, 8]}))


def test_onnx_has_no_pictures(stored: Path) -> None:
    with pytest.raises(EditError, match="arrays only"):
        operate(stored, ("retype", {"feature": "x", "kind": "image"}))


def test_values_that_are_called_by_numbers_are_names_first(stored: Path) -> None:
    renamed = operate(stored, ("rename", {"old": "r", "new": "1"}), ("rename", {"old": "c", "new": "7"}))
    model = edit(renamed, [Edit("connect", {"source": "7", "to": "add", "input": "1"})]).model
    assert model.graph.node("add").inputs[0] == "7"
