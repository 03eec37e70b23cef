"""What counts and compares free lengths, and a trace holds fixed: ``torch.linspace`` by a length, ``max`` and ``min`` of some."""

from __future__ import annotations

import builtins
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import reduce
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

if TYPE_CHECKING:
    import torch


@contextmanager
def spaced_by_lengths() -> Iterator[None]:
    """While PyTorch traces, ``torch.linspace(0, 1, x.shape[1])`` is counted for every length of ``x``, and so is ``F.one_hot``.

    Reference points of detectors and grids of optical flow are made so. The operator takes a plain ``int`` (its schema says so,
    where ``arange`` takes a ``SymInt``), and a trace with a free length ends there, as if the code had a loop over it.
    """
    import torch

    own = torch.linspace

    def linspace(*given: object, **named: object) -> torch.Tensor:
        asked = {**dict(zip(("start", "end", "steps"), given, strict=False)), **named}
        if not isinstance(asked.get("steps"), torch.SymInt) or not _is_plain(len(given), asked):
            made: torch.Tensor = own(*given, **named)
            return made
        return _spaced(**{k: v for k, v in asked.items() if k in _TAKEN})

    functional = torch.nn.functional
    of_classes = functional.one_hot

    def one_hot(tensor: torch.Tensor, num_classes: int = -1) -> torch.Tensor:
        if not isinstance(num_classes, torch.SymInt):
            return of_classes(tensor, num_classes)
        return (tensor.unsqueeze(-1) == torch.arange(num_classes, device=tensor.device)).long()

    with patch.object(torch, "linspace", linspace), patch.object(functional, "one_hot", one_hot):
        yield


@contextmanager
def lengths_compared() -> Iterator[None]:
    """While PyTorch traces, ``max(x.shape[1] - 3, 0)`` is computed for every length of ``x``.

    TensorFlow's "same" padding is counted so. Python's own function asks which is larger, and a trace keeps the answer of its
    example. PyTorch's own code, which decides by its lengths, keeps it.
    """
    import torch

    with (
        patch.object(builtins, "max", _of_lengths(builtins.max, torch.sym_max)),
        patch.object(builtins, "min", _of_lengths(builtins.min, torch.sym_min)),
    ):
        yield


def _of_lengths(own: Callable[..., Any], symbolic: Callable[..., Any]) -> Callable[..., Any]:
    import torch

    def chosen(*given: Any, **named: Any) -> object:
        free = len(given) > 1 and not named and any(isinstance(n, torch.SymInt) for n in given)
        if not free or sys._getframe(1).f_globals.get("__name__", "").split(".")[0] in _DECIDE:
            return own(*given, **named)
        return reduce(symbolic, given)

    return chosen


_DECIDE = ("torch", "sympy")
_TAKEN = ("start", "end", "steps", "dtype", "device")


def _is_plain(places: int, asked: dict[str, object]) -> bool:
    """Whether fractions are asked for, and nothing to write them into: whole numbers are cut off in another way."""
    import torch

    dtype = asked.get("dtype") or torch.get_default_dtype()
    return places <= 3 and asked.get("out") is None and isinstance(dtype, torch.dtype) and dtype.is_floating_point


def _spaced(
    start: torch.Tensor | float,
    end: torch.Tensor | float,
    steps: torch.SymInt,
    dtype: torch.dtype | None = None,
    device: torch.device | str | None = None,
) -> torch.Tensor:
    """As PyTorch's kernel does it: the first half counts from the start, the second from the end (RangeFactories)."""
    import torch

    places = torch.arange(steps, dtype=dtype or torch.get_default_dtype(), device=device)
    last = places[-1:]
    # of a single number there is the start alone
    step = (end - start) / last.clamp(min=1)
    from_end = end - step * (last - places)
    return torch.where(2 * places < last, start + step * places, torch.where(last > 0, from_end, start + 0 * places))
