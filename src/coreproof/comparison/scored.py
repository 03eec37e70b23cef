"""Which outputs tell classes: rows of scores, by what the model says, by names and by what makes them; which only look so."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cached_property

import numpy as np

from coreproof.conversion.operators import error_class
from coreproof.errors import CoreproofError
from coreproof.feeding.roles.find import flow_of
from coreproof.feeding.roles.flow import MOVES, Flow, FlowStep
from coreproof.model.base import Model
from coreproof.model.class_labels import class_count
from coreproof.model.features import Feature
from coreproof.runtime.session import Session

_SCORES = re.compile(r"logit|score|prob|class", re.IGNORECASE)
"""What people call an output that tells classes apart, where the model does not say so."""
_LOGITS = re.compile(r"logit|class", re.IGNORECASE)
"""Names of scores that boxes have none of."""
_PICKED = re.compile(r"label|class|pred|argmax|token|(?:^|_)(?:ids?|index|indices)$", re.IGNORECASE)
"""What people call whole numbers that are classes, and no lengths, counts or places."""
_MEASURED = re.compile(
    r"embed|feature|descriptor|regress|forecast|landmark|keypoint|coord|box|latent|vae|autoenc|denois|verif|speaker",
    re.IGNORECASE,
)
"""What people call a row of numbers, or the network that makes it, in which no number stands for a class."""
_NAMED = re.compile(r"classif|logit|label|categor", re.IGNORECASE)

_BEND = frozenset(["tanh", "relu", "leakyrelu", "leaky_relu", "softplus", "exp", "elu", "gelu", "sin", "cos", "abs"])
_SIZES = frozenset(["reducel2", "reducel1", "linalg_vector_norm", "norm", "reducesum", "reducesumsquare"])
"""What a vector is divided by to become one of length 1."""


def told_classes(output: str, value: np.ndarray, labels: int) -> bool:
    """Whether the last axis of an output scores classes: as many as there are labels, or it is called so."""
    if value.dtype.kind != "f" or not value.ndim or value.shape[-1] < 2:
        return False
    return value.shape[-1] == labels or _SCORES.search(output) is not None


def batch(fed: Mapping[str, object], answered: Mapping[str, np.ndarray]) -> int:
    """How many samples one feeding holds: the length in front that all inputs and all outputs share; else 1."""
    given = [np.shape(value) for value in fed.values() if isinstance(value, np.ndarray) and value.ndim > 1]
    lengths = {shape[0] for shape in (*given, *(value.shape or (1,) for value in answered.values()))}
    return lengths.pop() if given and len(lengths) == 1 else 1


class Scored:
    """Which outputs of one model tell classes. ``running``: the model ready to run, which saves lowering it once more."""

    def __init__(self, model: Model, running: Session | None = None) -> None:
        self.model, self.running = model, running
        self.signature = model.signature
        self.labels = len(self.signature.labels or ())
        # a model that says of itself what its classes are needs no guess
        self.said = bool(self.labels) or self.signature.probabilities is not None
        self.count = class_count(self.signature) or self.labels

    def classes(self, output: str, values: Mapping[str, np.ndarray], rows: int = 1) -> np.ndarray | None:
        """The class at each place of an output: the largest of its scores, or the whole number; None where none is told.

        ``values`` are all outputs of one feeding of ``rows`` samples: scores of boxes look like those of classes.
        """
        value = values[output]
        if value.dtype.kind in "iub":
            return value
        if value.dtype.kind != "f" or not value.ndim or not value.size:
            return None
        if self.count > 1 and value.size == self.count:
            return np.array([int(np.argmax(value))]) if self.said or self.is_row(output) else None
        if value.ndim == 2 and 1 < rows == len(value) and value.shape[1] > 1 and len(self.signature.outputs) == 1:
            return np.asarray(np.argmax(value, axis=-1)) if self.is_row(output) else None
        axis = self._axis(output, value)
        return None if axis is None or self._of_entries(output, values) else np.asarray(np.argmax(value, axis=axis))

    def _axis(self, output: str, value: np.ndarray) -> int | None:
        if value.shape[-1] < 2:
            return None
        if output == self.signature.scores or value.shape[-1] == self.labels:
            return -1
        if _SCORES.search(output) is None:
            return None
        if value.ndim < 4:
            return -1
        # a map of scores has its classes in front, as its picture has its channels, or behind two equal sides
        behind = value.shape[1] == value.shape[2] != value.shape[-1]
        return -1 if behind else 1 if value.shape[1] > 1 else None

    def _of_entries(self, output: str, values: Mapping[str, np.ndarray]) -> bool:
        """Whether each number belongs to an entry, a box or a keypoint: the largest of them then picks an entry, and no class.

        The other outputs have a row, or a whole number, for each of them.
        """
        value = values[output]
        if value.size != value.shape[-1] or _LOGITS.search(output):
            return False
        others = [other for name, other in values.items() if name != output]
        rows = any(other.ndim > 1 and other.shape[-2] == value.size for other in others)
        return rows or any(other.dtype.kind in "iu" and other.size == value.size for other in others)

    def says_classes(self, output: str, value: np.ndarray) -> bool:
        """Whether what an output tells are classes: scores, or whole numbers by their name, or as nothing else comes out."""
        return value.dtype.kind == "f" or len(self.signature.outputs) == 1 or _PICKED.search(output) is not None

    def is_row(self, output: str) -> bool:
        """Whether the numbers of an output that has the form of a row of scores may be that.

        None are those that people call otherwise, as many as the one input has, and what a normalisation, a bend or another scale
        for each place makes: embeddings, forecasts, coordinates.
        """
        if self.said or _SCORES.search(output) or _NAMED.search(f"{output} {self.model.name}"):
            return True
        if _MEASURED.search(output) or _MEASURED.search(self.model.name):
            return False
        own = _named(output, self.signature.outputs)
        # beside a second input (a scale, a mask) the same length says nothing
        if own is not None and [f.shape for f in self.signature.inputs] == [own.shape]:
            return False
        return not self._measured(output)

    @cached_property
    def _flow(self) -> Flow | None:
        if not (self.model.is_source or self.model.is_coreml):
            return None
        try:
            return flow_of(self.model, self.running)
        except CoreproofError:
            return None

    def _measured(self, output: str) -> bool:
        """Whether what makes an output makes no scores."""
        flow = self._flow
        names = [f.name for f in self.signature.outputs]
        if flow is None or output not in names or len(flow.outputs) != len(names):
            return False
        step = _maker(flow, flow.outputs[names.index(output)])
        if step is None:
            return False
        operator = step.operator.lower()
        if error_class(step.operator) == "norm" or operator in _BEND:
            return True
        if operator == "div":
            return _by_size(flow, step.operand(1))
        return _rescales(flow, step)


def _named(name: str, features: tuple[Feature, ...]) -> Feature | None:
    return next((f for f in features if f.name == name), None)


def _maker(flow: Flow, name: str) -> FlowStep | None:
    """The step that makes the numbers of a value, behind all that only moves them about."""
    step, seen = flow.producers.get(name), 0
    while step is not None and step.operator in MOVES and seen < 20:
        step, seen = flow.producers.get(step.operand(0)), seen + 1
    return step


def _by_size(flow: Flow, name: str) -> bool:
    """Whether a divisor is the size of a vector, with or without a least number."""
    step = _maker(flow, name)
    for _ in range(4):
        if step is None or step.operator.lower() in _SIZES:
            break
        wanted = ("Clip", "Max", "Sqrt", "Add", "Pow")
        step = _maker(flow, step.operand(0)) if step.operator in wanted else None
    return step is not None


def _rescales(flow: Flow, step: FlowStep) -> bool:
    """Whether another factor for each place is what makes a value last: standard deviations, of what was measured."""
    if step.operator in ("Add", "Sub") and any(name in flow.static for name in step.inputs):
        step = next((s for name in step.inputs if name not in flow.static and (s := _maker(flow, name))), step)
    if step.operator not in ("Mul", "Div"):
        return False
    factors = [flow.constant(name) for name in step.inputs if name in flow.static]
    return any(factor is not None and factor.size > 1 and np.ptp(factor) > 0 for factor in factors)
