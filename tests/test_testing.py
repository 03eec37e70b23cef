"""predict: a model file answered as Core ML answers, refusals included, sessions kept until they are released."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from coreproof import testing
from coreproof.conversion.convert import convert
from tests.build import counter, layer, mil, network, onnx_model, two_functions

X = np.array([[-1.0, 2.0]], np.float32)


@pytest.fixture
def path(tmp_path: Path) -> Iterator[str]:
    """Where a test puts its model; what was kept of it is let go afterwards."""
    place = str(tmp_path / "net.mlpackage")
    yield place
    testing.release(place)


def doubled(factor: float) -> str:
    return f"""<ir_version: 8, opset_import: ["": 17]> net (float[1, 2] x) => (float[1, 2] y)
    <float k = {{{factor}}}> {{ y = Mul(x, k) }}"""


def test_a_file_is_answered_from_the_same_session_until_it_is_released(path: str) -> None:
    convert(onnx_model(doubled(2.0)), "mlprogram", precision="fp32").save(path)
    np.testing.assert_array_equal(testing.predict(path, "", {"x": X})["y"], 2 * X)
    shutil.rmtree(path)
    np.testing.assert_array_equal(testing.predict(path, "", {"x": X})["y"], 2 * X)
    convert(onnx_model(doubled(3.0)), "mlprogram", precision="fp32").save(path)
    testing.predict.release(path)  # type: ignore[attr-defined]
    np.testing.assert_array_equal(testing.predict(path, "", {"x": X})["y"], 3 * X)


def test_what_the_model_does_not_declare_is_passed_over(path: str) -> None:
    convert(onnx_model(doubled(2.0)), "mlprogram", precision="fp32").save(path)
    assert testing.predict(path, "", {"x": X, "z": X})["y"].tolist() == [[-2.0, 4.0]]


def test_a_state_is_read_and_renewed_in_place(path: str) -> None:
    counter(Path(path))
    one, state = np.ones((1, 4), np.float16), {"total": np.full((1, 4), 2, np.float16)}
    assert [testing.predict(path, "", {"x": one}, state)["y"][0, 0] for _ in range(3)] == [6.0, 8.0, 10.0]
    assert state["total"].tolist() == [[5.0] * 4]


def test_a_state_begins_with_zeros_and_none_is_forgotten(path: str) -> None:
    counter(Path(path))
    one, state = np.ones((1, 4), np.float16), {}  # type: ignore[var-annotated]
    assert [testing.predict(path, "", {"x": one}, state)["y"][0, 0] for _ in range(2)] == [2.0, 4.0]
    with pytest.raises(RuntimeError, match="the model has states, and is run without one"):
        testing.predict(path, "", {"x": one})


def test_each_function_of_a_package_is_answered_by_itself(path: str) -> None:
    two_functions(Path(path))
    fed = {"x": np.array([1.0, 2.0], np.float32)}
    answers = {name: testing.predict(path, name, fed)["y"].tolist() for name in ("", "once", "thrice")}
    assert answers == {"": [1.0, 2.0], "once": [1.0, 2.0], "thrice": [3.0, 6.0]}
    with pytest.raises(NotImplementedError, match="no such function"):
        testing.predict(path, "twice", fed)


@pytest.mark.parametrize(
    ("fed", "told"),
    [
        ({}, "give x"),
        ({"x": np.ones((3, 2), np.float32)}, "wrong shape"),
        ({"x": np.array("a")}, "no array of numbers"),
    ],
)
def test_inputs_that_core_ml_refuses_are_a_runtime_error(path: str, fed: dict[str, np.ndarray], told: str) -> None:
    convert(onnx_model(doubled(2.0)), "mlprogram", precision="fp32").save(path)
    with pytest.raises(RuntimeError, match=told):
        testing.predict(path, "", fed)


def test_lengths_outside_their_range_are_refused_in_core_mls_words(path: str) -> None:
    free = doubled(2.0).replace("[1, 2]", "[n, 2]")
    model = convert(onnx_model(free), "mlprogram", precision="fp32", shapes={"x": [(3, 5), 2]})
    model.save(path)
    assert testing.predict(path, "", {"x": np.ones((4, 2), np.float32)})["y"].shape == (4, 2)
    with pytest.raises(RuntimeError, match=r"Size \(99\) of dimension \(0\) is not in allowed range \(3\.\.5\)"):
        testing.predict(path, "", {"x": np.ones((99, 2), np.float32)})


def test_a_run_that_fails_says_so_in_core_mls_words(tmp_path: Path) -> None:
    model = mil(tmp_path, lambda mb, a, b: mb.gather(x=a, indices=mb.cast(x=b, dtype="int32"), axis=0), (2, 3), (1,))
    fed = {"a": np.ones((2, 3), np.float32), "b": np.array([7.0], np.float32)}
    with pytest.raises(RuntimeError, match="Unable to compute the prediction using ML Program"):
        testing.predict(str(model.path), "", fed)
    testing.release(str(model.path))


def test_what_is_not_lowered_is_not_implemented(tmp_path: Path) -> None:
    path = network([layer("custom", "x", "y", className="Own")], {"x": (3,)}, {"y": None}).save(
        tmp_path / "net.mlmodel"
    )
    with pytest.raises(NotImplementedError, match="op custom"):
        testing.predict(str(path), "", {"x": np.ones(3, np.float32)})
