"""Python's garbage collector: kept from what was there before, and told of bytes, since it counts objects alone."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import onnx_ir as ir

_within = False
_left = 0

_MOST_LEFT = 1 << 28
"""Bytes that objects in a circle may hold before they are looked for: finding them costs a fraction of a second."""


@contextmanager
def only_what_is_new() -> Iterator[None]:
    """Within it, the collector looks only through what is made there.

    A verification or a conversion makes some hundred thousand objects (nodes, values, rows), and each time there are a quarter
    more of them Python looks through all that the process holds, PyTorch's and coremltools' modules included: about a tenth of
    the whole time, for nothing. What is made here is collected as ever. Where somebody else has frozen objects, or switched it
    off, nothing is changed.
    """
    global _within
    # a verification within one is not asked for the count: to get it, Python walks through all that is frozen
    if _within or not gc.isenabled() or gc.get_freeze_count():
        yield
        return
    gc.freeze()
    _within = True
    try:
        yield
    finally:
        _within = False
        gc.unfreeze()
        left_in_circles(0)


def left_in_circles(size: int) -> None:
    """Notes that objects which hold each other, and which nobody else holds any more, hold so many bytes.

    Python looks for such objects when there are many of them, and the few of a graph may hold gigabytes. So they are looked for
    when it is worth it, unless somebody has switched the collector off.
    """
    global _left
    _left += size
    # within, what came before is hidden from the collector; it is looked for at the end
    if _left >= _MOST_LEFT and not _within and gc.isenabled():
        _left = 0
        gc.collect()


_HANDED_OUT = "coreproof/handed_out"


def note_when_dropped(model: ir.Model) -> None:
    """Has the weights of a graph noted when nobody holds it any more: its nodes and values hold each other.

    They are not freed at once, since somebody may hold a part of the graph alone.
    """
    model.meta[_HANDED_OUT] = True
    weakref.finalize(model, left_in_circles, _held_by(model)).atexit = False


def let_go_when_dropped(model: ir.Model) -> None:
    """Frees the weights of a graph that is made to be run as soon as nobody holds it, unless it was handed out as well."""
    values = [value for value in model.graph.initializers.values() if value.const_value is not None]
    weakref.finalize(model, _let_go, values, model.meta).atexit = False


def _let_go(values: list[ir.Value], meta: Mapping[str, object]) -> None:
    if _HANDED_OUT not in meta:
        for value in values:
            value.const_value = None


def _held_by(model: ir.Model) -> int:
    """Bytes of the weights that lie in memory, and in no file."""
    tensors = (value.const_value for value in model.graph.initializers.values())
    return sum(
        t.nbytes for t in tensors if isinstance(t, ir.Tensor | ir.TensorProtoTensor) and t.dtype != ir.DataType.STRING
    )
