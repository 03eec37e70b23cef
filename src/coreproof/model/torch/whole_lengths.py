"""``int(x.shape[2] * 0.5)`` and ``float(x.shape[1])`` of free lengths in a module's own code, which a trace holds fixed.

Python's own types take the number of the example out of what they are given, without a word.
"""

from __future__ import annotations

import builtins
import inspect
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from types import FunctionType
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

from coreproof.model.torch.user_code import is_foreign

if TYPE_CHECKING:
    import torch


@contextmanager
def lengths_kept_free(module: torch.nn.Module) -> Iterator[None]:
    """While PyTorch traces, ``int`` and ``float`` in the files of the module's parts compute with free lengths.

    They are the types that they were to all that asks: ``isinstance``, ``==``, ``int.from_bytes``.
    """
    with ExitStack() as patched:
        for names in _files(module):
            stands_in = {"int": _Int, "float": _Float}
            patched.enter_context(patch.dict(names, {k: v for k, v in stands_in.items() if k not in names}))
        yield


def _files(module: torch.nn.Module) -> list[dict[str, Any]]:
    """The names of each file that code of the module's parts is in."""
    found: dict[int, dict[str, Any]] = {}
    for part in module.modules():
        held = [*vars(part).values(), *(v for c in type(part).__mro__ for v in vars(c).values())]
        for function in (inspect.unwrap(h) for h in held if isinstance(h, FunctionType)):
            if isinstance(function, FunctionType) and not is_foreign(function.__code__.co_filename):
                found[id(function.__globals__)] = function.__globals__
    return list(found.values())


class _AsBefore(type):
    """A type that passes for the one of Python's that it stands in for."""

    own: type

    def __instancecheck__(cls, value: object) -> bool:
        return isinstance(value, cls.own)

    def __subclasscheck__(cls, other: type) -> bool:
        return issubclass(other, cls.own)

    def __eq__(cls, other: object) -> bool:
        return other is cls or other is cls.own

    def __hash__(cls) -> int:
        return hash(cls.own)


class _Whole(_AsBefore):
    def __call__(cls, *given: Any, **named: Any) -> object:
        import torch

        if len(given) == 1 and isinstance(given[0], torch.SymFloat) and _is_exact(given[0]):
            return torch.sym_int(given[0])
        return given[0] if len(given) == 1 and isinstance(given[0], torch.SymInt) else builtins.int(*given, **named)


class _Fraction(_AsBefore):
    def __call__(cls, *given: Any, **named: Any) -> object:
        import torch

        return (
            torch.sym_float(given[0])
            if given and isinstance(given[0], torch.SymInt)
            else builtins.float(*given, **named)
        )


class _Int(int, metaclass=_Whole):
    own = builtins.int


class _Float(float, metaclass=_Fraction):
    own = builtins.float


_HELD = 1024
"""Factors that are so many-ths of whole numbers multiply lengths without an error, in float32 too."""


def _is_exact(length: torch.SymFloat) -> bool:
    """Whether float32, in which the model computes it, cuts it off at the same whole number as Python's floats do."""
    return all((builtins.float(n) * _HELD).is_integer() for n in length.node.expr.atoms() if n.is_number)
