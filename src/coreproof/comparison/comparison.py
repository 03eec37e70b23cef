"""Comparison: what several models say about the same photos, and every statistic of it."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt

from coreproof.comparison.agreement import cohen_kappa, wilson
from coreproof.comparison.lineup import Attribution, spoken
from coreproof.comparison.part import Part
from coreproof.comparison.source import PhotoSource
from coreproof.comparison.table import Table
from coreproof.comparison.tally import Extremes, PhotoRow, Tally
from coreproof.comparison.weakness import weaknesses_of
from coreproof.model.feeding import Feeding
from coreproof.model.files.atomic import replacing
from coreproof.model.files.outputs import COMPARISON
from coreproof.model.notebook_view import NotebookView, Spoken
from coreproof.model.numbers import json_ready
from coreproof.model.weakness import Weakness, qualified
from coreproof.visible import in_json, visible

_LISTED = 20
_LISTED_CERTAIN = 5
_WRITTEN_OUT = 2000
"""Photos up to which comparison.json holds every photo's predictions; beyond it, those that tell most."""


@dataclass(frozen=True)
class ModelInfo:
    """One model of a comparison: what it is, how it was fed, who computed it, and how long that took a photo.

    ``fed`` is the feeding that ``feeding`` says in words, None where a device fed it. ``file`` is the name of the file that it
    was loaded from, ``bytes`` and ``written`` that file's size and day; ``digest`` changes with what the source computes
    (empty, None: it was made in memory). ``called``: what people call it ("Core ML float16"); empty where the name says that.
    """

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
    untrained: bool = False
    fed: Feeding | None = None
    file: str = ""
    bytes: int | None = None
    written: str = ""
    digest: str = ""
    called: str = ""

    @property
    def spoken(self) -> str:
        """The model as a sentence names it: ``Core ML float16 (t2c16)``."""
        return spoken(self.name, self.called)

    def to_json(self) -> dict[str, object]:
        """As comparison.json has it."""
        return {**vars(self), "fed": None if self.fed is None else vars(self.fed)}


@dataclass(frozen=True)
class ModelPair:
    """How far two models agree. ``low`` and ``high``: Wilson's 95% interval of the share, all crops of a picture taken as one.

    ``kappa`` is NaN where it is not defined; ``undefined`` says why.
    """

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
        """On which share of the photos both name the same class first; 0 where there are none."""
        return self.count / self.photos if self.photos else 0.0

    @property
    def undefined(self) -> dict[str, str]:
        """The statistics that have no value here, and why."""
        return {"kappa": "both models name one class on every photo"} if math.isnan(self.kappa) else {}


@dataclass(frozen=True)
class Accuracy:
    """How often a model is right, where the truth about a photo is known; the interval takes all crops of a picture as one."""

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
class Photographs(NotebookView):
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
        return "\n".join(visible(line) for line in lines)


