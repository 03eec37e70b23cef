"""Models whose outputs are dictionaries and sequences: read, shown, run, verified, edited, saved."""

from __future__ import annotations

import functools
import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from PIL import Image
from typer.testing import CliRunner

import coreproof as cp
from coreproof.cli.main import app
from coreproof.editing.edit import Edit, edit
from coreproof.errors import InputError, UnreadableModelError
from coreproof.pairing.structured import leaves, unlike
from coreproof.verification.tolerance import Tolerance, judge

ML = "ai.onnx.ml"
TEXTS, NUMBERS = ["cat", "dog", "eel"], [7, 11, 40]


def model(
    nodes: list[onnx.NodeProto], inputs: list[Any], outputs: list[Any], constants: dict[str, np.ndarray] | None = None
) -> onnx.ModelProto:
    graph = helper.make_graph(
        nodes, "g", inputs, outputs, [numpy_helper.from_array(v, k) for k, v in (constants or {}).items()]
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid(ML, 3)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8)


def probabilities(key: int, name: str = "probabilities") -> onnx.ValueInfoProto:
    value = onnx.ValueInfoProto(name=name)
    held = value.type.sequence_type.elem_type.map_type
    held.key_type = key
    held.value_type.tensor_type.elem_type = TensorProto.FLOAT
    held.value_type.tensor_type.shape.SetInParent()
    return value


def classifier(
    texts: bool = True, shift: float = 0.0, labels: list[Any] | None = None, tree: bool = False
) -> onnx.ModelProto:
    """What scikit-learn's exporter writes: a classifier of four numbers, its label and a ZipMap of its scores."""
    kind = "classlabels_strings" if texts else ("classlabels_int64s" if tree else "classlabels_ints")
    own: Any = labels or (TEXTS if texts else NUMBERS)
    if tree:
        maker = helper.make_node(
            "TreeEnsembleClassifier", ["x"], ["label", "scores"], name="tree", domain=ML, post_transform="NONE",
            nodes_treeids=[0, 0, 0], nodes_nodeids=[0, 1, 2], nodes_featureids=[0, 0, 0],
            nodes_modes=["BRANCH_LEQ", "LEAF", "LEAF"], nodes_values=[0.0, 0.0, 0.0], nodes_hitrates=[1.0, 1.0, 1.0],
            nodes_truenodeids=[1, 0, 0], nodes_falsenodeids=[2, 0, 0], nodes_missing_value_tracks_true=[0, 0, 0],
            class_treeids=[0] * 6, class_nodeids=[1, 1, 1, 2, 2, 2], class_ids=[0, 1, 2] * 2,
            class_weights=[0.5 + shift, 0.3, 0.2, 0.1 + shift, 0.2, 0.7], **{kind: own},
        )  # fmt: skip
    else:
        rng = np.random.default_rng(0)
        weights = rng.standard_normal(12) + shift
        maker = helper.make_node(
            "LinearClassifier", ["x"], ["label", "scores"], name="linear", domain=ML, post_transform="SOFTMAX",
            coefficients=weights.tolist(), intercepts=[0.1, 0.2, 0.3], multi_class=1, **{kind: own},
        )  # fmt: skip
    zipped = {"classlabels_strings" if texts else "classlabels_int64s": own}
    return model(
        [maker, helper.make_node("ZipMap", ["scores"], ["probabilities"], name="zip", domain=ML, **zipped)],
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 4])],
        [
            helper.make_tensor_value_info("label", TensorProto.STRING if texts else TensorProto.INT64, ["n"]),
            probabilities(TensorProto.STRING if texts else TensorProto.INT64),
        ],
    )


def pieces(shift: float = 0.0) -> onnx.ModelProto:
    split = helper.make_node("SplitToSequence", ["shifted", "lengths"], ["y"], name="split", axis=1)
    return model(
        [helper.make_node("Add", ["x", "c"], ["shifted"], name="add"), split],
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [2, 5])],
        [helper.make_tensor_sequence_value_info("y", TensorProto.FLOAT, None)],
        {"c": np.float32([shift]), "lengths": np.array([2, 3], np.int64)},
    )


def constructed(shift: float = 0.0) -> onnx.ModelProto:
    """A sequence within the graph, of which one element is taken again."""
    return model(
        [
            helper.make_node("Add", ["x", "c"], ["shifted"], name="add"),
            helper.make_node("SequenceConstruct", ["x", "shifted"], ["both"], name="both"),
            helper.make_node("SequenceAt", ["both", "one"], ["y"], name="at"),
        ],
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [2, 5])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [2, 5]),
         helper.make_tensor_sequence_value_info("both", TensorProto.FLOAT, None)],
        {"c": np.float32([shift]), "one": np.array(1, np.int64)},
    )  # fmt: skip


def optional(shift: float = 0.0) -> onnx.ModelProto:
    held = helper.make_optional_type_proto(helper.make_tensor_type_proto(TensorProto.FLOAT, [2, 5]))
    return model(
        [helper.make_node("Add", ["x", "c"], ["s"], name="add"), helper.make_node("Optional", ["s"], ["y"], name="o")],
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [2, 5])],
        [helper.make_value_info("y", held)],
        {"c": np.float32([shift])},
    )


