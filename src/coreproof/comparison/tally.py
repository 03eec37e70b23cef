"""Tally: the statistics of any number of photos, added up part by part; its size depends on models and classes alone."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import numpy.typing as npt

from coreproof.comparison.agreement import top_overlap
from coreproof.comparison.part import Part

LISTED = 60
"""How many photos each list of extremes keeps."""
NAMED = 1000
"""How many skipped photos are kept by name."""


@dataclass(frozen=True, eq=False)
class PhotoRow:
    """One photo and what each model sees on it: ``top`` and ``top_values`` [models, 5]; ``truth`` -1 where not known."""

    photo: str
    truth: int
    top: npt.NDArray[np.int32]
    top_values: npt.NDArray[np.float32]


class Extremes:
    """The photos with the largest (or smallest) values of something; equal values in the order of the photos."""

    def __init__(self, largest: bool) -> None:
        self._sign = -1.0 if largest else 1.0
        self._kept: list[tuple[float, int, PhotoRow]] = []

    def add(self, values: np.ndarray, positions: npt.NDArray[np.intp], photos: _Photos) -> None:
        """Takes in ``values[k]`` of the photos at ``positions`` in a part."""
        keys = self._sign * np.asarray(values, np.float64)
        if len(self._kept) >= LISTED:
            # strictly: of equal values the earlier photo stays
            better = keys < self._kept[-1][0]
            keys, positions = keys[better], positions[better]
        best = np.argsort(keys, kind="stable")[:LISTED]
        fresh = [(float(keys[k]), photos.first + int(positions[k]), photos.seen(int(positions[k]))) for k in best]
        self._kept = sorted([*self._kept, *fresh], key=lambda kept: kept[:2])[:LISTED]

    def list(self) -> list[tuple[PhotoRow, float]]:
        """The photos with their values, the most extreme first."""
        return [(seen, self._sign * key) for key, _, seen in self._kept]


class _Photos:
    """The photos of a part, whose first is number ``first`` of all.

    Lists that keep the same photo share what is kept of it: every two models have three, and it grows with the models.
    """

    def __init__(self, part: Part, first: int) -> None:
        self.part = part
        self.first = first
        self._seen: dict[int, PhotoRow] = {}

    def seen(self, position: int) -> PhotoRow:
        """What is kept of the photo at a position; copied, so that not the whole part is kept with it."""
        if position not in self._seen:
            part = self.part
            top, values = part.top[position].copy(), part.top_values[position].copy()
            self._seen[position] = PhotoRow(part.photos[position], int(part.truth[position]), top, values)
        return self._seen[position]


class PairTally:
    """What is added up about two models; ``divergence`` and ``overlap`` are sums over the photos.

    ``pictures`` is ``count`` with all crops of a picture as one.
    """

    def __init__(self) -> None:
        self.count = 0
        self.pictures = 0.0
        self.divergence = 0.0
        self.overlap = 0.0
        self.differing = Extremes(largest=True)
        self.most = Extremes(largest=True)
        self.least = Extremes(largest=False)

    def add(self, photos: _Photos, i: int, j: int, pair: int) -> None:
        """Takes in a part: models ``i`` and ``j``, the ``pair``-th of all."""
        part = photos.part
        same, divergence = part.top[:, i, 0] == part.top[:, j, 0], part.divergences[:, pair]
        everywhere = np.arange(len(part.photos))
        differ = np.flatnonzero(np.logical_not(same))
        self.count += int(same.sum())
        self.pictures += float(part.weights[same].sum())
        # float32 would lose the last photos of a million
        self.divergence += float(divergence.sum(dtype=np.float64))
        values = part.top_values
        self.overlap += float(top_overlap(part.top[:, i], part.top[:, j], values[:, i], values[:, j]).sum())
        self.differing.add(divergence[differ], differ, photos)
        self.most.add(divergence, everywhere, photos)
        self.least.add(divergence, everywhere, photos)


class ModelTally:
    """What is added up about one model: how often it names each class (``named``), and is right about it (``right_of``).

    ``known_pictures`` and ``right_pictures`` are ``known`` and ``top1`` with all crops of a picture as one.
    """

    def __init__(self, classes: int) -> None:
        self.named = np.zeros(classes, np.int64)
        self.right_of = np.zeros(classes, np.int64)
        self.known = 0
        self.top1 = 0
        self.top5 = 0
        self.known_pictures = 0.0
        self.right_pictures = 0.0
        self.most_certain = Extremes(largest=True)
        self.least_certain = Extremes(largest=False)

    def add(self, photos: _Photos, i: int) -> None:
        """Takes in a part: the ``i``-th model."""
        part = photos.part
        self.named += np.bincount(part.top[:, i, 0], minlength=len(self.named))
        ranks = part.ranks[:, i]
        self.right_of += np.bincount(part.truth[ranks == 0], minlength=len(self.right_of))
        self.known += int((ranks >= 0).sum())
        self.top1 += int((ranks == 0).sum())
        # -1 is an unknown truth, and no first place
        self.top5 += int(((ranks >= 0) & (ranks < 5)).sum())
        self.known_pictures += float(part.weights[ranks >= 0].sum())
        self.right_pictures += float(part.weights[ranks == 0].sum())
        everywhere, certainty = np.arange(len(part.photos)), part.top_values[:, i, 0]
        self.most_certain.add(certainty, everywhere, photos)
        self.least_certain.add(certainty, everywhere, photos)


class Tally:
    """Statistics of ``names`` over the photos of all parts added. ``main``: the models that are not there to explain.

    ``pictures`` is how many pictures the photos are, all crops of one counted as one; ``known_of``: how many photos of each
    class there are, where that is known.
    """

    def __init__(self, names: Sequence[str], main: Sequence[str], classes: int) -> None:
        self.names = tuple(names)
        self.photos = 0
        self.pictures = 0.0
        self.together = 0
        self.known_of = np.zeros(classes, np.int64)
        self.models = {name: ModelTally(classes) for name in names}
        self.pairs = {pair: PairTally() for pair in combinations(names, 2)}
        self.skipped: dict[str, str] = {}
        self.skipped_count = 0
        self.main = tuple(main)
        self._main = [self.names.index(name) for name in main]

    def add(self, part: Part) -> None:
        """Takes in the photos of a part, which come behind those of the parts before."""
        self.skipped_count += len(part.skipped)
        for photo, why in part.skipped.items():
            if len(self.skipped) < NAMED:
                self.skipped[photo] = why
        if not part.photos:
            return
        first = part.top[:, self._main, 0]
        self.together += int((first == first[:, :1]).all(axis=1).sum())
        self.known_of += np.bincount(part.truth[part.truth >= 0], minlength=len(self.known_of))
        photos = _Photos(part, self.photos)
        for i, model in enumerate(self.models.values()):
            model.add(photos, i)
        for number, ((i, j), pair) in enumerate(
            zip(combinations(range(len(self.names)), 2), self.pairs.values(), strict=True)
        ):
            pair.add(photos, i, j, number)
        self.photos += len(part.photos)
        self.pictures += float(part.weights.sum())

    def kept(self) -> Mapping[str, PhotoRow]:
        """Every photo that some list keeps, by name."""
        lists: Iterable[Extremes] = (
            *(listed for pair in self.pairs.values() for listed in (pair.differing, pair.most, pair.least)),
            *(listed for model in self.models.values() for listed in (model.most_certain, model.least_certain)),
        )
        return {seen.photo: seen for listed in lists for seen, _ in listed.list()}
