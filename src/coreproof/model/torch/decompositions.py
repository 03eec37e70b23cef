"""PyTorch's tables of what it takes apart before an export: made once a process, and again when an operator was registered."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Generic, TypeVar
from unittest.mock import patch

if TYPE_CHECKING:
    import torch

Table = dict[object, Callable[..., object]]
Asked = TypeVar("Asked")
Answer = TypeVar("Answer")
Function = TypeVar("Function", bound=Callable[..., object])


class _Step(Generic[Asked, Answer]):
    """A step of PyTorch's exporter with its last answer, which is given again, as a copy, where nothing has changed."""

    def __init__(self, copy: Callable[[Asked], Asked], own: Callable[[Answer], Answer]) -> None:
        self._copy, self._own = copy, own
        self._last: tuple[Asked, object, Answer] | None = None

    def kept(self, step: Callable[[Asked], Answer]) -> Callable[[Asked], Answer]:
        """``step``, carried out only where it is asked something else, or PyTorch knows other operators, than the last time."""

        def answered(asked: Asked) -> Answer:
            known = _taken_apart()
            if self._last is None or self._last[:2] != (asked, known):
                mine = self._copy(asked)  # before the step, which takes rows from what it is given
                self._last = (mine, known, step(asked))
            return self._own(self._last[2])

        return answered


def _taken_apart() -> tuple[list[str], list[object]]:
    """The operators that PyTorch's dispatcher takes apart, and the functions that are registered to do so."""
    import torch
    from torch._decomp import decomposition_table  # noqa: PLC2701 - it has no public name

    registered = torch._C._dispatch_get_registrations_for_dispatch_key  # noqa: SLF001 - nor has this
    return registered("CompositeImplicitAutograd"), list(decomposition_table.values())


def _own_halves(halves: tuple[Table, ...]) -> tuple[Table, ...]:
    return tuple(half.copy() for half in halves)


_TABLE: tuple[str, _Step[set[object], Table]] = ("create_onnx_friendly_decomposition_table", _Step(set, dict))
_HALVES: tuple[str, _Step[Table, tuple[Table, ...]]] = (
    "_split_decomp_table_to_cia_and_python_decomp",
    _Step(dict, _own_halves),
)


@contextmanager
def tables_made_once() -> Iterator[None]:
    """Within it, PyTorch makes the table of what it takes apart, and the halves of it, only where they are others than before.

    For each export it asks each of 1,300 operators whether, and by which function, it may be taken apart, and comes to the same
    1,400 rows: a fifth of what the export of a small model takes. They hang on the operators that the exporter writes itself
    (what a step is asked), on those that PyTorch's dispatcher takes apart and on the functions that are registered to do so.
    Where one of them differs they are made anew. Each export still gets tables of its own.

    And for the time of an export PyTorch tells 500 operators how they are answered, a thousand times by a method that first
    writes down its own types.
    """
    from torch._ops import OperatorBase  # noqa: PLC2701 - it has no public name
    from torch.export import exported_program
    from torch.onnx._internal.exporter import _decomp  # noqa: PLC2701 - it has no public name

    with ExitStack() as patches:
        # another release of PyTorch may know no such step, and then takes no such time
        name, table = _TABLE
        if (make := getattr(_decomp, name, None)) is not None:
            patches.enter_context(patch.object(_decomp, name, table.kept(make)))
        name, halves = _HALVES
        if (halve := getattr(exported_program, name, None)) is not None:
            patches.enter_context(patch.object(exported_program, name, halves.kept(halve)))
        patches.enter_context(patch.object(OperatorBase, "py_impl", _registered_by(OperatorBase.py_impl)))
        yield


def _registered_by(
    whole: Callable[..., Callable[[Function], Function]],
) -> Callable[..., Callable[[Function], Function]]:
    """PyTorch's ``py_impl``, at once where a key of its dispatcher gets its first function."""
    import torch

    def py_impl(operator: torch._ops.OperatorBase, key: object) -> Callable[[Function], Function]:
        if (
            not isinstance(key, torch._C.DispatchKey)
            or key == torch._C.DispatchKey.Python
            or key in operator.py_kernels
        ):
            return whole(operator, key)

        def register(function: Function) -> Function:
            operator.py_kernels[key] = function
            operator._dispatch_cache.clear()  # noqa: SLF001 - as PyTorch's own method does
            return function

        return register

    return py_impl
