"""Core ML -> ONNX: one entry for every kind of Core ML model."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from importlib import import_module
from typing import Literal, Protocol

from coreproof.conversion.coreml_to_onnx.lowered_model import LoweredModel
from coreproof.errors import UnsupportedOperatorsError
from coreproof.model.coreml.model import CoreMLModel

Precision = Literal["stored", "fp32"]


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


class Lowerer(Protocol):
    """What lowers the models of one kind; of a kind whose models have one function, it asks for no ``function``."""

    def __call__(self, model: CoreMLModel, precision: Precision, *, function: str | None) -> LoweredModel:
        """The ONNX graph that computes what ``model`` does."""


LOWERERS = {
    "mlProgram": "mlprogram.program:lower_program",
    "neuralNetwork": "neuralnetwork.network:lower_network",
    "neuralNetworkClassifier": "neuralnetwork.network:lower_network",
    "neuralNetworkRegressor": "neuralnetwork.network:lower_network",
}
"""Kind of Core ML model, by the name of its message -> the module beside this one, and the Lowerer in it."""


def _lowered(model: CoreMLModel, precision: Precision, function: str | None) -> LoweredModel:
    if model.kind not in LOWERERS:
        raise UnsupportedOperatorsError(model.where, [(model.kind, model.name)], "ONNX", supported=LOWERERS)
    module, name = LOWERERS[model.kind].split(":")
    lower: Lowerer = getattr(import_module(f"{__package__}.{module}"), name)
    return lower(model, precision, function=function)
