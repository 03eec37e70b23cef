"""Standard output and error as pipes, files and old terminals are: one that is closed is quiet, one without ✓ gets letters.

Python opens both streams so that a reader who goes away, as ``head`` does, ends the program with a traceback, and so that a
sign the encoding does not have does as well. Here the verb goes on and ends with its own exit code, and the sign is replaced.
"""

from __future__ import annotations

import codecs
import contextlib
import errno
import io
import os
import sys
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

_PLAIN = {
    "✓": "+",
    "✗": "x",
    "▶": ">",
    "▲": "^",
    "→": "->",
    "←": "<-",
    "×": "x",
    "·": ".",
    "•": "*",
    "…": "~",
    "–": "-",
    "—": "-",
    "−": "-",
    "±": "+-",
    "≤": "<=",
    "≥": ">=",
    "≠": "!=",
    "≈": "~",
    "√": "sqrt",
    "∞": "inf",
    "µ": "u",
    "°": " degrees",
    "²": "^2",
    "³": "^3",
    "‘": "'",
    "’": "'",
    "“": '"',
    "”": '"',
    "┤": "|",
    "└": "+",
    "┄": ".",
    **dict(zip("▁▂▃▄▅▆▇█", "__--==##", strict=True)),
}
"""What stands for a sign, one letter for one where a column depends on it."""
_BOXES = range(0x2500, 0x2580)
_BRAILLE = range(0x2800, 0x2900)
_HANDLER = "coreproof.plain"
_GONE = (errno.EPIPE, errno.EINVAL, errno.ESHUTDOWN)
"""What writing to a reader who went away says; the second is Windows' word for it."""


def prepare() -> None:
    """Makes both standard streams so; streams that a test put in their place keep what they are, and get the letters."""
    codecs.register_error(_HANDLER, _plain)
    _stand_in()
    sys.stdout, sys.stderr = _prepared(sys.stdout), _prepared(sys.stderr)


def _stand_in() -> None:
    """Puts the null device where the caller closed a standard stream (``>&-``): what is written there is not wanted.

    The numbers are taken, too. Else the next file that is opened gets one of them, and what libraries print goes into it.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest number that is free, which is this one
    # Python leaves None where a standard stream was closed when it started
    for number, name in ((1, "stdout"), (2, "stderr")):
        if getattr(sys, name) is None:
            setattr(sys, name, io.TextIOWrapper(io.FileIO(number, "wb", closefd=False), "utf-8", write_through=True))


def finish() -> None:
    """Writes what is still to be written. Raises OSError for a full disk: the output is not whole."""
    sys.stdout.flush()
    with contextlib.suppress(OSError):
        sys.stderr.flush()


def _prepared(stream: TextIO) -> TextIO:
    if not isinstance(stream, io.TextIOWrapper):
        return stream
    raw = getattr(stream.buffer, "raw", stream.buffer)  # without a buffer where PYTHONUNBUFFERED asks for none
    # a terminal does not go away while a verb writes
    if type(raw) is io.FileIO and not stream.isatty():
        stream.flush()
        guarded = _UntilClosed(raw.fileno())
        return io.TextIOWrapper(
            guarded if raw is stream.buffer else io.BufferedWriter(guarded),
            stream.encoding,
            _HANDLER,
            line_buffering=stream.line_buffering,
            write_through=stream.write_through,
        )
    stream.reconfigure(errors=_HANDLER)
    return stream


class _UntilClosed(io.FileIO):
    """A file that takes everything and writes it until nobody reads any more; another failure is raised once."""

    def __init__(self, number: int) -> None:
        super().__init__(number, "wb", closefd=False)
        self._ended = False

    def write(self, data: ReadableBuffer) -> int:
        size = memoryview(data).nbytes
        if self._ended:
            return size
        try:
            return super().write(data)
        except OSError as error:
            if isinstance(error, BlockingIOError):
                raise
            self._ended = True
            if error.errno in _GONE:
                return size
            raise


def _plain(error: UnicodeError) -> tuple[str, int]:
    """The codecs' handler: letters for the signs that coreproof prints, escapes for letters of names."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return "".join(map(_letters, error.object[error.start : error.end])), error.end


def _letters(sign: str) -> str:
    if sign in _PLAIN:
        return _PLAIN[sign]
    number = ord(sign)
    if number in _BOXES:
        return "|" if sign in "│┃║╎╏┆┇┊┋" else "-" if sign in "─━═╌╍┄┅┈┉" else "+"
    if number in _BRAILLE:
        return "*"
    return f"\\x{number:02x}" if number < 0x100 else f"\\u{number:04x}" if number < 0x10000 else f"\\U{number:08x}"
