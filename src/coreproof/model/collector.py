"""Python's garbage collector, kept from looking again and again through what was there before."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager

_within = False


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
