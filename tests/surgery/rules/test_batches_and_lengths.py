"""Batches that model and source fix alike, and inputs that are declared otherwise than the layers take them."""

from __future__ import annotations

from typing import Any

import pytest

import coreproof as cp
from coreproof.model.base import Model
from coreproof.surgery.diagnose import diagnose
from tests.surgery.rules.patients import assert_healthy, onnx_model, weights


def classifier(batch: int | str) -> Model:
    """x [batch, 3, 6, 6] -> y [batch, 5]."""
    nodes = [
        ("Conv", "x w", "c", {"pads": [1, 1, 1, 1]}),
        ("GlobalAveragePool", "c", "p", {}),
        ("Flatten", "p", "f", {}),
        ("Gemm", "f v", "y", {}),
    ]
    return onnx_model(nodes, {"x": [batch, 3, 6, 6]}, {"y": None}, w=weights(4, 3, 3, 3), v=weights(4, 5))


def dense(batch: int) -> Model:
    """x [batch, 7] -> y [batch, 5]."""
    return onnx_model([("Gemm", "x v", "y", {})], {"x": [batch, 7]}, {"y": None}, v=weights(7, 5))


@pytest.mark.parametrize("to", ["mlprogram", "neuralnetwork"])
@pytest.mark.parametrize("source", [classifier(4), dense(32)])
def test_a_batch_that_both_fix_is_told(to: Any, source: Model) -> None:
    batch = source.signature.inputs[0].shape[0]  # type: ignore[index]
    diagnosis = diagnose(cp.convert(source, to), source)
    assert [(f.rule, f.repaired) for f in diagnosis] == [("fixed-batch", False)]
    assert f"exactly {batch} samples" in diagnosis[0].evidence
    assert f"batches of exactly {batch}" in diagnosis[0].repair


@pytest.mark.parametrize("to", ["mlprogram", "neuralnetwork"])
def test_a_batch_of_one_and_an_unknown_source_are_no_fault(to: Any) -> None:
    assert_healthy(cp.convert(classifier(1), to), classifier(1))
    assert_healthy(cp.convert(classifier(4), to))


def test_a_first_length_that_is_no_batch_is_none() -> None:
    """Rows of a sequence that are mixed with each other are one sample."""
    mixing = onnx_model(
        [("MatMul", "w x", "m", {}), ("Gemm", "m v", "y", {})],
        {"x": [6, 7]},
        {"y": None},
        w=weights(6, 6),
        v=weights(7, 5),
    )
    assert_healthy(cp.convert(mixing, "mlprogram"), mixing)
