"""check-proof and compare-proofs: whether a proof still holds, and what distinguishes two."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper
from PIL import Image

import coreproof as cp
from coreproof.proof.document import spoken
from tests.cli.conftest import Ran
from tests.cli.conftest import coreproof as coreproof
from tests.cli.test_show_and_predict import classifier
from tests.verification.test_weakness import net

Run = Callable[..., Ran]
VERIFIED = f"Verify {spoken('o2nn')} against {spoken('onnxm')}"


def network(place: Path, factor: float = 2.0) -> Path:
    """Three layers; a NeuralNetwork, too, can hold them."""
    nodes = [helper.make_node("Sin", ["x"], ["a"]), helper.make_node("Mul", ["a", "w"], ["b"])]
    onnx.save(net([*nodes, helper.make_node("Tanh", ["b"], ["y"])], ["y"], w=np.float32(factor)), place)
    return place


@pytest.fixture(scope="module")
def proved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A source and its proof, made once."""
    folder = tmp_path_factory.mktemp("proved")
    cp.prove(network(folder / "net.onnx"), None, folder / "proof", witness=False)
    return folder


@pytest.fixture
def proof(proved: Path, tmp_path: Path) -> Path:
    """The same to write into: ``net.onnx`` and ``proof``."""
    shutil.copytree(proved, tmp_path, dirs_exist_ok=True)
    return tmp_path / "proof"


def rewrite(place: Path, change: Callable[[dict[str, Any]], None]) -> None:
    document = json.loads((place / "proof.json").read_text())
    change(document)
    (place / "proof.json").write_text(json.dumps(document))


def test_a_proof_holds_when_its_steps_find_the_same_again(coreproof: Run, proof: Path) -> None:
    ran = coreproof("check-proof", proof, proof.parent / "net.onnx")
    assert (ran.code, ran.err) == (0, "")
    assert "still holds" in ran.out
    assert "✓ o2c16: models/o2c16.mlpackage: the same content" in ran.out
    assert "✓ steps: carried out again, with the same findings" in ran.out
    assert sorted(p.name for p in proof.parent.iterdir()) == ["net.onnx", "proof"]


def test_without_the_source_it_is_not_known(coreproof: Run, proof: Path) -> None:
    ran = coreproof("check-proof", proof / "proof.json", "--json")
    document = json.loads(ran.out)
    assert (ran.code, document["holds"], document["repeated"]) == (2, None, False)
    assert document["format"] == "coreproof proof check"


def test_a_model_that_was_changed_since_is_named(coreproof: Run, proof: Path) -> None:
    weights = proof / "models" / "o2nn.mlmodel"
    weights.write_bytes(weights.read_bytes() + b"\x00")
    shutil.rmtree(proof / "models" / "o2c.mlpackage")
    found = cp.check_proof(proof)
    assert found.holds is False
    failed = {line.what: line.text for line in found.lines if line.holds is False}
    assert failed == {
        "o2c": "models/o2c.mlpackage is not there",
        "o2nn": "models/o2nn.mlmodel: changed since the proof",
    }
    assert coreproof("check-proof", proof).code == 1


def test_a_source_of_other_weights_is_not_the_one_that_was_proved(proof: Path) -> None:
    found = cp.check_proof(proof, network(proof.parent / "net.onnx", factor=3.0))
    assert [line.what for line in found.lines if line.holds is False] == ["source"]
    assert not found


def test_other_inputs_are_said(tmp_path: Path) -> None:
    source = network(tmp_path / "net.onnx")
    shape = [d.dim_value for d in onnx.load(source).graph.input[0].type.tensor_type.shape.dim]
    rng = np.random.default_rng(0)
    for name in ("one", "other"):
        np.savez(tmp_path / f"{name}.npz", x=rng.normal(size=shape).astype(np.float32))
    cp.prove(source, None, tmp_path / "proof", inputs=tmp_path / "one.npz", witness=False)
    assert cp.check_proof(tmp_path / "proof", source).holds is None
    assert cp.check_proof(tmp_path / "proof", source, inputs=tmp_path / "one.npz").holds is True
    found = cp.check_proof(tmp_path / "proof", source, inputs=tmp_path / "other.npz")
    assert [line.what for line in found.lines if line.holds is False] == ["arrays"]


@pytest.mark.thorough
def test_photos_are_fed_as_they_were(coreproof: Run, tmp_path: Path) -> None:
    classifier(tmp_path)
    (tmp_path / "photos").mkdir()
    for name, colour in (("red", (220, 10, 10)), ("blue", (10, 10, 220))):
        Image.new("RGB", (12, 12), colour).save(tmp_path / "photos" / f"{name}.png")
    source, photos, proof = tmp_path / "colours.onnx", tmp_path / "photos", tmp_path / "proof"
    assert coreproof("prove", source, "--photos", photos, "--out", proof, "--size", 8, "--scale", "1/255").code == 0
    assert coreproof("check-proof", proof, source, "--photos", photos).code == 0
    Image.new("RGB", (12, 12), (10, 220, 10)).save(photos / "blue.png")
    ran = coreproof("check-proof", proof, source, "--photos", photos)
    assert (ran.code, "✗ photos: other ones than those of the proof" in ran.out) == (1, True)


def test_a_finding_that_is_not_found_again_is_said(proof: Path) -> None:
    def fewer(document: dict[str, Any]) -> None:
        for step in document["steps"]:
            if step["kind"] == "verify":
                step["rows"][0]["agrees"] = False

    rewrite(proof, fewer)
    found = cp.check_proof(proof, proof.parent / "net.onnx")
    # better than was said is no failure, and is told
    assert found.holds is True
    assert any("values agree" in line.text for line in found.lines)


