"""``x.chunk(2, 1)``, ``x.tensor_split(2, 1)``, ``x.split(n, 1)`` along a free length, which a trace holds fixed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

if TYPE_CHECKING:
    import torch

    _Ends = Sequence[int | torch.SymInt]
    _Cut = Callable[[torch.SymInt, int | torch.SymInt], _Ends | None]

_LOOKED_AT = 256
"""Lengths that are tried, from the least on, whether each is cut into as many parts."""


@contextmanager
def parted_by_lengths() -> Iterator[None]:
    """While PyTorch traces, a free length is cut into parts that are counted from it.

    Only where other lengths are cut into as many parts as the example's: another number of parts is another program. For
    ``chunk`` that holds of every length that is declared; for ``split`` by a computed length, of as many as are tried.
    Source: PyTorch's documentation of ``torch.chunk``, ``torch.tensor_split`` and ``torch.split``.
    """
    import torch

    ways: dict[str, _Cut] = {
        "chunk": _chunks,
        "tensor_split": _even_parts,
        "split": _parts_of,
    }
    with ExitStack() as patched:
        for name, cut in ways.items():
            for owner in (torch, torch.Tensor):
                patched.enter_context(patch.object(owner, name, _cut_by(getattr(owner, name), cut)))
        yield


def _cut_by(own: Callable[..., Any], cut: _Cut) -> Callable[..., Any]:
    import torch

    def parted(*given: object, **named: object) -> object:
        asked = dict(zip(("x", "by", "dim"), given, strict=False))
        for key, value in named.items():
            asked[_CALLED.get(key, key)] = value
        x, by, dim = asked.get("x"), asked.get("by"), asked.get("dim", 0)
        if not (isinstance(x, torch.Tensor) and isinstance(by, int | torch.SymInt) and isinstance(dim, int)):
            return own(*given, **named)
        if not asked.keys() <= {"x", "by", "dim"} or not -x.dim() <= dim < x.dim():
            return own(*given, **named)
        if not isinstance(x.shape[dim], torch.SymInt) and not isinstance(by, torch.SymInt):
            return own(*given, **named)
        ends = cut(x.shape[dim], by)
        if ends is None:
            return own(*given, **named)
        return tuple(
            torch.ops.aten.slice.Tensor(x, dim, start, end) for start, end in zip((0, *ends[:-1]), ends, strict=True)
        )

    return parted


_CALLED = {
    "input": "x",
    "chunks": "by",
    "sections": "by",
    "indices_or_sections": "by",
    "split_size": "by",
    "split_size_or_sections": "by",
}


def _chunks(length: torch.SymInt, count: int | torch.SymInt) -> _Ends | None:
    """Where each of ``count`` chunks ends, all but the last as long as one another."""
    if not isinstance(count, int) or count < 1:
        return None
    # a length above the square of count - 1 is cut into as many as are asked for, and some below it are not
    least = _least(length)
    if least is None or any(-(-n // -(-n // count)) != count for n in range(least, (count - 1) ** 2 + 1)):
        return None
    each = (length + count - 1) // count
    return [*(k * each for k in range(1, count)), length]


def _even_parts(length: torch.SymInt, count: int | torch.SymInt) -> _Ends | None:
    """Where each of ``count`` parts ends, the first ones longer by one than the others."""
    import torch

    if not isinstance(count, int) or count < 1:
        return None
    return [*(torch.sym_min(k, length % count) + k * (length // count) for k in range(1, count)), length]


def _parts_of(length: torch.SymInt, each: int | torch.SymInt) -> _Ends | None:
    """Where each part ends that is as long as ``each``, the last as long as what is left."""
    count = _always(-(-length // each))
    return None if count is None else [*(k * each for k in range(1, count)), length]


def _least(length: int | torch.SymInt) -> int | None:
    """The least that a length may be, as the trace knows it."""
    if isinstance(length, int):
        return length
    bound = length.node.shape_env.bound_sympy(length.node.expr).lower
    return max(1, int(bound)) if bound.is_finite else None


def _always(number: int | torch.SymInt) -> int | None:
    """A whole number made of a free length, where it is the same at every length that is declared."""
    if isinstance(number, int):
        return number
    expression, ranges = number.node.expr, number.node.shape_env.var_to_range
    symbols = list(expression.free_symbols)
    if not symbols:
        return int(expression)
    if len(symbols) != 1 or symbols[0] not in ranges:
        return None
    # the trace knows no upper end; what is cut otherwise further on, the check at the ends of the lengths shows
    lower = int(ranges[symbols[0]].lower)
    found = {int(expression.subs(symbols[0], length)) for length in range(lower, lower + _LOOKED_AT)}
    return found.pop() if len(found) == 1 else None
