"""The exporter's lists of operators: what ONNX has read once a process, what PyTorch takes apart itself once an export."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable, Iterator, Mapping
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


Written = Mapping[Callable[..., object], Callable[..., object]]
"""PyTorch operator -> the function that writes it in ONNX."""

_READ: dict[tuple[object, ...], _OperatorList] = {}
_READ_COMPOSITE = "_materialize_cpp_cia_ops"


def _complex_written(known: _OperatorList) -> Written:
    """How the operators are written where an operand is complex, that PyTorch's list leaves out."""

    def for_real_numbers(operator: Callable[..., object]) -> Callable[..., ir.Value] | None:
        return next((each.onnx_function for each in known.get_decomps(operator) if not each.is_complex), None)

    return {**complex_operators(), **complex_functions(), **complex_parts(for_real_numbers)}


@contextmanager
def operators_read_once(ours: Callable[[], Written] = dict) -> Iterator[None]:
    """Within it, the exporter takes the lists of operators that it has read before, with ``ours`` before all that it knows.

    PyTorch makes the list anew for each export and parses the source of all 500 functions in it, which takes longer than the
    export of a small model. Each export still gets a list of its own, to which it adds. Where PyTorch has come to know
    further operators (torchvision brings some along when it is imported), the list is read again. What it leaves out of complex
    numbers is added (``complex_forms``), and so are ``ours``, whose signatures it would read for each export too.

    The other list, of what PyTorch can take apart itself, it reads from its dispatcher twice for each of 60 namespaces, although
    one reading is for all of them: two fifths of what the export of a small model takes. While it is traced, each of these 270
    operators is answered otherwise on each of 20 kinds of device, which takes half of the rest: those that are here are enough.
    """
    torch = import_torch()
    from torch._export import utils  # noqa: PLC2701 - it has no public name
    from torch.export import exported_program
    from torch.onnx._internal.exporter import _registration  # noqa: PLC2701 - it has no public name

    registry = _registration.ONNXRegistry
    read = registry.from_torchlib

    def taken(*arguments: object, **named: object) -> _OperatorList:
        known = (ours, *arguments, *named.values(), len(torch._C._dispatch_get_all_op_names()))
        if known not in _READ:
            _READ.clear()
            _READ[known] = read(*arguments, **named)
            for operator, written in _complex_written(_READ[known]).items():
                _READ[known].register_op(operator, written, is_complex=True)
            for operator, written in ours().items():
                _READ[known].register_op(operator, written)
        own = copy.copy(_READ[known])
        own.functions = {name: list(functions) for name, functions in own.functions.items()}
        return own

    with ExitStack() as patches:
        patches.enter_context(patch.object(registry, "from_torchlib", staticmethod(taken)))
        # another release of PyTorch may know no such step, and then takes no such time
        if (read_composite := getattr(utils, _READ_COMPOSITE, None)) is not None:
            patches.enter_context(patch.object(utils, _READ_COMPOSITE, functools.cache(read_composite)))
        for listed in _ANSWERED_ON:
            if (keys := getattr(exported_program, listed, None)) is not None:
                patches.enter_context(patch.object(exported_program, listed, [key for key in keys if _is_here(key)]))
        yield


_ANSWERED_ON = ("_AUTOGRAD_ALIAS_BACKEND_KEYS_TO_OVERRIDE", "_BACKEND_KEYS_TO_OVERRIDE")


_KINDS = ("cuda", "xpu", "mps", "mtia", "hpu")


def _is_here(key: object) -> bool:
    """Whether tensors can lie where this key of PyTorch's dispatcher is asked: CPU, AutogradCPU, MPS where that is, ..."""
    found = import_torch().accelerator.current_accelerator()
    places = {"cpu", "meta"}
    if found is not None:
        # what others register for a device of their own has one key, whatever they call it
        places.add(found.type if found.type in _KINDS else "privateuse1")
    return str(key).rpartition(".")[2].removeprefix("Autograd").casefold() in places
