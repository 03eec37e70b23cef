"""Two paths change places in one step, where the system and its file system can do that: no moment without either."""

from __future__ import annotations

import ctypes
import errno
import os
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path

_CURRENT_FOLDER = -100
_EXCHANGE = 2
"""AT_FDCWD and RENAME_EXCHANGE of Linux (renameat2(2)); RENAME_SWAP of macOS (renamex_np(2)) is 2 as well."""
_CANNOT = frozenset((errno.ENOSYS, errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOTTY))


def exchange(first: Path, second: Path) -> bool:
    """Lets two existing paths of one file system change places, files or folders; False where that cannot be done at once.

    Raises OSError for anything else, as for a folder in which one may not write.
    """
    call = _system_call()
    if call is None or call(os.fsencode(first), os.fsencode(second)) == 0:
        return call is not None
    code = ctypes.get_errno()
    if code in _CANNOT:
        return False
    raise OSError(code, os.strerror(code), str(second))


@cache
def _system_call() -> Callable[[bytes, bytes], int] | None:
    """The system's call as a function of two paths; None on Windows and on systems that are too old for one."""
    if sys.platform == "win32":
        return None
    library = ctypes.CDLL(None, use_errno=True)
    swap = getattr(library, "renamex_np", None)
    if swap is not None:
        swap.argtypes = (ctypes.c_char_p, ctypes.c_char_p, ctypes.c_uint)
        return lambda first, second: int(swap(first, second, _EXCHANGE))
    rename = getattr(library, "renameat2", None)
    if rename is None:
        return None
    rename.argtypes = (ctypes.c_int, ctypes.c_char_p, ctypes.c_int, ctypes.c_char_p, ctypes.c_uint)
    return lambda first, second: int(rename(_CURRENT_FOLDER, first, _CURRENT_FOLDER, second, _EXCHANGE))
