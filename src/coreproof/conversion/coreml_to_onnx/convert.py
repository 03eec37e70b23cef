"""Core ML -> ONNX: one entry for every kind of Core ML model."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from coreproof.conversion.coreml_to_onnx.classic.refused import require_computed
from coreproof.conversion.coreml_to_onnx.kinds import LOWERERS, Precision, lowerer_of
from coreproof.conversion.coreml_to_onnx.lowered_model import LoweredModel
from coreproof.errors import UnsupportedOperatorsError
from coreproof.model.coreml.model import CoreMLModel


def coreml_to_onnx(model: CoreMLModel, *, precision: Precision = "stored", function: str | None = None) -> LoweredModel:
    """Lowers ``model``; ``function`` picks one of a multi-function ML Program.

    ``precision`` "stored" rounds each float16 result to float16, "fp32" does not. Raises UnsupportedOperatorsError, which
    names everything that cannot be lowered. Within ``lowered_once`` the result may be one that was made before.
    """
    kept = _kept.get()
    if kept is None:
        return _lowered(model, precision, function)
    key = (id(model), precision, function)
    if key in kept:
        kept.move_to_end(key)
        return kept[key][1]
    lowered = _lowered(model, precision, function)
    kept[key] = (model, lowered)  # the model itself: no other gets its id meanwhile
    while len(kept) > _MOST_KEPT:
        kept.popitem(last=False)
    return lowered


@contextmanager
def lowered_once() -> Iterator[None]:
    """Within it, a model that is asked for again is not lowered again. For those who change no model in place meanwhile."""
    if _kept.get() is not None:
        yield
        return
    before = _kept.set(OrderedDict())
    try:
        yield
    finally:
        _kept.reset(before)


_MOST_KEPT = 2
"""A model as it is stored and in float32: more would hold the weights of models that nobody asks for again."""
_Key = tuple[int, str, str | None]
_kept: ContextVar[OrderedDict[_Key, tuple[CoreMLModel, LoweredModel]] | None] = ContextVar("_kept", default=None)


def _lowered(model: CoreMLModel, precision: Precision, function: str | None) -> LoweredModel:
    require_computed(model)
    lower = lowerer_of(model.kind)
    if lower is None:
        raise UnsupportedOperatorsError(model.where, [(model.kind, model.name)], "ONNX", supported=LOWERERS)
    return lower(model, precision, function=function)
