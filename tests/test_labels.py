"""What a model's classes are called goes all the way: from a Source or --labels into every file that is made, and the app."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

import coreproof as cp
from coreproof.errors import EditError, InputError
from coreproof.model.coreml.noted_labels import LABELS, note_labels, noted_labels
from tests.cli.test_replacing import network

NAMES = ("red", "green", "crane", "crane", "grün")


def source() -> cp.Source:
    torch = pytest.importorskip("torch", reason="needs the torch extra")
    torch.manual_seed(0)
    layers = torch.nn.Conv2d(3, 4, 3), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(144, 5)
    fed = cp.Feeding(size=(8, 8), scale=0.01)
    return cp.Source(torch.nn.Sequential(*layers), (torch.zeros(1, 3, 8, 8),), feeding=fed, labels=NAMES)


@pytest.mark.sweep(1)
@pytest.mark.parametrize("file", ["a.onnx", "a.mlpackage", "a.mlmodel"])
def test_labels_of_a_source_are_in_every_file_that_is_made_of_it(file: str, tmp_path: Path) -> None:
    to: Any = {".onnx": "onnx", ".mlpackage": "mlprogram", ".mlmodel": "neuralnetwork"}[Path(file).suffix]
    cp.convert(source(), to).save(tmp_path / file)
    stored = cp.load(tmp_path / file)
    assert stored.signature.labels == NAMES
    assert [f.kind for f in stored.signature.outputs] == ["tensor"]
    assert cp.session(stored).signature.labels == NAMES


@pytest.mark.parametrize("to", ["onnx", "mlprogram", "neuralnetwork"])
@pytest.mark.parametrize("labels", [NAMES[:3], (*NAMES, "more")])
def test_labels_of_a_source_that_do_not_fit_its_classes_are_refused(to: Any, labels: tuple[str, ...]) -> None:
    with pytest.raises(InputError, match="labels do not fit") as caught:
        cp.convert(dataclasses.replace(source(), labels=labels), to)
    assert "5 labels" in str(caught.value)


def test_prove_refuses_labels_of_a_source_that_do_not_fit_before_it_begins(photos: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="labels do not fit"):
        cp.prove(dataclasses.replace(source(), labels=NAMES[:3]), photos, tmp_path / "out", witness=False)
    assert not list(tmp_path.glob("out/*"))


def test_labels_go_through_onnx_and_back(tmp_path: Path) -> None:
    cp.convert(source(), "onnx").save(tmp_path / "a.onnx")
    cp.convert(tmp_path / "a.onnx", "neuralnetwork").save(tmp_path / "b.mlmodel")
    cp.upgrade(cp.load(tmp_path / "b.mlmodel")).save(tmp_path / "c.mlpackage")
    cp.convert(tmp_path / "c.mlpackage", "onnx").save(tmp_path / "d.onnx")
    for name in ("b.mlmodel", "c.mlpackage", "d.onnx"):
        assert cp.load(tmp_path / name).signature.labels == NAMES, name
    [first, *_] = cp.predict(tmp_path / "d.onnx", Image.new("RGB", (8, 8)), feeding=cp.Feeding(size=(8, 8)))
    assert first.label in NAMES


def test_prove_writes_its_labels_into_the_models_and_the_app_shows_them(photos: Path, tmp_path: Path) -> None:
    proof = cp.prove(source(), photos, tmp_path / "out", witness=False)
    for file in ("t2o.onnx", "t2c.mlpackage", "t2c16.mlpackage", "t2nn.mlmodel"):
        assert cp.load(tmp_path / "out" / "models" / file).signature.labels == NAMES, file
    assert proof.models["t2c"].signature.labels == NAMES
    cp.app(tmp_path / "out" / "models" / "t2c16.mlpackage", photos, tmp_path / "App")
    plan = json.loads(next((tmp_path / "App").rglob("proof.json")).read_text(encoding="utf-8"))
    assert tuple(plan["labels"]) == NAMES
    assert plan["kind"] == "classifier"


def test_labels_that_are_given_to_prove_are_taken(photos: Path, tmp_path: Path) -> None:
    net = cp.load(network(tmp_path / "net.onnx"))
    count = net.signature.outputs[0].shape[-1]  # type: ignore[index]
    named = tuple(f"class {n}" for n in range(int(count)))  # type: ignore[arg-type]
    fed = cp.Feeding(size=(8, 8), scale=0.01)
    cp.prove(net, photos, tmp_path / "out", feeding=fed, labels=named)
    for file in ("o2c.mlpackage", "o2c16.mlpackage", "o2nn.mlmodel"):
        assert cp.load(tmp_path / "out" / "models" / file).signature.labels == named
    assert net.signature.labels is None
    compared = json.loads((tmp_path / "out" / "comparison.json").read_text(encoding="utf-8"))
    assert "class 1" in json.dumps(compared)
    with pytest.raises(InputError, match=rf"{count} labels[\s\S]*2 labels"):
        cp.prove(net, photos, tmp_path / "other", feeding=fed, labels=("a", "b"))


@pytest.mark.parametrize("to", ["mlprogram", "neuralnetwork"])
def test_noted_labels_are_edited_like_a_classifiers(to: Any) -> None:
    model = cp.convert(source(), to)
    other = ("a", "b", "c", "d", "e")
    assert cp.edit(model, [cp.Edit("relabel", {"labels": other})]).model.signature.labels == other
    with pytest.raises(EditError, match="5 labels"):
        cp.edit(model, [cp.Edit("relabel", {"labels": ("a",)})])


def test_labels_of_an_explicit_classifier_are_its_own() -> None:
    model: Any = cp.convert(source(), "mlprogram", labels=("a", "b", "c", "d", "e"))
    assert model.signature.labels == ("a", "b", "c", "d", "e")
    assert LABELS not in model.spec.description.metadata.userDefined


@pytest.mark.parametrize(
    "text", ["", "{", "{}", "[]", "[1, true]", '["a", 1]', '["\\ud800"]', "[1e3]", "[" * 100_000, "null", f"[{2**63}]"]
)
def test_what_stands_in_their_place_and_is_no_list_of_labels_is_none(text: str) -> None:
    assert noted_labels({LABELS: text}) is None


def test_labels_are_noted_and_taken_out() -> None:
    held: dict[str, str] = {}
    note_labels(held, NAMES)
    assert noted_labels(held) == NAMES
    note_labels(held, (3, 1))
    assert noted_labels(held) == (3, 1)
    note_labels(held, None)
    assert held == {}
