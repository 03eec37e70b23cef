"""Tally and Comparison against what numpy makes of all photos at once: added up part by part, the numbers are the same."""

from __future__ import annotations

import json
from collections import Counter
from itertools import combinations
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from coreproof.comparison.comparison import Comparison, ModelInfo
from coreproof.comparison.part import Part, joined
from coreproof.comparison.tally import LISTED, NAMED, Tally

NAMES = ("a", "b", "c")
MAIN = ("a", "b")
PAIRS = list(combinations(range(3), 2))
CLASSES = 9


def drawn(photos: int, seed: int = 0, ties: int = 40) -> Part:
    """Answers as they could be, of three models; values are coarse, so that many photos are equal in what is listed."""
    rng = np.random.default_rng(seed)
    tops = np.stack([[rng.permutation(CLASSES)[:5] for _ in NAMES] for _ in range(photos)]).astype(np.int32)
    alike = rng.random(photos) < 0.5
    tops[alike, 1] = tops[alike, 0]
    values = -np.sort(-rng.integers(1, ties, (photos, 3, 5)), axis=2) / np.float32(ties)
    divergences = rng.integers(0, ties, (photos, 3)).astype(np.float32) / np.float32(ties)
    ranks = rng.integers(0, CLASSES, (photos, 3)).astype(np.int32)
    unknown = rng.random(photos) < 0.3
    ranks[unknown] = -1
    truth = np.where(unknown, -1, rng.integers(0, CLASSES, photos)).astype(np.int32)
    return Part(
        tuple(f"p{k:05}.jpg" for k in range(photos)), truth, tops, values.astype(np.float32), divergences, ranks, {}
    )


def pieces(whole: Part, sizes: tuple[int, ...]) -> list[Part]:
    """The parts of a whole, as slices make them; each one skips a photo of its own."""
    parts: list[Part] = []
    start = 0
    while start < len(whole.photos):
        rows = slice(start, start + sizes[len(parts) % len(sizes)])
        arrays = {n: getattr(whole, n)[rows] for n in ("truth", "top", "top_values", "divergences", "ranks")}
        parts.append(Part(whole.photos[rows], skipped={f"skipped{len(parts)}": "why"}, **arrays))
        start = rows.stop
    return parts


def tallied(parts: list[Part]) -> Tally:
    tally = Tally(NAMES, MAIN, CLASSES)
    for part in parts:
        tally.add(part)
    return tally


def compared(whole: Part, parts: list[Part]) -> Comparison:
    table: Any = SimpleNamespace(read=lambda: whole)
    source: Any = SimpleNamespace(where="nowhere")
    return Comparison("drawn", tuple(ModelInfo(n) for n in NAMES), source, {1: "one"}, tallied(parts), table)


def ordered(whole: Part, values: npt.NDArray[Any], rows: npt.NDArray[Any]) -> list[tuple[str, float]]:
    """The photos of ``rows`` by rising value; equal ones as they come."""
    chosen = sorted(rows.tolist(), key=lambda k: (float(values[k]), k))
    return [(whole.photos[k], abs(float(values[k]))) for k in chosen]


@pytest.mark.sweep(2)
@pytest.mark.parametrize("sizes", [(1000,), (64,), (1,), (0, 7, 100, 3)])
def test_sums_are_those_of_all_photos(sizes: tuple[int, ...]) -> None:
    whole = drawn(700)
    comparison = compared(whole, pieces(whole, sizes))
    first = whole.top[:, :, 0]
    assert comparison.count == 700
    assert comparison.tally.together == int((first[:, 0] == first[:, 1]).sum())
    for number, (i, j) in enumerate(PAIRS):
        pair = comparison.pair(NAMES[i], NAMES[j])
        assert pair.count == int((first[:, i] == first[:, j]).sum()) == comparison.agreement()[NAMES[j]][NAMES[i]]
        assert pair.divergence == pytest.approx(float(whole.divergences[:, number].mean(dtype=np.float64)), rel=1e-12)
        shared = [
            len(set(x) & set(y)) / 5 for x, y in zip(whole.top[:, i].tolist(), whole.top[:, j].tolist(), strict=True)
        ]
        assert pair.top5_overlap == pytest.approx(sum(shared) / 700, rel=1e-12)
        counts = [Counter(first[:, k].tolist()) for k in (i, j)]
        chance = sum(counts[0][c] * counts[1][c] for c in range(CLASSES)) / 700**2
        assert pair.kappa == pytest.approx((pair.count / 700 - chance) / (1 - chance), rel=1e-12)
    known = whole.truth >= 0
    for k, name in enumerate(NAMES):
        accuracy, ranks = comparison.accuracies[name], whole.ranks[known, k]
        assert (accuracy.photos, accuracy.top1, accuracy.top5) == (known.sum(), (ranks == 0).sum(), (ranks < 5).sum())


