"""Whether a converted model answers as its source does at all of its declared lengths, and if not, what is baked in."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum

import numpy as np

from coreproof.errors import CoreproofError
from coreproof.feeding.drawn import Sample, random_sample
from coreproof.feeding.ends import Ends, Shapes, count_elements
from coreproof.feeding.lengths import ENDS
from coreproof.feeding.matched_inputs import match_inputs
from coreproof.feeding.roles.onnx import onnx_flow
from coreproof.feeding.roles.role import Role
from coreproof.model.base import Model
from coreproof.model.features import Signature
from coreproof.runtime.session import Session

_NAMED = 3


class _SourceFailsError(Exception):
    """A source that does not run at the lengths that it is fed."""


@dataclass(frozen=True)
class AtEnds:
    """What came of it: ``problem`` says at which lengths the two differ, None where they do not; ``said`` what was run."""

    problem: str | None = None
    said: str = ""


class Rounded(Enum):
    """Whether what differs comes of float16 alone, and whether rounding explains so much."""

    NOT = "not"
    EXPLAINED = "explained"
    TOO_MUCH = "too much"


@dataclass(frozen=True)
class ConvertedPair:
    """A source and what was made of it, ready to run.

    ``taken`` is the source's signature, in which what was freed has no fixed length; ``differ`` tells by how much two answers
    differ, 0 where that is nothing; ``handed`` makes of a drawn sample what the source takes. ``rounded`` says of a difference,
    given both samples and the source's answer, whether it comes of float16 alone, and whether rounding explains it.
    """

    source: Model
    made: Model
    reference: Session
    candidate: Session
    taken: Signature
    roles: Mapping[str, Role]
    differ: Callable[[Mapping[str, object], Mapping[str, object]], float]
    handed: Callable[[Sample], Sample]
    rounded: Callable[[Sample, Sample, Mapping[str, object]], Rounded]

    def drawn(self, shapes: Shapes) -> tuple[Sample, Sample]:
        """One draw of these lengths for both, without equal numbers.

        Those have no order (``choices``): which of them comes first in a sort, and is cut off behind it, hangs on no length.
        """
        graphs = [self.source.graph, self.made.graph]
        source_sample, made_sample = random_sample(
            self.taken, self.made.signature, roles=self.roles, shapes=shapes, graphs=graphs, clean=True
        )
        return self.handed(source_sample), made_sample


def at_ends(pair: ConvertedPair) -> AtEnds:
    """Runs both at the low and the high end of the lengths that the made model declares, where it declares any, and between.

    The high end is reduced where memory does not allow it, and ``said`` says so. Lengths between the ends that the source
    itself does not take are left out, and said too: a network that halves its picture takes no odd one.
    """
    graphs = [pair.source.graph, pair.made.graph]
    ends = Ends(match_inputs(pair.taken, pair.made.signature), graphs, lambda usual: _count(pair, usual))
    usual = ends.shapes("usual")
    seen = [usual]
    for end in ENDS:
        shapes = ends.shapes(end)
        if shapes in seen:
            continue
        seen.append(shapes)
        try:
            problem = _problem(pair, shapes)
        except _SourceFailsError as error:
            problem = f"the source itself does not run: {error}"
        if problem is not None:
            return AtEnds(
                f"at the {end} end of the declared lengths ({_in_words(shapes)}) {_told(pair, shapes, problem)}"
            )
    if len(seen) == 1:
        return AtEnds()
    said = f"; at {' and '.join(_in_words(shapes) for shapes in seen[1:])} likewise"
    inside, corners, unrun, tried = ends.between(), ends.corners(), list[str](), 0
    for shapes in (*inside, *corners):
        try:
            problem = _problem(pair, shapes)
        except _SourceFailsError:
            # two lengths that have to be equal are not at a corner: nobody misses it
            unrun += [_in_words(shapes)] if shapes in inside else []
            continue
        tried += 1
        if problem is not None:
            return AtEnds(
                f"between the ends of the declared lengths ({_in_words(shapes)}) {_told(pair, shapes, problem)}"
            )
    if tried:
        said += f", and at {tried} {'shape' if tried == 1 else 'shapes'} between"
    notes = [*ends.notes, *([f"the source itself does not run at {' and at '.join(unrun)}"] if unrun else [])]
    return AtEnds(None, said + "".join(f"; {note}" for note in notes))


def _told(pair: ConvertedPair, shapes: Shapes, problem: str) -> str:
    return problem if problem.startswith(_BY_FLOAT16) else problem + _baked(pair, shapes)


def _count(pair: ConvertedPair, usual: Shapes) -> int:
    return count_elements(zip((pair.reference, pair.candidate), pair.drawn(usual), strict=True))


def _problem(pair: ConvertedPair, shapes: Shapes) -> str | None:
    """What is wrong at these lengths; None where nothing is, or the source has no finite answer.

    Raises _SourceFailsError where the source itself does not take them.
    """
    source_sample, made_sample = pair.drawn(shapes)
    try:
        expected = pair.reference.run(source_sample)
    except CoreproofError as error:
        raise _SourceFailsError(_first_line(error)) from error
    try:
        got = pair.candidate.run(made_sample)
    except CoreproofError as error:
        return f"the converted model does not run: {_first_line(error)}"
    off = pair.differ(expected, got)
    # ``differ`` gives 0 for what rounding may do
    rounded = Rounded.EXPLAINED if off <= 0 else pair.rounded(source_sample, made_sample, expected)
    if rounded is Rounded.EXPLAINED:
        return None
    if rounded is Rounded.TOO_MUCH:
        return f"{_BY_FLOAT16}: off by {off:.2g} of the scale, and as the source in float32"
    return f"the converted model does not answer as its source does: off by {off:.2g} of the scale"


_BY_FLOAT16 = "float16 makes another answer of the converted model's"


def _baked(pair: ConvertedPair, shapes: Shapes) -> str:
    """The lengths of the example that the conversion holds fixed, one free dimension after another, with where they stand."""
    base: Shapes = {
        feature.name: tuple(d for d in feature.shape or () if isinstance(d, int))
        for feature in pair.source.signature.inputs
        if feature.name in shapes
    }
    if any(len(base.get(name, ())) != len(shape) for name, shape in shapes.items()):
        return ""  # the source leaves lengths open: it has no example
    free = {(length, shapes[n][axis]) for n, shape in base.items() for axis, length in enumerate(shape)}
    found = []
    # one free length after another, the others as in the example: so each is blamed alone
    for length, to in sorted(free):
        if length == to:
            continue
        moved = {
            name: tuple(to if (d, shapes[name][axis]) == (length, to) else d for axis, d in enumerate(shape))
            for name, shape in base.items()
        }
        try:
            if _problem(pair, moved) is None:
                continue
        except (CoreproofError, _SourceFailsError):
            continue
        places = ", ".join(f"axis {a} of {n!r}" for n, s in moved.items() for a, d in enumerate(s) if d != base[n][a])
        found.append(f"{length} ({places}{_constants_of_length(pair.candidate, length)})")
    return f"; baked in from the example: {', '.join(found)}" if found else ""


def _constants_of_length(candidate: Session, length: int) -> str:
    """The values that are made with this number as a constant."""
    executable = candidate.executable
    if executable is None or length < 2:  # 0 and 1 stand in constants everywhere
        return ""
    flow = onnx_flow(executable.graph, executable.signature, executable.values)
    own = {step.result for step in flow.steps for name in step.inputs if _is(flow.constant(name), length)}
    named = [name for name in dict.fromkeys(flow.titles.get(n, n) for n in own) if "/" not in name]
    return f"; a constant of {', '.join(sorted(named)[:_NAMED])}" if named else ""


def _first_line(error: CoreproofError) -> str:
    return str(error.found or error.problem).splitlines()[0]


def _is(constant: np.ndarray | None, length: int) -> bool:
    """Whether a constant holds a length, or its inverse: a mean is a sum multiplied with 1 / length."""
    if constant is None or constant.dtype.kind not in "iuf" or not 0 < constant.size <= 8:
        return False
    flat = np.asarray(constant, np.float64).reshape(-1)
    return any(value == length or (value and math.isclose(1 / value, length, rel_tol=1e-3)) for value in flat)


def _in_words(shapes: Mapping[str, Sequence[int]]) -> str:
    return ", ".join(f"{name} {'x'.join(map(str, shape))}" for name, shape in shapes.items())
