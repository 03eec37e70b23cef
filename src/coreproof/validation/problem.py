"""Problem: something in a model that cannot be right, whatever the model is for."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from math import prod
from typing import Literal

from coreproof.model.graph import Graph

Kind = Literal[
    "classifier-blob", "dangling-input", "dead-layer", "declared-shape", "declared-type", "duplicate-output", "label-count",
    "missing-output", "output-is-input", "rank", "shape", "stale-preprocessing", "target", "used-before-made",
]  # fmt: skip
"""What a problem is about: the rules of the doctor look for these words, and each can be searched for."""

MOST_DIMENSIONS = 5
"""The highest rank of a Core ML tensor (MLMultiArray, and the blobs of NeuralNetwork.proto)."""


@dataclass(frozen=True)
class Problem:
    """Something in the model that cannot be right, or cannot run, whatever the model is for.

    ``fatal`` says that the model does not run because of it.
    """

    kind: Kind
    layer: str | None
    expected: str
    found: str
    fatal: bool = True

    def __str__(self) -> str:
        place = f"layer {self.layer!r}: " if self.layer is not None else ""
        return f"{place}expected {self.expected}, found {self.found}"


def shape_words(shape: Iterable[int | None] | None) -> str:
    """A shape in messages; a question mark for a length that is known only when the model runs."""
    return "[" + ", ".join("?" if n is None else str(n) for n in shape or ()) + "]"


def rank_or_shape(reason: str) -> Literal["rank", "shape"]:
    """Which of the two a refusal is about: the translators and ONNX's inference say it in words."""
    return "rank" if "rank" in reason else "shape"


def too_many_dimensions(layer: str, value: str, shape: Iterable[int | None]) -> Problem:
    """A value that no Core ML tensor can hold."""
    return Problem("rank", layer, f"at most {MOST_DIMENSIONS} dimensions", f"{value} {list(shape)}")


def label_count(layer: str, value: str, shape: tuple[int, ...], labels: int) -> Problem:
    """Scores of another number than there are labels."""
    return Problem(
        "label-count",
        layer,
        f"{labels} scores in {value!r}, one a label",
        f"{prod(shape)} scores in {list(shape)}",
    )


def declared_shape(graph: Graph, output: str, stated: str, made: str) -> Problem:
    """An output that is described with another shape than it has: engines go by what the layers make."""
    expected = f"output {output!r} of shape {stated}, as declared"
    return Problem("declared-shape", graph.layer_of(output), expected, made, fatal=False)
