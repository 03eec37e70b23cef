"""Memory that nobody has sent the bytes for: a file may declare any size, and is believed up to this budget.

Drawn inputs, declared intermediate values, paddings, expansions and buffers of our own are asked about here before they are
made. Weights whose bytes lie in the file do not count: they cannot be larger than the file.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterable
from functools import cache

from coreproof.errors import InputError, TooLargeError
from coreproof.model.public import public

DEFAULT_BUDGET = 2 * 10**9
ENVIRONMENT = "COREPROOF_MEMORY_BUDGET"
"""Where the budget is kept, so that child processes have the same."""

DEFAULT_MAX_PIXELS = 64_000_000
PIXELS_ENVIRONMENT = "COREPROOF_MAX_PIXELS"
"""Where it is kept how many pixels a picture may have."""

DEFAULT_DOWNLOAD_BUDGET = 20 * 10**9
DOWNLOAD_ENVIRONMENT = "COREPROOF_DOWNLOAD_BUDGET"
"""Where it is kept how many bytes a download may have, whatever a server says."""

_UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}
_BYTES = ("a memory budget is a size", "bytes, or 500MB, 8GB", "(?:i?B)?")
_DOWNLOAD = ("the budget of a download is a size", "bytes, or 500MB, 50GB", "(?:i?B)?")
_PIXELS = ("a number of pixels is a number", "64000000, or 100M")


def memory_budget() -> int:
    """The budget in bytes: 2 GB, or what ``set_memory_budget`` or COREPROOF_MEMORY_BUDGET says."""
    return _size(os.environ.get(ENVIRONMENT) or DEFAULT_BUDGET, *_BYTES)


@public
def set_memory_budget(size: str | float) -> None:
    """Sets the budget for this process and its children: a number of bytes, or a text such as "500MB" or "8GB".

    Raises InputError for what is neither.

    Example:
        >>> cp.set_memory_budget(4_000_000_000)

    """
    os.environ[ENVIRONMENT] = str(_size(size, *_BYTES))


def download_budget() -> int:
    """How many bytes a file may have that is downloaded: 20 GB, or what COREPROOF_DOWNLOAD_BUDGET says."""
    return _size(os.environ.get(DOWNLOAD_ENVIRONMENT) or DEFAULT_DOWNLOAD_BUDGET, *_DOWNLOAD)


@cache  # every value of a graph is asked about
def _size(said: str | int, what: str, expected: str, unit: str = "") -> int:
    match = re.fullmatch(rf"\s*(\d+(?:\.\d+)?)\s*([KMGT]?){unit}\s*", str(said), re.IGNORECASE)
    if match is None or not (size := int(float(match[1]) * _UNITS[match[2].upper()])):
        raise InputError(f"{what} above zero", expected=expected, found=str(said))
    return size


def size_in_bytes(shape: Iterable[int], itemsize: int) -> int:
    """Bytes that an array takes, in Python's unbounded integers: NumPy's own product wraps."""
    return math.prod(int(d) for d in shape) * itemsize


def afford(
    what: str, shape: Iterable[int] | None = None, itemsize: int = 4, *, size: int | None = None, where: object = None
) -> None:
    """Raises TooLargeError if ``what``, of ``shape`` times ``itemsize`` or of ``size`` bytes, is beyond the budget."""
    shape = None if shape is None else tuple(shape)
    needed = size if size is not None else size_in_bytes(shape or (), itemsize)
    if needed <= memory_budget():
        return
    of = "" if shape is None else f" for shape {list(shape)}"
    raise TooLargeError(
        f"{what} would take more memory than coreproof is allowed to",
        where=None if where is None else str(where),
        expected=f"at most {memory_budget():,} bytes",
        found=f"{needed:,} bytes{of}",
        fix="if the model is meant to be so large, raise the budget: --memory-budget 8GB, or coreproof.set_memory_budget",
    )


def max_pixels() -> int:
    """How many pixels a picture may have: 64 million, or what ``set_max_pixels`` or COREPROOF_MAX_PIXELS says."""
    return _size(os.environ.get(PIXELS_ENVIRONMENT) or DEFAULT_MAX_PIXELS, *_PIXELS)


@public
def set_max_pixels(count: str | float) -> None:
    """Sets how many pixels a picture may have, for this process and its children: a number, or a text such as "100M".

    Raises InputError for what is neither.

    Example:
        >>> cp.set_max_pixels(100_000_000)

    """
    os.environ[PIXELS_ENVIRONMENT] = str(_size(count, *_PIXELS))
