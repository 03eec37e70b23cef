"""ai.onnx.ml's linear models and support vector machines, against ONNX Runtime."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from coreproof.errors import ConversionError
from tests.conversion.onnx_to_coreml.one_ml_node import check_ml, ml_model, run_ml

RNG = np.random.default_rng(0)
X = RNG.normal(size=(7, 4)).astype(np.float32)
TRANSFORMS = ("NONE", "SOFTMAX", "LOGISTIC", "SOFTMAX_ZERO")
KERNELS = {"LINEAR": [0.0, 0.0, 0.0], "POLY": [0.5, 1.0, 3.0], "RBF": [0.3, 0.0, 0.0], "SIGMOID": [0.2, 0.1, 0.0]}


def drawn(count: int) -> list[float]:
    return [float(v) for v in RNG.normal(size=count)]


@pytest.mark.parametrize("transform", TRANSFORMS)
def test_a_regressor_has_a_row_a_target(transform: str) -> None:
    check_ml("LinearRegressor", 1, X, coefficients=drawn(8), intercepts=[0.1, 0.2], targets=2, post_transform=transform)
    if transform == "NONE":
        check_ml("LinearRegressor", 1, X[:, :1].copy(), coefficients=[2.0], targets=1)


def test_the_probit_is_winitzkis() -> None:
    x = np.array([[0.001, 0.1, 0.3], [0.49, 0.6, 0.999]], np.float32)
    check_ml(
        "LinearRegressor", 1, x, coefficients=np.eye(3).reshape(-1).tolist(), intercepts=[0.0] * 3, targets=3,
        post_transform="PROBIT",
    )  # fmt: skip


@pytest.mark.sweep(6)
@pytest.mark.parametrize("transform", TRANSFORMS)
@pytest.mark.parametrize(("rows", "labels"), [(3, [0, 1, 2]), (3, [5, 7, 2]), (1, [4, 9]), (2, [4, 9])])
def test_classifiers_name_the_class_of_the_highest_score(transform: str, rows: int, labels: list[int]) -> None:
    check_ml(
        "LinearClassifier", 1, X, (7, 1), coefficients=drawn(4 * rows), intercepts=drawn(rows), classlabels_ints=labels,
        post_transform=transform,
    )  # fmt: skip


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("one_class", [0, 1])
def test_support_vector_regressors_weigh_similarities(kernel: str, one_class: int) -> None:
    check_ml(
        "SVMRegressor", 1, X, coefficients=drawn(5), kernel_params=KERNELS[kernel], kernel_type=kernel, n_supports=5,
        rho=[0.3], support_vectors=drawn(20), one_class=one_class,
    )  # fmt: skip


@pytest.mark.sweep(2)
@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize(("counts", "labels"), [([2, 3], [3, 8]), ([2, 1, 1, 1], [5, 6, 7, 9])])
@pytest.mark.parametrize("how", ["NONE", "LOGISTIC", "probabilities"])
def test_support_vector_classifiers_decide_each_pair(
    kernel: str, counts: list[int], labels: list[int], how: str
) -> None:
    pairs = len(counts) * (len(counts) - 1) // 2
    said: dict[str, Any] = {"post_transform": how}
    if how == "probabilities":
        said = {"prob_a": [-abs(v) for v in drawn(pairs)], "prob_b": drawn(pairs)}
    check_ml(
        "SVMClassifier", 1, X, (7, 1), coefficients=drawn(5 * (len(counts) - 1)), kernel_params=KERNELS[kernel],
        kernel_type=kernel, rho=drawn(pairs), support_vectors=drawn(20), vectors_per_class=counts, classlabels_ints=labels,
        **said,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("operator", "said"),
    [
        ("LinearRegressor", {"coefficients": [1.0] * 4, "targets": 1, "post_transform": "LOGISTIC"}),
        ("LinearClassifier", {"coefficients": [1.0] * 4, "classlabels_ints": [0, 1], "post_transform": "PROBIT"}),
        (
            "SVMRegressor",
            {"coefficients": [1.0], "support_vectors": [1.0] * 4, "n_supports": 1, "kernel_type": "COSINE"},
        ),
    ],
)
def test_what_engines_answer_differently_and_kernels_that_are_none_are_refused(
    operator: str, said: dict[str, Any]
) -> None:
    outputs = (7, 1) if operator.endswith("Classifier") else (1,)
    with pytest.raises(ConversionError, match=f"{operator} cannot be expressed"):
        run_ml(ml_model(operator, 1, {"x": X}, outputs, **said), x=X)
