"""Worker: takes slices of photos through every model that has not seen them; decoding runs ahead of the engines."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace

import numpy as np

from coreproof.comparison.plan import Planned, Slice
from coreproof.comparison.predictor import BATCH, Predictor, Tensor
from coreproof.comparison.source import PhotoSource, content_digest
from coreproof.comparison.store import Member, Shard
from coreproof.errors import PhotoError
from coreproof.feeding.pictures import open_picture

_AHEAD = 2
"""Batches of photos that are being decoded while an engine works."""
GONE = "it is not there any more, or another file has its name"


@dataclass(frozen=True)
class Task:
    """A slice, and the models that have not seen it."""

    slice: Slice
    models: tuple[str, ...]


@dataclass(frozen=True)
class Done:
    """A slice that its models have seen. ``members`` tell what the files held, ``seconds`` what each engine took."""

    task: Task
    members: tuple[Member, ...]
    shards: Mapping[str, Shard]
    seconds: Mapping[str, float]
    seen: int


@dataclass(frozen=True)
class Decoded:
    """A photo as its models take it, by way of preparation; or why it is skipped. ``read``: its file is as the slice holds it."""

    tensors: Mapping[str, Tensor]
    content: str | None
    skipped: str | None = None
    read: bool = True


@dataclass
class _Answers:
    """What has been answered about a slice so far."""

    members: list[Member] = field(default_factory=list)
    skipped: list[str | None] = field(default_factory=list)
    read: list[bool] = field(default_factory=list)
    rows: dict[str, list[Tensor]] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)


class Worker:
    """Models that are ready, and photos for them. Several threads may ``run`` at once; ``decoders`` do their decoding."""

    def __init__(self, predictors: Mapping[str, Predictor], source: PhotoSource, decoders: ThreadPoolExecutor) -> None:
        self.predictors = predictors
        self.source = source
        self.decoders = decoders

    def run(
        self,
        tasks: Iterable[Task],
        stopped: Callable[[], bool] = lambda: False,
        seen: Callable[[int], None] = lambda photos: None,
    ) -> Iterator[Done]:
        """Carries out tasks one after the other; the next one's photos are decoded while the last one's are looked at.

        Ends between two models when ``stopped`` says so; the slice it was at is then left out. ``seen`` hears how many
        photos a batch had.
        """
        answers = _Answers()
        waiting: deque[tuple[Task, bool, list[Future[Decoded]], list[Planned]]] = deque()
        pieces = self._pieces(tasks)
        try:
            while True:
                # decoding runs ahead of the engines, but not so far that pictures pile up
                while len(waiting) <= _AHEAD and (piece := next(pieces, None)) is not None:
                    waiting.append(piece)
                if not waiting or stopped():
                    return
                task, last, futures, photos = waiting.popleft()
                self._answer(task, photos, [future.result() for future in futures], answers, stopped)
                if stopped():
                    return
                seen(sum(photo.live for photo in photos))
                if last:
                    yield _done(task, answers)
                    answers = _Answers()
        finally:
            for _, _, futures, _ in waiting:
                for future in futures:
                    future.cancel()

    def _pieces(self, tasks: Iterable[Task]) -> Iterator[tuple[Task, bool, list[Future[Decoded]], list[Planned]]]:
        for task in tasks:
            photos = task.slice.photos
            for start in range(0, len(photos), BATCH):
                piece = list(photos[start : start + BATCH])
                futures = [self.decoders.submit(self.decode, photo, task.models) for photo in piece]
                yield task, start + BATCH >= len(photos), futures, piece

    def _answer(
        self,
        task: Task,
        photos: list[Planned],
        decoded: list[Decoded],
        answers: _Answers,
        stopped: Callable[[], bool],
    ) -> None:
        answers.members += [replace(p.member, content=d.content) for p, d in zip(photos, decoded, strict=True)]
        answers.skipped += [d.skipped for d in decoded]
        answers.read += [d.read for d in decoded]
        seen = [k for k, d in enumerate(decoded) if d.skipped is None]
        for name in task.models:
            if stopped():
                return
            predictor = self.predictors[name]
            assert predictor.calibration is not None
            rows = np.zeros((len(decoded), predictor.calibration.classes), np.float32)
            if seen:
                tensors = [decoded[k].tensors[predictor.preparation] for k in seen]
                rows[seen], seconds = predictor.probabilities(tensors)
                answers.seconds[name] = answers.seconds.get(name, 0.0) + seconds
            answers.rows.setdefault(name, []).append(rows)

    def decode(self, photo: Planned, models: Iterable[str]) -> Decoded:
        """Reads a photo and makes of it what each model takes. What cannot be read is skipped, with the reason."""
        member = photo.member
        if not photo.live:
            return Decoded({}, member.content, GONE, read=False)
        content = None
        try:
            data = self.source.read(member.photo)
            content = content_digest(data)
            # predictions are stored under what the slice holds
            if member.content is not None and content != member.content:
                return Decoded({}, member.content, "its file changed while the comparison ran", read=False)
            picture = open_picture(member.photo, data)
        except PhotoError as error:
            why = error.found if isinstance(error.found, str) else error.problem
            return Decoded({}, content, why, read=content is not None)
        # each way once: most models of a line-up are fed alike
        ways = {self.predictors[name].preparation: self.predictors[name].prepare for name in models}
        return Decoded({key: prepare(picture) for key, prepare in ways.items()}, content)


def _done(task: Task, answers: _Answers) -> Done:
    photos, skipped = tuple(m.photo for m in answers.members), tuple(answers.skipped)
    unread = tuple(row for row, read in enumerate(answers.read) if not read)
    shards = {name: Shard(photos, skipped, np.concatenate(rows), unread) for name, rows in answers.rows.items()}
    return Done(task, tuple(answers.members), shards, answers.seconds, skipped.count(None))
