"""What a model's file notes of it in its metadata, so that it goes where the file goes: class labels, and random weights."""

from __future__ import annotations

import json
from collections.abc import Mapping, MutableMapping, Sequence

LABELS = "coreproof.labels"
"""The key, in ONNX's metadata_props and in Core ML's userDefined metadata; the value is a JSON list of texts or whole numbers."""

UNTRAINED = "coreproof.untrained"
"""The key of a model whose weights are random ones; the value is "true"."""


def note_labels(metadata: MutableMapping[str, str], labels: Sequence[str] | Sequence[int] | None) -> None:
    """Writes the labels into a model's metadata; None takes them out."""
    if labels:
        metadata[LABELS] = json.dumps(list(labels), ensure_ascii=False)
    elif LABELS in metadata:
        del metadata[LABELS]


def noted_labels(metadata: Mapping[str, str]) -> tuple[str, ...] | tuple[int, ...] | None:
    """The labels that a model's metadata holds; None where it holds none, or something else under their key."""
    if LABELS not in metadata:
        return None
    try:
        labels = json.loads(metadata[LABELS])
        if not isinstance(labels, list) or not labels:
            return None
        if all(isinstance(label, str) and label.encode() for label in labels):
            return tuple(labels)
    except (ValueError, RecursionError):  # no JSON, nested without end, or a text that is none
        return None
    whole = all(isinstance(label, int) and not isinstance(label, bool) and abs(label) < 2**63 for label in labels)
    return tuple(labels) if whole else None


def note_untrained(metadata: MutableMapping[str, str], untrained: bool) -> None:
    """Writes into a model's metadata that its weights are random ones; nothing where they are not known to be."""
    if untrained:
        metadata[UNTRAINED] = "true"


def noted_untrained(metadata: Mapping[str, str]) -> bool:
    """Whether a model's metadata says that its weights are random ones."""
    return UNTRAINED in metadata and metadata[UNTRAINED] == "true"
