"""Content: what a compared value held in all samples together, and whether agreeing in it proves anything."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from coreproof.model.weakness import Kind, Weakness, listed, together
from coreproof.verify.sides import as_array
from coreproof.verify.tolerance import EXACT, VACUOUS, Judgement, judge

if TYPE_CHECKING:
    from coreproof.verify.verification import Row, Verification


@dataclass(frozen=True)
class Content:
    """What the reference held at one value, over all samples.

    ``elements`` counts those of all samples, ``nan`` and ``infinite`` those of them that are no finite numbers. ``low`` and
    ``high`` are the ends of the finite ones (NaN where there are none, and for texts). ``with_nan`` counts samples that hold
    NaN. ``unmoved``: the value is the same in every one of several samples, though they are fed differently.
    """

    samples: int
    elements: int
    nan: int
    infinite: int
    with_nan: int
    low: float
    high: float
    unmoved: bool = False

    @classmethod
    def of(cls, judgement: Judgement) -> Content:
        """What one sample held."""
        nan, infinite = judgement.nan[0], judgement.infinite[0]
        return cls(1, judgement.elements, nan, infinite, int(nan > 0), judgement.low, judgement.high)

    def joined(self, other: Content) -> Content:
        """The content of these samples and of further ones."""
        return Content(
            self.samples + other.samples,
            self.elements + other.elements,
            self.nan + other.nan,
            self.infinite + other.infinite,
            self.with_nan + other.with_nan,
            _end(min, self.low, other.low),
            _end(max, self.high, other.high),
        )

    @property
    def finite(self) -> int:
        """How many elements are finite numbers."""
        return self.elements - self.nan - self.infinite

    @property
    def kind(self) -> Kind | None:
        """In what way nothing is proved by agreeing in it; None where something is.

        NaN in every sample, or NaN and infinity for half of the elements; no elements; or one number wherever one looks, which
        takes at least two elements a sample: a single number may be what it is by chance.
        """
        if not self.elements:
            return "empty"
        if self.with_nan == self.samples or (self.nan + self.infinite) >= VACUOUS * self.elements:
            return "not-finite"
        if self.elements > self.samples and self.finite > 1 and self.low == self.high:
            return "zero" if self.low == 0 else "constant"
        return None


def _end(choose: Any, a: float, b: float) -> float:
    return b if math.isnan(a) else a if math.isnan(b) else float(choose(a, b))


class Contents:
    """What the values of a comparison held, added up sample by sample; ``moving``: the samples are not all alike."""

    def __init__(self, moving: bool) -> None:
        self._found: dict[str, Content] = {}
        self._moving = moving
        self._digests: dict[str, set[bytes]] = {}

    def add(self, name: str, judgement: Judgement, value: npt.NDArray[Any] | None = None) -> None:
        """One more sample of a value; ``value`` of an output, of which is told whether it moves at all."""
        seen = Content.of(judgement)
        before = self._found.get(name)
        self._found[name] = seen if before is None else before.joined(seen)
        if value is not None and self._moving:
            self._digests.setdefault(name, set()).add(digest(value))

    def of(self, name: str) -> Content | None:
        """All samples of a value together."""
        found = self._found.get(name)
        if found is None or found.samples < 2 or name not in self._digests:
            return found
        return replace(found, unmoved=len(self._digests[name]) == 1)


def digest(value: Any) -> bytes:
    """What tells one array's numbers from another's."""
    array = np.asarray(value)
    about = f"{array.dtype.kind}{array.shape}".encode()
    held = repr(array.tolist()).encode() if array.dtype.kind in "OSU" else np.ascontiguousarray(array).tobytes()
    return hashlib.blake2b(about + held, digest_size=16).digest()


def weakness_of(row: Row) -> Kind | None:
    """Why a row that agrees proves nothing; None where it proves something, or does not agree.

    An inner value that holds one number counts only where it is of floating-point numbers: masks, shapes and indices are
    what they are.
    """
    if not row.agrees:
        return None
    kind = None if row.content is None else row.content.kind
    if kind is not None and (row.how == "output" or kind == "not-finite" or "float" in row.dtype):
        return kind
    drowned = row.carried is not None and row.judgement.rms_relative_error >= VACUOUS
    if (row.tolerance.typical or 0.0) >= VACUOUS or drowned:
        return "rounding"
    return "tolerance" if row.tolerance.typical is None and row.tolerance.relative >= VACUOUS else None


_INNER: dict[Kind, str] = {
    "not-finite": "NaN or infinite",
    "empty": "empty",
    "zero": "all zero",
    "constant": "constant",
    "rounding": "of which rounding may change half",
    "tolerance": "of which half is tolerated",
}


def weaknesses_of(rows: Sequence[Row], samples: int, untrained: bool, lone: Sequence[str] = ()) -> tuple[Weakness, ...]:
    """Why the agreement of these rows proves little: outputs one by one, inner values counted."""
    outputs = [row for row in rows if row.how == "output" and row.agrees]
    found = []
    for row in outputs:
        reason = row.weakness
        if reason is not None:
            found.append(Weakness(reason, _said(row, reason), (row.candidate,), fails=reason != "tolerance"))
    unmoved = [row for row in outputs if row.weakness is None and row.content is not None and row.content.unmoved]
    if unmoved:
        # beside an output that moves, one that does not was still compared number by number: anchors, a class's name
        every = len(unmoved) + sum(w.fails for w in found) == len(outputs)
        names = [row.candidate for row in unmoved]
        is_ = "is" if len(names) == 1 else "are"
        text = f"{_outputs(names)} {is_} the same in all {samples} samples"
        found.append(Weakness("unmoved", text, tuple(names), fails=every))
    if lone:
        found.append(Weakness("uncompared", f"{_outputs(lone)} compared with nothing", tuple(lone)))
    for kind, words in _INNER.items():
        names = [row.candidate for row in rows if row.how != "output" and row.weakness == kind]
        if names:
            many = "value" if len(names) == 1 else "values"
            found.append(Weakness(kind, f"{len(names)} inner {many} {words}", tuple(names)))
    if untrained:
        found.append(Weakness("untrained", "untrained weights"))
    if samples == 1:
        found.append(Weakness("few-samples", "one sample"))
    return tuple(sorted(found, key=lambda weakness: not weakness.fails))


def joint_weaknesses(verifications: Sequence[Verification]) -> tuple[Weakness, ...]:
    """Those of several verifications that agree, as of one: inner values are counted over all, an output's name is said once."""
    agreeing = [found for found in verifications if found.agrees]
    outputs = together(w for found in agreeing for w in found.weaknesses if w.fails)
    rows = [row for found in agreeing for row in found.rows if row.how != "output"]
    rest = weaknesses_of(rows, max((f.samples for f in agreeing), default=0), any(f.untrained for f in agreeing))
    others = together(
        w for f in agreeing for w in f.weaknesses if w.kind in ("unmoved", "uncompared", "tolerance") and not w.fails
    )
    return (*outputs, *others, *rest)


