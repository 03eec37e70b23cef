"""Translation: where a handler of a MIL operation finds its operands, and puts the operations of Core AI."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np

from coreproof.conversion.coreml_to_onnx.lowering import Declared
from coreproof.conversion.operators import TO_COREAI
from coreproof.errors import ConversionError
from coreproof.model.coreai.element_types import DTYPES, TensorType
from coreproof.model.coreai.program import StoredBlock, StoredOperation
from coreproof.model.coreml.model import CoreMLModel
from coreproof.model.coreml.proto import MIL_pb2

translates = TO_COREAI.lowers

ELEMENTS: Mapping[str, str] = {
    dtype: element for element, dtype in DTYPES.items() if element not in ("ui1", "ui3", "ui6")
}
"""NumPy's name of a dtype -> Core AI's element type."""
FLOATS = ("f16", "f32", "f64")
_DECOMPOSABLE = "coreai.decomposable.broadcasting_"


@dataclass(frozen=True, eq=False)
class Tensor:
    """A tensor that an operation of Core AI makes, or an input: ``name`` is provisional until it is given one of MIL's."""

    name: str
    held: TensorType

    @property
    def shape(self) -> tuple[int | None, ...]:
        """Its lengths, None for what is known at run time only."""
        return self.held.shape

    @property
    def element(self) -> str:
        """Its element type."""
        return self.held.element


Constant: TypeAlias = np.ndarray | np.generic | int | float | bool | str
Operand: TypeAlias = Tensor | Constant | Sequence[object] | None
"""What a handler receives for a parameter: a constant known now (number, text, array, list) or a ``Tensor``."""


@dataclass
class FunctionScope:
    """What all blocks of one function share.

    ``constants`` stand at its top. ``names`` are MIL's for provisional ones, ``types`` those of all values, ``others`` the types
    of what is no tensor. ``states`` are the handles of the function's states, ``tokens`` the last one of each.
    """

    where: str
    opset: str
    constants: list[StoredOperation] = field(default_factory=list)
    names: dict[str, str] = field(default_factory=dict)
    types: dict[str, TensorType] = field(default_factory=dict)
    others: dict[str, str] = field(default_factory=dict)
    known: dict[object, tuple[object, Tensor]] = field(default_factory=dict)
    called: dict[int, str] = field(default_factory=dict)
    given: set[str] = field(default_factory=set)
    halves: dict[int, tuple[np.ndarray, np.ndarray]] = field(default_factory=dict)
    """By the id of an array in float32 that array, and the one of half width that it was made of."""
    states: dict[str, Tensor] = field(default_factory=dict)
    tokens: dict[str, str] = field(default_factory=dict)
    scores: Tensor | None = None
    scores_name: str | None = None
    count: int = 0

    def give_name(self, value: Tensor, name: str | None) -> None:
        """Gives a value its name in MIL, if it has none yet and no other has that one."""
        if name is not None and value.name not in self.names and name not in self.given:
            self.names[value.name] = name
            self.given.add(name)

    def fresh(self, kind: str) -> str:
        """A provisional name."""
        self.count += 1
        return f"%{self.count}/{kind.rpartition('.')[2]}"


