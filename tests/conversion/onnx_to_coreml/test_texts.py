"""Models that are fed texts and dictionaries: they become pipelines, whose first stages make numbers of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

import coreproof as cp
from coreproof.errors import ConversionError, CoreproofError
from coreproof.model.base import Model
from coreproof.precision.forecast import forecast

ML = "ai.onnx.ml"


def saved(
    folder: Path,
    nodes: Sequence[onnx.NodeProto],
    inputs: Sequence[onnx.ValueInfoProto],
    outputs: Sequence[onnx.ValueInfoProto],
    constants: Sequence[onnx.TensorProto] = (),
    ml: int = 3,
    opset: int = 17,
) -> Model:
    graph = helper.make_graph(list(nodes), "t", list(inputs), list(outputs), list(constants))
    opsets = [helper.make_opsetid("", opset), helper.make_opsetid(ML, ml)]
    path = folder / "texts.onnx"
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=8), path)
    return cp.load(path)


def text(name: str, *shape: int | str) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.STRING, shape)


def floats(name: str, *shape: int | str) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)


def run(model: Model, sample: Mapping[str, object]) -> dict[str, object]:
    with cp.session(model) as running:
        return dict(running.run(sample))


def array(*texts: str) -> np.ndarray:
    return np.array([texts], object)


COLOURS, SIZES = ["red", "green", "blue"], ["S", "M"]


def two_columns(folder: Path) -> Model:
    """A table with a column of colours and one of sizes, of each of which a row of zeros and a one is made."""
    nodes = [
        helper.make_node("Gather", ["x", "first"], ["colour"], axis=1),
        helper.make_node("Gather", ["x", "second"], ["size"], axis=1),
        helper.make_node("OneHotEncoder", ["colour"], ["a"], domain=ML, cats_strings=COLOURS, zeros=1),
        helper.make_node("OneHotEncoder", ["size"], ["b"], domain=ML, cats_strings=SIZES, zeros=1),
        helper.make_node("Concat", ["a", "b"], ["y"], axis=2),
    ]
    places = [helper.make_tensor("first", 7, [1], [0]), helper.make_tensor("second", 7, [1], [1])]
    return saved(folder, nodes, [text("x", "n", 2)], [floats("y", "n", 1, 5)], places)


@pytest.mark.parametrize("to", ["mlprogram", "neuralnetwork"])
@pytest.mark.parametrize("row", [("red", "M"), ("blue", "S"), ("mauve", "M"), ("S", "red"), ("", "")])
def test_each_text_of_a_row_is_an_input_and_an_unknown_one_is_none(
    tmp_path: Path, row: tuple[str, str], to: str
) -> None:
    source = two_columns(tmp_path)
    made = cp.convert(source, to)  # type: ignore[arg-type]
    assert [f.name for f in made.signature.inputs] == ["x_0", "x_1"]
    assert {f.kind for f in made.signature.inputs} == {"string"}
    got = run(made, {"x_0": row[0], "x_1": row[1]})
    np.testing.assert_array_equal(got["y"], run(source, {"x": array(*row)})["y"])  # type: ignore[arg-type]


def test_a_row_of_texts_is_verified_from_the_source_s_own_input(tmp_path: Path) -> None:
    source = two_columns(tmp_path)
    made = cp.convert(source, "mlprogram")
    assert cp.verify(source, made).agrees
    assert cp.verify(source, made, inputs={"x": array("green", "S")}).agrees
    made.save(tmp_path / "texts.mlpackage")
    assert cp.verify(source, cp.load(tmp_path / "texts.mlpackage")).agrees
    with pytest.raises(CoreproofError, match="one sample at a time"):
        cp.verify(source, made, inputs={"x": np.array([COLOURS], object)})


def test_texts_become_numbers_and_texts_with_what_unknown_ones_are(tmp_path: Path) -> None:
    nodes = [
        helper.make_node(
            "LabelEncoder", ["x"], ["known"], domain=ML, keys_strings=["one", "uno"], values_strings=["1", "1"],
            default_string="?",
        ),
        helper.make_node("LabelEncoder", ["known"], ["y"], domain=ML, keys_strings=["?", "1"], values_floats=[-1.5, 1.0]),
    ]  # fmt: skip
    source = saved(tmp_path, nodes, [text("x", 1)], [floats("y", 1)])
    made = cp.convert(source, "mlprogram")
    for word in ("one", "uno", "?", "1", "two"):
        got = run(made, {"x": word})["y"]
        np.testing.assert_array_equal(got, run(source, {"x": np.array([word], object)})["y"])  # type: ignore[arg-type]


@pytest.mark.parametrize("operator", ["LabelEncoder", "CategoryMapper"])
def test_encoders_of_the_first_opset_look_texts_up_too(tmp_path: Path, operator: str) -> None:
    if operator == "LabelEncoder":
        node = helper.make_node(operator, ["x"], ["y"], domain=ML, classes_strings=["a", "b"], default_int64=-7)
    else:
        node = helper.make_node(
            operator, ["x"], ["y"], domain=ML, cats_strings=["a", "b"], cats_int64s=[20, 10], default_int64=-7
        )
    outputs = [helper.make_tensor_value_info("y", 7, [1, 2])]
    source = saved(tmp_path, [node], [text("x", 1, 2)], outputs, ml=1)
    made = cp.convert(source, "mlprogram", check=False)
    wanted = {"LabelEncoder": [[1, -7]], "CategoryMapper": [[10, -7]]}[operator]
    np.testing.assert_array_equal(run(made, {"x_0": "b", "x_1": "c"})["y"], wanted)  # type: ignore[arg-type]


@pytest.mark.parametrize("keys", [["a", "c", "b"], [4, 1, 9]])
def test_a_dictionary_is_fed_as_one(tmp_path: Path, keys: list[str] | list[int]) -> None:
    of = helper.make_tensor_type_proto(1, [])
    kind = "string_vocabulary" if isinstance(keys[0], str) else "int64_vocabulary"
    taken = helper.make_value_info("x", helper.make_map_type_proto(8 if isinstance(keys[0], str) else 7, of))
    nodes = [
        helper.make_node("DictVectorizer", ["x"], ["row"], domain=ML, **{kind: keys}),
        helper.make_node("Scaler", ["row"], ["y"], domain=ML, offset=[0.0, 1.0, 2.0], scale=[2.0, 1.0, 0.5]),
    ]
    source = saved(tmp_path, nodes, [taken], [floats("y", 1, 3)])
    made = cp.convert(source, "mlprogram")
    sample = {"x": {keys[1]: 3.0, keys[2]: -1.0}}
    np.testing.assert_allclose(run(made, sample)["y"], run(source, sample)["y"])  # type: ignore[arg-type]
    assert cp.verify(source, made).agrees


def test_names_that_are_no_identifiers_stay_those_of_the_texts(tmp_path: Path) -> None:
    nodes = [helper.make_node("OneHotEncoder", ["home town"], ["y 1"], domain=ML, cats_strings=SIZES, zeros=1)]
    source = saved(tmp_path, nodes, [text("home town", 1)], [floats("y 1", 1, 2)])
    made = cp.convert(source, "mlprogram")
    assert [f.name for f in made.signature.inputs] == ["home town"]
    (found,) = run(made, {"home town": "M"}).values()
    np.testing.assert_array_equal(found, [[0, 1]])  # type: ignore[arg-type]


def test_a_text_that_is_taken_apart_is_refused_by_its_node(tmp_path: Path) -> None:
    node = helper.make_node("StringNormalizer", ["x"], ["y"], name="lower", case_change_action="LOWER")
    source = saved(tmp_path, [node], [text("x", 1)], [text("y", 1)])
    with pytest.raises(CoreproofError, match="lower") as raised:
        cp.convert(source, "mlprogram")
    assert "texts apart" in str(raised.value)


def test_two_texts_that_are_fed_are_not_compared_since_neither_need_be_known(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Identity", ["b"], ["c"]),
        helper.make_node("Equal", ["a", "c"], ["same"], name="alike"),
        helper.make_node("Cast", ["same"], ["y"], to=TensorProto.FLOAT),
    ]
    source = saved(tmp_path, nodes, [text("a", 1), text("b", 1)], [floats("y", 1)], opset=19)
    with pytest.raises(ConversionError, match="compares two texts") as raised:
        cp.convert(source, "mlprogram")
    assert "alike" in str(raised.value)


@pytest.mark.parametrize("fed", ["red", "blue", ""])
def test_a_text_that_is_fed_is_compared_with_one_that_is_stored(tmp_path: Path, fed: str) -> None:
    nodes = [helper.make_node("Equal", ["a", "red"], ["same"]), helper.make_node("Cast", ["same"], ["y"], to=1)]
    stored = [helper.make_tensor("red", TensorProto.STRING, [1], [b"red"])]
    source = saved(tmp_path, nodes, [text("a", 1)], [floats("y", 1)], stored, opset=19)
    got = run(cp.convert(source, "mlprogram"), {"a": fed})["y"]
    np.testing.assert_array_equal(got, [float(fed == "red")])  # type: ignore[arg-type]


def test_a_text_that_is_handed_on_is_refused(tmp_path: Path) -> None:
    nodes = [helper.make_node("Identity", ["x"], ["y"])]
    with pytest.raises(ConversionError, match="hands on a text"):
        cp.convert(saved(tmp_path, nodes, [text("x", 1)], [text("y", 1)]), "mlprogram")


def test_what_float16_does_to_a_pipeline_is_refused_in_words(tmp_path: Path) -> None:
    with pytest.raises(ConversionError, match="becomes a pipeline"):
        forecast(two_columns(tmp_path))


def test_a_text_of_which_no_output_is_made_is_taken_all_the_same(tmp_path: Path) -> None:
    """What reads it is taken away, and no node is left before which it becomes a number."""
    node = helper.make_node("LabelEncoder", ["t"], ["n"], domain=ML, keys_strings=["a"], values_int64s=[1])
    nodes = [node, helper.make_node("Relu", ["x"], ["y"])]
    source = saved(tmp_path, nodes, [text("t", 1, 1), floats("x", 1, 3)], [floats("y", 1, 3)])
    made = cp.convert(source, "mlprogram", check=False)
    assert {feature.name for feature in made.signature.inputs} == {"t", "x"}
    assert [feature.name for feature in made.signature.outputs] == ["y"]