def _outputs(names: Sequence[str]) -> str:
    return f"output{'s' if len(names) > 1 else ''} {listed(names)}"


def _said(row: Row, kind: Kind) -> str:
    """What is wrong with an output, in words."""
    name = f"output {row.candidate!r}"
    if kind == "rounding" and row.carried is not None:
        off = row.judgement.rms_relative_error
        return f"rounding before it changes {name} by {off:.2g} of its scale, though it is computed alike"
    if kind == "rounding":
        return f"rounding to {row.dtype} may change half of {name} (scale {row.judgement.scale:.1e})"
    if kind == "tolerance":
        return f"half of {name} is tolerated"
    assert row.content is not None
    return f"{name} {_held(row.content, kind, ' on both sides')}"


def _held(content: Content, kind: Kind, sides: str) -> str:
    """What an output is or has, in words."""
    if kind == "empty":
        return "has no elements"
    if kind == "zero":
        return f"is all zero{sides}"
    if kind == "constant":
        return f"is {content.low:.4g} everywhere"
    what = "NaN" if not content.infinite else "infinite" if not content.nan else "NaN or infinite"
    part = f" in {content.nan + content.infinite:,} of {content.elements:,} elements" if content.finite else ""
    return f"is {what}{sides}{part}"


def weaknesses_alone(answers: Sequence[Mapping[str, Any]]) -> tuple[Weakness, ...]:
    """What one model's own answers, sample by sample, would prove nothing of if another model gave the same."""
    contents = Contents(moving=False)
    for answer in answers:
        for name, value in answer.items():
            array = as_array(value)
            contents.add(name, judge(array, array, EXACT))
    found = []
    for name in answers[0]:
        content = contents.of(name)
        if content is not None and (kind := content.kind) is not None:
            found.append(Weakness(kind, f"output {name!r} {_held(content, kind, '')}", (name,), fails=True))
    return tuple(found)
