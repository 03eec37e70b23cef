"""One model over a slice of photos: decoding and resizing overlap with inference, memory stays flat."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt

from coreproof.compare.lineup import Entry
from coreproof.compare.predictions import Shard
from coreproof.errors import InputError, PhotoError
from coreproof.model.base import Model
from coreproof.model.feeding import Feeding
from coreproof.run.images import feature_pixels, fit, open_picture, to_tensor
from coreproof.run.predict import is_distribution, softmax
from coreproof.run.session import Session, session

_AHEAD = 8
_DECODERS = 2


class Predictor:
    """A model made ready to say what is on photos. A context manager."""

    def __init__(self, entry: Entry, model: Model, feeding: Feeding | None) -> None:
        self.entry = entry
        self.running: Session = session(model, entry.engine, entry.arithmetic)
        self.softmax = entry.softmax
        self._prepare, self.feeding_text = _preparation(self.running, model, feeding or getattr(model, "feeding", None))
        self._input = self.running.signature.inputs[0].name

    def __enter__(self) -> Predictor:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.running.close()

    def predict(
        self, files: Sequence[Path], names: Sequence[str], tick: Callable[[], None], metadata: dict[str, str]
    ) -> Shard:
        """The full probability vectors of a slice; a photo that cannot be read is a named skip."""
        rows: list[npt.NDArray[np.float32] | None] = []
        skipped: list[str | None] = []
        seconds = 0.0
        for tensor in self._decoded(files):
            if isinstance(tensor, PhotoError):
                rows.append(None)
                skipped.append(tensor.found if isinstance(tensor.found, str) else tensor.problem)
            else:
                started = time.perf_counter()
                rows.append(self._probabilities(tensor))
                seconds += time.perf_counter() - started
                skipped.append(None)
            tick()
        classes = next((len(row) for row in rows if row is not None), 1)
        empty = np.zeros(classes, np.float32)
        matrix = np.stack([empty if row is None else row for row in rows])
        about = {"engine": self.running.engine, "softmax": str(bool(self.softmax)), "seconds": f"{seconds:.6f}"}
        return Shard(tuple(names), tuple(skipped), matrix, {**metadata, **about})

    def _decoded(self, files: Sequence[Path]) -> Iterator[npt.NDArray[np.float32] | PhotoError]:
        def decode(file: Path) -> npt.NDArray[np.float32] | PhotoError:
            try:
                return self._prepare(file)
            except PhotoError as error:
                return error

        with ThreadPoolExecutor(_DECODERS, thread_name_prefix="decode") as pool:
            waiting: deque[Future[npt.NDArray[np.float32] | PhotoError]] = deque()
            try:
                for file in files:
                    waiting.append(pool.submit(decode, file))
                    if len(waiting) > _AHEAD:
                        yield waiting.popleft().result()
                while waiting:
                    yield waiting.popleft().result()
            finally:
                for future in waiting:
                    future.cancel()

    def _probabilities(self, tensor: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        # the scores, not the dictionary: labels that occur twice ("crane") collapse in it
        scores = self.running.signature.scores
        outputs = self.running.run({self._input: tensor}, taps=() if scores is None else (scores,))
        flat = _class_scores(outputs, scores, self.entry.name)
        if self.softmax is None:
            self.softmax = not is_distribution(flat)
        return (softmax(flat) if self.softmax else flat).astype(np.float32)


def _class_scores(outputs: dict[str, Any], scores: str | None, name: str) -> npt.NDArray[np.float64]:
    if scores is not None:
        return np.asarray(outputs[scores], dtype=np.float64).reshape(-1)
    arrays = [np.asarray(v) for v in outputs.values() if isinstance(v, np.ndarray) and v.dtype.kind == "f"]
    flat = [a for a in arrays if a.size == max(a.shape, default=0) and a.size > 1]
    if not flat:
        raise InputError(
            "the model is no classifier of pictures: none of its outputs is one row of class scores",
            where=name,
            found=", ".join(outputs),
        )
    return flat[0].astype(np.float64).reshape(-1)


def _preparation(
    running: Session, model: Model, feeding: Feeding | None
) -> tuple[Callable[[Path], npt.NDArray[np.float32]], str]:
    """How a file becomes this model's input, as a function and in words."""
    features = running.signature.inputs
    if len(features) != 1:
        raise InputError(
            "only models with one input, a picture, can be compared over photos",
            where=model.name,
            found="; ".join(str(f) for f in features),
        )
    layout = features[0].image
    if layout is not None:
        geometry: dict[str, Any] = feeding.geometry if feeding is not None else {}
        seen = Feeding(**{**geometry, "size": (layout.width, layout.height), "colour": layout.colour})
        text = f"picture: {seen}; what else is done to it is inside the model"
        return lambda file: feature_pixels(fit(open_picture(file), seen), layout), text
    if feeding is None:
        raise InputError(
            "how photos are fed to this model is not known",
            where=model.name,
            expected="size, mean and std that it was trained with",
            found=f"a plain tensor input, {features[0]}",
            fix="give feed = {size = [224, 224], mean = [...], std = [...], scale = ...}",
        )
    known = feeding
    return lambda file: to_tensor(open_picture(file), known), str(known)
