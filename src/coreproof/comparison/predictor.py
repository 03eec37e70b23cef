"""Predictor: one model made ready to say what is on photos, alone or several at a time."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, fields, replace
from threading import Lock

import numpy as np
import numpy.typing as npt

from coreproof.comparison.lineup import LineupEntry
from coreproof.errors import InputError, RunError, StoreError
from coreproof.feeding.picture_values import picture_input
from coreproof.feeding.predict import dictionary_rows, is_distribution, softmax
from coreproof.model.base import Model
from coreproof.model.features import Feature
from coreproof.model.feeding import Feeding
from coreproof.model.files.entries import Entry as Document
from coreproof.model.numbers import json_ready
from coreproof.model.recorded_header import feeding_from
from coreproof.runtime.open import session
from coreproof.runtime.session import Session

BATCH = 8
"""Photos at a time, where a model takes several."""

_SAME = 1e-4
"""How far a probability may move when a photo is computed among others: float32 sums in another order."""

Tensor = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Calibration:
    """What is known of a model once it has seen a photo; stored, so that a resumed run goes on in the same way.

    ``fed``: its feeding (None: a device fed it); ``feeding`` says it in words. ``softmax``: its scores go through one.
    ``batch``: how many photos it is given at a time. ``untrained``: random weights.
    ``called``: what people call its format.
    """

    model: str
    format: str
    feeding: str
    engine: str
    labels: tuple[str, ...]
    notes: tuple[str, ...]
    classes: int
    softmax: bool
    batch: int
    untrained: bool = False
    fed: Feeding | None = None
    called: str = ""

    def to_json(self) -> dict[str, object]:
        """As the store keeps it."""
        whole: dict[str, object] = json_ready(asdict(self))
        return whole

    @classmethod
    def from_json(cls, document: Mapping[str, object]) -> Calibration | None:
        """None for what another version kept, or makes no sense."""
        # a field more or less is another version's: the model is calibrated anew
        if set(document) != {field.name for field in fields(cls)}:
            return None
        entry = Document(dict(document), "", StoreError)
        try:
            return cls(
                model=entry["model"].text(),
                format=entry["format"].text(),
                feeding=entry["feeding"].text(),
                engine=entry["engine"].text(),
                labels=tuple(label.text() for label in entry["labels"].each()),
                notes=tuple(note.text() for note in entry["notes"].each()),
                classes=entry["classes"].whole(1, 10**7),
                softmax=entry["softmax"].flag(),
                batch=entry["batch"].whole(1, 10**6),
                untrained=entry["untrained"].flag(),
                fed=entry["fed"].optional(feeding_from),
                called=entry["called"].text(),
            )
        except StoreError:
            return None


class Predictor:
    """A model made ready to say what is on photos. A context manager; several threads may use one.

    ``doubtful``: what was settled rests on an answer of NaN, infinity or zeros alone; another photo may tell more. Each engine
    gets ``threads``, so that what a model answers does not depend on how many workers there are.
    Raises InputError for a model that is no classifier of pictures or whose feeding is not known.
    """

    def __init__(self, entry: LineupEntry, model: Model, feeding: Feeding | None, *, threads: int | None = 1) -> None:
        self.entry = entry
        self.model = model
        # one thread each: how a sum is split over threads decides its last bits
        self.running: Session = session(model, entry.engine, entry.arithmetic, threads)
        self.calibration: Calibration | None = None
        self.doubtful = False
        taker = picture_input(model, feeding, "give feed = {size = [224, 224], mean = [...], std = [...], scale = ...}")
        self.fed = taker.feeding
        image = taker.feature.image
        self.prepare = taker.value
        # what is equal for two models is computed once for both
        self.preparation = repr((taker.feeding, image, len(taker.feature.shape or ())))
        inside = "; what else is done to it is inside the model"
        self.feeding_text = str(taker.feeding) if image is None else f"picture: {taker.feeding}{inside}"
        self._feature = taker.feature
        self._alone: AbstractContextManager[object] = nullcontext() if self.running.concurrent else Lock()

    def __enter__(self) -> Predictor:
        return self

    def __exit__(self, *raised: object) -> None:
        self.running.close()

    def calibrate(self, photo: Tensor) -> Calibration:
        """Looks at a first photo: how many classes there are, whether scores need a softmax, whether batches work."""
        scores = self._scores(photo)
        self.doubtful = self.entry.softmax is None and not (np.isfinite(scores).all() and scores.any())
        # logits sum up to 1 by chance alone; who knows better says so in the line-up
        needs_softmax = self.entry.softmax if self.entry.softmax is not None else not is_distribution(scores[0])
        labels = self.running.signature.labels or ()  # not the entry's, which may be others in the next run
        self.calibration = Calibration(
            model=self.model.name,
            format=self.model.format,
            feeding=self.feeding_text,
            engine=self.running.engine,
            labels=tuple(label for label in labels if isinstance(label, str)),
            notes=tuple(self.model.notes),
            classes=scores.shape[1],
            softmax=needs_softmax,
            batch=1,
            untrained=self.model.untrained,
            fed=self.fed,
            called=self.model.called,
        )
        if _takes_several(self._feature) and self._answers_the_same_among_others(photo):
            self.calibration = replace(self.calibration, batch=BATCH)
        return self.calibration

    def probabilities(self, photos: Sequence[Tensor]) -> tuple[Tensor, float]:
        """[photos, classes] float32 probabilities, and the seconds that the engine took for them."""
        assert self.calibration is not None
        rows, seconds = [], 0.0
        for start in range(0, len(photos), self.calibration.batch):
            piece = photos[start : start + self.calibration.batch]
            batch = piece[0] if len(piece) == 1 else np.concatenate(piece)
            started = time.perf_counter()
            scores = self._scores(batch)
            seconds += time.perf_counter() - started
            rows += [softmax(row) for row in scores] if self.calibration.softmax else list(scores)
        return np.asarray(rows, np.float32), seconds

    def _answers_the_same_among_others(self, photo: Tensor) -> bool:
        """Whether a photo is answered alike alone and in a batch: a symbolic batch is no promise that it works."""
        # another picture in front: a model that mixes a batch shows it
        others = np.concatenate([np.flip(photo, axis=-1), photo])
        try:
            alone, among = self._scores(photo), self._scores(others)
        except (RunError, InputError):
            return False
        if among.shape != (2, alone.shape[1]):
            return False
        return bool(np.abs(softmax(among[1]) - softmax(alone[0])).max() <= _SAME)

    def _scores(self, batch: Tensor) -> npt.NDArray[np.float64]:
        """[photos, classes] as the model says it."""
        # the scores, not the dictionary: labels that occur twice ("crane") collapse in it
        scores = self.running.signature.scores
        with self._alone:
            outputs = self.running.run({self._feature.name: batch}, taps=() if scores is None else (scores,))
        return _class_scores(outputs, scores, len(batch), self.entry.name).reshape(len(batch), -1)


def _takes_several(feature: Feature) -> bool:
    shape = feature.shape
    return feature.image is None and shape is not None and len(shape) == 4 and not isinstance(shape[0], int)


def _class_scores(outputs: Mapping[str, object], scores: str | None, photos: int, name: str) -> npt.NDArray[np.float64]:
    if scores is not None:
        return np.asarray(outputs[scores], dtype=np.float64)
    arrays = [np.asarray(v) for v in outputs.values() if isinstance(v, np.ndarray) and v.dtype.kind == "f"]
    arrays += [found for v in outputs.values() if (found := dictionary_rows(v)) is not None]
    rows = [a for a in arrays if a.size > photos and a.size == photos * max(a.shape[1:] if photos > 1 else a.shape)]
    # one row of scores a photo: what is no longer along any other axis than it is in all
    if not rows:
        raise InputError(
            "the model is no classifier of pictures: none of its outputs is one row of class scores",
            where=name,
            found=", ".join(outputs),
        )
    return rows[0].astype(np.float64)
