"""Statistics against figures that were worked out elsewhere."""

from __future__ import annotations

import numpy as np
import pytest

from coreproof.comparison.agreement import Distributions, cohen_kappa, top_k, top_overlap, truth_rank, wilson


def jensen_shannon(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return Distributions.from_probabilities(a).divergence(Distributions.from_probabilities(b))


def test_wilson_interval_of_textbook_cases() -> None:
    # Newcombe 1998, table I, method 3 (score method): 81/263, 15/148, 0/20, 1/29
    for (successes, trials), expected in {
        (81, 263): (0.2553, 0.3662),
        (15, 148): (0.0624, 0.1605),
        (0, 20): (0.0, 0.1611),
        (1, 29): (0.0061, 0.1718),
    }.items():
        assert wilson(successes, trials) == pytest.approx(expected, abs=5e-5)
    assert wilson(0, 0) == (0.0, 1.0)


def test_kappa_of_a_two_by_two_table() -> None:
    # 20 yes/yes, 5 yes/no, 10 no/yes, 15 no/no: observed 0.7, chance 0.5
    assert cohen_kappa(20 + 15, np.array([25, 25]), np.array([20, 30])) == pytest.approx(0.4)
    assert cohen_kappa(4, np.array([2, 2]), np.array([2, 2])) == 1.0
    assert np.isnan(cohen_kappa(0, np.array([0]), np.array([0])))


def test_kappa_is_undefined_where_both_name_one_class_throughout() -> None:
    assert np.isnan(cohen_kappa(4, np.array([4, 0]), np.array([4, 0])))
    assert cohen_kappa(0, np.array([4, 0]), np.array([0, 4])) == 0


def test_seven_crops_of_eight_pictures_are_eight_trials() -> None:
    crops = np.full(56, 1 / 7)
    assert wilson(crops.sum(), crops.sum()) == pytest.approx(wilson(8, 8))
    assert wilson(crops[:28].sum(), crops.sum()) == pytest.approx(wilson(4, 8))


def test_divergence_is_that_of_scipy() -> None:
    distance = pytest.importorskip("scipy.spatial.distance", reason="SciPy is not installed")
    rng = np.random.default_rng(0)
    p, q = rng.dirichlet(np.full(50, 0.1), 8), rng.dirichlet(np.full(50, 0.1), 8)
    expected = [distance.jensenshannon(a, b, base=2) ** 2 for a, b in zip(p, q, strict=True)]
    np.testing.assert_allclose(jensen_shannon(p, q), expected, rtol=1e-9)


def test_divergence_reaches_its_ends() -> None:
    one, other = np.array([[1.0, 0.0]]), np.array([[0.0, 1.0]])
    assert jensen_shannon(one, one)[0] == 0
    assert jensen_shannon(one, other)[0] == 1
    assert jensen_shannon(np.array([[0.2, 0.2]]), np.array([[0.5, 0.5]]))[0] == 0


def test_ties_go_to_the_first_class() -> None:
    indices, values = top_k(np.array([[0.2, 0.4, 0.4]]), 2)
    assert indices.tolist() == [[1, 2]]
    assert values == pytest.approx(0.4)
    assert truth_rank(np.array([[0.2, 0.4, 0.4]]), np.array([2])).tolist() == [1]


def test_a_class_of_no_probability_is_not_named() -> None:
    one, other, sure = np.array([[7, 0, 1]]), np.array([[8, 0, 1]]), np.array([[1.0, 0.0, 0.0]])
    assert top_overlap(one, other, sure, sure)[0] == 0
    assert top_overlap(one, one, sure, sure)[0] == 1
    assert top_overlap(one, one, sure, np.array([[0.5, 0.3, 0.2]]))[0] == pytest.approx(1 / 3)


def test_overlap_ignores_order_and_unknown_truth_is_not_judged() -> None:
    some = np.full((1, 4), 0.1)
    assert top_overlap(np.array([[1, 2, 3, 4]]), np.array([[4, 3, 9, 8]]), some, some)[0] == 0.5
    ranks = truth_rank(np.array([[0.1, 0.9], [0.1, 0.9], [0.1, 0.9]]), np.array([1, -1, 7]))
    assert ranks.tolist() == [0, -1, -1]
