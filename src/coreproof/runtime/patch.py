"""patch_coremltools: existing scripts that call MLModel.predict run unchanged where there is no Core ML."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np

from coreproof.errors import InputError, RunError
from coreproof.runtime.session import Session, State, refuse_other_sizes

if TYPE_CHECKING:
    from coremltools.models import MLModel
    from coremltools.models.model import MLState


def patch_coremltools() -> None:
    """Makes ``coremltools.models.MLModel``'s ``predict`` and ``make_state`` answer with coreproof's runtime, for this process.

    Takes what Apple's takes, which coremltools itself checks: a dictionary, or a list of dictionaries for a batch; pictures as
    PIL images, of a size that the model declares, since Core ML stretches none; for a model with states what ``make_state``
    made of it, which each prediction reads and renews. Gives what Apple's gives: float16 widened to float32, arrays of rank 1
    at least. Models that are loaded before the call are served too. On a Mac, where Core ML itself answers, nothing is changed.
    Calling it twice does no harm.

    Example:
        >>> import coremltools
        >>> cp.patch_coremltools()
        >>> import numpy
        >>> model = coremltools.models.MLModel("net.mlpackage")
        >>> model.predict({"x": numpy.ones((1, 3, 8, 8), "float32")})["y"].shape
        (1, 4, 8, 8)

    """
    import sys

    import coremltools

    # Core ML itself is there, and the only judge of itself
    if sys.platform == "darwin":
        return
    models = coremltools.models
    # patched before: the one underneath, not ours upon ours
    original = getattr(models.MLModel.predict, "original", models.MLModel.predict)

    def predict(
        self: MLModel, data: dict[str, object] | list[dict[str, object]], state: MLState | None = None
    ) -> object:
        _serve(self, data[0] if isinstance(data, list) and data else data)
        return original(self, data, state)

    def make_state(self: MLModel) -> MLState:
        return models.model.MLState(_serve(self, {}).newState())

    vars(predict)["original"] = original
    models.MLModel.predict = predict
    models.MLModel.make_state = make_state


def _serve(model: MLModel, inputs: object) -> _Proxy:
    """What answers for a model, which keeps it: so all that coremltools checks and converts is checked and converted by it.

    ``inputs`` is what it is fed first: some networks make sense over sequences of a length alone, which they do not declare.
    """
    # None where coremltools found no Core ML to ask
    if not isinstance(model.__proxy__, _Proxy):
        from coreproof.runtime.open import session_for

        with _refusing():
            model.__proxy__ = _Proxy(session_for(model, inputs if isinstance(inputs, Mapping) else {}))
    proxy: _Proxy = model.__proxy__
    return proxy


class _Proxy:
    """coreproof's runtime in the place of coremltools' binding to Core ML, with the same calls and the same types out."""

    def __init__(self, running: Session) -> None:
        self._running = running

    def predict(self, data: Mapping[str, object], state: _HeldState | None = None) -> dict[str, object]:
        with _refusing():
            refuse_other_sizes(self._running.signature, data, "model")
            made = self._running.run(data, state=None if state is None else state.arrays)
        return {name: _as_core_ml(value) for name, value in made.items()}

    def batchPredict(self, batch: Sequence[Mapping[str, object]]) -> list[dict[str, object]]:
        return [self.predict(data) for data in batch]

    def newState(self) -> _HeldState:
        with _refusing():
            return _HeldState(self._running.state())


def _as_core_ml(value: object) -> object:
    """A value as coremltools' binding hands it out: arrays of rank 1 at least, float16 widened, single numbers as Python's."""
    if isinstance(value, np.generic):
        return value.item()
    if not isinstance(value, np.ndarray):
        return value
    wide = value.astype(np.float32) if value.dtype == np.float16 else value
    return wide.reshape(1) if wide.ndim == 0 else wide


class _HeldState:
    """What stands behind coremltools' ``MLState`` in the place of Core ML's own: arrays by the name of each state.

    As that does, it hands out copies, float16 widened to float32, and takes arrays of the state's shape.
    """

    def __init__(self, arrays: State) -> None:
        self.arrays = arrays

    def read_state(self, name: str) -> np.ndarray:
        held = self._state(name)
        return held.astype(np.float32) if held.dtype == np.float16 else held.copy()

    def write_state(self, name: str, value: object) -> None:
        held = self._state(name)
        array = np.asarray(value)
        if array.shape != held.shape:
            raise RunError(
                f"state {name!r} has another shape", expected=str(list(held.shape)), found=str(list(array.shape))
            )
        self.arrays[name] = array.astype(held.dtype)

    def _state(self, name: str) -> np.ndarray:
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
