"""What all models together say about one slice of photos: the few numbers a photo that statistics are made of."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from coreproof.comparison.agreement import Distributions, top_k, truth_rank
from coreproof.comparison.classes import ClassOrder
from coreproof.comparison.plan import Slice
from coreproof.comparison.schema import PART
from coreproof.comparison.store import Shard, Store, matrix, rows_of
from coreproof.comparison.variants import code_digest
from coreproof.errors import StoreError

if TYPE_CHECKING:
    import pyarrow as pa

TOP = 5


@dataclass(frozen=True, eq=False)
class Part:
    """The photos of a slice that every model saw.

    Arrays: ``top`` and ``top_values`` [photos, models, 5 or as many classes as there are], ``divergences`` [photos, pairs],
    ``ranks`` [photos, models] (how many classes stand before the true one; -1 where it is not known), ``truth`` [photos],
    ``shares`` [photos]: each photo's part of the picture that it is a crop of (None: all are pictures of their own).
    """

    photos: tuple[str, ...]
    truth: npt.NDArray[np.int32]
    top: npt.NDArray[np.int32]
    top_values: npt.NDArray[np.float32]
    divergences: npt.NDArray[np.float32]
    ranks: npt.NDArray[np.int32]
    skipped: Mapping[str, str]
    shares: npt.NDArray[np.float64] | None = None

    @property
    def weights(self) -> npt.NDArray[np.float64]:
        """How many pictures each photo is."""
        return np.ones(len(self.photos)) if self.shares is None else self.shares


@dataclass(frozen=True)
class Agreement:
    """How the models of one line-up are held against each other: where each one's classes stand in a common order."""

    orders: Mapping[str, ClassOrder]
    keys: Mapping[str, str]

    @property
    def classes(self) -> int:
        """How many classes the common order has."""
        return max(int(order.positions.max()) + 1 for order in self.orders.values())

    @property
    def key(self) -> str:
        """Changes with the models, their order, the order of their classes, and the code that holds them against each other."""
        digest = hashlib.blake2b(code_digest("comparison/agreement.py", "comparison/part.py").encode(), digest_size=12)
        for name, order in self.orders.items():
            digest.update(self.keys[name].encode() + b"\0" + order.positions.tobytes() + b"\0")
        return digest.hexdigest()

    def path(self, store: Store, piece: Slice) -> Path:
        """Where the part of a slice is kept, whether it is there or not."""
        return store.folder / "agreement" / self.key / f"{piece.key}-{_state(piece)}.parquet"

    def kept(self, store: Store, piece: Slice) -> Path:
        """The file of a part, made where it is not there."""
        path = self.path(store, piece)
        if not path.is_file():
            self.part(store, piece)
        return path

    def part(self, store: Store, piece: Slice) -> Part:
        """The part of a slice: as the store has it, else made from its shards and kept."""
        path = self.path(store, piece)
        part = None
        if path.is_file():
            with suppress(StoreError):  # a damaged one is made again
                part = _read(store, path, len(self.orders), self.classes, piece)
        if part is None:
            part = self._build({name: self._shard(store, name, piece) for name in self.keys}, piece)
            _write(store, path, part)
        return part

    def _shard(self, store: Store, name: str, piece: Slice) -> Shard:
        """What a model says of a slice, held against the slice and the model's classes."""
        shard = store.read_shard(self.keys[name], piece.key)
        wanted = (len(piece.photos), len(self.orders[name].positions))
        if shard.probabilities.shape != wanted or shard.photos != tuple(p.member.photo for p in piece.photos):
            found = f"{list(shard.probabilities.shape)} answers, and not those of the slice: {list(wanted)}"
            raise store.unreadable(store.shard_path(self.keys[name], piece.key), found)
        return shard

    def _build(self, shards: Mapping[str, Shard], piece: Slice) -> Part:
        """Photos that some model could not see are left out for all, and named."""
        seen = (pair for shard in shards.values() for pair in zip(shard.photos, shard.skipped, strict=True))
        skipped = {photo: why for photo, why in seen if why is not None}
        # a photo counts for all models or for none: shares of different photos cannot be compared
        kept = [k for k, p in enumerate(piece.photos) if p.live and p.member.photo not in skipped]
        truth = np.array([piece.photos[k].truth for k in kept], np.int32)
        truth[truth >= self.classes] = -1  # a class that no model has
        answers = [
            _answers(self.orders[name].arrange(shard.probabilities[kept], self.classes), position, len(shards))
            for position, (name, shard) in enumerate(shards.items())
        ]
        tops = [top_k(probabilities, min(TOP, self.classes)) for probabilities in answers]
        distributions = [Distributions.from_probabilities(probabilities) for probabilities in answers]
        # entropies are computed once a model, not once a pair
        pairs = [a.divergence(b) for a, b in combinations(distributions, 2)]
        live = {p.member.photo for p in piece.photos if p.live}
        return Part(
            photos=tuple(piece.photos[k].member.photo for k in kept),
            truth=truth,
            top=np.stack([indices for indices, _ in tops], axis=1),
            top_values=np.stack([values for _, values in tops], axis=1),
            divergences=np.array(pairs, np.float32).reshape(len(pairs), len(kept)).T,
            ranks=np.stack([truth_rank(probabilities, truth) for probabilities in answers], axis=1),
            skipped={name: why for name, why in skipped.items() if name in live},
            shares=np.array([piece.photos[k].share for k in kept], np.float64),
        )


