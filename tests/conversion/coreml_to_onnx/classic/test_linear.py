"""Linear models against scikit-learn, and their link functions against the textbook."""

from __future__ import annotations

from math import erf, exp, sqrt
from typing import Any

import numpy as np
import pytest

from coreproof.errors import ConversionError
from coreproof.runtime.open import session
from tests.build import classic
from tests.conversion.coreml_to_onnx.classic.sklearn_models import linear_classifier, linear_regressor


def fitted(seed: int, classes: int, features: int = 6) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(80, features))
    return x, np.argmax(x @ rng.normal(size=(features, classes)) + rng.normal(size=(80, classes)), axis=1)


@pytest.mark.parametrize("seed", range(10))
def test_a_linear_regressor_gives_what_scikit_learn_predicts(seed: int) -> None:
    linear = pytest.importorskip("sklearn.linear_model")
    rng = np.random.default_rng(seed)
    x, y = rng.normal(size=(50, 5)), rng.normal(size=50)
    model = linear.Ridge(alpha=0.1 + seed).fit(x, y)
    with session(linear_regressor(model)) as running:
        for row in x[:5]:
            got = running.run({"x": row})["y"]
            assert isinstance(got, float)
            assert got == pytest.approx(model.predict(row[None])[0], rel=1e-12, abs=1e-12)


def test_several_targets_are_one_array() -> None:
    linear = pytest.importorskip("sklearn.linear_model")
    rng = np.random.default_rng(0)
    x = rng.normal(size=(40, 4))
    model = linear.LinearRegression().fit(x, rng.normal(size=(40, 3)))
    with session(linear_regressor(model)) as running:
        got = running.run({"x": x[0]})["y"]
    assert got.dtype == np.float64
    np.testing.assert_allclose(got, model.predict(x[:1])[0], rtol=1e-12)


@pytest.mark.sweep(6)
@pytest.mark.parametrize("names", [None, ["ash", "birch", "oak", "pine"]], ids=["numbers", "texts"])
@pytest.mark.parametrize("classes", [2, 3, 4])
@pytest.mark.parametrize("seed", range(4))
def test_one_class_against_the_rest_gives_what_scikit_learn_predicts(
    seed: int, classes: int, names: list[str] | None
) -> None:
    multiclass = pytest.importorskip("sklearn.multiclass")
    linear = pytest.importorskip("sklearn.linear_model")
    x, y = fitted(seed, classes)
    target = y if names is None else np.array(names)[y]
    rest = multiclass.OneVsRestClassifier(linear.LogisticRegression()).fit(x, target)

    class Joined:
        classes_ = rest.classes_ if names is None else [str(c) for c in rest.classes_]
        coef_ = np.concatenate([e.coef_ for e in rest.estimators_])
        intercept_ = np.concatenate([e.intercept_ for e in rest.estimators_])

    with session(linear_classifier(Joined)) as running:
        for row in x[:8]:
            got = running.run({"x": row})
            label = rest.predict(row[None])[0]
            assert got["label"] == (label if names is None else str(label))
            assert type(got["label"]) is (int if names is None else str)
            assert list(got["chances"]) == list(Joined.classes_)
            np.testing.assert_allclose(list(got["chances"].values()), rest.predict_proba(row[None])[0], rtol=1e-9)


@pytest.mark.parametrize("classes", [2, 3, 5])
def test_a_reference_class_is_a_softmax_whose_first_sum_is_zero(classes: int) -> None:
    linear = pytest.importorskip("sklearn.linear_model")
    x, y = fitted(1, classes)
    model = linear.LogisticRegression().fit(x, y)
    with session(linear_classifier(model, "ReferenceClass")) as running:
        for row in x[:8]:
            got = running.run({"x": row})
            np.testing.assert_allclose(list(got["chances"].values()), model.predict_proba(row[None])[0], rtol=1e-9)
            assert got["label"] == model.predict(row[None])[0]


LINKS: dict[str, Any] = {
    "NoTransform": lambda z: z,
    "Logit": lambda z: 1 / (1 + exp(-z)),
    "Probit": lambda z: (1 + erf(z / sqrt(2))) / 2,
}


@pytest.mark.parametrize("link", LINKS)
def test_each_transform_of_a_regressor_is_its_function(link: str) -> None:
    model = classic("glmRegressor", {"x": [1]}, {"y": "double"}, weights=[{"value": [1.0]}], offset=[0.0],
                    postEvaluationTransform=link)  # fmt: skip
    with session(model) as running:
        for z in (-9.0, -7.5, -3.0, -0.25, 0.0, 1e-3, 0.7, 5.0, 7.0, 7.2, 30.0):
            assert running.run({"x": np.array([z])})["y"] == pytest.approx(LINKS[link](z), rel=1e-12, abs=1e-15)


def test_probit_is_zero_and_one_at_the_ends_and_not_a_number_of_none() -> None:
    model = classic("glmRegressor", {"x": [1]}, {"y": "double"}, weights=[{"value": [1.0]}], offset=[0.0],
                    postEvaluationTransform="Probit")  # fmt: skip
    with session(model) as running:
        assert [running.run({"x": [z]})["y"] for z in (-1e300, 1e300)] == [0.0, 1.0]
        assert np.isnan(running.run({"x": [np.nan]})["y"])


def test_probit_tells_two_classes_apart() -> None:
    model = classic("glmClassifier", {"a": "double", "b": "int64"}, {"label": "string", "chances": "dictionary string"},
                    weights=[{"value": [0.5, -1.0]}], offset=[0.1], postEvaluationTransform="Probit",
                    stringClassLabels={"vector": ["no", "yes"]})  # fmt: skip
    with session(model) as running:
        got = running.run({"a": 3, "b": 1})
    assert got["label"] == "yes"
    assert got["chances"]["yes"] == pytest.approx((1 + erf(0.6 / sqrt(2))) / 2, rel=1e-12)
    assert got["chances"]["no"] == pytest.approx(1 - got["chances"]["yes"], rel=1e-12)


def test_without_labels_the_classes_are_counted() -> None:
    model = classic("glmClassifier", {"x": [2]}, {"label": "int64", "chances": "dictionary int64"},
                    weights=[{"value": [1.0, 0.0]}, {"value": [0.0, 1.0]}], offset=[0.0, 0.0])  # fmt: skip
    with session(model) as running:
        assert running.run({"x": np.array([0.0, 2.0])})["label"] == 2


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"weights": [{"value": [1.0]}], "offset": [0.0]}, "fed 2 numbers"),
        ({"weights": [{"value": [1.0, 2.0]}], "offset": []}, "1 rows of weights and 0 offsets"),
        ({"weights": [{"value": [1.0, 2.0]}, {"value": [1.0]}], "offset": [0.0, 0.0]}, "differ in length"),
        ({"weights": [], "offset": []}, "no weights"),
    ],
)
def test_weights_that_do_not_fit_are_refused(fields: dict[str, Any], said: str) -> None:
    with pytest.raises(ConversionError, match=said):
        session(classic("glmRegressor", {"x": [2]}, {"y": "double"}, **fields))


def test_everything_that_is_wrong_is_said_at_once() -> None:
    model = classic("glmClassifier", {"x": [3]}, {"label": "string"}, weights=[{"value": [1.0]}], offset=[],
                    int64ClassLabels={"vector": [1, 2, 3]})  # fmt: skip
    with pytest.raises(ConversionError) as raised:
        session(model)
    for said in ("fed 3 numbers", "0 offsets", "3 labels", "declared as string"):
        assert said in str(raised.value)
