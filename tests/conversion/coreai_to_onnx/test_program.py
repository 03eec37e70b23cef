"""A Core AI program as a whole on its way to ONNX: names, types at its ends, what is handed out as it came."""

from pathlib import Path

import ml_dtypes
import numpy as np
import onnxruntime
import pytest

import coreproof as cp
from coreproof.conversion.coreai_to_onnx.program import coreai_to_onnx
from coreproof.errors import ConversionError
from tests.conversion.coreai_to_onnx.cases import Fed, case, check
from tests.conversion.coreai_to_onnx.functions import function, model, op, run

X = np.array([0.1, -1.7, 300.3], np.float32)
F, H = "tensor<3xf32>", "tensor<3xf16>"


def test_values_keep_their_names_and_can_be_tapped() -> None:
    body = [op("exp", ["x"], ["raised"]), op("relu", ["raised"], ["y"]), op("output", ["y"], [])]
    made = model(function("main", ["x"], body, {"x": F, "raised": F, "y": F}))
    with cp.session(made) as session:
        found = session.run({"x": X / 100}, taps=("raised",))
    np.testing.assert_allclose(found["raised"], np.exp(X / 100), rtol=1e-6)


def test_it_converts_to_an_onnx_file_that_makes_the_same(tmp_path: Path) -> None:
    body = [op("exp", ["x"], ["a"]), op("sqrt", ["a"], ["y"]), op("output", ["y"], [])]
    converted = cp.convert(model(function("main", ["x"], body, {"x": F, "a": F, "y": F})), "onnx")
    converted.save(tmp_path / "a.onnx")
    (found,) = onnxruntime.InferenceSession(tmp_path / "a.onnx").run(None, {"x": X / 100})
    np.testing.assert_allclose(found, np.sqrt(np.exp(X / 100)), rtol=1e-6)


def test_half_width_is_rounded_after_each_operation_and_not_in_ideal_arithmetic() -> None:
    body = [
        op("add", ["x", "x"], ["a"]),
        op("mul", ["a", "x"], ["b"]),
        op("sub", ["b", "x"], ["y"]),
        op("output", ["y"], []),
    ]
    made = model(function("main", ["x"], body, dict.fromkeys(("x", "a", "b", "y"), H)))
    half = (X / 7).astype(np.float16)
    stored = (half + half) * half - half
    np.testing.assert_array_equal(run(made, x=half)["y"], stored)
    with cp.session(made, precision="fp32") as session:
        ideal = session.run({"x": half})["y"]
    wide = half.astype(np.float32)
    np.testing.assert_array_equal(ideal, ((wide + wide) * wide - wide).astype(np.float16))


def test_what_numpy_has_no_dtype_for_enters_and_leaves_as_float32() -> None:
    kind = "tensor<3xbf16>"
    body = [op("add", ["x", "x"], ["y"]), op("output", ["y"], [])]
    found = run(model(function("main", ["x"], body, {"x": kind, "y": kind})), x=X)["y"]
    narrow = X.astype(ml_dtypes.bfloat16)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, (narrow + narrow).astype(np.float32))


def test_an_input_a_constant_and_a_value_twice_are_handed_out() -> None:
    body = [
        op("constant", [], ["c"], constant=X),
        op("relu", ["x"], ["r"]),
        op("output", ["x", "c", "r"], []),
    ]
    found = run(model(function("main", ["x"], body, {"x": F, "c": F, "r": F})), x=X + 1)
    np.testing.assert_array_equal(found["c"], X)
    np.testing.assert_array_equal(found["r"], np.maximum(X + 1, 0))
    np.testing.assert_array_equal(found["x"], X + 1)


def test_lengths_that_are_not_known_yet_may_be_any() -> None:
    kind = "tensor<?x3xf32>"
    body = [
        op("constant", [], ["axes"], constant=np.array([0], np.int32)),
        op("reduce_sum", ["x", "axes"], ["y"]),
        op("output", ["y"], []),
    ]
    made = model(function("main", ["x"], body, {"x": kind, "axes": "tensor<1xsi32>", "y": "tensor<1x3xf32>"}))
    for rows in (1, 4):
        np.testing.assert_allclose(run(made, x=np.ones((rows, 3), np.float32))["y"], [[rows] * 3])


def test_another_function_is_lowered_by_its_name() -> None:
    def only(name: str, kind: str) -> object:
        return function(name, ["x"], [op(kind, ["x"], ["y"]), op("output", ["y"], [])], {"x": F, "y": F})

    made = model(only("main", "relu"), only("other", "abs"))
    with cp.session(made, function="other") as session:
        np.testing.assert_array_equal(session.run({"x": X})["y"], np.abs(X))
    with pytest.raises(ConversionError, match="main or other"):
        coreai_to_onnx(made, function="none")


def test_an_operation_that_contradicts_its_types_is_refused_by_name() -> None:
    body = [
        op("constant", [], ["p"], constant=np.array([5, 6], np.uint32)),
        op("transpose", ["x", "p"], ["y"]),
        op("output", ["y"], []),
    ]
    with pytest.raises(ConversionError, match="Transpose accepts"):
        cp.session(
            model(
                function("main", ["x"], body, {"x": "tensor<2x3xf32>", "p": "tensor<2xui32>", "y": "tensor<3x2xf32>"})
            )
        )


@pytest.mark.parametrize(
    ("kind", "makes", "found"),
    [
        ("reduce_mean", np.zeros((1, 3), np.int32), "of whole numbers"),
        ("max_pool_2d", np.zeros((1, 1, 1, 1), np.int64), "64 bits"),
        ("add", np.array([2**63], np.uint64), "int64"),
    ],
)
def test_what_could_come_out_wrong_is_refused(kind: str, makes: np.ndarray, found: str) -> None:
    two = np.array([2, 2], np.uint32)
    operands = {
        "reduce_mean": (Fed(np.ones((2, 3), np.int32)), np.array([0], np.int32)),
        "max_pool_2d": (Fed(np.ones((1, 1, 2, 2), np.int64)), two, two, two // 2, np.array(False)),
        "add": (Fed(makes), makes),
    }[kind]
    with pytest.raises(ConversionError, match=found):
        check(case(kind, *operands, makes=makes))
