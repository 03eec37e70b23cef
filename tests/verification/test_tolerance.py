"""The judge: NaN, infinity, emptiness, scale; what each figure means."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from coreproof.verification.tolerance import EXACT, Tolerance, judge

LOOSE = Tolerance(relative=1e-3, typical=5e-4)
ARRAYS = hnp.arrays(
    np.float32, hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=5), elements=st.floats(width=32)
)


@pytest.mark.thorough
@given(ARRAYS)
@settings(max_examples=50, deadline=None)
def test_a_value_agrees_with_itself_whatever_it_holds(array: np.ndarray) -> None:
    judgement = judge(array, array.copy(), EXACT)
    assert judgement
    assert judgement.max_error == judgement.required_absolute == judgement.required_relative == 0
    json.dumps(judgement.to_json(), allow_nan=False)


@given(ARRAYS, st.integers(0, 10_000))
@settings(max_examples=50, deadline=None)
def test_the_tolerance_said_to_be_required_suffices_and_less_does_not(array: np.ndarray, seed: int) -> None:
    noisy = array + np.random.default_rng(seed).normal(size=array.shape).astype(np.float32)
    judgement = judge(array, noisy, EXACT)
    assert judgement.misplaced == 0 or not judgement
    if judgement.misplaced or judgement.max_error == 0 or not math.isfinite(judgement.required_relative):
        return
    assert judge(array, noisy, Tolerance(absolute=judgement.required_absolute * (1 + 1e-9)))
    assert not judge(array, noisy, Tolerance(absolute=judgement.required_absolute * (1 - 1e-6)))
    assert judge(array, noisy, Tolerance(relative=judgement.required_relative * (1 + 1e-9)))


@pytest.mark.parametrize(
    ("a", "b", "misplaced"),
    [
        ([1, math.nan], [1, math.nan], 0),
        ([1, math.inf], [1, math.inf], 0),
        ([1, math.inf], [1, -math.inf], 1),
        ([1, 2], [1, math.nan], 1),
        ([1, math.nan], [1, 2], 1),
        ([1, 70000], [1, math.inf], 1),
        ([math.nan, math.inf], [math.inf, math.nan], 2),
    ],
)
def test_nan_and_infinity_have_to_stand_at_the_same_places(a: list[float], b: list[float], misplaced: int) -> None:
    judgement = judge(np.array(a), np.array(b), Tolerance(relative=1.0, absolute=1e9))
    assert judgement.misplaced == misplaced
    assert bool(judgement) == (misplaced == 0)
    if misplaced:
        assert "NaN or infinite" in judgement.problem
        assert judgement.worst == ((0,) if misplaced == 2 else (1,))


BOUND = Tolerance(relative=1e-3, typical=1e-3)


@pytest.mark.parametrize(
    ("a", "b", "stored", "agrees"),
    [
        ([65500.0, 1.0], [np.inf, 1.0], "float16", True),  # 20 below 65520, of 65 that are allowed
        ([np.inf, 1.0], [65500.0, 1.0], "float16", True),
        ([65580.0, 1.0], [np.inf, 1.0], "float16", True),  # a float32 side may lie above it as well
        ([-65500.0, 1.0], [-np.inf, 1.0], "float16", True),
        ([65500.0, 1.0], [-np.inf, 1.0], "float16", False),
        ([65440.0, 1.0], [np.inf, 1.0], "float16", False),
        ([65600.0, 1.0], [np.inf, 1.0], "float16", False),
        ([65500.0, 1.0], [np.nan, 1.0], "float16", False),
        ([65500.0, 1.0], [np.inf, 1.0], "float32", False),
        ([3.402e38, 1e38], [np.inf, 1e38], "float32", True),
        ([3.39e38, 1e38], [np.inf, 1e38], "float32", False),
        ([65500.0, 1.0], [np.inf, 1.1], "float16", False),  # beside it, a number is wrong
    ],
)
def test_an_infinity_on_one_side_is_allowed_within_tolerance_of_the_formats_end(
    a: list[float], b: list[float], stored: str, agrees: bool
) -> None:
    typed = np.float32(a), np.float32(b)
    found = judge(*typed, BOUND, stored=stored)
    assert found.agrees is agrees
    assert (found.at_limit, found.misplaced) in ([(1, 0)] if agrees else [(0, 1), (1, 0)])


def test_the_scale_of_the_tensor_counts_not_that_of_an_element_near_zero() -> None:
    reference = np.array([1e12, -2e12, 1e-3])
    assert judge(reference, reference + 1e6, Tolerance(relative=1e-5))
    assert not judge(reference, reference + 1e8, Tolerance(relative=1e-5))


def test_a_small_fault_that_touches_everything_fails_on_the_typical_error() -> None:
    reference = np.random.default_rng(0).normal(size=1000)
    judgement = judge(reference, reference * 1.0008, LOOSE)
    assert not judgement
    assert "typical" in judgement.problem


def test_the_worst_element_is_named() -> None:
    a = np.ones((2, 3, 4), np.float32)
    b = a.copy()
    b[1, 2, 3] = 1.5
    judgement = judge(a, b, LOOSE)
    assert judgement.worst == (1, 2, 3)
    assert judgement.max_error == 0.5
    assert judgement.problem == "1 of 24 elements are out of tolerance"


def test_shapes_are_brought_together_where_the_counts_agree() -> None:
    a = np.arange(6.0).reshape(1, 6, 1, 1)
    assert judge(a, a.reshape(6), EXACT)
    judgement = judge(a, a.ravel()[:5], EXACT)
    assert not judgement
    assert judgement.problem == "shapes differ: [1x6x1x1] and [5]"


@pytest.mark.parametrize(
    ("a", "b", "agrees"),
    [
        (np.array([1, 2]), np.array([1, 2], np.int32), True),
        (np.array([1, 2]), np.array([1, 3]), False),
        (np.array([True, False]), np.array([True, False]), True),
        (np.array([True, False]), np.array([1, 1]), False),
        (np.array(["cat"]), np.array(["cat"]), True),
        (np.array(["cat"]), np.array(["dog"]), False),
        (np.float32(2), np.array([2.0]), True),
        (np.zeros((0, 3)), np.zeros((3, 0)), True),
    ],
)
def test_integers_booleans_strings_scalars_and_nothing(a: np.ndarray, b: np.ndarray, agrees: bool) -> None:
    assert bool(judge(a, b, EXACT)) is agrees


def test_cosine_and_psnr() -> None:
    a = np.array([3.0, 4.0])
    assert judge(a, a * 2, EXACT).cosine == pytest.approx(1)
    assert judge(a, np.array([-4.0, 3.0]), EXACT).cosine == pytest.approx(0)
    assert judge(a, a, EXACT).psnr == math.inf
    assert judge(np.array([0.0, 1.0]), np.array([0.1, 1.1]), EXACT).psnr == pytest.approx(20)


@pytest.mark.parametrize("error", [0.0, 1e-5, 0.99e-3, 1.01e-3, 0.5])
@pytest.mark.parametrize(
    "tolerance",
    [Tolerance(relative=1e-3), Tolerance(absolute=1e-3), Tolerance(relative=1.0, typical=1e-3), Tolerance()],
)
def test_the_share_of_the_tolerance_says_the_verdict(error: float, tolerance: Tolerance) -> None:
    a = np.ones(50)
    found = judge(a, a + error, tolerance)
    assert (found.used <= 1) == found.agrees
    if tolerance != Tolerance():
        assert found.used == pytest.approx(error * 1e3, rel=1e-6)


def test_what_cannot_be_compared_uses_up_any_tolerance() -> None:
    a = np.ones(4)
    assert judge(a, np.ones(5), Tolerance(relative=1.0)).used == np.inf
    assert judge(a, np.array([1, 1, np.nan, 1]), Tolerance(relative=1.0)).used == np.inf


def test_the_lowest_number_masks_as_minus_infinity_does_and_nothing_else() -> None:
    scores = np.array([1.5, -1.2, np.finfo(np.float32).min, -np.inf], np.float32)
    other = np.array([1.5, -1.2, -np.inf, np.finfo(np.float32).min], np.float32)
    assert judge(scores, other, LOOSE)
    for wrong in ([1.5, -1.2, -np.inf, 0.0], [1.5, -1.2, np.inf, -np.inf], [1.5, -np.inf, -np.inf, -np.inf]):
        assert not judge(scores, np.array(wrong, np.float32), LOOSE)


def test_float16_is_held_against_the_lowest_number_of_float32_without_an_overflow() -> None:
    halves = np.array([-np.inf, 1.0, -65504.0], np.float16)
    lowest = np.array([np.finfo(np.float32).min, 1.0, -65504.0], np.float32)
    assert judge(halves, lowest, Tolerance(1e-3)).agrees
    assert judge(halves, halves.copy(), Tolerance(1e-3)).agrees
