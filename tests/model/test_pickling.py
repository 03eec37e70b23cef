"""What the verbs give can be pickled: it goes to another process, and is there what it was here."""

from __future__ import annotations

import gc
import pickle
from pathlib import Path

import numpy as np
import pytest

import coreproof as cp
from coreproof.model.base import Model
from tests.build import onnx_model, weights

TEXT = """
<ir_version: 9, opset_import: ["" : 18]>
net (float[1, 64] x) => (float[1, 64] y) { a = MatMul(x, w)
    y = Relu(a) }
"""


@pytest.fixture
def source() -> Model:
    return onnx_model(TEXT, w=weights(64, 64))


def answers(model: Model) -> np.ndarray:
    return np.asarray(cp.session(model).run({"x": np.linspace(-1, 1, 64, dtype=np.float32)[None]})["y"])


@pytest.mark.parametrize("target", ["onnx", "mlprogram", "neuralnetwork"])
def test_a_model_survives_the_one_that_was_pickled(source: Model, target: str) -> None:
    model = source if target == "onnx" else cp.convert(source, target, precision="fp32")
    before, graph = answers(model), model.graph
    content = pickle.dumps(model)
    del model
    gc.collect()  # its weights lay in a folder that goes with it
    restored = pickle.loads(content)
    assert restored.graph == graph
    np.testing.assert_array_equal(answers(restored), before)
    np.testing.assert_array_equal(answers(pickle.loads(pickle.dumps(restored))), before)


def test_weights_in_a_package_stay_there(source: Model, tmp_path: Path) -> None:
    saved = cp.convert(source, "mlprogram").save(tmp_path / "net.mlpackage")
    model = cp.load(saved)
    content = pickle.dumps(model)
    assert len(content) < 64 * 64 * 4
    np.testing.assert_array_equal(answers(pickle.loads(content)), answers(model))
    restored = pickle.loads(content).save(tmp_path / "again.mlpackage")
    assert [p.read_bytes() for p in sorted(restored.rglob("*.*")) if p.is_file()] == [
        p.read_bytes() for p in sorted(saved.rglob("*.*")) if p.is_file()
    ]


@pytest.mark.parametrize("target", ["onnx", "mlprogram", "neuralnetwork"])
def test_an_edited_model_can_be_pickled(source: Model, target: str) -> None:
    model = source if target == "onnx" else cp.convert(source, target, precision="fp32")
    last = model.graph.nodes[-1].name
    edited = cp.edit(model, [cp.Edit("delete", {"layer": last})])
    restored = pickle.loads(pickle.dumps(edited))
    np.testing.assert_array_equal(answers(restored.model), answers(edited.model))
    assert (answers(restored.model) < 0).any()


def test_reports_can_be_pickled(source: Model) -> None:
    program = cp.convert(source, "mlprogram", precision="fp32")
    verification = pickle.loads(pickle.dumps(cp.verify(source, program)))
    assert verification.agrees
    assert len(verification.rows) == 2
    difference = cp.diff(program, cp.convert(source, "mlprogram", precision="fp16"))
    assert str(pickle.loads(pickle.dumps(difference))) == str(difference)
    assert pickle.loads(pickle.dumps(cp.diagnose(program, source))).findings == ()
