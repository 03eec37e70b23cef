"""Sessions: checked inputs, outputs by name, taps on inner values."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import coreproof as cp
from coreproof.errors import ConversionError, InputError, RunError, UnsupportedModelError
from coreproof.runtime.executable import compile_model
from coreproof.runtime.onnxruntime import OnnxRuntimeSession
from tests.build import conv_relu_onnx, counter, layer, network, onnx_model, two_functions

HEAD = '<ir_version: 8, opset_import: ["": 17]> net'

X = np.random.default_rng(0).normal(size=(1, 3, 8, 8)).astype(np.float32)


def test_taps_bring_out_what_the_optimiser_fuses_away() -> None:
    with cp.session(conv_relu_onnx()) as running:
        assert running.tappable == {"c", "y"}
        result = running.run({"x": X}, taps=["c"])
    assert result["c"].min() < 0
    np.testing.assert_array_equal(np.maximum(result["c"], 0), result["y"])


def test_inputs_are_cast_to_the_declared_dtype() -> None:
    with cp.session(conv_relu_onnx()) as running:
        np.testing.assert_array_equal(running.run({"x": X.astype(np.float64)})["y"], running.run({"x": X})["y"])


@pytest.mark.parametrize(
    "given", [[1, 2**40], [1, -(2**35)], [1.0, np.nan], [1.0, 1e12], [np.uint32(2**31 + 5), np.uint32(1)]]
)
def test_numbers_that_core_mls_integers_do_not_hold_are_refused_and_not_wrapped(given: Any) -> None:
    made = cp.convert(onnx_model(f"{HEAD} (int64[2] x) => (int64[2] y) {{ y = Identity(x) }}"), "mlprogram")
    with cp.session(made) as running:
        assert running.run({"x": np.array([5.0, -7.0])})["y"].tolist() == [5, -7]
        with pytest.raises(InputError, match=r"(?s)does not fit its whole numbers.*-2147483648 to 2147483647"):
            running.run({"x": np.array(given)})


def test_a_product_that_leaves_32_bits_says_so() -> None:
    model = onnx_model(f"{HEAD} (int64[3] x, int64[3] z) => (int64[3] y) {{ y = Mul(x, z) }}")
    with cp.session(cp.convert(model, "mlprogram")) as running:
        assert running.run({"x": np.array([5, 3, 7]), "z": np.array([2, 2, 2])})["y"].tolist() == [10, 6, 14]
        with pytest.raises(RunError, match="product of whole numbers does not fit the 32 bits"):
            running.run({"x": np.array([5, 3, 7]), "z": np.array([2**30] * 3)})
    large = onnx_model(f"{HEAD} (int64[3] x) => (int64[3] y) {{ y = Mul(x, k) }}", k=np.array([2**30]))
    with pytest.raises(ConversionError, match=r"(?s)32 bits in which Core ML computes it.*feed smaller numbers"):
        cp.convert(large, "mlprogram")


def test_a_wrong_shape_is_named() -> None:
    with cp.session(conv_relu_onnx()) as running, pytest.raises(InputError, match=r"float32\[1x3x8x8\]"):
        running.run({"x": X[:, :2]})


def test_all_wrong_names_are_named_at_once() -> None:
    with cp.session(conv_relu_onnx()) as running, pytest.raises(InputError, match=r"give x; leave out y, z"):
        running.run({"y": X, "z": X})


def test_a_symbolic_batch_takes_any_number() -> None:
    with cp.session(conv_relu_onnx(batch="batch")) as running:
        assert running.run({"x": np.repeat(X, 5, axis=0)})["y"].shape == (5, 4, 8, 8)


def test_the_wrong_engine_says_what_it_runs() -> None:
    with pytest.raises(RunError, match="torch engine does not run onnx"):
        cp.session(conv_relu_onnx(), engine="torch")


@pytest.mark.parametrize("threads", [-1, 0, 1.5, "2", True])
@pytest.mark.parametrize("engine", ["auto", "openvino", "reference"])
def test_a_number_of_threads_that_there_is_not_is_refused(threads: Any, engine: Any) -> None:
    with pytest.raises(InputError, match="threads is a whole number from 1 on, or None"):
        cp.session(conv_relu_onnx(), engine, threads=threads)
    with cp.session(conv_relu_onnx(), threads=np.int64(1)) as running:  # type: ignore[arg-type]
        assert running.run({"x": np.ones((1, 3, 8, 8), np.float32)})


def test_pytorch_and_its_export_agree_at_every_value() -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    torch.manual_seed(0)
    module = torch.nn.Sequential(
        torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(144, 5)
    )
    model = cp.load((module, (torch.from_numpy(X),)))
    exported = cp.convert(model, "onnx")
    with cp.session(model) as ours, cp.session(exported) as theirs:
        taps = sorted(ours.tappable & theirs.tappable)
        assert len(taps) >= 2
        name = model.input_names[0]
        left, right = ours.run({name: X}, taps), theirs.run({name: X}, taps)
    assert set(left) == set(right)
    for value, expected in left.items():
        np.testing.assert_allclose(right[value], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (np.zeros((1, 3, 8, 8), "V4"), r"\|V4"),
        (np.zeros((1, 3, 8, 8), "U4"), r"<U4"),
        (np.zeros((1, 3, 8, 8), "M8[s]"), "datetime64"),
        (np.zeros((1, 3, 8, 8), complex), "complex128"),
        (np.zeros((1, 3, 8, 8), [("a", "f4")]), "'a'"),
        ([[1.0], [2.0, 3.0]], "inhomogeneous"),
        (np.full((1, 3, 8, 8), "x", object), "could not convert"),
        ({"x": 1}, "float"),
    ],
)
def test_what_is_no_array_of_numbers_is_told(given: object, told: str) -> None:
    with cp.session(conv_relu_onnx()) as running, pytest.raises(InputError, match="input 'x' is no array") as caught:
        running.run({"x": given})
    assert re.search(told, str(caught.value))


# functions and states


def test_a_function_of_several_is_run_by_its_name(tmp_path: Path) -> None:
    model = two_functions(tmp_path / "both.mlpackage")
    fed = {"x": np.array([1.0, 2.0], np.float32)}
    for function, wanted in ((None, [1.0, 2.0]), ("once", [1.0, 2.0]), ("thrice", [3.0, 6.0])):
        with cp.session(model, function=function) as running:
            assert running.run(fed)["y"].tolist() == wanted
    with pytest.raises(ConversionError, match=r"once or thrice\n  found: twice"):
        cp.session(model, function="twice")


def test_no_function_can_be_chosen_where_there_is_one() -> None:
    for model in (conv_relu_onnx(), network([layer("softmax", "x", "y")], {"x": (3,)}, {"y": (3,)})):
        with pytest.raises(UnsupportedModelError, match="a function can be chosen of an ML Program"):
            cp.session(model, function="main")


def test_a_state_is_carried_by_the_executable_that_has_it(tmp_path: Path) -> None:
    executable = compile_model(counter(tmp_path / "counter.mlpackage"), "stored")
    one, state = np.ones((1, 4), np.float16), {}  # type: ignore[var-annotated]
    with OnnxRuntimeSession(executable) as running:
        assert [running.run({"x": one}, state=state)["y"][0, 0] for _ in range(2)] == [2.0, 4.0]
        with pytest.raises(InputError, match=r"is run without one[\s\S]*total: float16\[1x4\]"):
            running.run({"x": one})
        with pytest.raises(InputError, match=r"does not fit the model[\s\S]*total: float16\[1, 5\]"):
            running.run({"x": one}, state={"total": np.ones((1, 5))})
        with pytest.raises(InputError, match=r"expected: total\n  found: tally"):
            running.run({"x": one}, state={"tally": one})
    assert state["total"].tolist() == [[2.0] * 4]


def test_a_state_is_refused_where_there_is_none_and_by_engines_that_carry_none() -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    with cp.session(conv_relu_onnx()) as running, pytest.raises(InputError, match="no such states"):
        running.run({"x": X}, state={"total": X})
    module = cp.load((torch.nn.ReLU(), (torch.from_numpy(X),)))
    with cp.session(module) as running, pytest.raises(UnsupportedModelError, match="PyTorch carries no state"):
        running.run({module.signature.inputs[0].name: X}, state={})
