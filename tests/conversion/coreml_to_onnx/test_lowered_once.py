"""A verb lowers a Core ML model once in each arithmetic, however often its parts ask for it."""

from __future__ import annotations

import gc
import weakref
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

import coreproof as cp
from coreproof.conversion.coreml_to_onnx import convert as lowering
from coreproof.conversion.coreml_to_onnx.convert import coreml_to_onnx, lowered_once
from tests.build import onnx_model

TEXT = '<ir_version: 8, opset_import: ["": 17]> net (float[1,4] x) => (float[1,4] y) { h = Relu(x) y = Sigmoid(h) }'


@pytest.fixture
def lowered(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often something was lowered, by the arithmetic."""
    count: Counter[str] = Counter()
    plain = lowering._lowered

    def counted(model: Any, precision: Any, function: Any) -> Any:
        count[precision] += 1
        return plain(model, precision, function)

    monkeypatch.setattr(lowering, "_lowered", counted)
    return count


@pytest.fixture(params=["mlprogram", "neuralnetwork"])
def model(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    suffix = ".mlpackage" if request.param == "mlprogram" else ".mlmodel"
    path = cp.convert(onnx_model(TEXT), request.param, check=False).save(tmp_path / f"net{suffix}")
    return cp.load(path)


def test_the_doctor_and_a_conversion_lower_once(model: Any, lowered: Counter[str]) -> None:
    assert cp.diagnose(model).healthy
    assert max(lowered.values()) == 1
    lowered.clear()
    assert cp.verify(model, model)
    assert lowered == {"stored": 1}
    lowered.clear()
    cp.convert(model, "onnx")
    assert max(lowered.values()) == 1


def test_outside_it_every_call_reads_the_model_as_it_stands(model: Any, lowered: Counter[str]) -> None:
    assert coreml_to_onnx(model) is not coreml_to_onnx(model)
    with lowered_once():
        first = coreml_to_onnx(model)
        with lowered_once():
            assert coreml_to_onnx(model) is first
        assert coreml_to_onnx(model) is first
        assert coreml_to_onnx(model, precision="fp32") is not first
    assert coreml_to_onnx(model) is not first
    assert lowered == {"stored": 4, "fp32": 1}


def test_no_more_than_two_are_held_and_nothing_afterwards(model: Any, lowered: Counter[str]) -> None:
    with lowered_once():
        held = [weakref.ref(coreml_to_onnx(cp.load(model.path))) for _ in range(5)]
        gc.collect()
        assert sum(ref() is not None for ref in held) == 2
    gc.collect()
    assert not any(ref() is not None for ref in held)