@dataclass
class Translation:
    """One block on its way; ``operation``, ``name``, ``outputs`` and ``blocks`` belong to the operation at hand."""

    scope: FunctionScope
    parent: Translation | None = None
    operations: list[StoredOperation] = field(default_factory=list)
    environment: dict[str, Operand] = field(default_factory=dict)
    operation: str = ""
    name: str = ""
    outputs: tuple[Declared, ...] = ()
    blocks: Sequence[MIL_pb2.Block] = ()
    model: CoreMLModel | None = None

    def lookup(self, name: str) -> Operand:
        """The value of that name in this block or around it."""
        block: Translation | None = self
        while block is not None:
            if name in block.environment:
                return block.environment[name]
            block = block.parent
        raise self.refuse(
            "it reads a value that nothing makes",
            expected="an input of the function or the output of an earlier operation",
            found=name,
        )

    def refuse(
        self, problem: str, *, expected: object = None, found: object = None, fix: str | None = None
    ) -> ConversionError:
        """The error for an operation in a form that is not translated."""
        return ConversionError(
            f"{self.operation}: {problem}",
            where=f"{self.scope.where}, operation {self.name!r}",
            expected=expected,
            found=found,
            fix=fix,
        )

    def nested(self) -> Translation:
        """A block within this one."""
        return Translation(self.scope, self, operation=self.operation, name=self.name, model=self.model)

    # what is known

    def shape(self, operand: Operand) -> tuple[int | None, ...]:
        """The lengths, None for each that is known at run time only."""
        return operand.shape if isinstance(operand, Tensor) else np.asarray(operand).shape

    def rank(self, operand: Operand) -> int:
        """The number of dimensions."""
        return len(self.shape(operand))

    def fixed(self, lengths: Sequence[int | None], problem: str = "it needs an input of known size") -> list[int]:
        """The lengths, all of them known now. Refuses, with this problem, those that are known at run time only."""
        known = [n for n in lengths if n is not None]
        if len(known) < len(lengths):
            raise self.refuse(problem, found=list(lengths))
        return known

    def element(self, operand: Operand) -> str:
        """The element type of an operand."""
        return operand.element if isinstance(operand, Tensor) else ELEMENTS[_array(operand).dtype.name]

    def is_float(self, operand: Operand) -> bool:
        """Whether the operand holds floats."""
        return self.element(operand) in FLOATS

    def is_bool(self, operand: Operand) -> bool:
        """Whether the operand holds truth values."""
        return self.element(operand) == "i1"

    def constant(self, operand: Operand, name: str) -> np.ndarray:
        """The operand as an array; refuses what is known at run time only."""
        if operand is None or isinstance(operand, Tensor):
            raise self.refuse(f"its input {name!r} has to be a constant")
        return np.asarray(operand)

    def integers(self, operand: Operand, name: str) -> list[int]:
        """The operand as whole numbers in a list."""
        return [int(n) for n in np.ravel(self.constant(operand, name))]

    # values

    def value(self, operand: Operand, element: str | None = None) -> Tensor:
        """The operand as a value, in this element type where one is said: a constant becomes an operation."""
        if isinstance(operand, Tensor):
            return operand if element in (None, operand.element) else self.cast(operand, element or "")
        half = self.scope.halves.get(id(operand))
        if half is not None and element in (None, "f32"):
            # stored as narrow as it was, and widened where it is read
            return self.cast(self.value(half[1]), "f32")
        array = _array(operand)
        if element is not None and ELEMENTS[array.dtype.name] != element:
            with np.errstate(over="ignore"):
                array = array.astype(DTYPES[element])
        key: object = (
            (array.dtype.name, array.shape, array.tobytes())
            if array.size <= _ALIKE
            else (id(operand), array.dtype.name)
        )
        known = self.scope.known.get(key)
        if known is None:
            # kept alive with its id
            known = self.scope.known[key] = operand, self._constant(array, self.scope.called.get(id(operand)))
        return known[1]

    def _constant(self, array: np.ndarray, called: str | None) -> Tensor:
        value = self._made("coreai.constant", TensorType(ELEMENTS[array.dtype.name], array.shape))
        self.scope.constants.append(StoredOperation(value.name, "coreai.constant", (), (value.name,), constant=array))
        self.scope.give_name(value, called)
        return value

    def like(self, number: float, operand: Operand) -> np.ndarray:
        """A number in the element type of an operand."""
        return np.asarray(number, DTYPES[self.element(operand)])

    def _made(self, kind: str, held: TensorType) -> Tensor:
        name = self.scope.fresh(kind)
        self.scope.types[name] = held
        return Tensor(name, held)

    # operations

    def op(
        self, kind: str, *operands: Operand, shape: Sequence[int | None], element: str | None = None, **attributes: str
    ) -> Tensor:
        """Appends an operation of one result: of this shape, and of the element type of its first operand if none is said."""
        read = [self.value(operand) for operand in operands]
        made = self._made(kind, TensorType(element or read[0].element, tuple(shape)))
        self.append(kind, [v.name for v in read], [made.name], attributes)
        return made

    def append(
        self,
        kind: str,
        operands: Sequence[str],
        results: Sequence[str],
        attributes: Mapping[str, str] | None = None,
        blocks: Sequence[StoredBlock] = (),
    ) -> None:
        """Appends an operation of values by their provisional names."""
        full = kind if kind.startswith("coreai.") else f"coreai.{kind}"
        name = results[0] if results else full
        self.operations.append(
            StoredOperation(name, full, tuple(operands), tuple(results), attributes or {}, tuple(blocks))
        )

    def result(self, held: TensorType, kind: str) -> Tensor:
        """A value for an operation with several results, which ``append`` names."""
        return self._made(kind, held)

    def unary(self, kind: str, x: Operand) -> Tensor:
        """An operation on the elements of one tensor."""
        value = self.value(x)
        return self.op(kind, value, shape=value.shape)

    def binary(self, kind: str, x: Operand, y: Operand, element: str | None = None) -> Tensor:
        """An operation on the elements of two tensors that broadcast; a plain number takes the other one's element type."""
        a, b = self.pair(x, y)
        # never the form that does not broadcast: behind one that does, where both have a constant, Apple's package folds the two
        # constants and writes beyond its memory (1.0.0b3)
        return self.op(_DECOMPOSABLE + kind, a, b, shape=self.broadcast(a.shape, b.shape), element=element)

    def pair(self, x: Operand, y: Operand) -> tuple[Tensor, Tensor]:
        """Two operands as values of one element type: that of the one which is no constant."""
        if isinstance(x, Tensor):
            return x, self.value(y, x.element)
        if isinstance(y, Tensor):
            return self.value(x, y.element), y
        return self.value(x), self.value(y, self.element(x))

    def broadcast(self, a: Sequence[int | None], b: Sequence[int | None]) -> tuple[int | None, ...]:
        """The shape that two shapes broadcast to."""
        rank = max(len(a), len(b))
        lengths: list[int | None] = []
        for n, m in zip([1] * (rank - len(a)) + list(a), [1] * (rank - len(b)) + list(b), strict=True):
            if 1 not in (n, m) and None not in (n, m) and n != m:
                raise self.refuse("its inputs do not broadcast", found=f"{list(a)} and {list(b)}")
            lengths.append(m if n == 1 else n if m in (1, None) else m)
        return tuple(lengths)

    def where(self, condition: Operand, a: Operand, b: Operand) -> Tensor:
        """The elements of ``a`` where the condition is true, else those of ``b``; all broadcast."""
        c = self.value(condition)
        x, y = self.pair(a, b)
        shape = self.broadcast(c.shape, self.broadcast(x.shape, y.shape))
        return self.op(f"{_DECOMPOSABLE}where", c, x, y, shape=shape, element=x.element)

    def cast(self, x: Operand, element: str) -> Tensor:
        """The operand in another element type; without an operation where it has that already."""
        value = self.value(x)
        return value if value.element == element else self.op("cast", value, shape=value.shape, element=element)

    def negated(self, condition: Operand) -> Tensor:
        """Not."""
        return self.unary("not", condition)

    # along axes

    def axes(self, axes: Sequence[int] | np.ndarray | None, rank: int) -> list[int]:
        """Axes counted from the front, in order; all of them where none is said."""
        return list(range(rank)) if axes is None else sorted({int(a) % rank for a in np.ravel(axes)})

    def reduce(
        self, kind: str, x: Operand, axes: Sequence[int], *, keep: bool = True, element: str | None = None
    ) -> Tensor:
        """A reduction along these axes, counted from the front."""
        value = self.value(x)
        lengths = [1 if i in axes else n for i, n in enumerate(value.shape)]
        made = self.op(kind, value, si(axes), shape=lengths, element=element) if axes else value
        return made if keep else self.shrink_dims(made, axes)

    # shapes

    def reshape(self, x: Operand, shape: Sequence[int]) -> Tensor:
        """With one -1 at most for the length that is left."""
        value = self.value(x)
        lengths: list[int | None] = [None if n == -1 else int(n) for n in shape]
        if None in lengths and None not in value.shape:
            rest = int(np.prod([n for n in lengths if n is not None], dtype=np.int64))
            total = int(np.prod(self.fixed(value.shape), dtype=np.int64))
            lengths = [(total // rest if rest else 0) if n is None else n for n in lengths]
        return self.op("reshape", value, si([-1 if n is None else n for n in lengths]), shape=lengths)

    def transpose(self, x: Operand, permutation: Sequence[int]) -> Tensor:
        """With the axes in this order."""
        value = self.value(x)
        if list(permutation) == list(range(len(value.shape))):
            return value
        return self.op("transpose", value, ui(permutation), shape=[value.shape[p] for p in permutation])

    def expand_dims(self, x: Operand, axes: Sequence[int]) -> Tensor:
        """With lengths of 1 at these places of the result, counted from the front."""
        value = self.value(x)
        if not axes:
            return value
        left = iter(value.shape)
        lengths = [1 if i in axes else next(left) for i in range(len(value.shape) + len(axes))]
        return self.op("expand_dims", value, si(sorted(axes)), shape=lengths)

    def shrink_dims(self, x: Operand, axes: Sequence[int]) -> Tensor:
        """Without these axes of length 1, counted from the front."""
        value = self.value(x)
        lengths = [n for i, n in enumerate(value.shape) if i not in axes]
        return self.op("shrink_dims", value, si(sorted(axes)), shape=lengths) if axes else value

    def concat(self, parts: Sequence[Operand], axis: int) -> Tensor:
        """Joined along an axis that is counted from the front."""
        values = [self.value(part) for part in parts]
        if len(values) == 1:
            return values[0]
        lengths = list(values[0].shape)
        for i in range(len(lengths)):
            known = [v.shape[i] for v in values if v.shape[i] is not None]
            if i == axis:
                lengths[i] = sum(n for n in known if n is not None) if len(known) == len(values) else None
            elif known:
                lengths[i] = known[0]
        return self.op("concat", np.array(axis, np.int32), *values, shape=lengths, element=values[0].element)

    def slice(self, x: Operand, begin: Sequence[int], end: Sequence[int], steps: Sequence[int] | None = None) -> Tensor:
        """From and to these places, which are known now and counted from the front; -1 as an end backwards: all the way."""
        value = self.value(x)
        by = [1] * len(begin) if steps is None else [int(s) for s in steps]
        lengths = [
            None if n is None else max(0, -(-(e - b) // s))
            for n, b, e, s in zip(value.shape, begin, end, by, strict=True)
        ]
        return self.op("slice", value, si(begin), si(end), si(by), shape=lengths)

    def pad(self, x: Operand, pads: Sequence[tuple[int, int]], fill: float = 0.0, mode: str = "constant") -> Tensor:
        """With so much before and after each axis; negative amounts crop."""
        value = self.value(x)
        cut = [(min(before, 0), min(after, 0)) for before, after in pads]
        if any(any(pair) for pair in cut):
            lengths = self.fixed(value.shape)
            value = self.slice(
                value, [-before for before, _ in cut], [n + after for n, (_, after) in zip(lengths, cut, strict=True)]
            )
        more = [(max(before, 0), max(after, 0)) for before, after in pads]
        if not any(any(pair) for pair in more):
            return value
        made = [None if n is None else n + sum(pair) for n, pair in zip(value.shape, more, strict=True)]
        amounts = np.array(more, np.uint32).reshape(-1)
        return self.op(
            "pad", value, amounts, self.like(fill, value), shape=made, padding_mode=f"#coreai.padding_mode<{mode}>"
        )

    def broadcast_to(self, x: Operand, shape: Sequence[int]) -> Tensor:
        """Repeated along axes of length 1, and along new ones in front."""
        value = self.value(x)
        return value if value.shape == tuple(shape) else self.op("broadcast_to", value, ui(shape), shape=shape)

    def matmul(self, x: Operand, y: Operand) -> Tensor:
        """The product of the last two axes; those before broadcast."""
        a, b = self.pair(x, y)
        front = self.broadcast(a.shape[:-2], b.shape[:-2])
        same = len(a.shape) == len(b.shape) == 3 and a.shape[0] == b.shape[0] and a.shape[0] is not None
        kind = "coreai.batch_matmul" if same else f"{_DECOMPOSABLE}batch_matmul"
        return self.op(kind, a, b, shape=(*front, a.shape[-2], b.shape[-1]))


_ALIKE = 64
"""Constants of so many elements are one where they are alike."""


def si(numbers: Sequence[int] | np.ndarray | int) -> np.ndarray:
    """Whole numbers as Core AI wants axes and places."""
    return np.asarray(numbers, np.int32)


def ui(numbers: Sequence[int] | np.ndarray | int) -> np.ndarray:
    """Whole numbers as Core AI wants lengths and steps."""
    return np.asarray(numbers, np.uint32)


def _array(operand: Operand) -> np.ndarray:
    """A constant as an array: numbers in Python's own types as MIL has them."""
    if isinstance(operand, np.ndarray | np.generic):
        return np.asarray(operand)
    array = np.asarray(operand)
    kinds = {"f": np.float32, "i": np.int32, "u": np.int32, "b": np.bool_}
    if array.dtype.kind not in kinds:
        raise TypeError(f"{operand!r} is no tensor of numbers")
    return array.astype(kinds[array.dtype.kind])
