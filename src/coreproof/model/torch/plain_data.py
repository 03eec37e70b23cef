"""``tensor.data`` while PyTorch traces: as ``detach()``, which is recorded; read as it is, the trace holds an empty constant."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING
from unittest.mock import patch

if TYPE_CHECKING:
    from torch import Tensor


@contextmanager
def data_recorded() -> Iterator[None]:
    """Within it, ``x.data`` of a tensor that is traced is ``x.detach()``: the same numbers without a gradient.

    PyTorch's tracer does not see the attribute: what comes out of it is to it a constant, and has no numbers.
    """
    import torch
    from torch._subclasses.fake_tensor import FakeTensor  # noqa: PLC2701 - it has no public name

    own = torch._C.TensorBase.data

    def get(tensor: Tensor) -> object:
        return tensor.detach() if isinstance(tensor, FakeTensor) else own.__get__(tensor)

    with patch.object(torch.Tensor, "data", property(get, own.__set__), create=True):
        yield
