"""The numbers that tests feed: drawn, and the same whichever tests ran before.

Each test begins where its file's generators stood after import. So a test that fails in a run of all fails alone, too.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

RNG = np.random.default_rng(7)
_AT_IMPORT: Mapping[str, Any] = RNG.bit_generator.state
_FIRST: dict[int, Mapping[str, Any]] = {id(RNG): np.random.default_rng(11).bit_generator.state}
"""The state in which a test finds each generator: not that of an import, whose numbers it would draw again."""


def begin_file() -> None:
    """A file of tests is about to be imported."""
    RNG.bit_generator.state = _AT_IMPORT


def begin_test(own: np.random.Generator | None) -> None:
    """A test is about to be set up; ``own`` is the generator of its file."""
    for generator in (RNG, own):
        if generator is not None:
            generator.bit_generator.state = _FIRST.setdefault(id(generator), generator.bit_generator.state)


def normal(*shape: int) -> np.ndarray:
    return RNG.normal(size=shape).astype(np.float32)


def ints(*numbers: int) -> np.ndarray:
    """Whole numbers as ONNX's shapes, axes and indices hold them."""
    return np.array(numbers, np.int64)


def t(array: np.ndarray) -> Any:
    """An array as PyTorch takes it."""
    import torch

    return torch.from_numpy(np.ascontiguousarray(array))
