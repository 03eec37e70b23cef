"""prove writes page, proof and models together at the end, and leaves what was there when it does not come to it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from PIL import Image

import coreproof as cp
from coreproof.errors import InputError, OutputExistsError, PhotoError
from coreproof.model.coreml.model import CoreMLModel
from coreproof.model.noted_feeding import FEEDING, note_feeding, noted_feeding
from coreproof.proof import chain as prove_module
from tests.build import graph_model
from tests.cli.test_replacing import content, network

FED = cp.Feeding(size=(8, 8), scale=0.01)


def with_free_batch(folder: Path) -> Path:
    """The network of five classes, for any number of pictures."""
    made = folder / "free.onnx"
    stored = onnx.load(network(folder / "net.onnx"))
    stored.graph.input[0].type.tensor_type.shape.dim[0].dim_param = "batch"
    stored.graph.output[0].type.tensor_type.shape.dim[0].dim_param = "batch"
    onnx.save(stored, made)
    return made


def test_the_models_of_a_proof_are_those_in_its_folder(photos: Path, tmp_path: Path) -> None:
    net = network(tmp_path / "net.onnx")
    proof = cp.prove(net, photos, tmp_path / "out", feeding=FED)
    assert proof
    made = sorted(p.relative_to(tmp_path / "out").as_posix() for p in (tmp_path / "out").glob("*[!e]*/*.ml*"))
    assert made == ["models/o2c.mlpackage", "models/o2c16.mlpackage", "models/o2nn.mlmodel"]
    for name in ("o2c", "o2c16", "o2nn"):
        model = proof.models[name]
        assert model.path is not None
        assert model.path.parent == tmp_path / "out" / "models"
        assert cp.verify(cp.load(net), model).agrees
    assert not list(tmp_path.rglob(".coreproof-*"))
    assert 'href="store/"' in proof.page.read_text()


def test_a_proof_that_fails_leaves_the_old_one(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    net, out = network(tmp_path / "net.onnx"), tmp_path / "out"
    cp.prove(net, photos, out, feeding=FED)
    old = {name: held for name, held in content(out).items() if not name.startswith("store")}

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(prove_module._Chain, "compare", full)
    with pytest.raises(OSError, match="No space") as caught:
        cp.prove(net, photos, out, feeding=FED)
    assert caught.value.filename == str(out)
    assert {name: held for name, held in content(out).items() if not name.startswith("store")} == old


def test_a_proof_without_photos_leaves_no_folder(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    with pytest.raises(PhotoError):
        cp.prove(network(tmp_path / "net.onnx"), tmp_path / "photos", tmp_path / "a" / "out", feeding=FED)
    assert not (tmp_path / "a").exists()


def test_what_stands_in_the_place_of_a_model_stays(photos: Path, tmp_path: Path) -> None:
    net, mine = network(tmp_path / "net.onnx"), tmp_path / "out" / "models" / "o2nn.mlmodel"
    mine.parent.mkdir(parents=True)
    mine.write_text("years of work")
    with pytest.raises(OutputExistsError, match="o2nn"):
        cp.prove(net, photos, tmp_path / "out", feeding=FED)
    assert mine.read_text() == "years of work"
    assert cp.prove(net, photos, tmp_path / "out", feeding=FED, replace=True)


def test_eight_photos_are_verified_unless_another_number_is_asked_for(photos: Path, tmp_path: Path) -> None:
    for number in range(3, 12):
        Image.new("RGB", (12, 9), (20 * number, 10, 90)).save(photos / f"{number}.png")
    net = network(tmp_path / "net.onnx")
    for samples, seen in ((None, 8), (3, 3), (50, 12)):
        said = {} if samples is None else {"samples": samples}
        proof = cp.prove(net, photos, tmp_path / "out", feeding=FED, replace=True, **said)
        verified = [step.verification for step in proof.steps if step.verification is not None]
        assert {found.samples for found in verified} == {seen}
        assert f"{seen} photos, fed as" in verified[0].inputs


def test_broken_photos_are_left_out_and_said(photos: Path, tmp_path: Path) -> None:
    (photos / "a.jpg").write_text("no picture")
    (photos / "zz.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    proof = cp.prove(network(tmp_path / "net.onnx"), photos, tmp_path / "out", feeding=FED)
    assert proof
    assert proof.comparison is not None
    assert proof.comparison.skipped_count == 2
    notes = [note for note in proof.steps[0].notes if note.startswith("photo left out")]
    assert [note.split(": ")[1] for note in notes] == ["a.jpg", "zz.png"]
    assert proof.steps[-1].text.startswith(f"4 models over {proof.comparison.count} photos, 2 left out")
    for file in photos.iterdir():
        file.write_text("no picture")
    with pytest.raises(PhotoError, match=r"none of the photos can be read(.|\n)*a\.jpg"):
        cp.prove(network(tmp_path / "net.onnx"), photos, tmp_path / "none", feeding=FED)


def test_the_models_are_made_to_ship(photos: Path, tmp_path: Path) -> None:
    net, out = network(tmp_path / "net.onnx"), tmp_path / "out"
    proof = cp.prove(
        *(net, photos, out),
        feeding=FED, target="iOS18", precision="float16", limit=2, labels=[*"abcde"],
        metadata={"author": "me"}, describe={"x": "a picture", "y": "how sure it is"},
    )  # fmt: skip
    assert sorted(proof.models) == ["o2c16", "o2nn", "onnxm"]
    assert proof.comparison is not None
    assert proof.comparison.count == 2
    made = cp.load(out / "models" / "o2c16.mlpackage")
    assert isinstance(made, CoreMLModel)
    assert made.spec.specificationVersion == 9
    assert made.spec.description.metadata.author == "me"
    assert made.spec.description.input[0].shortDescription == "a picture"
    # what a picture becomes, and what the classes are called, goes where the file goes
    assert made.feeding == FED
    assert made.signature.labels == tuple("abcde")
    assert cp.check_proof(out, net, photos=photos)


def test_where_classes_are_known_the_models_are_classifiers(photos: Path, tmp_path: Path) -> None:
    net, out = network(tmp_path / "net.onnx"), tmp_path / "out"
    # two classes of one name, as ImageNet has two cranes: no dictionary holds both
    labels = ["crane", "b", "crane", "d", "e"]
    proof = cp.prove(net, photos, out, feeding=FED, labels=labels, describe={"y": "how sure it is"})
    assert proof
    assert proof.comparison is not None
    photo = min(photos.iterdir())
    index = cp.predict(net, photo, feeding=FED)[0].index
    for name, file in (("o2c", "o2c.mlpackage"), ("o2c16", "o2c16.mlpackage"), ("o2nn", "o2nn.mlmodel")):
        made = cp.load(out / "models" / file)
        assert isinstance(made, CoreMLModel)
        assert [str(f) for f in made.signature.outputs] == [
            "classLabel: string",
            "classLabel_probs: dictionary of text to float64",
        ]
        assert made.spec.description.output[1].shortDescription == "how sure it is"
        assert made.signature.labels == tuple(labels)
        assert any("'crane' stands for classes 0, 2" in note for note in proof.models[name].notes)
        assert cp.verify(net, made)
        assert cp.predict(made, photo)[0].label == labels[index]
    assert cp.check_proof(out, net, photos=photos)
    app = cp.app(out / "models" / "o2c16.mlpackage", photos, tmp_path / "app")
    assert app.plan["kind"] == "classifier"
    assert app.plan["labels"] == labels
    assert (app.plan["title"], app.plan["model"]) == ("net", "Net"), "called as its source is, not as the file"
    assert cp.app(out / "models" / "o2c.mlpackage", photos, tmp_path / "other", title="Mine").plan["title"] == "Mine"


@pytest.mark.parametrize("batch", ["1,4", "1-4", "2"])
def test_models_that_take_a_batch_note_their_classes_and_are_no_classifiers(batch: str, tmp_path: Path) -> None:
    made = with_free_batch(tmp_path)
    proof = cp.prove(made, None, tmp_path / "out", labels=[*"abcde"], batch=batch)
    assert proof
    assert any("one sample at a time" in note for note in proof.steps[0].notes)
    for name in ("o2c", "o2c16", "o2nn"):
        assert proof.models[name].signature.predicted_label is None
        assert proof.models[name].signature.labels == tuple("abcde")


def test_a_batch_makes_arrays_and_photos_need_one_of_one(photos: Path, tmp_path: Path) -> None:
    made = with_free_batch(tmp_path)
    proof = cp.prove(made, photos, tmp_path / "out", feeding=FED, batch="1,4", precision="fp32")
    assert proof
    taken = proof.models["o2c"].signature.inputs[0]
    assert taken.image is None
    assert set(taken.enumerated) == {(1, 3, 8, 8), (4, 3, 8, 8)}
    with pytest.raises(InputError, match=r"one by one(.|\n)*--batch 1,4"):
        cp.prove(made, photos, tmp_path / "other", feeding=FED, batch=4)


@pytest.mark.parametrize(
    "noted", ["{", "[]", '{"size": [99999999, 9]}', '{"size": [16000000, 16000000]}', '{"std": [0]}']
)
def test_a_feeding_that_is_none_is_not_believed(noted: str) -> None:
    assert noted_feeding({FEEDING: noted}) is None
    kept: dict[str, str] = {}
    note_feeding(kept, FED)
    assert noted_feeding(kept) == FED


@pytest.mark.parametrize("end", ["y = MatMul(s, one)", "y = ArgMax<axis=1>(s)"])
def test_a_network_that_names_no_class_is_proved_without_them(end: str, photos: Path, tmp_path: Path) -> None:
    """Its numbers are held against each other; a single number, or the number of a class, is no row of scores."""
    source = tmp_path / "net.onnx"
    dtype = "int64" if "ArgMax" in end else "float"
    text = f"net (float[1,3,8,8] x) => ({dtype}[1,1] y) {{ r = Relu(x) f = Flatten(r) s = MatMul(f, w) {end} }}"
    stored = {"w": np.random.default_rng(0).standard_normal((192, 5)).astype(np.float32)}
    if "one" in end:
        stored["one"] = np.ones((5, 1), np.float32)
    source.write_bytes(graph_model(text, **stored).stored())
    proof = cp.prove(source, photos, tmp_path / "out", feeding=FED)
    (step,) = [step for step in proof.steps if step.kind == "compare"]
    assert step.text == "skipped: the model is no classifier: its answer is no row of scores"
    assert (tmp_path / "out" / "proof.json").is_file()
    assert all(s.verification is None or s.verification.agrees for s in proof.steps)