def vectorizer(shift: float = 0.0) -> onnx.ModelProto:
    value = onnx.ValueInfoProto(name="x")
    value.type.map_type.key_type = TensorProto.STRING
    value.type.map_type.value_type.tensor_type.elem_type = TensorProto.FLOAT
    value.type.map_type.value_type.tensor_type.shape.SetInParent()
    return model(
        [
            helper.make_node("DictVectorizer", ["x"], ["v"], name="vectors", domain=ML, string_vocabulary=TEXTS),
            helper.make_node("Add", ["v", "c"], ["y"], name="add"),
        ],
        [value],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 3])],
        {"c": np.float32([shift])},
    )


KINDS: dict[str, Any] = {
    "linear, texts": lambda shift=0.0: classifier(True, shift),
    "linear, numbers": lambda shift=0.0: classifier(False, shift),
    "tree, texts": lambda shift=0.0: classifier(True, shift, tree=True),
    "tree, numbers": lambda shift=0.0: classifier(False, shift, tree=True),
    "pieces": pieces,
    "constructed": constructed,
    "optional": optional,
    "vectorizer": vectorizer,
}


def changed(kind: str) -> cp.Model:
    if not kind.startswith("linear"):
        return cp.load(KINDS[kind](0.25))
    proto = KINDS[kind]()
    attribute = next(a for a in proto.graph.node[0].attribute if a.name == "coefficients")
    attribute.floats[0] += 0.25
    return cp.load(proto)