@pytest.mark.parametrize("place", ["../net.onnx", "/etc/hostname"])
def test_a_proof_leads_to_no_file_outside_its_folder(proof: Path, place: str) -> None:
    rewrite(proof, lambda document: document["rests_on"]["models"]["o2c"].update(file=place))
    found = cp.check_proof(proof)
    assert [line.text for line in found.lines if line.what == "o2c"] == [f"{place!r} lies outside the proof's folder"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda d: d.update(format="something"), "this is no proof that this coreproof reads"),
        (lambda d: d.update(version=99), "this is no proof that this coreproof reads"),
        (lambda d: d.update(rests_on=None), "this proof does not say what it rests on"),
        (lambda d: d.pop("verdict"), "verdict is missing"),
        (lambda d: d["steps"].append(3), "expected a table, found a whole number"),
        (lambda d: d["rests_on"].update(models=[1]), "rests_on.models: expected a table"),
        (lambda d: d["rests_on"].update(feeding={"size": [0, 0]}), "rests_on.feeding.size"),
    ],
)
def test_what_is_no_proof_is_refused_by_name(
    coreproof: Run, proof: Path, change: Callable[[dict[str, Any]], None], words: str
) -> None:
    rewrite(proof, change)
    ran = coreproof("check-proof", proof)
    assert ran.code == 2
    assert words in ran.err


def test_what_is_no_json_is_refused(coreproof: Run, tmp_path: Path) -> None:
    (tmp_path / "proof.json").write_text("{")
    for verb in (("check-proof", tmp_path), ("compare-proofs", tmp_path, tmp_path)):
        ran = coreproof(*verb)
        assert (ran.code, "damaged" in ran.err) == (2, True)
    assert coreproof("check-proof", tmp_path / "none").code == 2


def test_two_proofs_of_one_model_do_not_differ(coreproof: Run, proof: Path, proved: Path) -> None:
    ran = coreproof("compare-proofs", proof, proved / "proof")
    assert ran.code == 0
    assert "nothing differs" in ran.out


def test_what_became_worse_is_told_and_fails(coreproof: Run, proof: Path, proved: Path) -> None:
    def worse(document: dict[str, Any]) -> None:
        step = next(s for s in document["steps"] if s["name"] == VERIFIED)
        step["ok"], step["rows"][-1]["agrees"], step["first_divergence"] = False, False, step["rows"][-1]
        document["verdict"].update(agrees=False, proves=False, text="net does not survive")
        document["versions"]["numpy"] = "0.1"

    rewrite(proof, worse)
    ran = coreproof("compare-proofs", proved / "proof", proof)
    assert ran.code == 1
    assert f"✗ {VERIFIED}" in " ".join(ran.out.split())
    assert "first diverges 'y'" in ran.out
    assert "✗ verdict" in ran.out
    assert "– version of numpy" in ran.out
    back = cp.compare_proofs(proof, proved / "proof")
    assert back
    assert {change.what: change.worse for change in back.changes} == {
        "verdict": False,
        VERIFIED: False,
        "version of numpy": None,
    }


def test_other_options_are_told_and_are_neither_better_nor_worse(coreproof: Run, proof: Path, proved: Path) -> None:
    rewrite(proof, lambda document: document["rests_on"]["options"].update(target="iOS18"))
    ran = coreproof("compare-proofs", proved / "proof", proof)
    assert ran.code == 0
    assert "– option target" in ran.out
    assert "iOS18" in ran.out


def test_two_proofs_have_a_page(coreproof: Run, proof: Path, proved: Path, tmp_path: Path) -> None:
    def worse(document: dict[str, Any]) -> None:
        step = next(s for s in document["steps"] if s["name"] == VERIFIED)
        step["ok"], step["rows"][-1]["agrees"], step["first_divergence"] = False, False, step["rows"][-1]
        document["verdict"].update(agrees=False, proves=False, text="net <does> not survive")

    rewrite(proof, worse)
    ran = coreproof("compare-proofs", proved / "proof", proof, "--out", tmp_path / "page")
    assert ran.code == 1
    html = (tmp_path / "page" / "index.html").read_text(encoding="utf-8")
    assert "2 things became worse." in html
    assert "net &lt;does&gt; not survive" in html
    assert html.index("first diverges &#39;y&#39;") < html.index("Step by step")
    assert str(tmp_path) not in html
    # what stands there is a page, and what is none stays
    assert coreproof("compare-proofs", proof, proof, "--out", tmp_path / "page").code == 0
    assert "The two proofs do not differ." in (tmp_path / "page" / "index.html").read_text(encoding="utf-8")
    (tmp_path / "page" / "index.html").write_text("mine")
    assert coreproof("compare-proofs", proof, proof, "--out", tmp_path / "page").code == 2
    assert (tmp_path / "page" / "index.html").read_text() == "mine"


def test_weights_change_the_digest_and_the_manifest_does_not(tmp_path: Path) -> None:
    from coreproof.proof.foundation import file_digest

    one, other = tmp_path / "a" / "net.mlpackage", tmp_path / "b" / "net.mlpackage"
    for place in (one, other):
        place.parent.mkdir()
        cp.convert(network(tmp_path / "net.onnx"), "mlprogram").save(place)
    assert file_digest(one) == file_digest(other)
    model = onnx.load(network(tmp_path / "net.onnx"))
    model.graph.initializer[0].CopyFrom(numpy_helper.from_array(np.float32(5), model.graph.initializer[0].name))
    onnx.save(model, tmp_path / "net.onnx")
    cp.convert(tmp_path / "net.onnx", "mlprogram").save(other)
    assert file_digest(one) != file_digest(other)
