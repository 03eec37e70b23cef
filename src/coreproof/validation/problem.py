"""Problem: something in a model that cannot be right, whatever the model is for."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Problem:
    """Something in the model that cannot be right, or cannot run, whatever the model is for.

    ``kind`` is one word for the rules ("dangling-input", "shape", "rank", "labels", ...); ``fatal`` says that the model does
    not run because of it.
    """

    kind: str
    layer: str | None
    expected: str
    found: str
    fatal: bool = True

    def __str__(self) -> str:
        place = f"layer {self.layer!r}: " if self.layer is not None else ""
        return f"{place}expected {self.expected}, found {self.found}"
