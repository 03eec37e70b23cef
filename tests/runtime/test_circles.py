"""What is done with is freed at once, and what hangs in a circle is looked for by its bytes: few objects may hold gigabytes."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnx_ir as ir
import pytest

import coreproof as cp
from coreproof.conversion.coreml_to_onnx.convert import lowered_once
from coreproof.model import collector
from coreproof.model.coreml.model import CoreMLModel
from coreproof.model.onnx.model import OnnxModel
from coreproof.runtime.executable import Executable
from coreproof.runtime.onnxruntime import OnnxRuntimeSession
from coreproof.verification.run import VerificationRun
from tests.build import conv_relu_onnx

HOLD_WEIGHTS = (Executable, OnnxRuntimeSession, VerificationRun, CoreMLModel, OnnxModel, ir.Model)
FORMATS = ("mlprogram", "neuralnetwork")


@pytest.fixture
def without_collector() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def alive() -> int:
    return sum(isinstance(held, HOLD_WEIGHTS) for held in gc.get_objects())


def written(folder: Path, to: Literal["mlprogram", "neuralnetwork"]) -> Path:
    path = folder / ("net.mlpackage" if to == "mlprogram" else "net.mlmodel")
    cp.convert(conv_relu_onnx(), to).save(path)
    return path


def weights_of(running: cp.Session) -> list[weakref.ref[Any]]:
    assert running.executable is not None
    stored = running.executable.graph.graph.initializers.values()
    return [weakref.ref(value.const_value) for value in stored if isinstance(value.const_value, ir.Tensor)]


@pytest.mark.parametrize("to", FORMATS)
@pytest.mark.usefixtures("without_collector")
def test_a_session_takes_its_weights_with_it(tmp_path: Path, to: Literal["mlprogram", "neuralnetwork"]) -> None:
    running = cp.session(written(tmp_path, to))
    running.run({"x": np.ones((1, 3, 8, 8), np.float32)})
    weights = weights_of(running)
    assert weights
    assert all(weight() is not None for weight in weights)
    gone = weakref.ref(running)
    del running
    assert gone() is None
    assert not any(weight() is not None for weight in weights)


@pytest.mark.thorough
@pytest.mark.parametrize("to", FORMATS)
def test_a_verification_leaves_nothing_behind(tmp_path: Path, to: Literal["mlprogram", "neuralnetwork"]) -> None:
    path = written(tmp_path, to)
    ir.save(conv_relu_onnx(seed=1), tmp_path / "other.onnx")
    for source in (conv_relu_onnx(), tmp_path / "other.onnx"):  # one that agrees, and one that diverges
        cp.verify(source, path)
        gc.collect()
        gc.disable()
        try:
            before = alive()
            agrees = cp.verify(source, path).agrees
            assert alive() == before, f"agrees: {agrees}"
        finally:
            gc.enable()


def test_a_graph_that_was_handed_out_keeps_its_weights(tmp_path: Path) -> None:
    path = written(tmp_path, "mlprogram")
    with lowered_once():
        model = cp.load(path)
        made = cp.convert(model, "onnx", check=False)
        with cp.session(model) as running:
            running.run({"x": np.ones((1, 3, 8, 8), np.float32)})
    assert isinstance(made, OnnxModel)
    graph = made.ir.graph
    del made, model, running
    gc.collect()
    assert graph.initializers
    assert all(value.const_value is not None for value in graph.initializers.values())


def test_dropped_weights_are_looked_for_when_there_are_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(collector, "_within", False)
    monkeypatch.setattr(collector, "_MOST_LEFT", 1 << 20)
    monkeypatch.setattr(collector, "_left", 0)

    def dropped() -> weakref.ref[Any]:
        tensor = ir.tensor(np.ones(1 << 18, np.float32), name="w")  # 1 MiB
        held = ir.Value(name="w", const_value=tensor)
        node = ir.node("Neg", [held])
        cp.load(ir.Model(ir.Graph([], node.outputs, nodes=[node], initializers=[held]), ir_version=8))
        return weakref.ref(tensor)

    gc.collect()
    usual = gc.get_threshold()
    gc.set_threshold(1_000_000)  # as many objects are never made here
    try:
        first = dropped()
        dropped()
        assert first() is None  # looked for when the second was dropped
        gc.disable()
        kept = dropped()
        dropped()
        assert kept() is not None  # whoever switches the collector off means it
    finally:
        gc.enable()
        gc.set_threshold(*usual)
