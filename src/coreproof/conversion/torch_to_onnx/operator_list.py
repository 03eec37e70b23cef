"""The exporter's list of operators, read once a process instead of once an export."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol
from unittest.mock import patch

from coreproof.conversion.torch_to_onnx.complex_forms import complex_operators
from coreproof.model.torch.model import import_torch


class _OperatorList(Protocol):
    """PyTorch's ``ONNXRegistry``."""

    functions: dict[object, list[object]]

    def register_op(
        self, target: Callable[..., object], function: Callable[..., object], is_complex: bool = False
    ) -> None: ...


_READ: dict[tuple[object, ...], _OperatorList] = {}


@contextmanager
def operators_read_once() -> Iterator[None]:
    """Within it, the exporter takes the list of operators that it has read before.

    PyTorch makes the list anew for each export and parses the source of all 500 functions in it, which takes longer than the
    export of a small model. Each export still gets a list of its own, to which it adds. Where PyTorch has come to know
    further operators (torchvision brings some along when it is imported), the list is read again. What it leaves out of complex
    numbers is added (``complex_forms``).
    """
    torch = import_torch()
    from torch.onnx._internal.exporter import _registration  # noqa: PLC2701 - it has no public name

    registry = _registration.ONNXRegistry
    read = registry.from_torchlib

    def taken(*arguments: object, **named: object) -> _OperatorList:
        known = (*arguments, *named.values(), len(torch._C._dispatch_get_all_op_names()))
        if known not in _READ:
            _READ.clear()
            _READ[known] = read(*arguments, **named)
            for operator, written in complex_operators().items():
                _READ[known].register_op(operator, written, is_complex=True)
        own = copy.copy(_READ[known])
        own.functions = {name: list(functions) for name, functions in own.functions.items()}
        return own

    with patch.object(registry, "from_torchlib", staticmethod(taken)):
        yield
