"""Numbers in equal steps, as many as an axis of free length has: PyTorch's own operator holds their count fixed in a trace."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING
from unittest.mock import patch

if TYPE_CHECKING:
    import torch


@contextmanager
def spaced_by_lengths() -> Iterator[None]:
    """While PyTorch traces, ``torch.linspace(0, 1, x.shape[1])`` is counted for every length of ``x``.

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

    with patch.object(torch, "linspace", linspace):
        yield


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
