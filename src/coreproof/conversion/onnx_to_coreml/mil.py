"""MIL as the handlers see it: coremltools' own objects, of which these are the parts that are used here."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol, TypeAlias

import numpy as np


class Symbolic(Protocol):
    """What is known of a value: numbers, or symbols for lengths that are free."""

    val: object


class Var(Protocol):
    """A value of a program (``coremltools.converters.mil.mil.Var``)."""

    name: str
    op: Operation
    child_ops: Sequence[Operation]

    @property
    def shape(self) -> tuple[int, ...]:
        """The lengths; one that is not known is a symbol, which computes like a number."""

    sym_val: object
    _sym_val: Symbolic
    """Where ``val`` and ``sym_val`` are read from; coremltools has no public way to write it."""

    _sym_type: object
    """Where ``shape`` and ``dtype`` are read from; coremltools has no public way to write it either."""

    @property
    def rank(self) -> int: ...

    @property
    def dtype(self) -> type: ...

    @property
    def val(self) -> np.ndarray | np.generic | None:
        """What it is known to be."""


Operand: TypeAlias = "Var | np.ndarray"
"""A MIL value, or an array where it is known; what may be left out is ``Operand | None``."""


class Items:
    """A sequence of ONNX's: the tensors in it, which are known one by one. MIL has no such value; operators that take one know.

    To everybody else it looks like a value of the program with no shape, and no operation that makes it.
    """

    name = ""
    shape: tuple[int, ...] = ()
    rank = 0
    dtype: type = tuple
    val = None
    sym_val: object = None
    _sym_val: Symbolic
    _sym_type: object
    op: Operation
    child_ops: Sequence[Operation] = ()

    def __init__(self, items: Sequence[Operand]) -> None:
        self.items = tuple(items)


class Operation(Protocol):
    """An operation of a block."""

    name: str

    @property
    def op_type(self) -> str: ...

    @property
    def inputs(self) -> Mapping[str, Var]: ...

    @property
    def outputs(self) -> Sequence[Var]: ...

    @property
    def blocks(self) -> Sequence[Block]: ...


class Block(Protocol):
    """Operations in their order; a function is one."""

    input_types: Sequence[object]

    @property
    def operations(self) -> Sequence[Operation]: ...

    @property
    def inputs(self) -> Mapping[str, Var]: ...

    @property
    def outputs(self) -> Sequence[Var]: ...

    def set_outputs(self, outputs: Sequence[Var]) -> None: ...

    def remove_ops(self, operations: Sequence[Operation]) -> None: ...

    def replace_uses_of_var_after_op(
        self,
        anchor_op: Operation,
        old_var: Var,
        new_var: Var,
        *,
        no_check_var_types: bool = False,
        force_replace: bool = False,
    ) -> None: ...

    def __enter__(self) -> Block: ...

    def __exit__(self, *raised: object) -> None: ...


class Program(Protocol):
    """Functions by name."""

    functions: Mapping[str, Block]


class Builder(Protocol):
    """``mb``: a method for each operation, which appends it to the block that is open and returns its output or outputs."""

    def __getattr__(self, operation: str) -> Callable[..., Var]: ...


def several(made: object) -> list[Var]:
    """The outputs of an operation that has more than one, or a number of them that is not fixed."""
    return list(made) if isinstance(made, tuple | list) else [made]  # type: ignore[list-item]
