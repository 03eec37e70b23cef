"""Row: one value as both models have it, and whether it agrees; Stretch: the layers that lie before it."""

from __future__ import annotations

import math
from dataclasses import dataclass

from coreproof.model.graph import Node
from coreproof.model.numbers import json_ready
from coreproof.model.weakness import Kind
from coreproof.verification.content import Content
from coreproof.verification.tolerance import VACUOUS, Judgement, Tolerance

_ONE_STEP = 1.25
"""Steps that an element may be off by that is one step off, and rounded besides."""


@dataclass(frozen=True)
class Row:
    """One value on both sides. With several samples, ``judgement`` is the worst of them.

    ``source`` is the module or layer that the value comes from, where either model says so. ``how`` says how the two
    are known to be the same value: "output", "provenance", "name", "value" or "structure". ``carried``: the two are further
    apart than bounds explain, but that came in: from the candidate's own values before it, both sides compute this alike.
    ``harmless``: an inner value that leaves float16's range, while all that is made from it agrees. ``switched``: how many
    indices differ between numbers that rounding cannot tell apart, where nothing else differs. ``held``: it was computed from
    the candidate's own values as well, and agrees there. ``content`` is what the
    reference held there in all samples together, ``needed`` the least tolerance (relative, typical) that lets all of them pass.
    """

    reference: str
    candidate: str
    operator: str
    source: str | None
    shape: tuple[int, ...]
    dtype: str
    how: str
    judgement: Judgement
    carried: Judgement | None = None
    harmless: bool = False
    switched: int = 0
    held: bool = False
    content: Content | None = None
    needed: tuple[float, float] | None = None

    @property
    def tolerance(self) -> Tolerance:
        """How far the two values may be apart."""
        return self.judgement.tolerance

    @property
    def agrees(self) -> bool:
        """Whether the values agree, or what they are apart by is explained."""
        return self.judgement.agrees or self.carried is not None or self.harmless or self.switched > 0

    @property
    def weakness(self) -> Kind | None:
        """Why agreeing here proves nothing; None where it proves something, or does not agree.

        Rounding counts where it may change half in most samples. An inner value that holds one number counts only where it is
        of floating-point numbers: masks, shapes and indices are what they are.
        """
        if not self.agrees:
            return None
        content = self.content
        kind = None if content is None else content.kind
        drowned = any(count and (content is None or content.mostly(count)) for count in drowned_in(self))
        if drowned and kind == "constant" and self.carried is not None:
            return "rounding"  # it is another constant on the other side
        if kind is not None and (self.how == "output" or kind == "not-finite" or "float" in self.dtype):
            return kind
        if drowned or self.strayed >= VACUOUS:
            return "rounding"
        # with a tolerance of the caller's nothing is judged typically: a single bound of half the scale lets anything pass
        return "tolerance" if self.tolerance.typical is None and self.tolerance.relative >= VACUOUS else None

    @property
    def strayed(self) -> float:
        """How far an element of an output is off that agrees all the same, as a share of its size or the scale; 0 elsewhere.

        Bounds let a single element be further off than the whole: where that is half of its size or more, it is another number.
        What is rounded to steps or follows from what arrived is judged by itself. Behind quantisation an element is many steps
        off where each of many layers made one of them: where the last is held to the same inputs, so were they.
        """
        derived = self.judgement.agrees and self.tolerance.typical is not None and not self.tolerance.step
        if self.how != "output" or not derived or self.switched or "float" not in self.dtype:
            return 0.0
        coarse = self.tolerance.coarse
        if coarse and (self.held or 0 < self.judgement.max_error <= _ONE_STEP * coarse):
            return 0.0
        relative = self.judgement.required_relative if self.content is None else self.content.strayed
        return relative if math.isfinite(relative) else 0.0

    @property
    def passing(self) -> Tolerance:
        """The least tolerance with which the row would have agreed; infinite where none would have done."""
        relative, typical = most(self.needed, needs(self.judgement))
        why = "no tolerance lets this pass" if math.isinf(relative) else "the least that would have passed"
        return Tolerance(relative, self.tolerance.absolute, typical, why=why)

    def to_json(self) -> dict[str, object]:
        """The row as proof.json and the page hold it."""
        passing = self.passing
        return {
            "name": self.candidate,
            "reference": self.reference,
            "candidate": self.candidate,
            "operator": self.operator,
            "source": self.source,
            "shape": list(self.shape),
            "dtype": self.dtype,
            "how": self.how,
            "passing": {"relative": json_ready(passing.relative), "typical": json_ready(passing.typical)},
            **self.judgement.to_json(),
            "agrees": self.agrees,
            "harmless": self.harmless,
            "switched": self.switched,
            "weakness": self.weakness,
            "carried": None if self.carried is None else self.carried.to_json(),
        }


def needs(found: Judgement) -> tuple[float, float]:
    """The least tolerance, relative and typical, with which a value would have agreed; infinite where none would have done."""
    # NaN or infinity on one side alone, or another shape: no bound lets that pass
    if found.misplaced or math.isnan(found.max_error):
        return math.inf, math.inf
    typical = max(0.0, found.rms_error - found.tolerance.absolute) / found.scale if found.scale > 0 else 0.0
    return found.required_relative, typical


def most(one: tuple[float, float] | None, other: tuple[float, float]) -> tuple[float, float]:
    """What lets both pass."""
    return other if one is None else (max(one[0], other[0]), max(one[1], other[1]))


@dataclass(frozen=True)
class Stretch:
    """What lies between a diverging row and the values before it that agree, or were set to the reference's.

    ``layers`` are the candidate's, ``nodes`` the reference's that should do the same. ``judgement`` is that of the row's
    value when the stretch is fed with the reference's values.
    """

    row: Row
    judgement: Judgement
    layers: tuple[Node, ...]
    nodes: tuple[Node, ...]

    def to_json(self) -> dict[str, object]:
        """Names and figures, as JSON."""
        return {
            "name": self.row.candidate,
            "source": self.row.source,
            "layers": [node.name for node in self.layers],
            "nodes": [node.name for node in self.nodes],
            "alone": self.judgement.to_json(),
        }


def drowned_in(row: Row) -> tuple[int, int]:
    """In how many samples rounding may change half of a value, and in how many what arrived did; 1 where that is not known."""
    loose = (row.tolerance.typical or 0.0) >= VACUOUS
    far = row.carried is not None and row.judgement.rms_relative_error >= VACUOUS
    # of a single sample that was not kept
    if row.content is None:
        return int(loose), int(far)
    return row.content.loose, row.content.far if row.carried is not None else 0
