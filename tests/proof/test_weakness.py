"""A proof says in its first sentence, in proof.json and on its page when what agrees proves little, and ends with 1 then."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

import coreproof as cp
from coreproof.cli.proof_lines import step_line
from coreproof.errors import ConversionError
from coreproof.proof.document import Proof
from tests.cli.conftest import Ran, coreproof

__all__ = ["coreproof"]

FED = cp.Feeding(size=(8, 8), scale=0.01)
FLAGS = ("--size", "8", "--scale", "0.01")


def network(path: Path, *last: tuple[str, ...], bias: float = 0.0, **weights: float) -> Path:
    """A picture's 192 numbers times a matrix, plus a bias on class 1; ``last`` operators end it, with their further operands."""
    matrix = np.random.default_rng(0).normal(0, 1, (192, 5)).astype(np.float32)
    biases = np.zeros(5, np.float32)
    biases[1] = bias
    names = ["sum", *(f"v{k}" for k in range(1, len(last))), "y"] if last else ["y"]
    nodes = [
        helper.make_node("Flatten", ["x"], ["flat"]),
        helper.make_node("MatMul", ["flat", "w"], ["product"]),
        helper.make_node("Add", ["product", "b"], [names[0]]),
        *(helper.make_node(op, [names[k], *more], [names[k + 1]]) for k, (op, *more) in enumerate(last)),
    ]
    constants: Mapping[str, np.ndarray] = {
        "w": matrix,
        "b": biases,
        **{name: np.asarray(value, np.float32) for name, value in weights.items()},
    }
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 8, 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 5])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    rng = np.random.default_rng(4)
    for number in range(6):
        Image.fromarray(rng.integers(0, 255, (8, 8, 3), dtype=np.uint8)).save(folder / f"{number}.png")
    return folder


def told(proof: Proof) -> dict[str, object]:
    document = json.loads((proof.folder / "proof.json").read_text())
    assert document["verdict"]["text"] == proof.text
    return dict(document["verdict"])


VACUOUS = {
    "NaN": ((("Sub", "big"), ("Log",)), {"big": 1e9}, "is NaN on both sides"),
    "zero": ((("Sub", "big"), ("Relu",)), {"big": 1e9}, "is all zero on both sides"),
    "constant": ((("Clip", "low", "high"),), {"low": 1e6, "high": 2e6}, "is 1e+06 everywhere"),
}


@pytest.mark.sweep(1)
@pytest.mark.parametrize("fault", VACUOUS)
def test_an_output_that_proves_nothing_fails_the_proof(fault: str, photos: Path, tmp_path: Path) -> None:
    last, weights, words = VACUOUS[fault]
    proof = cp.prove(network(tmp_path / "net.onnx", *last, **weights), photos, tmp_path / "out", feeding=FED)
    assert not proof.proves
    verdict = told(proof)
    assert verdict["proves"] is False
    if proof.agrees:  # 1e6 is no float16, and that is another matter
        assert "but that proves little: output 'y'" in proof.text
        assert words in proof.text
        assert "is still the same model" not in proof.text
        assert 'class="verdict weak"' in proof.page.read_text()
    sanity = next(step for step in proof.steps if step.name == "Sanity")
    assert [w.fails for w in sanity.weaknesses] == [True]
    assert step_line(sanity).plain.startswith("?")


def test_the_conversion_that_alone_proves_little_is_named(photos: Path, tmp_path: Path) -> None:
    there_and_back = network(tmp_path / "net.onnx", ("Add", "big"), ("Sub", "big"), big=3e3)
    proof = cp.prove(there_and_back, photos, tmp_path / "out", feeding=FED)
    assert (proof.agrees, proof.proves) == (True, False)
    assert "but that of Core ML float16 (o2c16) proves little: rounding to" in proof.text
    assert told(proof)["proves"] is False


def test_one_class_on_every_photo_fails_the_proof_unless_that_is_allowed(
    photos: Path, tmp_path: Path, coreproof: Callable[..., Ran]
) -> None:
    net = network(tmp_path / "net.onnx", bias=1e4)
    ran = coreproof("prove", net, "--photos", photos, "--out", tmp_path / "out", *FLAGS)
    assert ran.code == 1
    assert "proves little: 'class 1' is the only class that is named on any photo" in ran.out
    verdict = json.loads((tmp_path / "out" / "proof.json").read_text())["verdict"]
    assert (verdict["agrees"], verdict["proves"]) == (True, False)
    assert [w["kind"] for w in verdict["weaknesses"] if w["fails"]] == ["one-class"]
    assert coreproof("prove", net, "--photos", photos, "--out", tmp_path / "out", *FLAGS, "--allow-weak").code == 0


def test_a_proof_over_several_classes_proves_and_says_that_the_pictures_are_few(photos: Path, tmp_path: Path) -> None:
    proof = cp.prove(network(tmp_path / "net.onnx"), photos, tmp_path / "out", feeding=FED)
    assert proof.proves
    assert proof.text.startswith("net is still the same model")
    assert "(only 6 pictures)." in proof.text
    assert 'class="verdict good"' in proof.page.read_text()


def test_random_weights_are_said_of_values_and_of_classes_and_fail_nothing(photos: Path, tmp_path: Path) -> None:
    model = cp.load(network(tmp_path / "net.onnx"))
    model.untrained = True
    proof = cp.prove(model, photos, tmp_path / "out", feeding=FED)
    assert proof.proves
    assert "untrained weights" in proof.text.split(".")[0]
    assert all(made.untrained for made in proof.models.values())
    assert proof.comparison is not None
    assert "untrained" in [weakness.kind for weakness in proof.comparison.weaknesses]


def test_a_model_that_nothing_could_be_made_of_is_not_called_the_same(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from coreproof.proof import chain as prove_module

    def refused(*_: object, **__: object) -> None:
        raise ConversionError("there is no such operator")

    monkeypatch.setattr(prove_module, "convert", refused)
    proof = cp.prove(network(tmp_path / "net.onnx"), photos, tmp_path / "out", feeding=FED)
    assert not proof.proves
    assert "no conversion was possible" in proof.text
    assert "same model" not in proof.text
