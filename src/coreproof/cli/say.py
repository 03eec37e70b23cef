"""Plain lines and JSON on standard output, in which no name can do anything but be read."""

from __future__ import annotations

import json
import sys

from coreproof.visible import visible


def say(*texts: object, err: bool = False) -> None:
    """Prints each text as one line, on standard error with ``err``: a line end inside it is part of a name, and shown as such."""
    stream = sys.stderr if err else sys.stdout
    for text in texts:
        stream.write(visible(text) + "\n")


def say_json(document: object) -> None:
    r"""Prints a document as JSON of plain ASCII: what is not stands as ``\u`` escapes, which a reader undoes."""
    sys.stdout.write(json.dumps(document, indent=2, default=str).replace("\x7f", "\\u007f") + "\n")
