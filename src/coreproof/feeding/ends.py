"""The lengths at the ends of what two models declare for their inputs, as far as memory allows."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import cached_property
from typing import Literal

from coreproof.errors import CoreproofError
from coreproof.feeding.lengths import End, lengths, listed, takes_shape
from coreproof.feeding.matched_inputs import match_inputs
from coreproof.model.base import Model
from coreproof.model.budget import memory_budget
from coreproof.model.features import Feature, Shape, Signature
from coreproof.model.graph import Graph
from coreproof.model.torch.model import TorchModel
from coreproof.runtime.session import Session

Shapes = dict[str, tuple[int, ...]]

_LISTED = 6
"""So many of the shapes between the smallest and the largest of a list are tried."""

_SHARE = 4
"""The values of one run may take this part of the memory budget, where the lengths are ours to choose."""


class Ends:
    """The shapes to draw for pairs of inputs, by the reference's names; ``notes`` say where the high end was reduced.

    ``count`` tells how many elements the inner values of a run have in all at the shapes that it is given, the usual ones: it is
    asked where the graphs do not state all of their shapes.
    """

    def __init__(
        self,
        matched: Sequence[tuple[Feature, Feature]],
        graphs: Sequence[Graph],
        count: Callable[[Shapes], int] = lambda _: 0,
    ) -> None:
        self.matched, self.graphs, self.count = matched, graphs, count
        self.notes: list[str] = []
        self._known: dict[End, Shapes] = {}

    def shapes(self, end: End) -> Shapes:
        """The lengths of that end, the high one as far as memory allows. Raises InputError for an undeclared shape."""
        if end not in self._known:
            asked = {a.name: lengths(a, b, end) for a, b in self.matched if not is_drawn_apart(a)}
            self._known[end] = self._affordable(asked) if end == "high" else asked
        return self._known[end]

    def between(self) -> list[Shapes]:
        """Lengths inside of what is declared, where a module that goes by its lengths may go another way than at the ends.

        Of a list each shape, the first six of them; of ranges one more than the least, the middle, and one more than that.
        """
        low, high = self.shapes("low"), self.shapes("high")
        inside = {a.name: _inside(a, b, low[a.name], high[a.name]) for a, b in self.matched if a.name in low}
        seen, count = [low, high], max(map(len, inside.values()), default=0)
        for at in range(count):
            shapes = {name: those[min(at, len(those) - 1)] if those else low[name] for name, those in inside.items()}
            if shapes not in seen:
                seen.append(shapes)
        return seen[2:]

    def corners(self) -> list[Shapes]:
        """Where one free length of an input is short and another long, which no end has: ``height > width`` decides there.

        Every other free length of each input at its high end, then those beside them; then every other input.
        """
        low, high = self.shapes("low"), self.shapes("high")
        ranged = {a.name for a, b in self.matched if a.name in low and not listed(a, b) and low[a.name] != high[a.name]}

        def shaped(odd: int, by: Literal["axis", "input"]) -> Shapes:
            found = dict(low)
            for at, name in enumerate(n for n in low if n in ranged):
                free = [axis for axis, ends in enumerate(zip(low[name], high[name], strict=True)) if ends[0] != ends[1]]
                lifted = [axis for count, axis in enumerate(free) if (count if by == "axis" else at) % 2 == odd]
                found[name] = tuple(high[name][i] if i in lifted else n for i, n in enumerate(low[name]))
            return found

        corners = [shaped(odd, "axis") for odd in (0, 1)] + [shaped(odd, "input") for odd in (0, 1)]
        seen = [low, high]
        for shapes in corners:
            if shapes not in seen:
                seen.append(shapes)
        return seen[2:]

    @cached_property
    def elements(self) -> int:
        """Elements of all inner values whose shapes are declared, of the model that has more of them."""
        return max(
            (
                sum(_elements(value.shape) for value in graph.values.values() if not value.constant)
                for graph in self.graphs
            ),
            default=0,
        )

    @cached_property
    def _inner_elements(self) -> int:
        """Elements of all inner values at the usual lengths, where some of their shapes are not declared."""
        values = (value for graph in self.graphs for value in graph.values.values() if not value.constant)
        return 0 if all(_elements(value.shape) for value in values) else self.count(self.shapes("usual"))

    def _affordable(self, high: Shapes) -> Shapes:
        """The lengths of the high end, nearer to the usual ones where the values of a run would take too much memory."""
        usual = self.shapes("usual")
        # nothing is free: the model is run at these lengths in any case
        if high == usual:
            return high
        stated = {a.name: _elements(a.shape) or _elements(b.shape) for a, b in self.matched}
        basis = max(1, sum(stated.get(name) or math.prod(shape) for name, shape in usual.items()))
        fed = max(1, sum(map(math.prod, usual.values())))
        # values grow with the inputs, in proportion at least
        made = max(max(self.elements, basis) / basis, self._inner_elements / fed)  # elements made of each that is fed

        def bytes_of(asked: Mapping[str, tuple[int, ...]]) -> float:
            return 4 * made * sum(map(math.prod, asked.values()))  # in float32

        asked, allowed, share = high, memory_budget() / _SHARE, 1.0
        while bytes_of(asked) > allowed and asked != usual:
            share /= 2  # towards the usual lengths, at which the model is run in any case
            asked = {
                a.name: _nearer(a, b, usual[a.name], high[a.name], share) for a, b in self.matched if a.name in high
            }
        if asked != high:
            changed = [f"{n} {_by(asked[n])} of {_by(high[n])}" for n in high if asked[n] != high[n]]
            self.notes.append(f"the high end of the declared lengths was reduced, for memory: {', '.join(changed)}")
        return asked


def _inside(a: Feature, b: Feature, low: tuple[int, ...], high: tuple[int, ...]) -> list[tuple[int, ...]]:
    if a.enumerated or b.enumerated:
        # nothing larger than the high end, which memory may have reduced
        within = [shape for shape in listed(a, b) if math.prod(shape) <= math.prod(high)]
        return [shape for shape in within if shape not in (low, high)][:_LISTED]
    middle = [(least + most) // 2 for least, most in zip(low, high, strict=True)]
    asked = ([n + 1 for n in low], middle, [n + 1 for n in middle])
    return [tuple(map(min, shape, high)) for shape in asked]


def count_elements(running: Iterable[tuple[Session, Mapping[str, object]]]) -> int:
    """Elements of all inner values when sessions are fed these samples: those of the one that has more."""
    counts = [0]
    for of, sample in running:
        with suppress(CoreproofError):  # what does not run says so where it is run
            counts.append(sum(of.sizes(sample, tuple(of.tappable)).values()))
    return max(counts)


def as_long_as(source: Model, made: Model) -> Model:
    """A PyTorch module with examples of lengths that what was made of it takes, where it runs on these; else itself.

    Those that are fixed there; where lengths are declared and the example has others, the nearest that are among them.
    """
    if not isinstance(source, TorchModel):
        return source
    asked = {
        a.name: nearest
        for a, b in match_inputs(source.signature, made.signature)
        if _asked_otherwise(a, b) and b.shape is not None and (nearest := _nearest_taken(a, b)) is not None
    }
    with suppress(CoreproofError):
        return source.at_lengths(asked)
    return source


def _nearest_taken(example: Feature, made: Feature) -> tuple[int, ...] | None:
    """The lengths to trace a module at for what was made of it; None where the example's are among those that it takes."""
    if not made.ranges and len(made.enumerated) < 2:
        return tuple(d for d in made.shape or () if isinstance(d, int))
    lengths_of = tuple(d for d in example.shape or () if isinstance(d, int))
    if len(lengths_of) != len(example.shape or ()) or takes_shape(made, lengths_of):
        return None
    if made.enumerated:
        return next((shape for shape in made.enumerated if len(shape) == len(lengths_of)), None)
    if len(made.ranges) != len(lengths_of):
        return None
    within = (max(n, r.low) for n, r in zip(lengths_of, made.ranges, strict=True))
    return tuple(n if r.high is None else min(n, r.high) for n, r in zip(within, made.ranges, strict=True))


