"""ai.onnx.ml's transforms of features, against numpy and ONNX Runtime."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest

from coreproof.errors import ConversionError
from tests.conversion.onnx_to_coreml.one_ml_node import check_ml, ml_model, run_ml

RNG = np.random.default_rng(0)
X = RNG.normal(size=(9, 4)).astype(np.float32)


def test_columns_are_picked_by_their_numbers() -> None:
    places = np.array([3, 0, 0])
    np.testing.assert_array_equal(
        run_ml(ml_model("ArrayFeatureExtractor", 1, {"x": X, "k": places}), x=X, k=places)[0], X[:, places]
    )
    row = X[0]
    np.testing.assert_array_equal(
        run_ml(ml_model("ArrayFeatureExtractor", 1, {"x": row, "k": places}), x=row, k=places)[0], row[None, places]
    )


@pytest.mark.parametrize("threshold", [0.0, 0.5, -1.0])
def test_what_is_above_the_threshold_becomes_one(threshold: float) -> None:
    x = np.array([[threshold, threshold + 0.1, -9, np.inf, np.nan]], np.float32)
    got = run_ml(ml_model("Binarizer", 1, {"x": x}, threshold=threshold), x=x)[0]
    np.testing.assert_array_equal(got, (x > threshold).astype(np.float32))


@pytest.mark.parametrize(("offset", "scale"), [([1.0, 2.0, 3.0, 4.0], [0.5, 2.0, 1.0, -1.0]), ([0.5], [0.25])])
def test_what_is_scaled_is_moved_first(offset: list[float], scale: list[float]) -> None:
    check_ml("Scaler", 1, X, offset=offset, scale=scale)
    check_ml("Scaler", 1, (X * 3).astype(np.int64), offset=offset, scale=scale)


@pytest.mark.parametrize("norm", ["MAX", "L1", "L2"])
@pytest.mark.parametrize("sign", [1, -1])
def test_rows_are_divided_by_their_norm_and_a_row_of_zeros_stays(norm: str, sign: int) -> None:
    rows = (sign * np.abs(X)).astype(np.float32)
    rows[3] = 0
    check_ml("Normalizer", 1, rows, norm=norm)


def test_what_is_missing_is_filled_in_by_column() -> None:
    x = X.copy()
    x[0, 1], x[2, 2] = np.nan, 5
    check_ml("Imputer", 1, x, imputed_value_floats=[1.0, 2.0, 3.0, 4.0], replaced_value_float=float("nan"))
    whole = (X * 3).astype(np.int64)
    check_ml("Imputer", 1, whole, (7,), imputed_value_int64s=[7], replaced_value_int64=0)
    full = np.nan_to_num(x)
    got = run_ml(ml_model("Imputer", 1, {"x": full}, imputed_value_floats=[9.0], replaced_value_float=5.0), x=full)[0]
    np.testing.assert_array_equal(got, np.where(full == 5, np.float32(9), full))


def test_features_stand_side_by_side_cut_or_filled_up() -> None:
    a, b = X[:, :2].copy(), (X[:, 2:] * 9).astype(np.int64)
    model = ml_model("FeatureVectorizer", 1, {"a": a, "b": b}, inputdimensions=[1, 3])
    expected = np.concatenate([a[:, :1], b, np.zeros((9, 1))], axis=1)
    np.testing.assert_allclose(run_ml(model, a=a, b=b)[0], expected)


@pytest.mark.parametrize("dtype", [np.int64, np.float32])
@pytest.mark.parametrize("shape", [(7,), (7, 2)])
def test_a_category_becomes_its_one(dtype: type, shape: tuple[int, ...]) -> None:
    check_ml("OneHotEncoder", 1, RNG.integers(0, 5, shape).astype(dtype), cats_int64s=[3, 1, 0], zeros=1)


def test_keys_become_their_values_and_others_the_default() -> None:
    whole = RNG.integers(0, 5, (7, 2))
    check_ml("LabelEncoder", 2, whole, keys_int64s=[1, 3, 0], values_floats=[0.5, 0.25, 0.125], default_float=9.0)
    check_ml("LabelEncoder", 2, whole.astype(np.float32), (7,), keys_floats=[1.0, 3.0, 0.0], values_int64s=[7, 8, 9])
    tensor = onnx.numpy_helper.from_array
    said: dict[str, Any] = {
        "keys_tensor": tensor(np.array([1, 2])),
        "values_tensor": tensor(np.array([1.5, 2.5], np.float32)),
        "default_tensor": tensor(np.array([8.0], np.float32)),
    }
    check_ml("LabelEncoder", 4, whole, **said)


@pytest.mark.parametrize(
    ("operator", "said"),
    [
        ("OneHotEncoder", {"cats_strings": ["a", "b"]}),
        ("LabelEncoder", {"keys_int64s": [1], "values_strings": ["a"]}),
    ],
)
def test_what_needs_texts_inside_the_model_is_refused_with_the_reason(operator: str, said: dict[str, Any]) -> None:
    x = np.zeros((3, 1), np.int64)
    with pytest.raises(ConversionError, match="texts"):
        run_ml(ml_model(operator, 2 if operator == "LabelEncoder" else 1, {"x": x}, **said), x=x)
