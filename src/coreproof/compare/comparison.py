"""Comparison: what several models say about the same photos, and every statistic of it."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from coreproof.compare.agreement import cohen_kappa, ordered, top_overlap, wilson
from coreproof.compare.lineup import Attribution
from coreproof.compare.predictions import PredictionStore
from coreproof.model.atomic import replacing
from coreproof.model.shown import Shown

_LISTED = 20
_LISTED_CERTAIN = 5


@dataclass(frozen=True)
class Compared:
    """One model of a comparison: what it is, how it was fed, who computed it, and how long that took a photo."""

    name: str
    description: str = ""
    format: str = ""
    feeding: str = ""
    engine: str = ""
    classes: str = ""
    softmax: bool = False
    milliseconds: float | None = None
    note: str = ""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Pair:
    """How far two models agree. ``low`` and ``high``: Wilson's 95% interval of the share."""

    a: str
    b: str
    count: int
    photos: int
    low: float
    high: float
    kappa: float
    top5_overlap: float
    divergence: float

    @property
    def share(self) -> float:
        return self.count / self.photos if self.photos else 0.0


@dataclass(frozen=True)
class Accuracy:
    """How often a model is right, where the truth about a photo is known."""

    model: str
    photos: int
    top1: int
    top5: int
    low: float
    high: float


@dataclass(frozen=True)
class Cause:
    """How much of a disagreement goes away when two models are made alike in one respect.

    ``differ`` photos still differ, with a mean ``divergence``.
    """

    cause: str
    model: str
    differ: int
    divergence: float
    explains: float | None
    explains_divergence: float | None


@dataclass(frozen=True)
class Explanation:
    """Why ``a`` and ``b`` disagree on ``differ`` photos: each cause as measured."""

    a: str
    b: str
    differ: int
    divergence: float
    causes: tuple[Cause, ...]


@dataclass(frozen=True)
class Photographs(Shown):
    """Some photos of a comparison with what some models see on them; a notebook shows the pictures."""

    comparison: Comparison
    photos: tuple[str, ...]
    models: tuple[str, ...]

    def __str__(self) -> str:
        lines = []
        for photo in self.photos:
            lines.append(photo)
            for model in self.models:
                index, probability = self.comparison.predictions(model, photo)[0]
                lines.append(f"  {model}: {self.comparison.class_name(index)} {probability:.0%}")
        return "\n".join(lines)


