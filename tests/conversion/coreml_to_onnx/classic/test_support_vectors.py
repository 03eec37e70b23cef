"""Support vector machines against scikit-learn's, which are libsvm's."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from coreproof.errors import ConversionError
from coreproof.runtime.open import session
from tests.build import classic
from tests.conversion.coreml_to_onnx.classic.sklearn_models import support_vector_classifier, support_vector_regressor

KERNELS = ["linear", "rbf", "poly", "sigmoid"]


def data(seed: int, classes: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(90, 4)) * (rng.random((90, 4)) < 0.7)
    return x, np.argmax(x @ rng.normal(size=(4, classes)) + 0.3 * rng.normal(size=(90, classes)), axis=1)


@pytest.mark.sweep(6)
@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize("seed", range(3))
def test_a_regressor_gives_what_scikit_learn_predicts(kernel: str, sparse: bool, seed: int) -> None:
    svm = pytest.importorskip("sklearn.svm")
    x, _ = data(seed, 2)
    model = svm.SVR(kernel=kernel, degree=2 + seed, coef0=0.3).fit(x, x[:, 0] - x[:, 1] ** 2)
    with session(support_vector_regressor(model, sparse=sparse)) as running:
        for row in x[:8]:
            assert running.run({"x": row})["y"] == pytest.approx(model.predict(row[None])[0], rel=1e-9, abs=1e-9)


@pytest.mark.sweep(6)
@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("classes", [2, 3, 5])
@pytest.mark.parametrize("sparse", [False, True])
def test_a_classifier_gives_the_class_that_scikit_learn_predicts(kernel: str, classes: int, sparse: bool) -> None:
    svm = pytest.importorskip("sklearn.svm")
    x, y = data(classes, classes)
    model = svm.SVC(kernel=kernel, coef0=0.2).fit(x, y)
    with session(support_vector_classifier(model, sparse=sparse)) as running:
        assert [running.run({"x": row})["label"] for row in x] == model.predict(x).tolist()


@pytest.mark.sweep(2)
@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("classes", [3, 4, 7])
@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_probabilities_are_coupled_as_libsvm_couples_them(kernel: str, classes: int) -> None:
    svm = pytest.importorskip("sklearn.svm")
    x, y = data(classes + 10, classes)
    model = svm.SVC(kernel=kernel, probability=True, random_state=0).fit(x, y)
    with session(support_vector_classifier(model)) as running:
        for row in x[:20]:
            got, wanted = running.run({"x": row}), model.predict_proba(row[None])[0]
            np.testing.assert_allclose(list(got["chances"].values()), wanted, rtol=1e-7)
            assert got["label"] == model.classes_[np.argmax(wanted)]


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_two_classes_have_the_pairs_own_probability() -> None:
    svm = pytest.importorskip("sklearn.svm")
    x, y = data(3, 2)
    model = svm.SVC(probability=True, random_state=0).fit(x, y)
    with session(support_vector_classifier(model)) as running:
        for row in x[:20]:
            # scikit-learn's decision is the second class's, the file's that of the first
            first = 1 / (1 + np.exp(-model._probA[0] * model.decision_function(row[None])[0] + model._probB[0]))
            got = running.run({"x": row})["chances"]
            assert got[0] == pytest.approx(np.clip(first, 1e-7, 1 - 1e-7), rel=1e-9)
            assert sum(got.values()) == pytest.approx(1)
            # scikit-learn couples the one pair once more, which moves it by less than half a percent
            assert got[0] == pytest.approx(model.predict_proba(row[None])[0][0], abs=5e-3)


def machine(**fields: Any) -> Any:
    sound = {
        "kernel": {"linearKernel": {}}, "denseSupportVectors": {"vectors": [{"values": [1.0]}, {"values": [2.0]}]},
        "numberOfSupportVectorsPerClass": [1, 1], "coefficients": [{"alpha": [1.0, -1.0]}], "rho": [0.0],
        "int64ClassLabels": {"vector": [0, 1]},
    }  # fmt: skip
    return classic("supportVectorClassifier", {"x": [1]}, {"label": "int64"}, **{**sound, **fields})


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"kernel": {}}, "names no kernel"),
        ({"numberOfSupportVectorsPerClass": [1, 4]}, "2 support vectors, and 5 in all"),
        ({"numberOfSupportVectorsPerClass": [-3, 5]}, "2 support vectors"),
        ({"coefficients": []}, "0 rows of coefficients"),
        ({"coefficients": [{"alpha": [1.0]}]}, "row of 1 coefficients"),
        ({"rho": []}, "1 pairs of them, and 0 constants"),
        ({"probA": [1.0]}, "values of prob"),
        ({"denseSupportVectors": {"vectors": [{"values": [1.0]}, {"values": [2.0, 3.0]}]}}, "differ in length"),
        ({"denseSupportVectors": {"vectors": [{"values": [1.0, 1.0]}, {"values": [2.0, 3.0]}]}}, "fed 1 numbers"),
        ({"int64ClassLabels": {"vector": [0, 1, 2]}}, "3 labels"),
    ],
)
def test_machines_that_make_no_sense_are_refused(fields: dict[str, Any], said: str) -> None:
    session(machine()).close()
    with pytest.raises(ConversionError, match=said):
        session(machine(**fields))


@pytest.mark.parametrize("index", [0, -1, 2])
def test_a_sparse_vector_counts_from_one_to_the_number_of_features(index: int) -> None:
    vectors = {"vectors": [{"nodes": [{"index": index, "value": 1.0}]}, {"nodes": []}]}
    model = classic("supportVectorRegressor", {"x": [1]}, {"y": "double"}, kernel={"linearKernel": {}},
                    sparseSupportVectors=vectors, coefficients={"alpha": [1.0, 1.0]})  # fmt: skip
    with pytest.raises(ConversionError, match="places are 1 to 1"):
        session(model)


def test_a_hundred_classes_vote_without_a_table_of_all_pairs_and_classes() -> None:
    classes, pairs = 100, 100 * 99 // 2
    model = classic(
        "supportVectorClassifier", {"x": [1]}, {"label": "int64"}, kernel={"linearKernel": {}}, denseSupportVectors={},
        numberOfSupportVectorsPerClass=[0] * classes, coefficients=[{}] * (classes - 1),
        rho=[-1.0] * (classes - 1) + [1.0] * (pairs - classes + 1), int64ClassLabels={"vector": list(range(classes))},
    )  # fmt: skip
    with session(model) as running:
        # the first class wins all its pairs; of the others the later one wins each
        got = running.run({"x": [0.0]}, taps=["label/scores"])
    assert got["label"] == 0
    assert got["label/scores"].tolist() == [classes - 1, *range(classes - 1)]
