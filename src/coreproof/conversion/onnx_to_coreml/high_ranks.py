"""Operations on more than five dimensions, as the same on fewer: dimensions that an operation treats alike are one.

A value of high rank is kept as any reshape of itself, which has the same elements in the same order; its own lengths are only
known here. Each operation looks at it in the groups of dimensions that it needs: a softmax in what lies before its axis, the
axis, and what lies behind; a product of matrices in rows, columns and all else. ``high_rank_rules`` says how, one by one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from math import prod

import numpy as np

from coreproof.conversion.onnx_to_coreml.mil import Builder, Operand, Operation, Var
from coreproof.conversion.onnx_to_coreml.ops.dtypes import is_known, known_elements

HIGHEST_RANK = 5


class CannotFoldError(Exception):
    """An operation that has no rule, or one whose groups have several free lengths."""


@dataclass(frozen=True)
class Folded:
    """A value of high rank: ``held`` has its elements in their order, ``lengths`` are its own."""

    held: Var
    lengths: tuple[int, ...]


class Folder:
    """Rewrites operations one after the other; knows what has become of the values of high rank so far."""

    def __init__(self, mb: Builder) -> None:
        self.mb = mb
        self._folded: dict[int, Folded] = {}
        self._told: dict[str, Var] = {}  # a free length by its symbol, [1], where it is computed while the model runs
        self._kept: list[Var] = []  # so that no id is given out twice

    def touches(self, operation: Operation) -> bool:
        """Whether an operation reads or makes a value of high rank."""
        read = (v for v in operands(operation) if is_tensor(v))
        return any(v.rank > HIGHEST_RANK for v in (*read, *(v for v in operation.outputs if is_tensor(v))))

    def keep(self, old: Var, new: Folded) -> Var | None:
        """Notes what a value has become: None where it stays folded, else the value in its own lengths."""
        if old.rank > HIGHEST_RANK:
            self._folded[id(old)] = Folded(new.held, tuple(old.shape))
            self._kept.append(old)
            return None
        made = self.as_lengths(new, list(old.shape))
        # what only took another shape on its way is a value of its own: others may bear that name
        return (
            self.mb.identity(x=made)
            if made is new.held and any(made is f.held for f in self._folded.values())
            else made
        )

    def tell(self, made: Var, shape: Var, source: Var) -> None:
        """Notes how the free lengths of what a reshape makes are computed: in its ``shape``, or as what ``source`` leaves."""
        said = known_elements(shape) or []
        others: list[Operand] = []
        inferred: object = None
        for axis, length in enumerate(made.shape):
            if is_known(length):
                others.append(np.array([int(length)], np.int32))
            elif said and is_known(said[axis]) and said[axis] == -1:
                inferred = length
            else:
                own = self.mb.slice_by_index(x=shape, begin=[axis], end=[axis + 1])
                others.append(self._told.setdefault(str(length), own))
        if inferred is not None and str(inferred) not in self._told:
            every = self.mb.reduce_prod(x=self.mb.shape(x=source), axes=[0], keep_dims=True)
            self._told[str(inferred)] = self.mb.floor_div(x=every, y=self._product(others))

    @contextmanager
    def within(self) -> Iterator[None]:
        """Within it, what is told is told there alone: what is computed in a block is not seen outside of it."""
        before = dict(self._told)
        yield
        self._told = before

    def told(self, length: object, held: Var) -> Operand | None:
        """A length, [1], as a number or as it is computed; None where nobody noted how. ``held`` may have it itself."""
        if is_known(length):
            return None if length == -1 else np.array([int(length)], np.int32)  # type: ignore[call-overload]
        own = list(map(str, held.shape))
        if str(length) not in self._told and str(length) in own:
            at = own.index(str(length))
            return self.mb.slice_by_index(x=self.mb.shape(x=held), begin=[at], end=[at + 1])
        return self._told.get(str(length))

    def _product(self, lengths: Iterable[Operand]) -> Operand:
        made: Operand = np.ones(1, np.int32)
        for length in lengths:
            if isinstance(made, np.ndarray) and isinstance(length, np.ndarray):
                made = made * length
            else:
                made = self.mb.mul(x=made, y=length) if np.any(made != 1) else length
        return made

    def together(self, lengths: Sequence[Operand | None]) -> Operand:
        """Lengths in a row, of which one may be unknown: it follows from the others. Raises CannotFoldError for more."""
        if sum(length is None for length in lengths) > 1:
            raise CannotFoldError
        pieces = [np.array([-1], np.int32) if n is None else n for n in lengths]
        known = [p for p in pieces if isinstance(p, np.ndarray)]
        return np.concatenate(known) if len(known) == len(pieces) else self.mb.concat(values=pieces, axis=0)

    def value(self, var: Var) -> Folded:
        """An operand, folded or as it is; constants are reshaped where they have too many dimensions."""
        known = self._folded.get(id(var))
        if known is not None:
            return known
        if var.rank <= HIGHEST_RANK:
            return Folded(var, tuple(var.shape))
        if var.val is None:
            raise CannotFoldError
        return Folded(self.mb.const(val=np.ascontiguousarray(np.asarray(var.val).reshape(-1))), tuple(var.shape))

    def as_lengths(self, value: Folded, lengths: Sequence[int]) -> Var:
        """The elements in another shape, of which one length may be free, or several whose symbols were told."""
        if [str(n) for n in value.held.shape] == [str(n) for n in lengths]:
            return value.held
        shape = [int(n) if is_known(n) else -1 for n in lengths]
        if not shape:
            return self.mb.squeeze(x=self.mb.reshape(x=value.held, shape=np.array([1], np.int32)), axes=[0])
        if shape.count(-1) > 1:
            return self.mb.reshape(x=value.held, shape=self.together([self.told(n, value.held) for n in lengths]))
        return self.mb.reshape(x=value.held, shape=np.array(shape, np.int32))

    def grouped(self, value: Folded, *groups: Iterable[int]) -> Var:
        """The value with one dimension for each group of its own."""
        apart = [[value.lengths[axis] for axis in group] for group in groups]
        lengths = [size(group) for group in apart]
        alike = [str(n) for n in value.held.shape] == [str(n) for n in lengths]
        if alike or sum(not is_known(n) or n == -1 for n in lengths) <= 1:
            return self.as_lengths(value, lengths)
        told = [[self.told(n, value.held) for n in group] for group in apart]
        each = [
            None if any(n is None for n in group) else self._product(n for n in group if n is not None)
            for group in told
        ]
        return self.mb.reshape(x=value.held, shape=self.together(each))

    def around(self, value: Folded, axis: int) -> Var:
        """[what lies before an axis, the axis, what lies behind]"""
        return self.grouped(value, range(axis), [axis], range(axis + 1, len(value.lengths)))


def operands(operation: Operation) -> Iterator[Var]:
    """The values that an operation reads, those in lists one by one."""
    inputs: Mapping[str, Var | Sequence[Var] | None] = operation.inputs
    for value in inputs.values():
        if isinstance(value, tuple | list):
            yield from value
        elif value is not None:
            yield value  # type: ignore[misc]


def is_tensor(value: Var) -> bool:
    """A list of MIL's has no rank; its elements have."""
    from coremltools.converters.mil.mil import ListVar

    return not isinstance(value, ListVar) and hasattr(value, "rank")


def size(lengths: Iterable[int]) -> int:
    """The product of lengths; -1 where one is free. A symbol alone stays itself."""
    group = list(lengths)
    if len(group) == 1:
        return group[0]
    return prod(map(int, group)) if all(map(is_known, group)) else -1
