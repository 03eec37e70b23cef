"""``int(x.shape[2] * 0.5)``, ``math.log(x.shape[1])`` and the like of free lengths, which a trace holds fixed.

Python's own types and functions take the number of the example out of what they are given, without a word.
"""

from __future__ import annotations

import builtins
import inspect
import math
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from types import BuiltinFunctionType, FunctionType
from typing import TYPE_CHECKING, Any, SupportsIndex, SupportsRound
from unittest.mock import patch

from coreproof.model.torch.user_code import is_foreign

if TYPE_CHECKING:
    import torch


@contextmanager
def lengths_kept_free(module: torch.nn.Module) -> Iterator[None]:
    """While PyTorch traces, ``int``, ``float``, ``round`` and ``math`` compute with free lengths in the files of the module.

    The types are those that they were to all that asks: ``isinstance``, ``==``, ``int.from_bytes``.
    """
    functions = {name: _of_a_length(getattr(math, name), compute) for name, compute in _functions().items()}
    by_own = {getattr(math, name): stands_in for name, stands_in in functions.items()}
    _INEXACT.set(False)
    with ExitStack() as patched:
        for names in _files(module):
            stands_in: dict[str, object] = {"int": _Int, "float": _Float, "round": _round}
            ours = {k: v for k, v in stands_in.items() if k not in names}
            # from math import sqrt
            ours |= {k: by_own[v] for k, v in names.items() if isinstance(v, BuiltinFunctionType) and v in by_own}
            patched.enter_context(patch.dict(names, ours))
        for name, function in functions.items():
            patched.enter_context(patch.object(math, name, function))
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


_INEXACT: ContextVar[bool] = ContextVar("whether a logarithm of a length was computed", default=False)


def _taken_out(tensor: torch.Tensor) -> float:
    """The number in a tensor as the trace has it, which Python's own types hold at the example's.

    Raises NotImplementedError beside a logarithm of a length, of which it may be made: see ``_functions``.
    """
    if _INEXACT.get():
        raise NotImplementedError("a number taken out of a tensor, beside a logarithm of a free length")
    number: float = tensor.item()
    return number


class _Whole(_AsBefore):
    def __call__(cls, *given: Any, **named: Any) -> object:
        import torch

        if len(given) != 1 or named:
            return builtins.int(*given, **named)
        number = _taken_out(given[0]) if isinstance(given[0], torch.Tensor) else given[0]
        if isinstance(number, torch.SymFloat) and _is_exact(number):
            return torch.sym_int(number)
        return number if isinstance(number, torch.SymInt) else builtins.int(number)


class _Fraction(_AsBefore):
    def __call__(cls, *given: Any, **named: Any) -> object:
        import torch

        if len(given) != 1 or named:
            return builtins.float(*given, **named)
        number = _taken_out(given[0]) if isinstance(given[0], torch.Tensor) else given[0]
        free = isinstance(number, torch.SymInt | torch.SymFloat)
        return torch.sym_float(number) if free else builtins.float(number)


class _Int(int, metaclass=_Whole):
    own = builtins.int


class _Float(float, metaclass=_Fraction):
    own = builtins.float


def _round(number: SupportsRound[object], ndigits: SupportsIndex | None = None) -> object:
    import torch

    if isinstance(number, torch.SymFloat) and (ndigits is not None or not _is_exact(number)):
        number = builtins.float(number)
    return builtins.round(number) if ndigits is None else builtins.round(number, ndigits)


def _functions() -> dict[str, Callable[..., Any]]:
    """Those of ``math`` that stay free, by their name.

    The root is a number that may be cut off to a whole one: of a square it is exact. The others are tensors, as PyTorch exports
    no logarithm of a length. Those of other bases should be whole numbers at powers of these, which float32 misses: they are
    taken of the example, which ends the trace.
    """
    import torch

    def of_a_tensor(function: Callable[[torch.Tensor], torch.Tensor]) -> Callable[..., Any]:
        def computed(length: float) -> torch.Tensor:
            _INEXACT.set(True)
            return function(torch.scalar_tensor(length, dtype=torch.get_default_dtype()))

        return computed

    def log(length: float, *base: float) -> float | torch.Tensor:
        return math.log(builtins.float(length), *base) if base else natural(length)

    natural = of_a_tensor(torch.log)
    return {"sqrt": torch.sym_sqrt, "log": log, "log1p": of_a_tensor(torch.log1p), "exp": of_a_tensor(torch.exp)}


def _of_a_length(own: Callable[..., Any], compute: Callable[..., Any]) -> Callable[..., Any]:
    import torch

    def computed(*given: object) -> object:
        free = any(isinstance(n, torch.SymInt | torch.SymFloat) for n in given)
        return compute(*given) if free else own(*given)

    return computed


_HELD = 1024
"""Factors that are so many-ths of whole numbers multiply lengths without an error, in float32 too."""


def _is_exact(length: torch.SymFloat) -> bool:
    """Whether float32, in which the model computes it, cuts it off at the same whole number as Python's floats do."""
    return all((builtins.float(n) * _HELD).is_integer() for n in length.node.expr.atoms() if n.is_number)