def test_lists_share_what_they_keep_of_a_photo() -> None:
    whole = drawn(700)
    tally = tallied(pieces(whole, (64,)))
    lists = [listed for pair in tally.pairs.values() for listed in (pair.differing, pair.most, pair.least)]
    kept = [seen for listed in lists for seen, _ in listed.list()]
    assert len({id(seen) for seen in kept}) == len({seen.photo for seen in kept}) < len(kept)


@pytest.mark.sweep(4)
@pytest.mark.parametrize("sizes", [(1000,), (64,), (1,), (0, 7, 100, 3)])
@pytest.mark.parametrize("ties", [3, 40, 10**6])
def test_lists_are_those_of_all_photos(sizes: tuple[int, ...], ties: int) -> None:
    whole = drawn(400, ties=ties)
    comparison = compared(whole, pieces(whole, sizes))
    everywhere, counts = np.arange(400), (1, 20, LISTED, LISTED + 1, 200, 400, 1000)
    for number, (i, j) in enumerate(PAIRS):
        a, b, divergence = NAMES[i], NAMES[j], whole.divergences[:, number]
        most, least = ordered(whole, -divergence, everywhere), ordered(whole, divergence, everywhere)
        differ = np.flatnonzero(whole.top[:, i, 0] != whole.top[:, j, 0])
        listed = [photo for photo, _ in ordered(whole, -divergence, differ)]
        assert comparison.disagreements(b, a) == listed
        for count in counts:
            assert comparison.most_divergent(a, b, count) == most[:count]
            assert comparison.least_divergent(b, a, count) == least[:count]
            assert comparison.disagreements(a, b, count) == listed[:count]
    for k, name in enumerate(NAMES):
        certainty = whole.top_values[:, k, 0]
        most, least = ordered(whole, -certainty, everywhere), ordered(whole, certainty, everywhere)
        for count in counts:
            assert comparison.most_certain(name, count) == most[:count]
            assert comparison.least_certain(name, count) == least[:count]


def test_the_photos_of_a_list_say_what_was_seen_on_them() -> None:
    whole = drawn(300)
    kept = tallied(pieces(whole, (32,))).kept()
    assert len(kept) > LISTED
    for photo, seen in kept.items():
        k = whole.photos.index(photo)
        assert (seen.photo, seen.truth) == (photo, whole.truth[k])
        np.testing.assert_array_equal(seen.top, whole.top[k])
        np.testing.assert_array_equal(seen.top_values, whole.top_values[k])


@pytest.mark.thorough
def test_skipped_photos_are_counted_and_a_thousand_named() -> None:
    tally = tallied(pieces(drawn(NAMED + 5), (1,)))
    assert (tally.skipped_count, len(tally.skipped)) == (NAMED + 5, NAMED)


def test_parts_joined_are_the_whole() -> None:
    whole = drawn(100)
    again = joined(pieces(whole, (7,)))
    assert again.photos == whole.photos
    for name in ("truth", "top", "top_values", "divergences", "ranks"):
        np.testing.assert_array_equal(getattr(again, name), getattr(whole, name))


@pytest.mark.thorough
@pytest.mark.parametrize("photos", [2000, 2001, 3500])
def test_comparison_json_of_few_and_of_many_photos(photos: int, tmp_path: Path) -> None:
    whole = drawn(photos, ties=1000)
    comparison = compared(whole, pieces(whole, (256,)))
    document = json.loads(comparison.save_json(tmp_path).read_text(encoding="utf-8"))
    assert document["photos"] == photos
    assert document["agreement"] == comparison.agreement()
    listed = {
        photo
        for lists in (document["disagreements"], document["most_divergent"], document["least_divergent"])
        for others in lists.values()
        for found in others.values()
        for photo in (entry if isinstance(entry, str) else entry[0] for entry in found)
    } | {
        photo for lists in ("most_certain", "least_certain") for found in document[lists].values() for photo, _ in found
    }
    differ = int((whole.top[:, 0, 0] != whole.top[:, 1, 0]).sum())
    for name in NAMES:
        predictions = document["predictions"][name]
        assert listed <= set(predictions)
        assert len(predictions) == photos if photos <= 2000 else len(predictions) < 1000
        for photo, answers in predictions.items():
            k, i = int(photo[1:6]), NAMES.index(name)
            assert [c for c, _ in answers] == whole.top[k, i].tolist()
            assert [p for _, p in answers] == pytest.approx(whole.top_values[k, i].tolist(), abs=1e-6)
    assert len(document["disagreements"]["a"]["b"]) == (differ if photos <= 2000 else 20)
    assert all(document["truth"][photo] == whole.truth[int(photo[1:6])] for photo in document["truth"])
