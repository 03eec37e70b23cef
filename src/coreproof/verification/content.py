"""Content: what a compared value held in all samples together, and whether agreeing in it proves anything."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace

import numpy as np

from coreproof.model.weakness import Kind
from coreproof.verification.tolerance import LOST, VACUOUS, Judgement

_ROUNDED = 2.0**-20
"""The share by which one number may differ that float32 came to by several ways: weights that add up to 1, x / x."""


@dataclass(frozen=True)
class Content:
    """What the reference held at one value, over all samples.

    ``elements`` counts those of all samples, ``nan`` and ``infinite`` those of them that are no finite numbers. ``low`` and
    ``high`` are the ends of the finite ones (NaN where there are none, and for texts). ``with_nan`` counts samples that hold
    NaN, ``loose`` those in which rounding explains half of the scale, ``far`` those in which the two sides are so far apart,
    ``blank`` those that hold nothing but zeros. ``strayed``: the most that an element is off by, as a share of its size or the
    scale, but for samples whose numbers are all too small for float16, which are among the loose ones.
    ``unmoved``: the value is the same in every one of several samples, though they are fed differently.
    """

    samples: int
    elements: int
    nan: int
    infinite: int
    with_nan: int
    low: float
    high: float
    unmoved: bool = False
    loose: int = 0
    far: int = 0
    blank: int = 0
    strayed: float = 0.0

    @classmethod
    def from_judgement(cls, judgement: Judgement) -> Content:
        """What one sample held."""
        nan, infinite = judgement.nan[0], judgement.infinite[0]
        # of a single index, such as the class that wins, nothing but the very same agrees
        exact = judgement.elements == 1 and judgement.max_error == judgement.tolerance.relative == 0
        loose = (judgement.tolerance.typical or 0.0) >= VACUOUS and not exact
        far = judgement.rms_relative_error >= VACUOUS
        ends = judgement.low, judgement.high
        # of a single number zero may be the answer
        blank = judgement.elements > 1 and ends == (0.0, 0.0)
        sorts = int(loose), int(far), int(blank)
        strayed = 0.0 if loose and judgement.scale < LOST else judgement.required_relative
        return cls(1, judgement.elements, nan, infinite, int(nan > 0), *ends, False, *sorts, strayed=strayed)

    def joined(self, other: Content) -> Content:
        """The content of these samples and of further ones."""
        return Content(
            self.samples + other.samples,
            self.elements + other.elements,
            self.nan + other.nan,
            self.infinite + other.infinite,
            self.with_nan + other.with_nan,
            float(np.fmin(self.low, other.low)),  # NaN stands for no finite number, and loses to any
            float(np.fmax(self.high, other.high)),
            loose=self.loose + other.loose,
            far=self.far + other.far,
            blank=self.blank + other.blank,
            strayed=float(np.fmax(self.strayed, other.strayed)),
        )

    def mostly(self, samples: int) -> bool:
        """Whether so many samples are, with those of which nothing is left, most of all."""
        return samples > 0 and 2 * (samples + self.blank) > self.samples

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
        # at least two elements a sample: a single number may be what it is by chance
        if self.elements > self.samples and self.finite > 1 and self._is_one_number:
            return "zero" if self.low == self.high == 0 else "constant"
        return None

    @property
    def _is_one_number(self) -> bool:
        """Whether it holds the same everywhere, but for rounding; whole numbers are not rounded."""
        if self.low == self.high or (self.low.is_integer() and self.high.is_integer()):
            return self.low == self.high
        return self.high - self.low <= _ROUNDED * max(abs(self.low), abs(self.high))


class Contents:
    """What the values of a comparison held, added up sample by sample; ``moving``: the samples are not all alike."""

    def __init__(self, moving: bool) -> None:
        self._found: dict[str, Content] = {}
        self._moving = moving
        self._digests: dict[str, set[bytes]] = {}

    def add(self, name: str, judgement: Judgement, value: np.ndarray | None = None) -> None:
        """One more sample of a value; ``value`` of an output, of which is told whether it moves at all."""
        self.add_content(name, Content.from_judgement(judgement), value)

    def add_content(self, name: str, seen: Content, value: np.ndarray | None = None) -> None:
        """The same, where it is known what that sample held."""
        before = self._found.get(name)
        self._found[name] = seen if before is None else before.joined(seen)
        if value is not None and self._moving:
            self._digests.setdefault(name, set()).add(digest(value))

    def copied(self) -> Contents:
        """The same, which what is added to this one does not reach."""
        other = Contents(self._moving)
        other._found = dict(self._found)
        other._digests = {name: set(digests) for name, digests in self._digests.items()}
        return other

    def content_of(self, name: str) -> Content | None:
        """All samples of a value together."""
        found = self._found.get(name)
        if found is None or found.samples < 2 or name not in self._digests:
            return found
        return replace(found, unmoved=len(self._digests[name]) == 1)


def digest(value: object) -> bytes:
    """What tells one array's numbers from another's."""
    array = np.asarray(value)
    about = f"{array.dtype.kind}{array.shape}".encode()
    held = repr(array.tolist()).encode() if array.dtype.kind in "OSU" else np.ascontiguousarray(array).tobytes()
    return hashlib.blake2b(about + held, digest_size=16).digest()
