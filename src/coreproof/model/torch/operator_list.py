"""PyTorch's lists of operators: what ONNX has read once a process, what PyTorch takes apart itself once an export."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Protocol
from unittest.mock import patch

from coreproof.model.torch.decompositions import tables_made_once

if TYPE_CHECKING:
    import onnx_ir as ir


class OperatorList(Protocol):
    """PyTorch's ``ONNXRegistry``."""

    functions: dict[object, list[Known]]

    def get_decomps(self, target: Callable[..., object]) -> list[Known]:
        """The functions that write an operator, the first of them to be tried first."""

    def register_op(
        self, target: Callable[..., object], function: Callable[..., object], is_complex: bool = False
    ) -> None:
        """Lets a function write an operator, before all others that do."""


class Known(Protocol):
    """One function of PyTorch's list."""

    is_complex: bool
    onnx_function: Callable[..., ir.Value]


def as_it_is(known: OperatorList) -> None:
    """Adds nothing to PyTorch's list."""


_READ: dict[tuple[object, ...], OperatorList] = {}
_READ_COMPOSITE = "_materialize_cpp_cia_ops"


@contextmanager
def operators_read_once(add: Callable[[OperatorList], None] = as_it_is) -> Iterator[None]:
    """Within it, PyTorch takes the lists of operators that it has read before, with what ``add`` adds before all that it knows.

    PyTorch makes the list anew for each export and parses the source of all 500 functions in it, which takes longer than the
    export of a small model. Each export still gets a list of its own, to which it adds. Where PyTorch has come to know
    further operators (torchvision brings some along when it is imported), the list is read again. What is added is read once as
    well: PyTorch would read its signatures for each export.

    The other list, of what PyTorch can take apart itself, it reads from its dispatcher twice for each of 60 namespaces, although
    one reading is for all of them: two fifths of what the export of a small model takes. While it is traced, each of these 270
    operators is answered otherwise on each of 20 kinds of device, which takes half of the rest: those that are here are enough.
    """
    import torch
    from torch._export import utils  # noqa: PLC2701 - it has no public name
    from torch.export import exported_program
    from torch.onnx._internal.exporter import _registration  # noqa: PLC2701 - it has no public name

    registry = _registration.ONNXRegistry
    read = registry.from_torchlib

    def taken(*arguments: object, **named: object) -> OperatorList:
        among = len(torch._C._dispatch_get_all_op_names())
        plain = (as_it_is, among, *arguments, *named.values())
        added = (add, *plain[1:])
        if plain not in _READ:
            for other in [key for key in _READ if key[1] != among]:
                del _READ[other]
            with _domains_known():
                _READ[plain] = read(*arguments, **named)
        if added not in _READ:
            _READ[added] = _own(_READ[plain])
            add(_READ[added])
        return _own(_READ[added])

    with ExitStack() as patches:
        patches.enter_context(patch.object(registry, "from_torchlib", staticmethod(taken)))
        patches.enter_context(tables_made_once())
        # another release of PyTorch may know no such step, and then takes no such time
        if (read_composite := getattr(utils, _READ_COMPOSITE, None)) is not None:
            patches.enter_context(patch.object(utils, _READ_COMPOSITE, functools.cache(read_composite)))
        for listed in _ANSWERED_ON:
            if (keys := getattr(exported_program, listed, None)) is not None:
                patches.enter_context(patch.object(exported_program, listed, [key for key in keys if _is_here(key)]))
        yield


class _Function(Protocol):
    """onnxscript's ``TracedOnnxFunction``."""

    opset: _Opset


class _Opset(Protocol):
    domain: str


class _Described:
    """What a function says of itself: its domain at once, and what only its source says when that is asked for."""

    def __init__(self, function: _Function, whole: Callable[[_Function], object]) -> None:
        self.domain = function.opset.domain
        self._function, self._whole = function, whole

    def __getattr__(self, name: str) -> object:
        asked: object = getattr(self._whole(self._function), name)
        return asked


@contextmanager
def _domains_known() -> Iterator[None]:
    """Within it, no source is parsed for the domain of a function, which is its opset's: most of what reading the list takes."""
    from onnxscript._internal import values  # noqa: PLC2701 - it has no public name

    traced = values.TracedOnnxFunction
    described = vars(traced).get("function_ir")
    if (
        not isinstance(described, property) or (whole := described.fget) is None
    ):  # another release may have no such step
        yield
        return
    with patch.object(traced, "function_ir", property(lambda function: _Described(function, whole))):
        yield


def _own(known: OperatorList) -> OperatorList:
    """A list that may grow, of the same functions."""
    own = copy.copy(known)
    own.functions = {name: list(functions) for name, functions in known.functions.items()}
    return own


_ANSWERED_ON = ("_AUTOGRAD_ALIAS_BACKEND_KEYS_TO_OVERRIDE", "_BACKEND_KEYS_TO_OVERRIDE")
_KINDS = ("cuda", "xpu", "mps", "mtia", "hpu")


def _is_here(key: object) -> bool:
    """Whether tensors can lie where this key of PyTorch's dispatcher is asked: CPU, AutogradCPU, MPS where that is, ..."""
    import torch

    found = torch.accelerator.current_accelerator()
    places = {"cpu", "meta"}
    if found is not None:
        # what others register for a device of their own has one key, whatever they call it
        places.add(found.type if found.type in _KINDS else "privateuse1")
    return str(key).rpartition(".")[2].removeprefix("Autograd").casefold() in places
