"""What happened to a weight is measured, and said in words where it can be recognised."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

from coreproof.difference.weight_change import weight_change

RNG = np.random.default_rng(0)
CONV = RNG.normal(size=(16, 3, 5, 5)).astype(np.float32)
SQUARE = RNG.normal(size=(24, 24)).astype(np.float32)
WIDE = RNG.normal(size=(32, 48)).astype(np.float32)
STEP = np.float32(np.abs(WIDE).max() / 127)


@pytest.mark.parametrize(
    ("before", "after", "words"),
    [
        (SQUARE, SQUARE.T, "transposed"),
        (WIDE, WIDE.T, "transposed"),
        (WIDE, WIDE.T.astype(np.float16), "transposed, rounded to float16"),
        (CONV, CONV.transpose(2, 3, 1, 0), "axes reordered to 2,3,1,0"),
        (CONV, CONV.reshape(16, -1), "reshaped"),
        (CONV, -CONV, "sign flipped"),
        (CONV, CONV * np.float32(0.017), "scaled by 0.017"),
        (CONV, CONV + np.float32(0.25), "shifted by +0.25"),
        (CONV, CONV[:, ::-1], "input channels reversed (RGB and BGR swapped)"),
        (CONV, np.random.default_rng(1).permutation(CONV), "output channels permuted"),
        (SQUARE, np.random.default_rng(1).permutation(SQUARE, axis=1), "input channels permuted"),
        (CONV, CONV[:, :, ::-1, ::-1], "kernels flipped"),
        (CONV, CONV * np.linspace(0.5, 2, 16, dtype=np.float32)[:, None, None, None], "output channels scaled by 0.5 to 2"),
        (WIDE, WIDE.astype(np.float16), "rounded to float16"),
        (WIDE.astype(np.float16).astype(np.float32), WIDE, "no longer rounded to float16"),
        (WIDE, WIDE.astype(ml_dtypes.bfloat16), "rounded to bfloat16"),
        (WIDE, np.zeros_like(WIDE), "all zero now"),
        (WIDE, np.full_like(WIDE, 2), "all 2 now"),
        (WIDE, WIDE[:31], "1 output channels cut off at the end"),
        (WIDE[:, 1:], WIDE, "1 input channels appended at the front"),
        (WIDE, RNG.normal(size=WIDE.shape), "other numbers, unrelated"),
        (WIDE, RNG.normal(size=(7, 7)), "another shape"),
        (WIDE, WIDE + 0.01 * RNG.normal(size=WIDE.shape), "slightly changed"),
        (WIDE, WIDE + 0.7 * RNG.normal(size=WIDE.shape), "changed"),
    ],
)  # fmt: skip
def test_words(before: np.ndarray, after: np.ndarray, words: str) -> None:
    assert weight_change("w", before, after).words == words


def test_quantisation_is_recognised_by_the_few_numbers_that_are_left() -> None:
    change = weight_change("w", WIDE, np.round(WIDE / STEP) * STEP)
    assert change.words.startswith("quantised to 8 bits")
    coarse = np.round(WIDE / (STEP * 18)) * (STEP * 18)
    assert weight_change("w", WIDE, coarse).words.startswith("quantised to 4 bits")


def test_figures() -> None:
    after = WIDE.copy()
    after[0, 0] += 3
    change = weight_change("w", WIDE, after)
    assert change.words == "1 of 1,536 elements changed"
    assert change.max_abs == pytest.approx(3, rel=1e-6)
    assert change.share == pytest.approx(1 / WIDE.size)
    assert change.relative_rms == pytest.approx(3 / np.sqrt(WIDE.size) / np.sqrt(np.mean(WIDE**2)), rel=1e-5)


def test_numbers_that_are_no_numbers() -> None:
    after = WIDE.copy()
    after[3] = np.nan
    change = weight_change("w", WIDE, after)
    assert change.words == "48 values are NaN or infinite now"
    assert change.max_abs == 0
    assert change.relative_rms == float("inf")
    with np.errstate(over="ignore"):
        narrow = (WIDE * 1e5).astype(np.float16)
    assert weight_change("w", WIDE * 1e5, narrow).words.endswith("values overflowed float16")


def test_the_same_numbers_in_another_width() -> None:
    whole = np.arange(12, dtype=np.float32)
    change = weight_change("w", whole, whole.astype(np.float16))
    assert change.equal
    assert change.words == "stored as float16, the same numbers"
    assert weight_change("w", WIDE, WIDE.copy()).words == ""


@pytest.mark.parametrize("noise", [1e-3, 1e-2])
def test_noise_is_not_taken_for_a_scale_or_a_rounding(noise: float) -> None:
    after = WIDE * (1 + noise * RNG.uniform(-1, 1, WIDE.shape)).astype(np.float32)
    assert weight_change("w", WIDE, after).words == "slightly changed"