def as_free_as(source: Model, made: Model) -> Signature:
    """What the source takes: a PyTorch module is not bound to the lengths of its example where others were asked for."""
    if not source.is_torch:
        return source.signature
    free = {a.name for a, b in match_inputs(source.signature, made.signature) if _asked_otherwise(a, b)}
    inputs = (replace(f, shape=None) if f.name in free else f for f in source.signature.inputs)
    return replace(source.signature, inputs=tuple(inputs))


def _asked_otherwise(example: Feature, made: Feature) -> bool:
    """Whether what was made takes several lengths, or as many as the example in other lengths."""
    if made.ranges or len(made.enumerated) > 1:
        return True
    alone = example.image is None and made.image is None and example.shape is not None and made.shape is not None
    return alone and len(example.shape or ()) == len(made.shape or ()) and example.shape != made.shape


def is_drawn_apart(feature: Feature) -> bool:
    """Whether an input is a dictionary or a sequence, which has no shape."""
    return bool(feature.holds) and feature.kind in ("dictionary", "sequence")


def _elements(shape: Shape | None) -> int:
    fixed = [d for d in shape or () if isinstance(d, int) and d > 0]
    return math.prod(fixed) if shape and len(fixed) == len(shape) else 0


def _nearer(a: Feature, b: Feature, low: tuple[int, ...], high: tuple[int, ...], share: float) -> tuple[int, ...]:
    """The shape that lies this part of the way from low to high; of enumerated shapes the largest that lies before it."""
    if a.enumerated or b.enumerated:
        # enumerated shapes have no order but their size
        most = math.prod(low) + (math.prod(high) - math.prod(low)) * share
        return max((shape for shape in listed(a, b) if math.prod(shape) <= most), key=math.prod, default=low)
    return tuple(a + int((b - a) * share) for a, b in zip(low, high, strict=True))


def _by(shape: Sequence[int]) -> str:
    return "x".join(map(str, shape))
