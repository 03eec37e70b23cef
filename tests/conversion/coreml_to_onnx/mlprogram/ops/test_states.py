"""States: what is written is read, within a run and in the next."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from coreproof.model.coreml.model import load_coreml
from coreproof.runtime.open import session
from tests.build import counter, quietly_converted
from tests.conversion.coreml_to_onnx.mlprogram.family import Family

family = Family("states")


@family.exercises("read_state", "write_state", target="iOS18")
def test_a_state_carries_sums_from_run_to_run(tmp_path: Path) -> None:
    x = np.float16([[1, 2, -3, 0.5]])
    state: dict[str, np.ndarray] = {}
    with session(counter(tmp_path / "counter.mlpackage")) as running:
        for turn in (1, 2, 3):
            answer = running.run({"x": x}, state=state)
            assert answer["y"].tolist() == (2 * turn * x).tolist()
            assert state["total"].tolist() == (turn * x).tolist()
        assert running.run({"x": x}, state={})["y"].tolist() == (2 * x).tolist()


@family.exercises("read_state", "write_state", target="iOS18")
def test_each_of_two_states_keeps_its_own_and_the_last_write_counts(tmp_path: Path) -> None:
    import coremltools as ct
    from coremltools.converters.mil import Builder as mb
    from coremltools.converters.mil.mil import types

    specs = [*(mb.StateTensorSpec((2,), dtype=types.fp16) for _ in range(2)), mb.TensorSpec((2,), dtype=types.fp16)]

    @mb.program(input_specs=specs, opset_version=ct.target.iOS18)
    def program(first: Any, second: Any, x: Any) -> Any:
        before = mb.read_state(input=first)
        mb.coreml_update_state(state=first, value=mb.mul(x=x, y=np.float16(2)))
        mb.coreml_update_state(state=first, value=mb.add(x=before, y=x))
        mb.coreml_update_state(state=second, value=mb.sub(x=mb.read_state(input=first), y=np.float16(1)))
        return mb.sub(x=mb.read_state(input=second), y=before, name="y")

    settings = {"minimum_deployment_target": ct.target.iOS18, "pass_pipeline": ct.PassPipeline.EMPTY}
    model = load_coreml(quietly_converted(tmp_path, program, **settings))
    x, first = np.float16([3, -1]), np.float16([10, 20])
    state = {"first": first, "second": np.float16([7, 7])}
    with session(model) as running:
        answer = running.run({"x": x}, state=state)
    assert answer["y"].tolist() == (x - 1).tolist()
    assert state["first"].tolist() == (first + x).tolist()
    assert state["second"].tolist() == (first + x - 1).tolist()
