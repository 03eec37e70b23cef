"""How a model's file notes what becomes of a picture before the model sees it, and what it is of: both go where the file goes."""

from __future__ import annotations

import json
from collections.abc import Mapping, MutableMapping
from dataclasses import asdict

from coreproof.errors import CoreproofError, InputError
from coreproof.model.budget import max_pixels
from coreproof.model.feeding import Feeding
from coreproof.model.files.entries import parse_json
from coreproof.model.recorded_header import feeding_from

FEEDING = "coreproof.feeding"
"""The key, in ONNX's metadata_props and in Core ML's userDefined metadata; the value is a JSON object of a Feeding's fields."""


NAME = "coreproof.model"
"""The key of the name of what was converted, in a file that is called after how (t2c16.mlpackage)."""


def noted_name(metadata: Mapping[str, str]) -> str:
    """What the model was made of, as an app is called after it; empty where the file does not note that."""
    return metadata[NAME].strip() if NAME in metadata else ""


def note_feeding(metadata: MutableMapping[str, str], feeding: Feeding | None) -> None:
    """Writes the feeding into a model's metadata; None takes it out."""
    if feeding is not None:
        metadata[FEEDING] = json.dumps(asdict(feeding))
    elif FEEDING in metadata:
        del metadata[FEEDING]


def noted_feeding(metadata: Mapping[str, str]) -> Feeding | None:
    """The feeding that a model's metadata holds; None where it holds none, or under its key what is no feeding."""
    if FEEDING not in metadata:
        return None
    try:
        found = feeding_from(parse_json(metadata[FEEDING], InputError))
        sides = (*found.size, found.resize_to or 1)
    except CoreproofError:
        return None
    # the file may be a stranger's: no picture is made larger for it than one that would be read
    return found if max(sides) ** 2 <= max_pixels() else None
