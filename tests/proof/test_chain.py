"""prove writes page, proof and models together at the end, and leaves what was there when it does not come to it."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

import coreproof as cp
from coreproof.errors import OutputExistsError, PhotoError
from coreproof.proof import chain as prove_module
from tests.cli.test_replacing import content, network

FED = cp.Feeding(size=(8, 8), scale=0.01)


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
