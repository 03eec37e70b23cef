"""patch_coremltools: existing scripts that call MLModel.predict run unchanged where there is no Core ML."""

from __future__ import annotations

import weakref
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np

from coreproof.errors import InputError, RunError
from coreproof.runtime.session import Session, State

if TYPE_CHECKING:
    from coremltools.models import MLModel
    from coremltools.models.model import MLState


def patch_coremltools() -> None:
    """Makes ``coremltools.models.MLModel``'s ``predict`` and ``make_state`` answer with coreproof's runtime, for this process.

    Takes what Apple's takes: a dictionary, or a list of dictionaries for a batch; pictures as PIL images; for a model with
    states what ``make_state`` made of it, which each prediction reads and renews. Models that are loaded before the call are
    served too. On a Mac, where Core ML itself answers, nothing is changed.
    Calling it twice does no harm.
    """
    import sys

    import coremltools

    if sys.platform == "darwin":
        return
    # a script's model that is dropped takes its session along
    sessions: weakref.WeakKeyDictionary[object, Session] = weakref.WeakKeyDictionary()

    def opened(model: MLModel) -> Session:
        if model not in sessions:
            from coreproof.runtime.open import session

            sessions[model] = session(model)
        return sessions[model]

    def predict(
        self: MLModel, data: Mapping[str, object] | list[Mapping[str, object]], state: MLState | None = None
    ) -> object:
        if isinstance(data, list):
            # coremltools' own word
            assert state is None, "State can only be used for unbatched predictions"
        held = None if state is None else state.__proxy__.arrays
        with _refusing():
            if isinstance(data, list):
                return [opened(self).run(item) for item in data]
            return opened(self).run(data, state=held)

    def make_state(self: MLModel) -> MLState:
        with _refusing():
            running = opened(self)
            return coremltools.models.model.MLState(_HeldState(running.state()))

    coremltools.models.MLModel.predict = predict
    coremltools.models.MLModel.make_state = make_state


class _HeldState:
    """What stands behind coremltools' ``MLState`` in the place of Core ML's own: arrays by the name of each state.

    As that does, it hands out copies, float16 widened to float32, and takes arrays of the state's shape.
    """

    def __init__(self, arrays: State) -> None:
        self.arrays = arrays

    def read_state(self, name: str) -> np.ndarray:
        held = self._held(name)
        return held.astype(np.float32) if held.dtype == np.float16 else held.copy()

    def write_state(self, name: str, value: object) -> None:
        held = self._held(name)
        array = np.asarray(value)
        if array.shape != held.shape:
            raise RunError(
                f"state {name!r} has another shape", expected=str(list(held.shape)), found=str(list(array.shape))
            )
        self.arrays[name] = array.astype(held.dtype)

    def _held(self, name: str) -> np.ndarray:
        if name not in self.arrays:
            raise RunError(f"the model has no state {name!r}", expected=", ".join(self.arrays) or "no state")
        return self.arrays[name]


@contextmanager
def _refusing() -> Iterator[None]:
    """What Core ML refuses reaches a script as a RuntimeError."""
    try:
        yield
    except InputError as error:
        raise RunError(
            error.problem, where=error.where, expected=error.expected, found=error.found, fix=error.fix
        ) from error