@dataclass(frozen=True, eq=False, repr=False)
class Comparison(Spoken, NotebookView):
    """What models say about photos.

    The statistics are in memory and do not grow with the photos; each photo's answers are in files, which ``everything``,
    and what it is said of, reads whole. ``source`` is where the photos are, ``store`` where the predictions are kept (None
    where they are not).
    """

    title: str
    models: tuple[ModelInfo, ...]
    source: PhotoSource
    class_names: Mapping[int, str]
    tally: Tally
    table: Table
    attributions: tuple[Attribution, ...] = ()
    store: Path | None = None
    unlike: Mapping[str, tuple[str, str]] = field(default_factory=dict)

    def _spoken(self) -> str:
        least = min((pair.share for pair in self.pairs.values()), default=1.0)
        title = self.title or "comparison"
        said = f"{title}: {len(self.models):,} models over {self.count:,} photos, agreement at least {least:.1%}"
        return qualified(said, self.weaknesses)

    @property
    def names(self) -> tuple[str, ...]:
        """The models, in the order of the line-up."""
        return tuple(model.name for model in self.models)

    @property
    def count(self) -> int:
        """How many photos every model saw."""
        return self.tally.photos

    @property
    def pictures(self) -> int:
        """How many pictures the photos are: crops of one, as the column ``picture`` of labels.csv tells, are one."""
        # a sum of shares, a crop's share being one through the crops of its picture
        return max(1, round(self.tally.pictures)) if self.count else 0

    @cached_property
    def weaknesses(self) -> tuple[Weakness, ...]:
        """Why agreement over these photos says little: one class throughout, no answers, random weights, few pictures."""
        untrained = [model.name for model in self.models if model.untrained]
        return weaknesses_of(self.tally, self.pictures, untrained, self.class_name, self.unlike)

    @property
    def skipped(self) -> Mapping[str, str]:
        """Photos that some model could not see, and why; the first thousand of ``skipped_count``."""
        return self.tally.skipped

    @property
    def skipped_count(self) -> int:
        """How many photos some model could not see."""
        return self.tally.skipped_count

    @property
    def writes_every_photo(self) -> bool:
        """Whether comparison.json holds every photo's predictions; if not, those that tell most."""
        return self.count <= _WRITTEN_OUT

    @cached_property
    def everything(self) -> Part:
        """Every photo's answers, read into memory: about 300 bytes a photo for six models."""
        return self.table.read()

    @property
    def photos(self) -> tuple[str, ...]:
        """Every photo's name. Reads everything."""
        return self.everything.photos

    @cached_property
    def truth(self) -> Mapping[str, int]:
        """The classes of the photos of which they are known. Reads everything."""
        known = zip(self.everything.photos, self.everything.truth.tolist(), strict=True)
        return {photo: index for photo, index in known if index >= 0}

    def spoken(self, name: str) -> str:
        """A model as a sentence names it: what people call it, and its name. KeyError for one that was not compared."""
        return self.models[self.index(name)].spoken

    def index(self, name: str) -> int:
        """The position of a model; KeyError for one that was not compared."""
        if name not in self.names:
            raise KeyError(f"no model {name!r}; there are {', '.join(self.names)}")
        return self.names.index(name)

    def agreement(self) -> dict[str, dict[str, int]]:
        """On how many photos each two models have the same top class."""
        counts = {pair: tally.count for pair, tally in self.tally.pairs.items()}
        return {
            a: {b: self.count if a == b else counts.get((a, b), counts.get((b, a), 0)) for b in self.names}
            for a in self.names
        }

    @cached_property
    def pairs(self) -> dict[tuple[str, str], ModelPair]:
        """Every two models in line-up order, with all statistics."""
        return {pair: self._pair(*pair) for pair in self.tally.pairs}

    def pair(self, a: str, b: str) -> ModelPair:
        """The statistics of two models, in either order."""
        return self.pairs[(a, b)] if self.index(a) < self.index(b) else self.pairs[(b, a)]

    def _pair(self, a: str, b: str) -> ModelPair:
        found, photos = self.tally.pairs[a, b], self.count
        interval = wilson(found.pictures, self.tally.pictures)
        kappa = cohen_kappa(found.count, self.tally.models[a].named, self.tally.models[b].named)
        return ModelPair(a, b, found.count, photos, *interval, kappa, found.overlap / photos, found.divergence / photos)

    def divergence(self, a: str, b: str) -> npt.NDArray[np.float32]:
        """Jensen-Shannon divergence of two models on each photo (base 2, 0..1). Reads everything."""
        i, j = sorted((self.index(a), self.index(b)))
        # a model does not diverge from itself; only pairs of two are stored
        if i == j:
            return np.zeros(self.count, np.float32)
        return self.everything.divergences[:, list(self.tally.pairs).index((self.names[i], self.names[j]))]

    def disagreements(self, a: str, b: str, count: int | None = None) -> list[str]:
        """The photos on which the top classes of two models differ, most divergent first; all, or the first ``count``."""
        pair = self.pair(a, b)
        differ = pair.photos - pair.count
        wanted = differ if count is None else min(count, differ)
        # lists are kept so far; who asks for more waits until everything is read
        kept = [seen.photo for seen, _ in self.tally.pairs[pair.a, pair.b].differing.list()]
        if wanted <= len(kept):
            return kept[:wanted]
        top, divergence = self.everything.top, self.divergence(a, b)
        # equal ones in the order of the photos, as the lists are
        order = np.argsort(-divergence, kind="stable")
        apart = top[order, self.index(a), 0] != top[order, self.index(b), 0]
        return [self.everything.photos[k] for k in order[apart][:wanted]]

    def most_divergent(self, a: str, b: str, count: int = _LISTED) -> list[tuple[str, float]]:
        """The photos on which two models disagree most, by divergence."""
        pair = self.pair(a, b)
        return self._listed(self.tally.pairs[pair.a, pair.b].most, count, lambda: -self.divergence(a, b))

    def least_divergent(self, a: str, b: str, count: int = _LISTED) -> list[tuple[str, float]]:
        """The photos on which two models agree best, by divergence."""
        pair = self.pair(a, b)
        return self._listed(self.tally.pairs[pair.a, pair.b].least, count, lambda: self.divergence(a, b))

    def most_certain(self, name: str, count: int = _LISTED_CERTAIN) -> list[tuple[str, float]]:
        """The photos with the highest probability of a model's top class."""
        i = self.index(name)
        kept = self.tally.models[name].most_certain
        return self._listed(kept, count, lambda: -self.everything.top_values[:, i, 0])

    def least_certain(self, name: str, count: int = _LISTED_CERTAIN) -> list[tuple[str, float]]:
        """The photos with the lowest probability of a model's top class."""
        i = self.index(name)
        kept = self.tally.models[name].least_certain
        return self._listed(kept, count, lambda: self.everything.top_values[:, i, 0])

    def _listed(
        self, extremes: Extremes, count: int, values: Callable[[], npt.NDArray[np.float32]]
    ) -> list[tuple[str, float]]:
        """The first ``count`` of a list; where it was not kept that far, from every photo's ``values``, smallest first."""
        kept = extremes.list()
        if min(count, self.count) <= len(kept):
            return [(seen.photo, abs(value)) for seen, value in kept[:count]]
        # all photos, read from the files: the lists in memory end before
        every = values()
        order = np.argsort(every, kind="stable")[:count]
        # abs: the most divergent are sorted by the negative
        return [(self.everything.photos[k], abs(float(every[k]))) for k in order]

    def agreement_of(self, name: str) -> dict[str, int]:
        """On how many photos a model has the same top class as each of the others, the closest first."""
        counts = {other: count for other, count in self.agreement()[name].items() if other != name}
        return dict(sorted(counts.items(), key=lambda item: -item[1]))

    def show(self, photos: str | Sequence[str] | int = 5, models: Sequence[str] = (), seed: int = 0) -> Photographs:
        """Photos with what each model sees on them: one by name, some, or so many at random.

        ``models``: which of them (default: all). KeyError for a photo or model that was not compared.
        """
        if isinstance(photos, int):
            order = np.random.default_rng(seed).permutation(self.count)[:photos]
            chosen = tuple(self.everything.photos[k] for k in order)
        else:
            chosen = (photos,) if isinstance(photos, str) else tuple(photos)
        self._require(chosen)
        names = tuple(models) or self.names
        for name in names:
            self.index(name)
        return Photographs(self, chosen, names)

    def predictions(self, name: str, photo: str) -> list[tuple[int, float]]:
        """A model's five top classes on a photo: class index and probability. KeyError for one that was not compared."""
        i, (seen,) = self.index(name), self._require([photo])
        return [(int(c), float(p)) for c, p in zip(seen.top[i], seen.top_values[i], strict=True)]

    def truth_of(self, photo: str) -> int | None:
        """The class that a photo is known to show."""
        seen = self._row_of(photo)
        return None if seen is None or seen.truth < 0 else seen.truth

    def _require(self, photos: Sequence[str]) -> list[PhotoRow]:
        rows = {photo: self._row_of(photo) for photo in photos}
        if unknown := [photo for photo, row in rows.items() if row is None]:
            raise KeyError(f"not among the compared photos: {', '.join(unknown)}")
        return [row for row in rows.values() if row is not None]

    def _row_of(self, photo: str) -> PhotoRow | None:
        if photo in self._kept_rows:
            return self._kept_rows[photo]
        if photo not in self._position:
            return None
        k, every = self._position[photo], self.everything
        return PhotoRow(photo, int(every.truth[k]), every.top[k], every.top_values[k])

    @cached_property
    def _kept_rows(self) -> Mapping[str, PhotoRow]:
        return self.tally.kept()

    @cached_property
    def _position(self) -> dict[str, int]:
        return {photo: k for k, photo in enumerate(self.everything.photos)}

    def class_name(self, index: int) -> str:
        """A class by name, "class 17" where no name is known."""
        return self.class_names.get(index) or f"class {index}"

    @cached_property
    def accuracies(self) -> dict[str, Accuracy]:
        """Top-1 and top-5 accuracy of each model; empty where no photo's class is known."""
        told = {name: model for name, model in self.tally.models.items() if model.known}
        intervals = {name: wilson(model.right_pictures, model.known_pictures) for name, model in told.items()}
        return {n: Accuracy(n, model.known, model.top1, model.top5, *intervals[n]) for n, model in told.items()}

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
            # a, made like b in this respect, against b: what is still there has other causes
            rest = self.pair(model, b)
            still = rest.photos - rest.count
            # a share of nothing is none: where the two agree there is nothing to explain
            share = (differ - still) / differ if differ else None
            of_divergence = (whole.divergence - rest.divergence) / whole.divergence if whole.divergence else None
            causes.append(Cause(cause, model, still, rest.divergence, share, of_divergence))
        return Explanation(a, b, differ, whole.divergence, tuple(causes))

    def query(self, sql: str) -> list[dict[str, object]]:
        """Answers SQL (DuckDB) over ``predictions(model, photo, skipped, probabilities)``, each model's own class order.

        Where ``skipped`` says why a model did not see a photo, its probabilities are zeros.
        """
        return self.table.query(sql)

    def to_json(self) -> dict[str, object]:
        """What comparison.json holds: the statistics, and each photo's predictions where there are not too many photos."""
        photos = self.photos if self.writes_every_photo else tuple(self._kept_rows)
        # beyond it the file would grow with the photos
        differing = None if self.writes_every_photo else _LISTED

        def per_pair(listed: Callable[[str, str], Sequence[object]]) -> dict[str, dict[str, Sequence[object]]]:
            found: dict[str, dict[str, Sequence[object]]] = {}
            for a, b in self.pairs:
                found.setdefault(a, {})[b] = listed(a, b)
            return found

        return {
            "format": "coreproof comparison",
            "version": 1,
            "title": self.title,
            "photos": self.count,
            "pictures": self.pictures,
            "weaknesses": [weakness.to_json() for weakness in self.weaknesses],
            "models": list(self.names),
            "agreement": self.agreement(),
            "predictions": {
                # a float32 has seven digits
                name: {photo: [[c, round(p, 7)] for c, p in self.predictions(name, photo)] for photo in photos}
                for name in self.names
            },
            "pairs": [{**vars(pair), "share": pair.share, "undefined": pair.undefined} for pair in self.pairs.values()],
            "accuracy": {name: vars(accuracy) for name, accuracy in self.accuracies.items()},
            "attribution": [
                {**vars(found), "causes": [vars(cause) for cause in found.causes]} for found in self.explanations
            ],
            "disagreements": per_pair(lambda a, b: self.disagreements(a, b, differing)),
            "most_divergent": per_pair(self.most_divergent),
            "least_divergent": per_pair(self.least_divergent),
            "most_certain": {name: self.most_certain(name) for name in self.names},
            "least_certain": {name: self.least_certain(name) for name in self.names},
            "details": {model.name: model.to_json() for model in self.models},
            "skipped": dict(self.skipped),
            "skipped_count": self.skipped_count,
            "truth": {photo: index for photo in photos if (index := self.truth_of(photo)) is not None},
            "classes": {str(index): name for index, name in sorted(self.class_names.items())},
        }

    def save_json(self, folder: str | Path, *, replace: bool = False) -> Path:
        """Writes comparison.json into a folder; OutputExistsError where something else stands there."""
        path = Path(folder) / "comparison.json"
        with replacing(path, COMPARISON, replace=replace) as fresh:
            text = json.dumps(json_ready(self.to_json(), nan=None), ensure_ascii=False, indent=1)
            fresh.write_text(in_json(text), encoding="utf-8")
        return path
