"""PyTorch operators that are computed by other code for a while, each put back afterwards."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any


@contextmanager
def computed_by(stand_ins: Mapping[Any, Callable[..., object]], keys: Sequence[object]) -> Iterator[None]:
    """Within it, each operator is computed by its stand-in, for these dispatch keys (``torch._C.DispatchKey``)."""
    before = {operator: dict(operator.py_kernels) for operator in stand_ins}
    try:
        for operator, written in stand_ins.items():
            operator.py_kernels.update(dict.fromkeys(keys, written))
            operator._dispatch_cache.clear()  # noqa: SLF001
        yield
    finally:
        for operator, kernels in before.items():
            operator.py_kernels.clear()
            operator.py_kernels.update(kernels)
            operator._dispatch_cache.clear()  # noqa: SLF001
