"""Flow: a model's operators in ONNX's words, with what is known of constants and shapes; one for every format."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from coreproof.model.features import Shape

Array = np.ndarray

MOVES = frozenset(
    (
        "Cast",
        "CastLike",
        "CenterCropPad",
        "Compress",
        "DepthToSpace",
        "Dropout",
        "Expand",
        "Flatten",
        "Identity",
        "Pad",
        "Reshape",
        "ReverseSequence",
        "Slice",
        "SpaceToDepth",
        "Split",
        "Squeeze",
        "Tile",
        "Transpose",
        "Trilu",
        "Unsqueeze",
    )
)
"""Operators whose result holds the values of their first operand."""

_COMPARES = frozenset(("Equal", "Less", "LessOrEqual", "Greater", "GreaterOrEqual"))
COMPARES = _COMPARES | {"NotEqual"}
LOGIC = frozenset(("Not", "And", "Or", "Xor"))
ARITHMETIC = frozenset(("Add", "Sub", "Mul", "Div", "Neg", "Clip", "Max", "Min"))


@dataclass(frozen=True)
class FlowStep:
    """One operator: its operands in the standard's order ("" for one left out), its results, its attributes that are numbers.

    One that is a word stands with it as a name of its own, and 1: "mode=circular".
    """

    operator: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, int | float] = field(default_factory=dict)
    keys: tuple[int, ...] | tuple[str, ...] = ()
    """What it looks its operand up among, where it does."""

    def integer(self, attribute: str, default: int = 0) -> int:
        """An attribute such as an axis."""
        return int(self.attributes.get(attribute, default))

    def operand(self, index: int) -> str:
        """The name of that input; "" where it is left out."""
        return self.inputs[index] if index < len(self.inputs) else ""

    @property
    def result(self) -> str:
        """The first value that it makes; "" where it makes none."""
        return self.outputs[0] if self.outputs else ""


@dataclass(frozen=True)
class Flow:
    """The steps of a model in an order in which each stands behind those that it reads.

    ``inputs`` maps the features to their values, ``shapes`` and ``dtypes`` hold what is known of values. ``stored`` tells a
    constant's numbers if it is small; ``fixed`` are the names of all constants. ``titles`` are the names that a reader knows.
    ``infer`` adds to ``shapes`` and ``dtypes`` what can be found out: it is called once, when something is missing.
    """

    steps: tuple[FlowStep, ...]
    inputs: Mapping[str, str]
    outputs: tuple[str, ...]
    shapes: Mapping[str, Shape]
    dtypes: Mapping[str, str]
    fixed: frozenset[str]
    stored: Callable[[str], Array | None]
    titles: Mapping[str, str] = field(default_factory=dict)
    infer: Callable[[], None] = lambda: None

    @cached_property
    def _inferred(self) -> None:
        self.infer()

    def shape(self, name: str) -> Shape:
        """The shape of a value; empty where it is not known, and of a single number."""
        if name and name not in self.shapes:
            self._inferred  # noqa: B018 - once
        return self.shapes.get(name) or ()

    def dtype(self, name: str) -> str:
        """The dtype of a value; "" where it is not known."""
        if name and name not in self.dtypes:
            self._inferred  # noqa: B018 - once
        return self.dtypes.get(name, "")

    @cached_property
    def producers(self) -> dict[str, FlowStep]:
        """The step that makes each value."""
        return {name: step for step in self.steps for name in step.outputs}

    @cached_property
    def known(self) -> dict[str, Array]:
        """Numbers of the constants, and of what is made of them by moving them about, as far as asked for."""
        return {}

    def constant(self, name: str) -> Array | None:
        """The numbers of a small constant, or of what is a constant moved about; None for anything else."""
        if name in self.known:
            return self.known[name]
        seen = [name]
        while name not in self.fixed:
            step = self.producers.get(name)
            # a long way behind a constant nobody looks for a shape or an axis
            if step is None or step.operator not in MOVES or not step.inputs or len(seen) > 20:
                return None
            name = step.operand(0)
            seen.append(name)
        value = self.stored(name)
        if value is not None:
            self.known.update(dict.fromkeys(seen, value))
        return value

    def number(self, name: str) -> float | None:
        """The one number that a constant holds, in however many places."""
        value = self.constant(name) if name else None
        if value is None or not value.size or value.dtype.kind not in "biuf":
            return None
        first = float(value.reshape(-1)[0])
        # a scalar is often spread over a whole tensor before it is compared or added
        return first if value.size == 1 or bool(np.all(value == value.reshape(-1)[0])) else None

    @cached_property
    def static(self) -> frozenset[str]:
        """Values that do not hang on what an input holds: constants, and what is made of them and of shapes."""
        # one pass: each step stands behind those that it reads
        found = set(self.fixed)
        for step in self.steps:
            # shapes are drawn before values are, and do not hang on these
            if step.operator in ("Shape", "Size") or all(not name or name in found for name in step.inputs):
                found.update(step.outputs)
        return frozenset(found)

    @cached_property
    def direct(self) -> frozenset[str]:
        """Values that are an input moved about, compared, or put through arithmetic with constants."""
        found = set(self.inputs.values())
        for step in self.steps:
            if step.operator not in MOVES | COMPARES | LOGIC | ARITHMETIC | {"Where", "Concat", "Abs"}:
                continue
            # constants change nothing of whether a value follows an input directly
            read = [n for n in step.inputs if n and n not in self.static]
            if read and all(name in found for name in read):
                found.update(step.outputs)
        return frozenset(found)

    def length(self, name: str, axis: object) -> int | str | None:
        """The length of an axis: a number, the name of a free dimension, or None where nothing is known."""
        shape = self.shape(name)
        if not shape or not isinstance(axis, int) or not -len(shape) <= axis < len(shape):
            return None
        found = shape[axis]
        return None if isinstance(found, int) and found <= 0 else found

    def title(self, name: str) -> str:
        """The name that a reader knows: of a constant that was only moved about, that of the constant."""
        seen = 0
        while name not in self.fixed and (step := self.producers.get(name)) is not None and seen < 20:
            if step.operator not in MOVES | {"DequantizeLinear"}:
                break
            name, seen = step.operand(0), seen + 1
        return self.titles.get(name, name)
