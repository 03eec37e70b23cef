"""What bits make of the numbers of a weight, and which numbers they do not make: arrays alone, without a model."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from coreproof.model.coreml.compressed import gaps
from coreproof.verification.rounded_weights import altered, explains, torn
from tests.build import weights
from tests.verification.test_compressed_weights import exchanged


def in_vectors(weight: np.ndarray, entries: int, size: int) -> tuple[np.ndarray, np.ndarray]:
    """The weight with neighbours along its first axis as the nearest of a table of k-means, and its steps."""
    vectors = np.moveaxis(weight.reshape(-1, size, weight.shape[1]), 1, -1).reshape(-1, size)
    rng = np.random.default_rng(0)
    lut = vectors[rng.choice(len(vectors), entries, replace=False)]
    for _ in range(100):
        chosen = np.square(vectors[:, None] - lut).sum(-1).argmin(1)
        lut = np.stack([vectors[chosen == at].mean(0) if np.any(chosen == at) else lut[at] for at in range(entries)])
    chosen = np.square(vectors[:, None] - lut).sum(-1).argmin(1)
    steps = np.broadcast_to(gaps(lut), lut.shape)

    def back(table: np.ndarray) -> np.ndarray:
        unfolded = table[chosen].reshape(-1, weight.shape[1], size)
        return np.moveaxis(unfolded, -1, 1).reshape(weight.shape).astype(np.float64)

    return back(lut), back(steps)


TAILS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "normal": lambda w: w,
    "of one sign": lambda w: np.exp(w),
    "heavy": lambda w: w * np.abs(w) ** 1.5,
}


@pytest.mark.sweep(2)
@pytest.mark.parametrize(
    ("tails", "entries", "size"),
    [
        *((tails, *held) for tails in TAILS for held in ((2, 2), (4, 4), (8, 4), (16, 4), (16, 2), (64, 2))),
        # two entries for four numbers of heavy tails are one for nearly all, and say nothing
        *((tails, 2, 4) for tails in TAILS if tails != "heavy"),
    ],
)
def test_numbers_that_became_the_nearest_vector_of_a_table_are_right_however_few_it_holds(
    tails: str, entries: int, size: int
) -> None:
    weight = TAILS[tails](weights(128, 64, seed=3).astype(np.float64))
    now, steps = in_vectors(weight, entries, size)
    assert explains(now, weight, steps)
    # 64 of another weight's rows in their place
    assert not explains(now, np.roll(weight, 64, 0), steps)


@pytest.mark.thorough
@pytest.mark.parametrize("tails", TAILS)
@pytest.mark.parametrize("entries", [16, 64])
def test_a_row_of_vectors_that_is_larger_or_another_is_told(tails: str, entries: int) -> None:
    weight = TAILS[tails](weights(128, 64, seed=3).astype(np.float64))
    for fault in (1.5, 0.5, -1.0):
        wrong = weight * np.where(np.arange(128) == 5, fault, 1.0)[:, None]
        now, steps = in_vectors(wrong, entries, 2)
        assert not explains(now, weight, steps), fault
    now, steps = in_vectors(exchanged(weight), entries, 2)
    assert not explains(now, weight, steps)
    assert "row" in altered(now, weight, steps)


def rounded(weight: np.ndarray, bits: int, share: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """What each row of a weight is in steps of its own, the largest numbers cut off at a share of the row's range; the steps."""
    last = 2 ** (bits - 1) - 1
    steps = share * np.abs(weight).max(1, keepdims=True) / last * np.ones_like(weight)
    return (np.rint(weight / steps).clip(-last, last) * steps).astype(np.float64), steps.astype(np.float64)


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("share", [1.0, 0.85])
def test_large_numbers_that_are_cut_off_were_not_changed(bits: int, share: float) -> None:
    weight = np.random.default_rng(4).normal(size=(16, 576)).astype(np.float64)
    now, steps = rounded(weight, bits, share)
    assert torn(now, weight, steps).size == 0
    changed = now.copy()
    changed[3, 100] += 4 * steps[3, 100] * (-1 if now[3, 100] > 0 else 1)
    np.testing.assert_array_equal(torn(changed, weight, steps), [[3, 100]])
    assert not explains(changed, weight, steps)
    assert altered(changed, weight, steps).startswith("the numbers at [3, 100] are ")


@pytest.mark.parametrize(("rows", "entries"), [(32, 256), (32, 16), (8, 16), (1, 8)])
def test_a_number_of_another_entry_of_a_table_was_changed(rows: int, entries: int) -> None:
    """Tables of the whole weight, of groups of rows, and of each row; their entries are means that were moved once more."""
    weight = np.random.default_rng(6).normal(size=(32, 128)).astype(np.float64)
    now, steps = np.empty_like(weight), np.empty_like(weight)
    for start in range(0, 32, rows):
        part = weight[start : start + rows]
        table = np.quantile(part, (np.arange(entries) + 0.5) / entries)
        for _ in range(30):
            nearest = np.abs(part[..., None] - table).argmin(-1)
            table = np.sort([part[nearest == k].mean() if (nearest == k).any() else table[k] for k in range(entries)])
        now[start : start + rows], steps[start : start + rows] = table[nearest], gaps(table[:, None])[nearest, 0]
    assert torn(now, weight, steps).size == 0
    assert explains(now, weight, steps)
    changed, other = now.copy(), steps.copy()
    at = np.unravel_index(np.abs(weight[9] - 0.5).argmin(), 128)[0]
    low = now[9].argmin()
    changed[9, at], other[9, at] = now[9, low], steps[9, low]
    np.testing.assert_array_equal(torn(changed, weight, other), [[9, at]])
    assert not explains(changed, weight, other)


def test_a_number_that_became_the_last_of_an_even_table_was_changed() -> None:
    weight = np.random.default_rng(7).uniform(-1, 1, (16, 64))
    changed = weight.copy()
    changed[3, 5] = 1.4
    table = np.linspace(-1, 1.4, 16)
    nearest = np.abs(changed[..., None] - table).argmin(-1)
    now, steps = table[nearest], gaps(table[:, None])[nearest, 0]
    assert nearest.max() == 15
    np.testing.assert_array_equal(torn(now, weight, steps), [[3, 5]])


def test_errors_that_are_spread_over_neighbours_were_not_changed_one_by_one() -> None:
    """As GPTQ does: what a number is off by is taken from the next ones."""
    weight = np.random.default_rng(5).normal(size=(16, 200))
    now, steps = rounded(weight, 4)
    owed = np.zeros(16)
    for at in range(200):
        wanted = weight[:, at] + owed
        now[:, at] = np.rint(wanted / steps[:, at]).clip(-7, 7) * steps[:, at]
        owed = wanted - now[:, at]
    assert torn(now, weight, steps).size == 0