def _state(piece: Slice) -> str:
    """Changes with which of a slice's photos are there and what they are said to show."""
    state = repr([(p.live, p.truth) for p in piece.photos])
    return hashlib.blake2b(state.encode(), digest_size=6).hexdigest()


def _answers(probabilities: npt.NDArray[np.float32], model: int, models: int) -> npt.NDArray[np.float32]:
    """Rows with one more class a model, "no answer", which takes all where a model answers NaN, infinity or zeros alone.

    It is a class of its own for each model: two that both broke down do not agree.
    """
    # NaN compares with nothing, and zeros alone would name the first class
    broken = np.logical_not(np.isfinite(probabilities).all(axis=1) & (probabilities > 0).any(axis=1)).reshape(-1)
    answers = np.pad(np.where(broken[:, None], np.float32(0), probabilities), ((0, 0), (0, models)))
    answers[broken, probabilities.shape[1] + model] = 1
    return answers


def _write(store: Store, path: Path, part: Part) -> None:
    import pyarrow as pa

    photos, names, reasons = len(part.photos), list(part.skipped), list(part.skipped.values())

    def column(values: npt.NDArray[np.generic]) -> pa.Array:
        """The photos' rows, and nulls for those that were skipped."""
        return pa.concat_arrays([rows_of(values), pa.nulls(len(names), rows_of(values[:0]).type)])

    columns = {
        "photo": pa.array([*part.photos, *names], pa.string()),
        "skipped": pa.array([*[None] * photos, *reasons], pa.string()),
        "truth": pa.array([*part.truth.tolist(), *[None] * len(names)], pa.int32()),
        "top": column(part.top),
        "top_values": column(part.top_values),
        "ranks": column(part.ranks),
    }
    if part.divergences.shape[1]:
        columns["divergences"] = column(part.divergences)
    store.write_table(path, pa.table(columns))


def _read(store: Store, path: Path, models: int, classes: int, piece: Slice) -> Part:
    """A part as it was kept. Raises StoreError for one that is not of this slice and these models."""
    import pyarrow.compute as pc

    pairs = models * (models - 1) // 2
    columns = {**PART, "divergences": "rows of floats"} if pairs else PART
    table = store.read_table(path, columns)
    seen = table.filter(pc.is_null(table.column("skipped")))
    left = table.filter(pc.is_valid(table.column("skipped")))
    names, skipped = seen.column("photo").to_pylist(), left.column("photo").to_pylist()
    live = [p.member.photo for p in piece.photos if p.live]
    kept = set(names)
    # the file's own order is that of the slice, or rows would be read for other photos
    if [n for n in live if n in kept] != names or sorted(live) != sorted([*names, *skipped]):
        raise store.unreadable(path, "its photos are not those of the slice")
    top = models * min(TOP, classes)
    sizes = {"top": top, "top_values": top, "ranks": models, **({"divergences": pairs} if pairs else {})}
    if any(seen.column(n).null_count or seen.column(n).type.list_size != size for n, size in sizes.items()):
        raise store.unreadable(path, "its rows are of another length")
    if seen.column("truth").null_count:
        raise store.unreadable(path, "column 'truth' lacks values")
    part = Part(
        photos=tuple(names),
        truth=np.asarray(seen.column("truth").to_numpy(), np.int32),
        top=_by_model(seen.column("top"), models),
        top_values=_by_model(seen.column("top_values"), models),
        divergences=matrix(seen.column("divergences")) if pairs else np.zeros((seen.num_rows, 0), np.float32),
        ranks=matrix(seen.column("ranks")),
        skipped=dict(zip(skipped, left.column("skipped").to_pylist(), strict=True)),
        shares=np.array([p.share for p in piece.photos if p.live and p.member.photo in kept], np.float64),
    )
    beyond = part.top.size and not 0 <= int(part.top.min()) <= int(part.top.max()) < classes + models
    # a place among the classes is that of a class that is known
    unknown = (part.truth >= classes).any() or (part.ranks[part.truth < 0] >= 0).any()
    if beyond or unknown or not (np.isfinite(part.top_values).all() and np.isfinite(part.divergences).all()):
        raise store.unreadable(path, "classes or numbers that no model says")
    return part


def _by_model(column: pa.ChunkedArray, models: int) -> np.ndarray:
    values = matrix(column)
    return values.reshape(len(values), models, values.shape[1] // models)


def joined(parts: Sequence[Part]) -> Part:
    """Parts as one, in their order."""
    return Part(
        photos=tuple(photo for part in parts for photo in part.photos),
        truth=np.concatenate([part.truth for part in parts]),
        top=np.concatenate([part.top for part in parts]),
        top_values=np.concatenate([part.top_values for part in parts]),
        divergences=np.concatenate([part.divergences for part in parts]),
        ranks=np.concatenate([part.ranks for part in parts]),
        skipped={photo: why for part in parts for photo, why in part.skipped.items()},
        shares=np.concatenate([part.weights for part in parts]),
    )
