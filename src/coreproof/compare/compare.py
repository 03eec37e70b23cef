"""compare: any number of models over any number of photos."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import numpy.typing as npt

from coreproof.compare.agreement import jensen_shannon, top_k, truth_rank
from coreproof.compare.classes import ClassOrder, match_classes
from coreproof.compare.comparison import Compared, Comparison
from coreproof.compare.device import DeviceRun, read_device
from coreproof.compare.lineup import Lineup, lineup_of, load_lineup, with_devices
from coreproof.compare.predictions import PredictionStore, Shard
from coreproof.compare.predictor import Predictor
from coreproof.compare.variants import Workshop
from coreproof.errors import LineupError, PhotoError
from coreproof.model.base import Model
from coreproof.run.photos import Photos, fingerprint, list_photos

SLICE = 64
"""Photos a shard: what a killed run loses at most, and what is held in memory at once."""

Report = Callable[[str, int, int], None]


def compare(
    lineup: Lineup | str | Path | Mapping[str, Any],
    photos: Photos | str | Path,
    store: str | Path | None = None,
    *,
    labels: str | Path | None = None,
    devices: Sequence[str | Path] = (),
    progress: Report | None = None,
) -> Comparison:
    """Lets every model of a line-up see every photo and compares what they say.

    ``lineup`` is a Lineup, a TOML file, or models by name. ``store`` is a folder that keeps the predictions, so that an
    interrupted run goes on where it was; None keeps them only as long as it takes. ``labels`` is a csv that tells what
    the photos show (default: the line-up's, else the folder's labels.csv). ``devices`` are device.json files of apps that
    coreproof made: each processor of each device is one more model, and only photos that they all saw are compared.
    ``progress`` hears (what, done, total).

    Raises LineupError, PhotoError, and what loading, converting and running the models raises.
    """
    if isinstance(lineup, str | Path):
        lineup = load_lineup(lineup)
    elif not isinstance(lineup, Lineup):
        lineup = lineup_of(lineup)
    if not isinstance(photos, Photos):
        photos = list_photos(photos, labels if labels is not None else lineup.labels)
    if devices:
        runs = [run for path in devices for run in read_device(path)]
        lineup, photos = with_devices(lineup, runs), _seen_by(photos, runs)
    if store is not None:
        return _Run(lineup, photos, PredictionStore(store), progress).comparison(keep=True)
    with TemporaryDirectory(prefix="coreproof-") as scratch:
        return _Run(lineup, photos, PredictionStore(scratch), progress).comparison(keep=False)


def _seen_by(photos: Photos, runs: Sequence[DeviceRun]) -> Photos:
    """The photos that every device saw; PhotoError where there are none."""
    kept = tuple(f for f in photos.files if all(photos.name(f) in run.answers for run in runs))
    if not kept:
        raise PhotoError(
            "the devices saw none of these photos",
            where=str(photos.folder),
            expected=", ".join(sorted(runs[0].answers)[:3]) if runs else "photos that an app carries",
            found=", ".join(photos.names[:3]),
            fix="give the folder of photos that the app was made with",
        )
    return Photos(photos.folder, kept, photos.truth)


class _Run:
    """One comparison: first every model alone over all slices, then all models together, slice by slice."""

    def __init__(self, lineup: Lineup, photos: Photos, store: PredictionStore, progress: Report | None) -> None:
        self.lineup = lineup
        self.photos = photos
        self.store = store
        self.progress = progress or (lambda what, done, total: None)
        self.workshop = Workshop(lineup)
        files = photos.files
        self.slices = [files[i : i + SLICE] for i in range(0, len(files), SLICE)]
        self.slice_keys = [fingerprint(photos, piece) for piece in self.slices]
        self.keys: dict[str, str] = {}
        self.labels: dict[str, tuple[str, ...] | None] = {}
        self.formats: dict[str, tuple[str, tuple[str, ...], str]] = {}

    def comparison(self, *, keep: bool) -> Comparison:
        for name in self.lineup.names:
            self.keys[name] = self.workshop.key(name)
        for position, name in enumerate(self.lineup.names):
            self._predict(name)
            self.workshop.forget(name, self.lineup.names[position + 1 :])
        return self._summarise(keep)

    def _predict(self, name: str) -> None:
        """Fills the shards of one model that are not there yet."""
        key, total, done = self.keys[name], len(self.photos.files), 0
        missing = [i for i, photos_key in enumerate(self.slice_keys) if self.store.read(key, photos_key) is None]
        self.progress(name, total - sum(len(self.slices[i]) for i in missing), total)
        if not missing:
            return
        device = self.lineup.entry(name).device
        if device is not None:
            for i in missing:
                photos = tuple(self.photos.name(file) for file in self.slices[i])
                self.store.write(key, self.slice_keys[i], _answered(device, photos))
            return
        done = total - sum(len(self.slices[i]) for i in missing)
        model = self.workshop.model(name)
        entry = self.lineup.entry(name)
        with Predictor(entry, model, self.lineup.feeding(name)) as predictor:

            def tick() -> None:
                nonlocal done
                done += 1
                self.progress(name, done, total)

            metadata = _metadata(model, predictor, entry.labels)
            for i in missing:
                piece = self.slices[i]
                names = [self.photos.name(file) for file in piece]
                self.store.write(key, self.slice_keys[i], predictor.predict(piece, names, tick, metadata))

    def _shard(self, name: str, position: int) -> Shard:
        shard = self.store.read(self.keys[name], self.slice_keys[position])
        if shard is None:
            raise PhotoError(
                "stored predictions vanished while they were read",
                where=str(self.store.path(self.keys[name], self.slice_keys[position])),
                fix="run again; only what is missing is made again",
            )
        return shard

    def _first_shard(self, name: str) -> Shard:
        """The first shard with a photo that could be read: it tells the number of classes."""
        for position in range(len(self.slices)):
            shard = self._shard(name, position)
            if None in shard.skipped:
                return shard
        shard = self._shard(name, 0)
        raise PhotoError(
            "none of the photos can be read",
            where=str(self.photos.folder),
            found="; ".join(f"{photo}: {why}" for photo, why in zip(shard.photos[:5], shard.skipped, strict=False)),
        )

    def _summarise(self, keep: bool) -> Comparison:
        first = {name: self._first_shard(name) for name in self.lineup.names}
        orders, class_names = self._classes(first)
        classes = max(int(order.positions.max()) + 1 for order in orders.values())
        parts: list[_Part] = []
        skipped: dict[str, str] = {}
        seconds = dict.fromkeys(self.lineup.names, 0.0)
        for position in range(len(self.slices)):
            shards = {name: self._shard(name, position) for name in self.lineup.names}
            for name, shard in shards.items():
                seconds[name] += float(shard.metadata.get("seconds", 0.0))
            part = _part(shards, orders, classes, self._truth(shards), skipped)
            if part is not None:
                parts.append(part)
            self.progress("statistics", position + 1, len(self.slices))
        seen = tuple(name for part in parts for name in part.photos)
        return Comparison(
            title=self.lineup.title,
            models=tuple(self._described(name, first[name], orders[name], seconds[name], len(seen)) for name in first),
            folder=self.photos.folder,
            photos=seen,
            skipped=skipped,
            truth={name: self.photos.truth[name].index for name in seen if name in self.photos.truth},
            class_names={**class_names, **{classes + i: "no finite answer" for i in range(len(first))}},
            top=np.concatenate([part.top for part in parts], axis=1),
            top_values=np.concatenate([part.top_values for part in parts], axis=1),
            divergences=np.concatenate([part.divergences for part in parts], axis=1),
            ranks=np.concatenate([part.ranks for part in parts], axis=1),
            attributions=self.lineup.attributions,
            store=self.store if keep else None,
            keys=self.keys if keep else {},
        )

    def _classes(self, first: Mapping[str, Shard]) -> tuple[dict[str, ClassOrder], dict[int, str]]:
        """Where each model's classes stand in the common order, and the classes' names.

        What is known by index comes first (labels.csv, labels given in the line-up); each matched model adds its names
        to what is known, and a model that cannot be matched yet is tried again when the others have spoken.
        """
        names: dict[int, str] = {t.index: t.name for t in self.photos.truth.values() if t.name}
        orders: dict[str, ClassOrder] = {}
        waiting = sorted(first, key=lambda name: self.lineup.entry(name).labels is None)
        while waiting:
            refused: list[str] = []
            for name in waiting:
                labels = self._labels(name, first[name])
                try:
                    orders[name] = match_classes(name, labels, first[name].probabilities.shape[1], names)
                except LineupError:
                    if len(refused) + 1 == len(waiting):
                        raise
                    refused.append(name)
                    continue
                for label, position in zip(labels or (), orders[name].positions.tolist(), strict=False):
                    names[position] = f"{names[position]}, {label}" if position in names else label
            waiting = refused
        return {name: orders[name] for name in first}, {i: text.split(",")[0].strip() for i, text in names.items()}

    def _labels(self, name: str, shard: Shard) -> tuple[str, ...] | None:
        given = self.lineup.entry(name).labels
        if given is not None:
            return given
        stored = shard.metadata.get("labels")
        return None if not stored else tuple(stored.split("\n"))

    def _truth(self, shards: Mapping[str, Shard]) -> dict[str, int]:
        names = next(iter(shards.values())).photos
        return {name: self.photos.truth[name].index for name in names if name in self.photos.truth}

    def _described(self, name: str, shard: Shard, order: ClassOrder, seconds: float, photos: int) -> Compared:
        entry, feeding, about = self.lineup.entry(name), self.lineup.feeding(name), shard.metadata
        made = "" if entry.base is None else f"made from {entry.base}"
        return Compared(
            name=name,
            description=about.get("model", ""),
            format=about.get("format", ""),
            feeding=about.get("feeding", "") or str(feeding or ""),
            engine=about.get("engine", ""),
            classes=order.text,
            softmax=about.get("softmax") == "True",
            milliseconds=1000 * seconds / photos if photos else None,
            note=entry.note or made,
            notes=tuple(filter(None, about.get("notes", "").split("\n"))),
        )


@dataclass(frozen=True, eq=False)
class _Part:
    """What a slice adds to a comparison: small arrays, so that memory does not grow with classes x photos."""

    photos: tuple[str, ...]
    top: npt.NDArray[np.int32]
    top_values: npt.NDArray[np.float32]
    divergences: npt.NDArray[np.float32]
    ranks: npt.NDArray[np.int32]


def _part(
    shards: Mapping[str, Shard],
    orders: Mapping[str, ClassOrder],
    classes: int,
    truth: Mapping[str, int],
    skipped: dict[str, str],
) -> _Part | None:
    """The statistics of one slice; photos that some model could not read are left out for all, and named."""
    one = next(iter(shards.values()))
    for shard in shards.values():
        skipped.update({name: why for name, why in zip(shard.photos, shard.skipped, strict=True) if why is not None})
    kept = [k for k, name in enumerate(one.photos) if name not in skipped]
    if not kept:
        return None
    photos = tuple(one.photos[k] for k in kept)
    known = np.array([truth.get(name, -1) for name in photos], dtype=np.int64)
    arranged = [
        _answers(orders[name].arrange(shard.probabilities[kept], classes), position, len(shards))
        for position, (name, shard) in enumerate(shards.items())
    ]
    tops = [top_k(probabilities) for probabilities in arranged]
    divergences = [jensen_shannon(a, b) for a, b in combinations(arranged, 2)]
    return _Part(
        photos,
        np.stack([indices for indices, _ in tops]),
        np.stack([values for _, values in tops]),
        np.array(divergences, dtype=np.float32).reshape(len(divergences), len(photos)),
        np.stack([truth_rank(probabilities, known) for probabilities in arranged]),
    )


def _answers(probabilities: npt.NDArray[np.float32], model: int, models: int) -> npt.NDArray[np.float32]:
    """Rows with one more class a model, "no finite answer", which takes all where a model answers NaN or infinity.

    It is a class of its own for each model: two that both broke down do not agree.
    """
    broken = np.logical_not(np.isfinite(probabilities).all(axis=1)).reshape(-1)
    if not broken.any():
        return np.pad(probabilities, ((0, 0), (0, models)))
    answers = np.pad(np.where(broken[:, None], np.float32(0), probabilities), ((0, 0), (0, models)))
    answers[broken, probabilities.shape[1] + model] = 1
    return answers


def _answered(run: DeviceRun, names: tuple[str, ...]) -> Shard:
    """A slice of photos as a device answered it."""
    about = {
        "model": run.model,
        "format": "Core ML",
        "feeding": "as its app feeds it",
        "labels": "\n".join(run.labels),
        "notes": f"fingerprint of the model: {run.fingerprint}",
        "engine": run.engine,
        "softmax": "False",
        "seconds": f"{run.milliseconds * len(names) / 1000:.6f}",
    }
    return Shard(names, (None,) * len(names), np.stack([run.answers[name] for name in names]), about)


def _metadata(model: Model, predictor: Predictor, given: tuple[str, ...] | None) -> dict[str, str]:
    labels = given or predictor.running.signature.labels
    text = "\n".join(label for label in labels if isinstance(label, str)) if labels else ""
    return {
        "model": model.name,
        "format": model.format,
        "feeding": predictor.feeding_text,
        "labels": text,
        "notes": "\n".join(model.notes),
    }
