"""Plain lines and JSON on standard output, in which no name can do anything but be read."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from coreproof.visible import visible

if TYPE_CHECKING:
    from collections.abc import Mapping

    from coreproof.model.base import Model

DOCUMENT_VERSION = 1


def say(*texts: object, err: bool = False) -> None:
    """Prints each text as one line, on standard error with ``err``: a line end inside it is part of a name, and shown as such."""
    stream = sys.stderr if err else sys.stdout
    for text in texts:
        stream.write(visible(text) + "\n")


def say_model(model: Model, path: Path) -> None:
    """Says what was written: the format, how many layers, the features, and what a reader should know of it."""
    say(f"{path}: {model.format}, {len(model.graph.nodes)} layers")
    say(*(f"  input   {feature}" for feature in model.signature.inputs))
    say(*(f"  output  {feature}" for feature in model.signature.outputs))
    say(*(f"  state   {feature}" for feature in model.signature.states))
    say(*(f"  note    {note}" for note in model.notes))


def say_json(document: object) -> None:
    r"""Prints a document as JSON of plain ASCII: what is not stands as ``\u`` escapes, which a reader undoes."""
    # DEL is ASCII, and a terminal obeys it all the same
    sys.stdout.write(json.dumps(document, indent=2, default=str).replace("\x7f", "\\u007f") + "\n")


def say_document(kind: str, document: Mapping[str, object]) -> None:
    """Prints a document that others build on: what it is and the version of its form come first.

    The version is counted on where a field goes or means something else; new fields do not change it.
    """
    say_json({"format": f"coreproof {kind}", "version": DOCUMENT_VERSION, **document})