@dataclass(frozen=True, eq=False)
class Comparison(Shown):
    """Models x photos. Arrays: ``top`` and ``top_values`` [models, photos, 5], ``divergences`` [pairs, photos],
    ``ranks`` [models, photos] (how many classes stand before the true one; -1 where it is not known)."""

    title: str
    models: tuple[Compared, ...]
    folder: Path
    photos: tuple[str, ...]
    skipped: Mapping[str, str]
    truth: Mapping[str, int]
    class_names: Mapping[int, str]
    top: npt.NDArray[np.int32]
    top_values: npt.NDArray[np.float32]
    divergences: npt.NDArray[np.float32]
    ranks: npt.NDArray[np.int32]
    attributions: tuple[Attribution, ...] = ()
    store: PredictionStore | None = None
    keys: Mapping[str, str] = field(default_factory=dict)

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(model.name for model in self.models)

    def index(self, name: str) -> int:
        """The position of a model; KeyError for one that was not compared."""
        if name not in self.names:
            raise KeyError(f"no model {name!r}; there are {', '.join(self.names)}")
        return self.names.index(name)

    def agreement(self) -> dict[str, dict[str, int]]:
        """On how many photos each two models have the same top class."""
        first = self.top[:, :, 0]
        return {
            a: {b: int(np.sum(first[i] == first[j])) for j, b in enumerate(self.names)}
            for i, a in enumerate(self.names)
        }

    @cached_property
    def pairs(self) -> dict[tuple[str, str], Pair]:
        """Every two models in line-up order, with all statistics."""
        return {pair: self._pair(*pair) for pair in combinations(self.names, 2)}

    def pair(self, a: str, b: str) -> Pair:
        """The statistics of two models, in either order."""
        return self.pairs[(a, b)] if self.index(a) < self.index(b) else self.pairs[(b, a)]

    def _pair(self, a: str, b: str) -> Pair:
        i, j = self.index(a), self.index(b)
        count, photos = int(np.sum(self.top[i, :, 0] == self.top[j, :, 0])), len(self.photos)
        return Pair(
            a,
            b,
            count,
            photos,
            *wilson(count, photos),
            kappa=cohen_kappa(self.top[i, :, 0], self.top[j, :, 0]),
            top5_overlap=float(np.mean(top_overlap(self.top[i], self.top[j]))),
            divergence=float(np.mean(self.divergence(a, b))),
        )

    def divergence(self, a: str, b: str) -> npt.NDArray[np.float32]:
        """Jensen-Shannon divergence of two models on each photo (base 2, 0..1)."""
        i, j = sorted((self.index(a), self.index(b)))
        if i == j:
            return np.zeros(len(self.photos), np.float32)
        at = i * len(self.models) - i * (i + 1) // 2 + j - i - 1
        return np.asarray(self.divergences[at])

    def disagreements(self, a: str, b: str) -> list[str]:
        """The photos on which the top classes of two models differ, most divergent first."""
        differ = self.top[self.index(a), :, 0] != self.top[self.index(b), :, 0]
        return [self.photos[k] for k in ordered(self.divergence(a, b), largest=True) if differ[k]]

    def most_divergent(self, a: str, b: str, count: int = _LISTED) -> list[tuple[str, float]]:
        """The photos on which two models disagree most, by divergence."""
        divergence = self.divergence(a, b)
        return [(self.photos[k], float(divergence[k])) for k in ordered(divergence, largest=True)[:count]]

    def least_divergent(self, a: str, b: str, count: int = _LISTED) -> list[tuple[str, float]]:
        """The photos on which two models agree best, by divergence."""
        divergence = self.divergence(a, b)
        return [(self.photos[k], float(divergence[k])) for k in ordered(divergence)[:count]]

    def most_certain(self, name: str, count: int = _LISTED_CERTAIN) -> list[tuple[str, float]]:
        """The photos with the highest probability of a model's top class."""
        values = self.top_values[self.index(name), :, 0]
        return [(self.photos[k], float(values[k])) for k in ordered(values, largest=True)[:count]]

    def least_certain(self, name: str, count: int = _LISTED_CERTAIN) -> list[tuple[str, float]]:
        """The photos with the lowest probability of a model's top class."""
        values = self.top_values[self.index(name), :, 0]
        return [(self.photos[k], float(values[k])) for k in ordered(values)[:count]]

    def agreement_of(self, name: str) -> dict[str, int]:
        """On how many photos a model has the same top class as each of the others, the closest first."""
        counts = {other: count for other, count in self.agreement()[name].items() if other != name}
        return dict(sorted(counts.items(), key=lambda item: -item[1]))

    def show(self, photos: str | Sequence[str] | int = 5, models: Sequence[str] = (), seed: int = 0) -> Photographs:
        """Photos with what each model sees on them: one by name, some, or so many at random.

        ``models``: which of them (default: all). KeyError for a photo or model that was not compared.
        """
        if isinstance(photos, int):
            order = np.random.default_rng(seed).permutation(len(self.photos))
            chosen = tuple(self.photos[k] for k in order[:photos])
        else:
            chosen = (photos,) if isinstance(photos, str) else tuple(photos)
        unknown = [photo for photo in chosen if photo not in self._position]
        if unknown:
            raise KeyError(f"not among the compared photos: {', '.join(unknown)}")
        names = tuple(models) or self.names
        for name in names:
            self.index(name)
        return Photographs(self, chosen, names)

    def predictions(self, name: str, photo: str) -> list[tuple[int, float]]:
        """A model's five top classes on a photo: class index and probability."""
        i, k = self.index(name), self._position[photo]
        return [(int(c), float(p)) for c, p in zip(self.top[i, k], self.top_values[i, k], strict=True)]

    @cached_property
    def _position(self) -> dict[str, int]:
        return {photo: k for k, photo in enumerate(self.photos)}

    def class_name(self, index: int) -> str:
        """A class by name, "class 17" where no name is known."""
        return self.class_names.get(index) or f"class {index}"

    @cached_property
    def accuracies(self) -> dict[str, Accuracy]:
        """Top-1 and top-5 accuracy of each model; empty where no photo's class is known."""
        found = {}
        for name, ranks in zip(self.names, self.ranks, strict=True):
            known = ranks[ranks >= 0]
            if known.size:
                right = int(np.sum(known == 0))
                found[name] = Accuracy(name, known.size, right, int(np.sum(known < 5)), *wilson(right, known.size))
        return found

    @cached_property
    def explanations(self) -> tuple[Explanation, ...]:
        """The line-up's attributions, with numbers."""
        return tuple(self._explain(attribution) for attribution in self.attributions)

    def _explain(self, attribution: Attribution) -> Explanation:
        a, b = attribution.between
        whole = self.pair(a, b)
        differ = whole.photos - whole.count
        causes = []
        for cause, model in attribution.causes.items():
            left = self.pair(model, b)
            still = left.photos - left.count
            causes.append(
                Cause(
                    cause,
                    model,
                    still,
                    left.divergence,
                    (differ - still) / differ if differ else None,
                    (whole.divergence - left.divergence) / whole.divergence if whole.divergence else None,
                )
            )
        return Explanation(a, b, differ, whole.divergence, tuple(causes))

    def query(self, sql: str) -> list[dict[str, Any]]:
        """Answers SQL over ``predictions(model, photo, skipped, probabilities)``, each model's own class order."""
        return [] if self.store is None else self.store.query(sql, self.keys)

    def to_json(self) -> dict[str, Any]:
        """Everything, as comparison.json holds it."""

        def per_pair(listed: Callable[[str, str], list[Any]]) -> dict[str, dict[str, list[Any]]]:
            found: dict[str, dict[str, list[Any]]] = {}
            for a, b in self.pairs:
                found.setdefault(a, {})[b] = listed(a, b)
            return found

        return {
            "title": self.title,
            "photos": len(self.photos),
            "models": list(self.names),
            "agreement": self.agreement(),
            "predictions": {
                name: {photo: [[c, round(p, 7)] for c, p in self.predictions(name, photo)] for photo in self.photos}
                for name in self.names
            },
            "pairs": [{**vars(pair), "share": pair.share} for pair in self.pairs.values()],
            "accuracy": {name: vars(accuracy) for name, accuracy in self.accuracies.items()},
            "attribution": [
                {**vars(found), "causes": [vars(cause) for cause in found.causes]} for found in self.explanations
            ],
            "disagreements": per_pair(self.disagreements),
            "most_divergent": per_pair(self.most_divergent),
            "least_divergent": per_pair(self.least_divergent),
            "most_certain": {name: self.most_certain(name) for name in self.names},
            "least_certain": {name: self.least_certain(name) for name in self.names},
            "details": {model.name: vars(model) for model in self.models},
            "skipped": dict(self.skipped),
            "truth": dict(self.truth),
            "classes": {str(index): name for index, name in sorted(self.class_names.items())},
        }

    def save_json(self, folder: str | Path) -> Path:
        """Writes comparison.json into a folder."""
        path = Path(folder) / "comparison.json"
        with replacing(path) as fresh:
            fresh.write_text(json.dumps(_without_nan(self.to_json()), ensure_ascii=False, indent=1), encoding="utf-8")
        return path

    def page(self, folder: str | Path) -> Path:
        """Writes index.html and comparison.json into a folder; returns the page."""
        from coreproof.report.page import write_page

        self.save_json(folder)
        return write_page(Path(folder), proof=None, comparison=self)


def _without_nan(value: Any) -> Any:
    """NaN is not JSON; it becomes null."""
    if isinstance(value, dict):
        return {k: _without_nan(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(v) for v in value]
    return None if isinstance(value, float) and value != value else value
