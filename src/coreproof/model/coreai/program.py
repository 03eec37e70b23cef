"""A Core AI program as it was read: functions of operations, whose values have names."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np

from coreproof.model.coreai.element_types import TensorType


@dataclass(frozen=True)
class StoredOperation:
    """One operation: what it is ("coreai.add"), the values that it reads and makes, its attributes as MLIR writes them.

    ``constant`` is what a ``coreai.constant`` holds; None for one that is no tensor. ``source`` says where it comes from.
    """

    name: str
    kind: str
    operands: tuple[str, ...]
    results: tuple[str, ...]
    attributes: Mapping[str, str] = field(default_factory=dict)
    blocks: tuple[StoredBlock, ...] = ()
    constant: np.ndarray | None = None
    source: str | None = None


@dataclass(frozen=True)
class StoredBlock:
    """Operations in order, and the values that they are given; the last one hands out the results."""

    arguments: tuple[str, ...]
    operations: tuple[StoredOperation, ...]


@dataclass(frozen=True)
class Function:
    """A graph of a program. ``inputs`` and ``outputs`` are the names it declares, with the value that each is.

    ``private``: only other functions of the program invoke it. ``types`` are those of all its values that are tensors or
    states, ``others`` those of the rest, as MLIR writes them. ``unnamed`` are the values that are called after their operation,
    because nothing in the file names them.
    """

    name: str
    private: bool
    inputs: Mapping[str, str]
    outputs: Mapping[str, str]
    block: StoredBlock
    types: Mapping[str, TensorType]
    others: Mapping[str, str] = field(default_factory=dict)
    unnamed: frozenset[str] = frozenset()


@dataclass(frozen=True)
class StoredProgram:
    """All functions, in stored order."""

    functions: tuple[Function, ...]

    @property
    def public(self) -> tuple[Function, ...]:
        """Those that can be run."""
        return tuple(function for function in self.functions if not function.private)


def operations(block: StoredBlock) -> Iterator[StoredOperation]:
    """The operations of a block with those of nested ones."""
    for operation in block.operations:
        yield operation
        for inner in operation.blocks:
            yield from operations(inner)
