"""Scalers, imputers, normalizers, extractors, vectorizers and identities against NumPy and scikit-learn."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from coreproof.errors import ConversionError, InputError, RunError
from coreproof.runtime.open import session
from tests.build import classic


def run(model: Any, **feed: Any) -> Any:
    with session(model) as running:
        (value,) = running.run(feed).values()
        return value


@pytest.mark.parametrize(
    ("shift", "scale"), [([], []), ([2.0], []), ([], [0.5]), ([-1.0], [3.0]), ([1.0, 2.0, 3.0], [0.1, -0.2, 0.3])]
)
def test_a_scaler_shifts_first_and_scales_then(shift: list[float], scale: list[float]) -> None:
    x = np.array([0.5, -2.0, 1e10])
    got = run(classic("scaler", {"x": [3]}, {"y": [3]}, shiftValue=shift, scaleValue=scale), x=x)
    np.testing.assert_array_equal(got, (x + np.array(shift or 0.0)) * np.array(scale or 1.0))


def test_a_scaler_of_one_number_gives_one() -> None:
    model = classic("scaler", {"x": "int64"}, {"y": "double"}, shiftValue=[1.0], scaleValue=[0.25])
    assert run(model, x=2) == 0.75


def test_a_scaler_to_whole_numbers_fails_where_it_would_lose_something() -> None:
    model = classic("scaler", {"x": "int64"}, {"y": "int64"}, scaleValue=[0.5])
    assert run(model, x=4) == 2
    with pytest.raises(RunError, match="not whole"):
        run(model, x=5)


@pytest.mark.parametrize("dtype", ["DOUBLE", "FLOAT32", "INT32"])
def test_arrays_come_and_go_in_the_dtype_that_the_file_declares(dtype: str) -> None:
    model = classic("scaler", {"x": [2]}, {"y": [2]}, scaleValue=[2.0], dtype=dtype)
    got = run(model, x=[1, 2])
    assert got.dtype == {"DOUBLE": np.float64, "FLOAT32": np.float32, "INT32": np.int32}[dtype]
    assert got.tolist() == [2, 4]


@pytest.mark.parametrize(("norm", "power"), [("LMax", 0), ("L1", 1), ("L2", 2)])
def test_a_normalizer_divides_by_its_norm(norm: str, power: int) -> None:
    x = np.array([3.0, -4.0, 1.0])
    norms = [np.max(x), np.abs(x).sum(), np.sqrt((x**2).sum())]
    np.testing.assert_allclose(run(classic("normalizer", {"x": [3]}, {"y": [3]}, normType=norm), x=x), x / norms[power])
    zeros = run(classic("normalizer", {"x": [3]}, {"y": [3]}, normType=norm), x=np.zeros(3))
    assert zeros.tolist() == [0, 0, 0]


def test_an_imputer_fills_in_one_value_or_one_a_place() -> None:
    x = np.array([np.nan, 1.0, np.nan])
    one = classic("imputer", {"x": [3]}, {"y": [3]}, imputedDoubleValue=7.0, replaceDoubleValue=float("nan"))
    each = classic("imputer", {"x": [3]}, {"y": [3]}, imputedDoubleArray={"vector": [4.0, 5.0, 6.0]})
    other = classic("imputer", {"x": [3]}, {"y": [3]}, imputedDoubleValue=7.0, replaceDoubleValue=1.0)
    assert run(one, x=x).tolist() == [7, 1, 7]
    assert run(each, x=x).tolist() == [4, 1, 6]
    np.testing.assert_array_equal(run(other, x=x), [np.nan, 7, np.nan])


def test_an_imputer_fills_in_numbers_and_texts() -> None:
    whole = classic("imputer", {"x": "int64"}, {"y": "int64"}, imputedInt64Value=3, replaceInt64Value=-1)
    text = classic("imputer", {"x": "string"}, {"y": "string"}, imputedStringValue="none", replaceStringValue="")
    array = classic("imputer", {"x": [2]}, {"y": [2]}, imputedInt64Array={"vector": [8, 9]}, replaceInt64Value=0,
                    dtype="INT32")  # fmt: skip
    assert [run(whole, x=x) for x in (-1, 5)] == [3, 5]
    assert [run(text, x=x) for x in ("", "seen")] == ["none", "seen"]
    assert run(array, x=[0, 4]).tolist() == [8, 4]


def test_an_imputer_fills_in_what_nobody_feeds() -> None:
    model = classic("imputer", {"x": "double"}, {"y": "double"}, optional=["x"], imputedDoubleValue=2.5)
    with session(model) as running:
        assert [running.run(feed)["y"] for feed in ({}, {"x": 1.0}, {"x": float("nan")})] == [2.5, 1.0, 2.5]


def test_an_imputer_completes_a_dictionary() -> None:
    model = classic("imputer", {"x": "dictionary string"}, {"y": "dictionary string"},
                    imputedStringDictionary={"map": {"a": 1.0, "b": 2.0}})  # fmt: skip
    with session(model) as running:
        assert running.run({"x": {"a": 5.0, "c": 6.0}}) == {"y": {"a": 5.0, "c": 6.0, "b": 2.0}}
        assert running.run({"x": {}})["y"] == {"a": 1.0, "b": 2.0}


def test_an_extractor_picks_numbers_by_their_place() -> None:
    assert run(classic("arrayFeatureExtractor", {"x": [2, 2]}, {"y": [3]}, extractIndex=[3, 0, 3]),
               x=[[1.0, 2.0], [3.0, 4.0]]).tolist() == [4, 1, 4]  # fmt: skip
    assert (
        run(classic("arrayFeatureExtractor", {"x": [3]}, {"y": "double"}, extractIndex=[1]), x=[1.0, 2.0, 3.0]) == 2.0
    )
    whole = run(classic("arrayFeatureExtractor", {"x": [3]}, {"y": "int64"}, extractIndex=[2]), x=[1.0, 2.0, 3.0])
    assert (whole, type(whole)) == (3, int)


def test_a_vectorizer_puts_all_kinds_of_features_in_a_row() -> None:
    columns = [("d", 1), ("m", 4), ("k", 3), ("i", 1)]
    model = classic("featureVectorizer", {"i": "int64", "d": "double", "m": [2, 2], "k": "dictionary int64"}, {"y": [9]},
                    inputList=[{"inputColumn": n, "inputDimensions": c} for n, c in columns])  # fmt: skip
    got = run(model, i=7, d=0.5, m=[[1, 2], [3, 4]], k={2: 9.0, 0: 8.0})
    assert got.tolist() == [0.5, 1, 2, 3, 4, 8, 0, 9, 7]
    with pytest.raises(RunError, match="no place of its array of 3"):
        run(model, i=7, d=0.5, m=[[1, 2], [3, 4]], k={3: 1.0})


def test_an_identity_hands_on_every_kind_of_feature() -> None:
    kinds: dict[str, Any] = {"a": [2], "d": "double", "i": "int64", "s": "string", "k": "dictionary string",
                             "q": "sequence string", "n": "sequence int64"}  # fmt: skip
    model = classic("identity", kinds, {f"{name}2": kind for name, kind in kinds.items()})
    feed = {"a": np.array([1.0, 2.0]), "d": 0.5, "i": 3, "s": "eh", "k": {"x": 1.0}, "q": ["u", "v"], "n": [4, 5]}
    with session(model) as running:
        got = running.run(feed)
    assert got.pop("a2").tolist() == [1, 2]
    assert got == {f"{name}2": value for name, value in feed.items() if name != "a"}
    assert [type(got[name]) for name in ("d2", "i2", "s2", "q2")] == [float, int, str, list]


def test_an_input_and_an_output_may_share_a_name() -> None:
    with session(classic("scaler", {"x": "double"}, {"x": "double"}, scaleValue=[2.0])) as running:
        assert running.run({"x": 4}) == {"x": 8.0}


@pytest.mark.parametrize(
    ("kind", "value"),
    [("double", "text"), ("double", [1.0, 2.0]), ("int64", 0.5), ("string", 3), ("dictionary string", {1: 2.0}),
     ("dictionary int64", {"a": 1.0}), ("dictionary string", [1]), ("sequence int64", ["a"]), ("sequence string", "ab")],
)  # fmt: skip
def test_what_is_fed_is_held_against_the_declared_type(kind: str, value: Any) -> None:
    with session(classic("identity", {"x": kind}, {"y": kind})) as running, pytest.raises(InputError, match="'x'"):
        running.run({"x": value})


def vectorizer(column: str, dimensions: int, shape: list[int]) -> Any:
    columns = [{"inputColumn": column, "inputDimensions": dimensions}]
    return classic("featureVectorizer", {"x": "double"}, {"y": shape}, inputList=columns)


@pytest.mark.parametrize(
    ("model", "said"),
    [
        (classic("scaler", {"x": [3]}, {"y": [3]}, shiftValue=[1.0, 2.0]), "2 shift values for 3"),
        (classic("scaler", {"x": [3], "z": [3]}, {"y": [3]}), "2 inputs"),
        (classic("imputer", {"x": [3]}, {"y": [3]}), "says nothing"),
        (classic("imputer", {"x": [3]}, {"y": [3]}, imputedDoubleArray={"vector": [1.0]}), "1 values to put in for 3"),
        (classic("imputer", {"x": [3]}, {"y": [3]}, imputedStringValue="a"), "reads a tensor"),
        (classic("arrayFeatureExtractor", {"x": [3]}, {"y": "double"}, extractIndex=[3]), "number 3 of 3"),
        (classic("arrayFeatureExtractor", {"x": [3]}, {"y": "double"}, extractIndex=[0, 1]), "2 numbers"),
        (classic("arrayFeatureExtractor", {"x": [3]}, {"y": "double"}), "extracts nothing"),
        (vectorizer("z", 1, [1]), "none of its inputs"),
        (vectorizer("x", 2, [2]), "put in as 2"),
        (vectorizer("x", 1, [5]), "array of 1"),
        (classic("identity", {"x": "double"}, {"y": "string"}), "as 'y', a string"),
        (classic("normalizer", {}, {"y": [1]}), "no inputs"),
    ],
)  # fmt: skip
def test_what_makes_no_sense_is_refused(model: Any, said: str) -> None:
    with pytest.raises(ConversionError, match=said):
        session(model)


def test_a_model_that_declares_no_outputs_is_refused_as_of_every_kind() -> None:
    with pytest.raises(RunError, match="declares no outputs"):
        session(classic("identity", {"x": "double"}, {}))


def test_an_array_of_a_size_beyond_memory_is_refused() -> None:
    model = classic("featureVectorizer", {"x": "dictionary int64"}, {"y": []},
                    inputList=[{"inputColumn": "x", "inputDimensions": 2**50}])  # fmt: skip
    with pytest.raises(Exception, match="more memory"):
        session(model)
