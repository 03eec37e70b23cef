"""patch_coremltools: existing scripts that call MLModel.predict run unchanged where there is no Core ML."""

from __future__ import annotations

import weakref
from collections.abc import Mapping
from typing import TYPE_CHECKING

from coreproof.errors import InputError, RunError
from coreproof.runtime.session import Session

if TYPE_CHECKING:
    from coremltools.models import MLModel


def patch_coremltools() -> None:
    """Makes ``coremltools.models.MLModel.predict`` answer with coreproof's runtime, for this process.

    Takes what Apple's takes: a dictionary, or a list of dictionaries for a batch; pictures as PIL images. Models that
    are loaded before the call are served too. On a Mac, where Core ML itself answers, nothing is changed.
    Calling it twice does no harm.
    """
    import sys

    import coremltools

    if sys.platform == "darwin":
        return
    # a script's model that is dropped takes its session along
    sessions: weakref.WeakKeyDictionary[object, Session] = weakref.WeakKeyDictionary()

    def predict(
        self: MLModel, data: Mapping[str, object] | list[Mapping[str, object]], state: object | None = None
    ) -> object:
        if self not in sessions:
            from coreproof.runtime.open import session

            sessions[self] = session(self)
        try:
            if isinstance(data, list):
                return [sessions[self].run(item) for item in data]
            return sessions[self].run(data)
        except InputError as error:
            # what Core ML refuses reaches a script as a RuntimeError
            raise RunError(error.problem, where=error.where, expected=error.expected, found=error.found) from error

    coremltools.models.MLModel.predict = predict
