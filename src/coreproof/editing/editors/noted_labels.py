"""Other labels for a Core ML model whose metadata notes them, and that is no classifier by its format."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from coreproof.errors import EditError
from coreproof.model.coreml.noted_labels import note_labels, noted_labels


def relabel_noted(spec: Any, labels: Sequence[str] | Sequence[int], where: str) -> bool:
    """Notes other labels in the place of as many; False for a model that notes none. Raises EditError for another number."""
    noted = spec.description.metadata.userDefined
    before = noted_labels(noted)
    if before is None:
        return False
    if len(labels) != len(before):
        raise EditError(
            "the labels do not fit those that the model notes",
            where=where,
            expected=f"{len(before)} labels, one a class",
            found=f"{len(labels)} labels",
        )
    note_labels(noted, labels)
    return True
