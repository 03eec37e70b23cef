"""Batches that model and source fix alike, and inputs that are declared otherwise than the layers take them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import coreproof as cp
from coreproof.doctor.diagnose import diagnose
from coreproof.model.base import Model
from coreproof.model.coreml.model import CoreMLModel
from tests.build import mil, onnx_net, weights
from tests.doctor.rules.cases import assert_healthy


def classifier(batch: int | str) -> Model:
    """x [batch, 3, 6, 6] -> y [batch, 5]."""
    nodes = [
        ("Conv", "x w", "c", {"pads": [1, 1, 1, 1]}),
        ("GlobalAveragePool", "c", "p", {}),
        ("Flatten", "p", "f", {}),
        ("Gemm", "f v", "y", {}),
    ]
    return onnx_net(nodes, {"x": [batch, 3, 6, 6]}, {"y": None}, w=weights(4, 3, 3, 3), v=weights(4, 5))


def dense(batch: int) -> Model:
    """x [batch, 7] -> y [batch, 5]."""
    return onnx_net([("Gemm", "x v", "y", {})], {"x": [batch, 7]}, {"y": None}, v=weights(7, 5))


@pytest.mark.sweep(2)
@pytest.mark.parametrize("to", ["mlprogram", "neuralnetwork"])
@pytest.mark.parametrize("source", [classifier(4), dense(32)])
def test_a_batch_that_both_fix_is_told(to: Any, source: Model) -> None:
    batch = source.signature.inputs[0].shape[0]  # type: ignore[index]
    diagnosis = diagnose(cp.convert(source, to), source)
    assert [(f.rule, f.repaired) for f in diagnosis] == [("fixed-batch", False)]
    assert diagnosis[0].advice
    assert diagnosis.healthy  # as verify says of the same two files: nothing is wrong
    assert f"exactly {batch} samples" in diagnosis[0].evidence
    assert f"batches of exactly {batch}" in diagnosis[0].repair


@pytest.mark.parametrize("to", ["mlprogram", "neuralnetwork"])
def test_a_batch_of_one_and_an_unknown_source_are_no_fault(to: Any) -> None:
    assert_healthy(cp.convert(classifier(1), to), classifier(1))
    assert_healthy(cp.convert(classifier(4), to))


def test_a_first_length_that_is_no_batch_is_none() -> None:
    """Rows of a sequence that are mixed with each other are one sample."""
    mixing = onnx_net(
        [("MatMul", "w x", "m", {}), ("Gemm", "m v", "y", {})],
        {"x": [6, 7]},
        {"y": None},
        w=weights(6, 6),
        v=weights(7, 5),
    )
    assert_healthy(cp.convert(mixing, "mlprogram"), mixing)


# crops and lengths


def crop(side: int, takes: int) -> Model:
    """Pictures of side by side, for layers that take pictures of another side: a last layer for what they leave."""
    left = (takes - 3) // 2 + 1
    nodes = [("Conv", "x w", "c", {"strides": [2, 2]}), ("Flatten", "c", "f", {}), ("Gemm", "f v", "y", {})]
    return onnx_net(nodes, {"x": [1, 3, side, side]}, {"y": None}, w=weights(4, 3, 3, 3), v=weights(4 * left * left, 5))


def positions(length: int, takes: int) -> Model:
    """Rows and what is added to each place of them."""
    nodes = [("MatMul", "x w", "m", {}), ("Add", "m p", "y", {})]
    return onnx_net(nodes, {"x": [1, length, 8]}, {"y": None}, w=weights(8, 6), p=weights(1, takes, 6))


def declared(model: Model, to: Any, shape: list[int]) -> Model:
    """The converted model with the input declared anew, the layers as they are."""
    converted = cp.convert(model, to)
    assert isinstance(converted, CoreMLModel)
    spec = type(converted.spec)()
    spec.CopyFrom(converted.spec)
    spec.description.input[0].type.multiArrayType.shape[:] = shape
    if to == "mlprogram":
        function = next(iter(spec.mlProgram.functions.values()))
        for dimension, length in zip(function.inputs[0].type.tensorType.dimensions, shape, strict=True):
            dimension.constant.size = length
    return converted.with_spec(spec)


CASES = [(crop(35, 35), [1, 3, 32, 32]), (crop(32, 32), [1, 3, 28, 28]), (positions(12, 12), [1, 16, 8])]


@pytest.mark.sweep(2)
@pytest.mark.parametrize("to", ["mlprogram", "neuralnetwork"])
@pytest.mark.parametrize(("source", "shape"), CASES)
def test_what_the_source_takes_is_declared(to: Any, source: Model, shape: list[int]) -> None:
    diagnosis = diagnose(declared(source, to, shape), source)
    assert [(f.rule, f.repaired) for f in diagnosis] == [("declared-size", True)]
    assert diagnosis.repaired is not None
    assert diagnosis.repaired.signature.inputs[0].shape == source.signature.inputs[0].shape
    assert cp.verify(source, diagnosis.repaired).agrees


@pytest.mark.parametrize("to", ["mlprogram", "neuralnetwork"])
@pytest.mark.parametrize(("source", "shape"), CASES[1:])
def test_without_a_source_what_fits_is_named_and_not_guessed(to: Any, source: Model, shape: list[int]) -> None:
    diagnosis = diagnose(declared(source, to, shape))
    found = [f for f in diagnosis if f.rule == "declared-size"]
    assert len(found) == 1
    assert not found[0].repaired
    right = ",".join(map(str, source.signature.inputs[0].shape or ()))
    assert f"--do 'reshape x [{right}]'" in found[0].repair


def with_range(model: CoreMLModel, axis: int, low: int, high: int) -> CoreMLModel:
    """The model with one length of its input declared as a range."""
    spec = type(model.spec)()
    spec.CopyFrom(model.spec)
    array = spec.description.input[0].type.multiArrayType
    for place, length in enumerate(array.shape):
        ends = (low, high) if place == axis else (length, length)
        array.shapeRange.sizeRanges.add(lowerBound=ends[0], upperBound=ends[1])
    if model.format == "mlprogram":
        function = next(iter(spec.mlProgram.functions.values()))
        function.inputs[0].type.tensorType.dimensions[axis].unknown.variadic = False
    return model.with_spec(spec)


@pytest.mark.parametrize("low", [1, 4])
def test_a_range_of_which_one_length_is_taken_is_told(tmp_path: Path, low: int) -> None:
    """Also one whose low end, at which it is tried, does not run: it said no more than that."""

    def build(mb: Any, x: Any) -> Any:
        return mb.add(x=mb.linear(x=x, weight=weights(6, 8)), y=weights(1, 12, 6), name="y")

    model = with_range(mil(tmp_path, build, (1, 12, 8)), 1, low, 64)
    diagnosis = diagnose(model)
    assert [(f.rule, f.repaired) for f in diagnosis] == [("declared-size", False)]
    assert "take 'a' [1, 12, 8] alone" in diagnosis[0].evidence


def test_a_range_that_is_taken_is_healthy(tmp_path: Path) -> None:
    def build(mb: Any, x: Any) -> Any:
        return mb.linear(x=x, weight=weights(6, 8), name="y")

    assert_healthy(with_range(mil(tmp_path, build, (1, 12, 8)), 1, 1, 64))
