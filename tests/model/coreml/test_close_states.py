"""What a converted model remembers as states of an ML Program: from PyTorch's buffers, and below iOS 18 as it came."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest

import coreproof as cp
from coreproof.errors import ConversionError, InputError
from coreproof.model.coreml.model import CoreMLModel
from tests.build import onnx_net
from tests.decoders import Counter, torch

X = (torch.ones(1, 4),)


def _counter(**options: object) -> CoreMLModel:
    made = cp.convert((Counter(**options.pop("net", {})).eval(), X), "mlprogram", **options)  # type: ignore[arg-type]
    assert isinstance(made, CoreMLModel)
    return made


@pytest.mark.sweep(1)
@pytest.mark.parametrize("precision", ["fp16", "fp32"])
def test_a_buffer_that_changes_becomes_a_state(precision: str) -> None:
    made = _counter(precision=precision)
    assert made.spec.specificationVersion == 9  # iOS 18, the first that has them
    assert [str(f) for f in made.signature.states] == ["total: float16[1x4]"]
    assert [f.name for f in made.signature.inputs] == ["x"]
    operators = [node.operator for node in made.graph.nodes]
    assert (operators[0], operators[-1]) == ("read_state", "write_state")
    one = np.ones((1, 4), np.float32)
    with cp.session(made) as running:
        state = running.state()
        assert [running.run({"x": one}, state=state)["output"][0, 0] for _ in range(3)] == [2.0, 4.0, 6.0]


@pytest.mark.thorough
def test_coremltools_reads_the_states_that_were_written(tmp_path: Path) -> None:
    path = _counter().save(tmp_path / "counter.mlpackage")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import coremltools as ct
        from coremltools.converters.mil.frontend.milproto.load import load

        stored = ct.models.MLModel(str(path), skip_model_load=True)
        program = load(stored.get_spec(), 9, stored.weights_dir)
    kinds = [operation.op_type for operation in program.functions["main"].operations]
    assert kinds.count("read_state") == 1
    assert "coreml_update_state" in kinds or "write_state" in kinds


@pytest.mark.thorough
def test_a_counter_of_whole_numbers_stays_an_input_and_an_output() -> None:
    made = _counter(net={"counts": True})
    assert [f.name for f in made.signature.states] == ["total"]
    assert str(made.signature.input("turns")) == "turns: int32[1]"
    assert any("turns holds int64, and a Core ML state float16" in note for note in made.notes)
    found = cp.verify((Counter(counts=True).eval(), X), made)
    assert found.proves, found.summary()


def test_below_ios_18_what_is_remembered_comes_in_and_goes_out() -> None:
    made = _counter(target="iOS17")
    assert made.signature.states == ()
    assert [f.name for f in made.signature.inputs] == ["x", "total"]
    assert [f.name for f in made.signature.outputs] == ["output", "total_after"]
    assert any("iOS 17 has no states" in note for note in made.notes)
    found = cp.verify((Counter().eval(), X), made)
    assert found.proves
    assert found.steps == 4


@pytest.mark.thorough
def test_a_neural_network_hands_on_what_it_remembers() -> None:
    made = cp.convert((Counter().eval(), X), "neuralnetwork")
    assert [f.name for f in made.signature.outputs] == ["output", "total_after"]
    assert cp.verify((Counter().eval(), X), made).proves


def test_a_frozen_state_is_no_state() -> None:
    made = _counter(freeze_state=True)
    assert made.signature.states == ()
    assert [f.name for f in made.signature.inputs] == ["x"]


def test_a_state_that_changes_its_shape_is_refused() -> None:
    net = onnx_net(
        [("Concat", "past x", "present", {"axis": 0}), ("Neg", "x", "y", {})],
        {"past": [2, 4], "x": [1, 4]},
        {"present": [3, 4], "y": [1, 4]},
    )
    with pytest.raises(
        ConversionError, match=r"keeps its shape[\s\S]*past float16\[2, 4\][\s\S]*present float16\[3, 4\]"
    ):
        cp.convert(net, "mlprogram", states={"past": "present"})


def test_states_are_said_of_onnx_models_alone() -> None:
    with pytest.raises(InputError, match="states= says what an ONNX model remembers"):
        cp.convert((Counter().eval(), X), "mlprogram", states={"total": "total_after"})
