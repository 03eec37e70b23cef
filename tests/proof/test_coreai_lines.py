"""The lines of Core AI in a proof: ours, the same by Apple's interpreter, and what coreai-torch makes, where it is installed."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

import coreproof as cp
from coreproof.conversion import coreai_torch_route
from coreproof.errors import ConversionError
from coreproof.model.coreai import child
from coreproof.proof.shipping import Shipping
from tests.aimodels import needs_coreai
from tests.cli.test_replacing import network

FED = cp.Feeding(size=(8, 8), scale=0.01)
needs_coreai_torch = pytest.mark.skipif(find_spec("coreai_torch") is None, reason="needs Apple's coreai-torch")


def module() -> cp.Source:
    import torch

    torch.manual_seed(0)
    layers = torch.nn.Conv2d(3, 4, 3), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(144, 5)
    return cp.Source(torch.nn.Sequential(*layers).eval(), (torch.randn(1, 3, 8, 8),))


def test_without_apple_s_package_there_are_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(child, "find_spec", lambda name: None)
    assert [name for name, _, _ in Shipping().conversions("o2")] == ["o2c", "o2c16", "o2nn"]


def test_with_it_the_program_has_the_width_that_was_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(child, "find_spec", lambda name: name)
    assert Shipping().conversions("t2")[-1] == ("t2a", "coreai", "fp16")
    assert Shipping(precision="fp32").conversions("t2")[-1] == ("t2a", "coreai", "fp32")


@needs_coreai
def test_a_network_s_line_is_verified_on_both_engines_and_compared(photos: Path, tmp_path: Path) -> None:
    proof = cp.prove(network(tmp_path / "net.onnx"), photos, tmp_path / "out", feeding=FED)
    assert proof
    assert (tmp_path / "out" / "models" / "o2a.aimodel" / "main.mlirb").exists()
    found = {step.candidate: step for step in proof.steps if step.kind == "verify"}
    assert {"o2a", "apple"} <= set(found)
    apples = found["apple"].verification
    assert apples is not None
    assert apples.engines[1] == "Apple's Core AI interpreter"
    assert "the first 2 of" in apples.to_json()["inputs"]  # type: ignore[operator]
    assert proof.comparison is not None
    assert "o2a" in proof.comparison.names
    assert cp.check_proof(tmp_path / "out").holds is None


@needs_coreai
@needs_coreai_torch
def test_apple_s_own_route_is_held_against_the_module_by_apple_s_own_interpreter(tmp_path: Path) -> None:
    proof = cp.prove(module(), None, tmp_path / "out")
    assert proof
    (cat,) = (step for step in proof.steps if step.kind == "verify" and step.candidate == "cat")
    assert (cat.reference, cat.ok) == ("torchm", True)
    assert cat.verification is not None
    assert cat.verification.engines == ("PyTorch", "Apple's Core AI interpreter")
    assert proof.models["cat"].path is not None


@needs_coreai
@needs_coreai_torch
def test_a_route_that_fails_is_a_step_that_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: Any) -> Any:
        raise ConversionError("coreai-torch's own route fails on this model", found="no lowering for aten.odd")

    monkeypatch.setattr(coreai_torch_route, "coreai_torch_route", fails)
    proof = cp.prove(module(), None, tmp_path / "out")
    assert proof
    (told,) = (step for step in proof.steps if step.candidate == "cat")
    assert (told.kind, told.ok, told.text) == ("witness", None, "fails on this model: no lowering for aten.odd")
    assert "cat" not in proof.models
