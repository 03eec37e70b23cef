"""The exporter's lists of operators: what ONNX has read once a process, what PyTorch takes apart itself once an export."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Protocol
from unittest.mock import patch

import onnx_ir as ir

from coreproof.conversion.torch_to_onnx.complex_forms import complex_operators
from coreproof.conversion.torch_to_onnx.complex_functions import complex_functions
from coreproof.conversion.torch_to_onnx.complex_parts import complex_parts
from coreproof.model.torch.model import import_torch


class _OperatorList(Protocol):
    """PyTorch's ``ONNXRegistry``."""

    functions: dict[object, list[_Known]]

    def get_decomps(self, target: Callable[..., object]) -> list[_Known]: ...

    def register_op(
        self, target: Callable[..., object], function: Callable[..., object], is_complex: bool = False
    ) -> None: ...


class _Known(Protocol):
    """One function of PyTorch's list."""

    is_complex: bool
    onnx_function: Callable[..., ir.Value]


_READ: dict[tuple[object, ...], _OperatorList] = {}
_READ_COMPOSITE = "_materialize_cpp_cia_ops"


def _complex_written(known: _OperatorList) -> dict[Callable[..., object], Callable[..., object]]:
    """How the operators are written where an operand is complex, that PyTorch's list leaves out."""

    def for_real_numbers(operator: Callable[..., object]) -> Callable[..., ir.Value] | None:
        return next((each.onnx_function for each in known.get_decomps(operator) if not each.is_complex), None)

    return {**complex_operators(), **complex_functions(), **complex_parts(for_real_numbers)}


@contextmanager
def operators_read_once() -> Iterator[None]:
    """Within it, the exporter takes the lists of operators that it has read before.

    PyTorch makes the list anew for each export and parses the source of all 500 functions in it, which takes longer than the
    export of a small model. Each export still gets a list of its own, to which it adds. Where PyTorch has come to know
    further operators (torchvision brings some along when it is imported), the list is read again. What it leaves out of complex
    numbers is added (``complex_forms``).

    The other list, of what PyTorch can take apart itself, it reads from its dispatcher twice for each of 60 namespaces, although
    one reading is for all of them: two fifths of what the export of a small model takes.
    """
    torch = import_torch()
    from torch._export import utils  # noqa: PLC2701 - it has no public name
    from torch.onnx._internal.exporter import _registration  # noqa: PLC2701 - it has no public name

    registry = _registration.ONNXRegistry
    read = registry.from_torchlib

    def taken(*arguments: object, **named: object) -> _OperatorList:
        known = (*arguments, *named.values(), len(torch._C._dispatch_get_all_op_names()))
        if known not in _READ:
            _READ.clear()
            _READ[known] = read(*arguments, **named)
            for operator, written in _complex_written(_READ[known]).items():
                _READ[known].register_op(operator, written, is_complex=True)
        own = copy.copy(_READ[known])
        own.functions = {name: list(functions) for name, functions in own.functions.items()}
        return own

    with ExitStack() as patches:
        patches.enter_context(patch.object(registry, "from_torchlib", staticmethod(taken)))
        # another release of PyTorch may know no such step, and then takes no such time
        if (read_composite := getattr(utils, _READ_COMPOSITE, None)) is not None:
            patches.enter_context(patch.object(utils, _READ_COMPOSITE, functools.cache(read_composite)))
        yield
