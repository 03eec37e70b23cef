"""Whether class labels fit what a model answers."""

from __future__ import annotations

import math
from collections.abc import Sequence

from coreproof.errors import InputError
from coreproof.model.features import Signature


def class_count(signature: Signature) -> int | None:
    """How many classes a model tells apart by its one output, a row of scores; None for what is no classifier."""
    outputs = signature.outputs
    lengths = [length for length in (outputs[0].shape or ()) if isinstance(length, int)] if len(outputs) == 1 else []
    return max(lengths) if lengths and max(lengths) == math.prod(lengths) else None


def refuse_misfit(signature: Signature, labels: Sequence[object] | None, where: str) -> None:
    """Raises InputError for another number of labels than there are classes; of a single score nobody knows what it tells."""
    count = class_count(signature)
    if labels and count is not None and count > 1 and count != len(labels):
        raise InputError(
            "the labels do not fit the model's classes",
            where=where,
            expected=f"{count} labels, one a class, in the order of the classes",
            found=f"{len(labels)} labels",
        )
