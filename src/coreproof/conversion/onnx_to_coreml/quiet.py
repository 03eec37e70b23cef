"""Keeps what coremltools prints off the terminal."""

from __future__ import annotations

import io
import logging
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout


@contextmanager
def quiet() -> Iterator[None]:
    """Keeps coremltools' progress bars and warnings off the terminal, and out of the caller's log."""
    # its logger alone: logging.disable would take the messages of whatever else the caller runs, and a millisecond each time
    logger = logging.getLogger("coremltools")
    propagates, logger.propagate = logger.propagate, False
    try:
        with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
            yield
    finally:
        logger.propagate = propagates
