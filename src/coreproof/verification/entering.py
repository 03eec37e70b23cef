"""How what is fed enters a program: as float16 has it where the candidate casts it before it computes anything."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from coreproof.conversion.operators import error_class, operation_of
from coreproof.feeding.drawn import Sample
from coreproof.model.graph import Graph
from coreproof.verification.run import VerificationRun

Array = np.ndarray


def in_halves(array: Array) -> Array:
    """Numbers of float32 as float16 has them; anything else as it is."""
    if array.dtype != np.float32:
        return array
    with np.errstate(over="ignore"):
        return array.astype(np.float16).astype(np.float32)


def as_stored(run: VerificationRun, entered: Mapping[str, object], fed: Sample) -> dict[str, object]:
    """What the reference is fed, rounded where the candidate rounds what it is fed before anything else."""
    stored = dict(entered)
    if len(entered) != len(fed):
        return stored
    # inputs of other names go by position, as in ``match_inputs``
    for name, own in zip(entered, entered if fed.keys() == entered.keys() else fed, strict=True):
        value = stored[name]
        if not isinstance(value, np.ndarray) or value.dtype != np.float32:
            continue
        if _enters_in_halves(run.candidate.graph, own):
            stored[name] = in_halves(value)
    return stored


_AT_THE_BORDER = frozenset({"abs", "clip", "select"})
"""How a program keeps what is fed within float16's range before it is cast."""


def _enters_in_halves(graph: Graph, name: str) -> bool:
    """Whether all that is computed from a value is computed from it in float16: it is cast, if need be in another shape."""
    readers = graph.consumers(name)
    for reader in readers:
        value = graph.values.get(reader.outputs[0]) if reader.outputs else None
        dtype = None if value is None else value.dtype
        moved = error_class(operation_of(reader)) == "move" or reader.operator in _AT_THE_BORDER
        if (reader.operator == "cast" and dtype == "float16") or dtype == "bool":
            continue
        if reader.operator == "cast" or not moved or not _enters_in_halves(graph, reader.outputs[0]):
            return False
    return bool(readers)
