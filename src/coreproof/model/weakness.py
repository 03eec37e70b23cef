"""Weakness: why an agreement proves little; found by whoever compares, and said by every verb in the same words."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

Kind = Literal[
    "not-finite",
    "empty",
    "zero",
    "constant",
    "unmoved",
    "uncompared",
    "rounding",
    "compression",
    "tolerance",
    "untrained",
    "few-samples",
    "one-class",
    "no-answer",
    "chance",
    "labels",
    "unverified",
]


@dataclass(frozen=True)
class Weakness:
    """One reason why an agreement proves little.

    ``kind`` is a word for programs, ``text`` says it in a few words. ``values`` are the compared values, or the models, that
    it is about. ``fails``: of an output, or of all that a comparison says, nothing is proved at all; what merely proves less
    than it seems (few samples, single inner values) is counted and said, and fails nothing.
    """

    kind: Kind
    text: str
    values: tuple[str, ...] = ()
    fails: bool = False

    def to_json(self) -> dict[str, object]:
        """The reason as every JSON of coreproof holds it."""
        return {"kind": self.kind, "text": self.text, "values": list(self.values), "fails": self.fails}


def failing(weaknesses: Iterable[Weakness]) -> tuple[Weakness, ...]:
    """Those that leave an output, or a whole comparison, without proof."""
    return tuple(weakness for weakness in weaknesses if weakness.fails)


def qualified(agreement: str, weaknesses: Sequence[Weakness], measured: str = "", of: str = "") -> str:
    """The sentence that says that things agree, with all that makes it weak in it; without a full stop.

    ``measured`` is said of an agreement that proves something: how far apart the two are. ``of``: the one among several whose
    agreement it is that proves little.
    """
    worst = failing(weaknesses)
    others = [weakness.text for weakness in weaknesses if weakness not in worst]
    little = f"but that of {of} proves little" if of else "but that proves little"
    said = f"{agreement}, {little}: {'; '.join(w.text for w in worst)}" if worst else agreement
    if measured and not worst:
        said += f"; {measured}"
    return f"{said} ({'; '.join(others)})" if others else said


def together(weaknesses: Iterable[Weakness]) -> tuple[Weakness, ...]:
    """Weaknesses of several steps as those of the whole: what is said of several is said once, what fails first."""
    said: dict[tuple[str, str], Weakness] = {}
    for weakness in sorted(weaknesses, key=lambda w: not w.fails):
        key = weakness.kind, "" if weakness.kind == "untrained" else weakness.text
        said.setdefault(key, weakness)
    return tuple(said.values())


def listed(names: Sequence[str], most: int = 3) -> str:
    """Names for a sentence: the first few, and how many more there are."""
    shown = ", ".join(map(repr, names[:most]))
    return f"{shown} and {len(names) - most} more" if len(names) > most else shown