@pytest.mark.sweep(3)
@pytest.mark.parametrize("kind", KINDS)
def test_every_verb_takes_it(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(KINDS[kind]().SerializeToString())
    loaded = cp.load(path)
    shown = CliRunner().invoke(app, ["show", str(path)])
    assert shown.exit_code == 0, shown.output
    same = cp.verify(loaded, cp.load(path))
    assert same
    assert same.outputs
    other = cp.verify(loaded, changed(kind))
    assert not other, other.summary()
    assert not cp.diff(loaded, cp.load(path))
    assert cp.diff(loaded, changed(kind))
    assert not cp.diagnose(loaded).findings
    again = cp.load(loaded.save(tmp_path / "again.onnx"))
    assert again.signature == loaded.signature
    assert cp.verify(loaded, again)
    first = loaded.graph.nodes[0].name
    renamed = edit(loaded, [Edit("rename", {"old": first, "new": "first"})]).model
    assert cp.verify(loaded, cp.load(renamed.save(tmp_path / "renamed.onnx")))
    saved = cp.record(loaded, tmp_path / "run.npz")
    assert cp.verify(loaded, saved)
    assert cp.verify(saved, loaded)
    assert not cp.verify(saved, changed(kind))


@pytest.mark.parametrize("kind", KINDS)
def test_a_saved_run_gives_what_the_model_gave(kind: str, tmp_path: Path) -> None:
    loaded = cp.load(KINDS[kind]())
    saved = cp.record(loaded, tmp_path / "run.npz")
    with cp.session(loaded) as live, cp.session(saved) as recorded:
        expected, found = live.run(saved.samples[0]), recorded.run(saved.samples[0])
    assert expected.keys() == found.keys()
    for name, value in expected.items():
        assert str(found[name]) == str(value)


def test_a_saved_run_knows_its_labels(tmp_path: Path) -> None:
    saved = cp.record(cp.load(classifier()), tmp_path / "run.npz")
    found = cp.verify(saved, cp.load(classifier(labels=["cat", "dog", "seal"])))
    row = next(row for row in found.outputs if row.candidate == "probabilities")
    assert "only in the reference: 'eel'; only in the candidate: 'seal'" in row.judgement.problem


@pytest.mark.parametrize(
    ("layout", "told"),
    [
        ({}, "expected a list"),
        ([], "how a value is built"),
        (["heap"], "dictionary or sequence"),
        (["dictionary", ["a", "a"], [["array", []]] * 2], "each key once"),
        (["dictionary", ["a"], []], "expected 1 entries"),
        (["dictionary", [None], [["array", []]]], "expected a text"),
        (["array", [-1]], "expected a number"),
        (["array", [1] * 65], "at most 64 axes"),
        (["array", [2**40] * 9], "values for the"),
        (["array", ["n"]], "a whole number"),
        (["sequence", [["nothing"]]], "values for the 0"),
        (functools.reduce(lambda inner, _: ["sequence", [inner]], range(200), ["nothing"]), "levels of nesting"),
    ],
)
def test_a_saved_run_that_says_nonsense_of_how_a_value_is_built_is_told(layout: Any, told: str, tmp_path: Path) -> None:
    cp.record(cp.load(classifier()), tmp_path / "run.npz")
    with zipfile.ZipFile(tmp_path / "run.npz") as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    header = json.loads(members["coreproof.json"])
    header["samples"][0]["built"]["values"]["probabilities"] = layout
    members["coreproof.json"] = json.dumps(header).encode()
    with zipfile.ZipFile(tmp_path / "bad.npz", "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    with pytest.raises(UnreadableModelError, match=told):
        cp.verify(cp.load(tmp_path / "bad.npz"), cp.load(classifier()))


def test_a_saved_run_of_an_older_coreproof_is_compared_by_its_numbers(tmp_path: Path) -> None:
    cp.record(cp.load(classifier()), tmp_path / "run.npz")
    with zipfile.ZipFile(tmp_path / "run.npz") as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    header = json.loads(members["coreproof.json"])
    del header["samples"][0]["built"]
    members["coreproof.json"] = json.dumps(header).encode()
    with zipfile.ZipFile(tmp_path / "old.npz", "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    assert cp.verify(cp.load(tmp_path / "old.npz"), cp.load(classifier()))


def test_a_dictionary_is_verified_from_onnx_to_the_pipeline_that_it_becomes() -> None:
    source = cp.load(KINDS["vectorizer"]())
    assert cp.verify(source, cp.convert(source, "mlprogram")).agrees


def test_the_signature_says_what_there_is() -> None:
    signature = cp.load(classifier()).signature
    assert str(signature.output("probabilities")) == "probabilities: sequence of dictionary of text to float32"
    assert signature.output("probabilities").kind == "sequence"
    assert signature.labels == ("cat", "dog", "eel")
    assert cp.load(classifier(False)).signature.labels == (7, 11, 40)
    assert cp.load(vectorizer()).signature.input("x").kind == "dictionary"


def test_a_run_gives_dictionaries() -> None:
    with cp.session(cp.load(classifier())) as running:
        made = running.run({"x": np.ones((2, 4), np.float32)}, ["scores"])
    assert [list(row) for row in made["probabilities"]] == [TEXTS, TEXTS]
    np.testing.assert_allclose([list(row.values()) for row in made["probabilities"]], made["scores"])
    assert made["label"].tolist() == [TEXTS[i] for i in made["scores"].argmax(axis=1)]


def test_a_dictionary_is_fed() -> None:
    with cp.session(cp.load(vectorizer())) as running:
        assert running.run({"x": {"dog": 2.0, "cat": 1}})["y"].tolist() == [[1.0, 2.0, 0.0]]
        for wrong in (np.ones(3), {1: 2.0}, {"dog": "much"}):
            with pytest.raises(InputError, match="dictionary of text to float32"):
                running.run({"x": wrong})


def test_another_label_is_a_disagreement_although_the_numbers_agree() -> None:
    one, other = cp.load(classifier()), cp.load(classifier(labels=["cat", "dog", "seal"]))
    found = cp.verify(one, other)
    row = next(row for row in found.outputs if row.candidate == "probabilities")
    assert "only in the reference: 'eel'; only in the candidate: 'seal'" in row.judgement.problem


def test_structured_values_are_built_alike_or_not() -> None:
    rows = [{"b": np.float32(1), "a": np.float32(2)}, {"a": 3.0}]
    assert leaves(rows).tolist() == [2.0, 1.0, 3.0]
    tolerance = Tolerance(1e-6, 0.0, 1e-6)
    assert judge(leaves(rows), leaves([{"a": 2.0, "b": 1.0}, {"a": 3.0}]), tolerance)
    assert not judge(leaves(rows), leaves([{"a": 2.0, "b": 1.5}, {"a": 3.0}]), tolerance)
    assert unlike(leaves(rows), leaves(rows[:1])) == "the lengths differ: 2 and 1 elements"
    assert (
        unlike(leaves([np.ones((2, 3))]), leaves([np.ones((3, 2))])) == "at element 0: shapes differ: [2, 3] and [3, 2]"
    )
    assert unlike(leaves({1: 2.0}), leaves([2.0])) == "a dictionary and a sequence"
    assert "at key 'a'" in unlike(leaves({"a": [1.0]}), leaves({"a": [1.0, 2.0]}))
    assert leaves(None).size == 0
    assert leaves(["x", 1.0]).tolist() == ["x", "1.0"]


def test_a_picture_classifier_with_a_dictionary_predicts_with_its_labels() -> None:
    proto = classifier()
    proto.graph.node.insert(0, helper.make_node("GlobalAveragePool", ["picture"], ["pooled"], name="pool"))
    proto.graph.node.insert(1, helper.make_node("Reshape", ["pooled", "flat"], ["three"], name="flat"))
    proto.graph.node.insert(2, helper.make_node("Concat", ["three", "one"], ["x"], name="x", axis=1))
    proto.graph.initializer.append(numpy_helper.from_array(np.array([1, 3], np.int64), "flat"))
    proto.graph.initializer.append(numpy_helper.from_array(np.ones((1, 1), np.float32), "one"))
    del proto.graph.input[:]
    proto.graph.input.append(helper.make_tensor_value_info("picture", TensorProto.FLOAT, [1, 3, 8, 8]))
    feeding = cp.Feeding(size=(8, 8), scale=1 / 255)
    best = cp.predict(cp.load(proto), Image.new("RGB", (8, 8), (200, 30, 90)), feeding=feeding)
    assert {p.label for p in best} == set(TEXTS)
    assert sum(p.probability for p in best) == pytest.approx(1.0)
