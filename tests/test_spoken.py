"""Results read as what they found: as text their summary, at a prompt one line; models are called what people call them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import coreproof as cp
from coreproof.model.load import load
from coreproof.model.notebook_view import Spoken, plain
from coreproof.proof.document import spoken
from tests.cli.test_replacing import network

FED = cp.Feeding(size=(8, 8), scale=0.01)


def test_a_verification_prints_its_summary(tmp_path: Path) -> None:
    net = network(tmp_path / "net.onnx")
    cp.convert(net, "mlprogram").save(tmp_path / "net.mlpackage")
    found = cp.verify(net, tmp_path / "net.mlpackage")
    assert str(found) == found.summary()
    assert repr(found) == f"<Verification: {found.summary().splitlines()[0]}>"
    assert found.summary().splitlines()[0] in plain(found)


@pytest.mark.thorough
def test_other_results_do_likewise(photos: Path, tmp_path: Path) -> None:
    net = network(tmp_path / "net.onnx")
    proof = cp.prove(net, photos, tmp_path / "out", feeding=FED, witness=False)
    results: list[Spoken] = [proof, cp.check(net), cp.diff(net, net), cp.diagnose(net)]
    assert proof.comparison is not None
    results += [
        proof.comparison,
        cp.check_proof(tmp_path / "out"),
        cp.compare_proofs(tmp_path / "out", tmp_path / "out"),
    ]
    for result in results:
        assert str(result)
        assert repr(result) == f"<{type(result).__name__}: {str(result).splitlines()[0]}>"
        assert len(repr(result)) < 400
    assert str(proof) == proof.text
    assert "nothing differs" in str(results[2])
    assert "4 models over" in str(proof.comparison)
    assert [step.name for step in proof.steps if step.kind == "verify"] == [
        f"Verify {name} against ONNX (onnxm)"
        for name in ("Core ML float32 (o2c)", "Core ML float16 (o2c16)", "Core ML NeuralNetwork (o2nn)")
    ]
    assert spoken("mine") == "mine"


def test_record_takes_a_path(tmp_path: Path) -> None:
    net = network(tmp_path / "net.onnx")
    assert cp.record(net, tmp_path / "run.npz").name == "net"
    assert cp.verify(tmp_path / "run.npz", net)


class Flowers(torch.nn.Module):
    """A class of one's own."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + 1


def test_a_module_is_called_as_its_class() -> None:
    net, x = Flowers(), torch.zeros(1, 2)
    assert [load(given).name for given in ((net, x), cp.Source(net, (x,)))] == ["Flowers", "Flowers"]
    assert load(net, example=x).name == "Flowers"


@pytest.mark.parametrize(("function", "name"), [("make", "mine"), ("build_model", "mine"), ("flowers", "flowers")])
def test_a_function_that_says_nothing_gives_its_files_name(function: str, name: str, tmp_path: Path) -> None:
    made = tmp_path / "mine.py"
    made.write_text(f"import torch\ndef {function}():\n    return torch.nn.Linear(2, 2), torch.zeros(1, 2)\n")
    assert load(f"{made}:{function}").name == name


def test_errors_speak_python_too(tmp_path: Path) -> None:
    """What a command line is told to add is no word of Python's."""
    net = network(tmp_path / "net.onnx")
    torch.save(Flowers(), tmp_path / "whole.pt")
    for wrong, word in (
        (lambda: cp.load(tmp_path / "whole.pt"), "trust=True"),
        (lambda: cp.convert(net, batch="many"), "batch='1-16'"),
        (lambda: cp.verify(net, net, freeze_state=True), "freeze_state"),
        (lambda: cp.app(cp.convert(net), None, tmp_path / "app", title=" "), "title='My model'"),
    ):
        with pytest.raises(cp.CoreproofError, match=r"in Python: ") as caught:
            wrong()
        assert word in str(caught.value)
