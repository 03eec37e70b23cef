"""Values by name, of which large stored ones are read when they are asked for, and kept by nobody."""

from __future__ import annotations

from collections.abc import Iterator, MutableMapping
from typing import TypeVar

import numpy as np
import onnx_ir as ir

from coreproof.model.onnx.left_in_file import array_of

_KEPT = 4096
"""Elements up to which an array that was read is kept: numbers, axes and shapes are asked for again and again."""

V = TypeVar("V")


class KnownValues(MutableMapping[str, "V | np.ndarray"]):
    """Whatever is put in, and stored tensors, which come out as arrays."""

    def __init__(self) -> None:
        self._made: dict[str, V | np.ndarray] = {}
        self._stored: dict[str, ir.TensorProtocol] = {}

    def store(self, name: str, tensor: ir.TensorProtocol) -> None:
        """Puts in a tensor, of which nothing is read yet."""
        self._stored[name] = tensor

    def share(self, name: str, other: str) -> None:
        """Gives a second name to what is known by another."""
        if other in self._made:
            self._made[name] = self._made[other]
        else:
            self._stored[name] = self._stored[other]

    def __getitem__(self, name: str) -> V | np.ndarray:
        if name in self._made:
            return self._made[name]
        tensor = self._stored[name]
        array = array_of(tensor)
        if tensor.size <= _KEPT:
            self._made[name] = array
        return array

    def __setitem__(self, name: str, value: V | np.ndarray) -> None:
        self._made[name] = value

    def __delitem__(self, name: str) -> None:
        self._made.pop(name, None)
        self._stored.pop(name, None)

    def __contains__(self, name: object) -> bool:
        return name in self._made or name in self._stored

    def __iter__(self) -> Iterator[str]:
        return iter({**self._stored, **self._made})

    def __len__(self) -> int:
        return len({**self._stored, **self._made})
