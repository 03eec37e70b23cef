"""Apple's Core AI interpreter as an engine: what it makes, what it remembers, and how its end is told."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import numpy as np
import pytest

import coreproof as cp
from coreproof.errors import RunError, UnsupportedModelError
from coreproof.runtime.coreai import CoreAISession
from tests.aimodels import SMALL, STATEFUL, assembled, needs_coreai
from tests.build import mil
from tests.conversion.coreai_to_onnx.functions import function, model, op

X = np.array([[1, 2, 3], [-1, 0.5, 4]], np.float32)
EXPECTED = (2 * X * [[1, -2, 3], [4, 5, -6]]).sum(1, keepdims=True)

BRANCHES = """
module {
  coreai.graph @main(%go: tensor<i1> {coreai.name = "go"}, %x: tensor<2xf32> {coreai.name = "x"})
      -> (tensor<2xf32> {coreai.name = "y"}) {
    %y = coreai.if %go {
      %a = coreai.add %x, %x : (tensor<2xf32>, tensor<2xf32>) -> tensor<2xf32>
      coreai.yield %a : tensor<2xf32>
    } else {
      coreai.yield %x : tensor<2xf32>
    } : tensor<i1> -> tensor<2xf32>
    coreai.output %y : tensor<2xf32>
  }
}
"""


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return assembled(tmp_path_factory.mktemp("engine") / "small.aimodel", SMALL)


@needs_coreai
def test_both_engines_make_what_the_program_says(small: Path) -> None:
    for engine in ("coreai", "auto"):
        with cp.session(small, engine=engine) as session:
            np.testing.assert_allclose(session.run({"x": X})["y"], EXPECTED, rtol=1e-6)


@needs_coreai
def test_another_function_and_half_width(small: Path) -> None:
    a = np.array([-1, 2, 0.5, 7], np.float16)
    with cp.session(small, engine="coreai", function="other") as session:
        np.testing.assert_array_equal(session.run({"a": a})["b"], np.maximum(a, 0))


COMPLEX = """
module {
  coreai.graph @main(%z: tensor<3xcomplex<f32>> {coreai.name = "z"})
      -> (tensor<3xf32> {coreai.name = "a"}, tensor<3xcomplex<f32>> {coreai.name = "swapped"}) {
    %a = coreai.real_part %z : (tensor<3xcomplex<f32>>) -> tensor<3xf32>
    %b = coreai.imaginary_part %z : (tensor<3xcomplex<f32>>) -> tensor<3xf32>
    %s = coreai.create_complex %b, %a : (tensor<3xf32>, tensor<3xf32>) -> tensor<3xcomplex<f32>>
    coreai.output %a, %s : tensor<3xf32>, tensor<3xcomplex<f32>>
  }
}
"""


@needs_coreai
def test_complex_numbers_enter_and_leave_both_engines_as_pairs_and_agree(tmp_path: Path) -> None:
    path, z = assembled(tmp_path / "c.aimodel", COMPLEX), np.array([[1, -2], [0.5, 3], [4, 0]], np.float32)
    for engine in ("coreai", "auto"):
        with cp.session(path, engine=engine) as session:
            found = session.run({"z": z})
            np.testing.assert_array_equal(found["a"], z[:, 0])
            np.testing.assert_array_equal(found["swapped"], z[:, ::-1])
    report = cp.verify(path, path, inputs={"z": z}, candidate_engine="coreai")
    assert report.agrees
    assert {row.reference for row in report.rows} >= {"a", "swapped"}


@needs_coreai
@pytest.mark.parametrize("engine", ["coreai", "auto"])
def test_a_state_is_carried_by_both_engines(tmp_path: Path, engine: str) -> None:
    path, x = assembled(tmp_path / "s.aimodel", STATEFUL), np.array([1, 2], np.float32)
    with cp.session(path, engine=engine) as session:
        state = session.state()
        for turn in (1, 2, 3):
            np.testing.assert_array_equal(session.run({"x": x}, state=state)["y"], x * turn)
            np.testing.assert_array_equal(state["s"], x * turn)


@needs_coreai
@pytest.mark.parametrize("go", [True, False])
def test_both_engines_take_the_same_branch(tmp_path: Path, go: bool) -> None:
    path, x = assembled(tmp_path / "b.aimodel", BRANCHES), np.array([1, 2], np.float32)
    for engine in ("coreai", "auto"):
        with cp.session(path, engine=engine) as session:
            np.testing.assert_array_equal(session.run({"go": np.array(go), "x": x})["y"], x * (2 if go else 1))


@needs_coreai
def test_a_process_that_ended_is_told_and_the_next_run_has_another(small: Path) -> None:
    with cp.session(small, engine="coreai") as session:
        assert isinstance(session, CoreAISession)
        session.run({"x": X})
        process = session.stored.child._process
        assert process is not None
        os.kill(process.pid, signal.SIGABRT)
        process.wait()
        np.testing.assert_allclose(session.run({"x": X})["y"], EXPECTED, rtol=1e-6)


@needs_coreai
def test_an_abort_within_a_run_is_an_error_with_its_signal(small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with cp.session(small, engine="coreai") as session:
        assert isinstance(session, CoreAISession)
        session.run({"x": X})
        ask = session.stored.child.ask

        def stricken(request: dict[str, object], seconds: float) -> object:
            process = session.stored.child._process
            assert process is not None
            # it stands still, so that the request reaches it, and ends while it is answered
            os.kill(process.pid, signal.SIGSTOP)
            os.kill(process.pid, signal.SIGABRT)
            os.kill(process.pid, signal.SIGCONT)
            return ask(request, seconds)

        monkeypatch.setattr(session.stored.child, "ask", stricken)
        with pytest.raises(RunError, match=r"signal 6"):
            session.run({"x": X})


@needs_coreai
def test_inner_values_are_those_of_the_program(small: Path) -> None:
    with cp.session(small, engine="coreai") as apples, cp.session(small) as ours:
        assert {"mul", "invoke"} <= apples.tappable
        found, expected = (running.run({"x": X}, taps=("mul",)) for running in (apples, ours))
        np.testing.assert_allclose(found["mul"], 2 * X * [[1, -2, 3], [4, 5, -6]], rtol=1e-6)
        np.testing.assert_allclose(found["y"], expected["y"], rtol=1e-6)
        # in groups, as verify asks for them
        *_, last = apples.walk({"x": X}, [("mul",), ()])
        np.testing.assert_allclose(last["y"], EXPECTED, rtol=1e-6)
        with pytest.raises(RunError, match="these inner values"):
            apples.run({"x": X}, taps=("nothing",))


@needs_coreai
def test_inner_values_of_a_model_that_remembers_leave_its_states_alone(tmp_path: Path) -> None:
    path, x = assembled(tmp_path / "s.aimodel", STATEFUL), np.array([1, 2], np.float32)
    with cp.session(path, engine="coreai") as session:
        state = session.state()
        for turn in (1, 2):
            found = session.run({"x": x}, taps=("read_handle",), state=state)
            np.testing.assert_array_equal(found["read_handle"], x * (turn - 1))
            np.testing.assert_array_equal(state["s"], x * turn)


@needs_coreai
def test_half_width_is_judged_by_the_sums_that_the_engine_makes(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    weight = (rng.normal(size=(4, 900)) / 30).astype(np.float16)
    old = mil(tmp_path, lambda mb, x: mb.linear(x=x, weight=weight, name="y"), (2, 900), half=True)
    new = cp.convert(old, "coreai")
    assert new.save(tmp_path / "new.aimodel").exists()
    found = cp.verify(old, new, candidate_engine="coreai")
    assert found.agrees
    # against the weights of another model it is a divergence, however wide the sums
    weight[:, 7] += 1
    other = mil(tmp_path / "other", lambda mb, x: mb.linear(x=x, weight=weight, name="y"), (2, 900), half=True)
    assert not cp.verify(other, new, candidate_engine="coreai").agrees


def test_what_lies_nowhere_is_refused() -> None:
    kind = "tensor<3xf32>"
    made = model(function("main", ["x"], [op("relu", ["x"], ["y"]), op("output", ["y"], [])], {"x": kind, "y": kind}))
    with pytest.raises(UnsupportedModelError, match="lies on disk"):
        cp.session(made, engine="coreai")


def test_another_format_is_refused() -> None:
    import onnx.parser

    text = '<ir_version: 8, opset_import: ["": 17]> a (float[3] x) => (float[3] y) { y = Relu(x) }'
    with pytest.raises(RunError, match="coreai engine does not run onnx"):
        cp.session(onnx.parser.parse_model(text), engine="coreai")
