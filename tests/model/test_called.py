"""What people call a model's format: judged by what is stored, not by a file's name."""

from __future__ import annotations

from typing import Literal

import pytest

from coreproof.conversion.convert import Target, convert
from tests.build import classifier


@pytest.mark.parametrize(
    ("to", "precision", "called"),
    [
        ("mlprogram", "fp32", "Core ML float32"),
        ("mlprogram", "fp16", "Core ML float16"),
        ("neuralnetwork", None, "Core ML NeuralNetwork"),
    ],
)
def test_a_core_ml_model_tells_its_precision(
    to: Target, precision: Literal["fp32", "fp16"] | None, called: str
) -> None:
    assert convert(classifier(0), to, precision=precision).called == called


def test_a_source_is_called_by_its_format() -> None:
    assert classifier(0).called == "ONNX"
