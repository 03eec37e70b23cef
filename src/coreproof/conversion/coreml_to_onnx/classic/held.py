"""What stands under a feature's name while models are lowered: a value of the graph, or a dictionary of keys and values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import onnx_ir as ir

Labels: TypeAlias = tuple[str, ...] | tuple[int, ...]


@dataclass(frozen=True)
class Dictionary:
    """A dictionary to doubles: ``keys`` that are known now, or a value [n]; ``values`` are float64 [n].

    ONNX Runtime takes and makes no dictionaries of doubles, so they are the two tensors that they hold. ``sparse``: what is
    zero is not in it.
    """

    keys: Labels | ir.Value
    values: ir.Value
    sparse: bool = False


Held: TypeAlias = ir.Value | Dictionary
"""Arrays and scalars (of one element, rank 0) in their declared dtype, sequences as vectors, pictures as [1, C, H, W]."""


def fed_as(name: str) -> str:
    """The name under which an input is fed that an output shares its name with: no ONNX graph has two values of one name."""
    return f"{name}/fed"


def scores_of(label: str) -> str:
    """The name of the scores of a classifier that gives its label alone."""
    return f"{label}/scores"
