"""Ctrl-C: exit code 130 from the first moment to the last, and no traceback.

While coreproof starts nothing has to be tidied up, and an exception out of a half-imported module would be anybody's guess:
the process ends at once. While a verb runs, the first Ctrl-C is an exception, so that files and locks are put in order; the
second ends the process. Nothing heavy is imported here.
"""

from __future__ import annotations

import os
import signal
import threading
from types import FrameType

CODE = 130
_WORDS = b"interrupted; what was finished is kept\n"
_state = {"ours": False, "interrupted": False}


def at_start() -> None:
    """Ctrl-C ends the process at once. A process that was started deaf to it, as in a background job, stays so."""
    if threading.current_thread() is threading.main_thread() and (
        signal.getsignal(signal.SIGINT) is signal.default_int_handler
    ):
        _state["ours"] = True
        signal.signal(signal.SIGINT, _end)


def while_running() -> None:
    """The first Ctrl-C raises KeyboardInterrupt from now on, the second ends the process."""
    if _state["ours"]:
        signal.signal(signal.SIGINT, _raise)


def at_end() -> None:
    """Nothing is left to be tidied up: Ctrl-C ends the process at once."""
    if _state["ours"]:
        signal.signal(signal.SIGINT, _end)


def interrupted() -> bool:
    """Whether Ctrl-C came while the verb ran: what is raised after that is its consequence."""
    return _state["interrupted"]


def _end(number: int, frame: FrameType | None) -> None:
    try:
        os.write(2, _WORDS)
    finally:
        # no clean-up: while a module is half imported, handlers would run into it
        os._exit(CODE)


def _raise(number: int, frame: FrameType | None) -> None:
    _state["interrupted"] = True
    signal.signal(signal.SIGINT, _end)
    raise KeyboardInterrupt
