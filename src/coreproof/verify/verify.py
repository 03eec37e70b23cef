"""verify: two models value by value, in batches of taps, and the first value that diverges."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from coreproof.errors import InputError
from coreproof.model.base import Model
from coreproof.model.graph import Node
from coreproof.run.session import Engine, Session, session
from coreproof.verify.align import Pair, align, made_values, side
from coreproof.verify.channels import profiles_of
from coreproof.verify.inputs import SEED, Inputs, Sample, describe, feeds_of
from coreproof.verify.prediction import Prediction
from coreproof.verify.tolerance import UNIT_ROUNDOFF, Judgement, Tolerance, judge

VACUOUS = 0.5
UNKNOWN_SIZE = 1 << 22
"""Elements that a value of unknown shape is taken to have."""


@dataclass(frozen=True)
class Row:
    """One value on both sides. With several samples, ``judgement`` is the worst of them.

    ``source`` is the module or layer that the value comes from, where either model says so. ``how`` says how the two
    are known to be the same value: "output", "provenance", "name" or "structure".
    """

    reference: str
    candidate: str
    operator: str
    source: str | None
    shape: tuple[int, ...]
    dtype: str
    how: str
    judgement: Judgement

    @property
    def tolerance(self) -> Tolerance:
        return self.judgement.tolerance

    @property
    def agrees(self) -> bool:
        return self.judgement.agrees

    def to_json(self) -> dict[str, Any]:
        """The row as proof.json and the page hold it."""
        return {
            "name": self.candidate,
            "reference": self.reference,
            "candidate": self.candidate,
            "operator": self.operator,
            "source": self.source,
            "shape": list(self.shape),
            "dtype": self.dtype,
            "how": self.how,
            **self.judgement.to_json(),
        }


@dataclass(frozen=True)
class Verification:
    """Two models compared. Truthy when every compared value agrees; ``rows`` stand in the candidate's order.

    ``unpaired`` counts inner values of the candidate that have no partner (fused away on one side). ``dismissed`` are
    rows that were paired by structure alone and contradicted by agreeing outputs: not the same value, so no evidence.
    """

    reference: str
    candidate: str
    rows: tuple[Row, ...]
    inputs: str
    engines: tuple[str, str]
    unpaired: int = 0
    dismissed: tuple[Row, ...] = ()

    @property
    def agrees(self) -> bool:
        return bool(self.rows) and all(row.agrees for row in self.rows)

    def __bool__(self) -> bool:
        return self.agrees

    @property
    def first_divergence(self) -> Row | None:
        """The first row in topological order that is out of tolerance."""
        return next((row for row in self.rows if not row.agrees), None)

    @property
    def outputs(self) -> tuple[Row, ...]:
        return tuple(row for row in self.rows if row.how == "output")

    @property
    def weak(self) -> tuple[Row, ...]:
        """Rows that agree, but where rounding alone may change half of the value: they prove nothing.

        This is what float16 does to a network whose values shrink below its smallest number (6e-8).
        """
        return tuple(r for r in self.rows if r.agrees and (r.tolerance.typical or 0.0) > VACUOUS)

    def summary(self) -> str:
        """The verdict first, then what it rests on; one line each."""
        failing = [row for row in self.rows if not row.agrees]
        if not failing:
            worst = max((r.judgement.max_relative_error for r in self.outputs), default=0.0)
            lines = [
                f"{len(self.rows)} of {len(self.rows)} values agree; outputs differ by at most {worst:.2g} of their scale"
            ]
        else:
            first = failing[0]
            came_from = f" in {first.source}" if first.source else ""
            lines = [
                f"{len(failing)} of {len(self.rows)} values diverge, first {first.candidate!r} "
                f"({first.operator}{came_from}): {first.judgement.problem}"
            ]
        lines.append(f"{self.reference} ran on {self.engines[0]}, {self.candidate} on {self.engines[1]}")
        lines.append(f"inputs: {self.inputs}")
        if self.unpaired:
            lines.append(f"{self.unpaired} inner values of {self.candidate} have no partner and were not compared")
        if self.weak:
            lines.append(
                f"{len(self.weak)} values prove little: rounding to {self.weak[0].dtype} may change half of them "
                f"(first {self.weak[0].candidate!r}, scale {self.weak[0].judgement.scale:.1e})"
            )
        if self.dismissed:
            names = ", ".join(row.candidate for row in self.dismissed[:3])
            lines.append(f"{len(self.dismissed)} pairs found by structure alone are not the same value ({names})")
        return "\n".join(lines)

    def to_json(self) -> dict[str, Any]:
        """The whole verification as JSON."""
        first = self.first_divergence
        return {
            "agrees": self.agrees,
            "summary": self.summary(),
            "reference": self.reference,
            "candidate": self.candidate,
            "engines": list(self.engines),
            "inputs": self.inputs,
            "unpaired": self.unpaired,
            "first_divergence": None if first is None else first.to_json(),
            "rows": [row.to_json() for row in self.rows],
            "dismissed": [row.to_json() for row in self.dismissed],
        }


def verify(
    reference: Model,
    candidate: Model,
    inputs: Inputs | None = None,
    tolerance: Tolerance | None = None,
    *,
    feeds: tuple[Inputs, Inputs] | None = None,
    reference_engine: Engine = "auto",
    candidate_engine: Engine = "auto",
    seed: int = SEED,
    memory: int = 1 << 28,
    progress: Callable[[str, int, int], None] | None = None,
) -> Verification:
    """Runs both models on the same inputs and compares every value that both have.

    ``reference`` or ``candidate`` may be a saved run (``load("run.npz")``): its values are compared instead.

    ``inputs``: a mapping name -> array, or several; default what a saved run was fed, else random values, drawn from
    ``seed`` within what the models declare. ``feeds``: what each side is
    fed, where they take the same thing in different form (pixels here, normalised numbers there). ``tolerance``: one for all
    values; default what rounding explains at each value (see ``coreproof.verify.tolerance``). ``memory``: how many bytes
    of inner values are held at a time, on each side (one value at least). ``progress`` hears (what, done, total).

    Raises InputError, RunError, and UnsupportedOperatorsError of a model that cannot be run here.
    """
    with session(reference, reference_engine) as left, session(candidate, candidate_engine) as right:
        fed, said = feeds_of(reference, candidate, inputs, feeds, seed)
        work = _Work(reference, candidate, left, right, fed, tolerance)
        rows = work.compare(memory, progress or _silent)
        engines = (left.engine, right.engine)
    return _settle(
        Verification(reference.name, candidate.name, rows, describe([a for a, _ in fed], said), engines, work.unpaired)
    )


def _silent(what: str, done: int, total: int) -> None:
    """Nobody listens."""


def _settle(found: Verification) -> Verification:
    """Takes out pairs that structure guessed and agreeing outputs contradict: no real fault stops before the end."""
    if not found.outputs or not all(row.agrees for row in found.outputs):
        return found
    wrong = tuple(r for r in found.rows if r.how == "structure" and not r.agrees)
    kept = tuple(r for r in found.rows if r.how != "structure" or r.agrees)
    return replace(found, rows=kept, dismissed=wrong, unpaired=found.unpaired + len(wrong))


class _Work:
    """One comparison under way: the running batch of values, and per sample the predicted error of what was seen."""

    def __init__(
        self,
        reference: Model,
        candidate: Model,
        left: Session,
        right: Session,
        feeds: list[tuple[Sample, Sample]],
        tolerance: Tolerance | None,
    ) -> None:
        self.reference, self.candidate = reference, candidate
        self.left, self.right = left, right
        self.feeds = feeds
        self.given = tolerance
        self.there = side(reference, left.tappable, engine_shapes(left))
        self.here = side(candidate, right.tappable, engine_shapes(right))
        outputs = match_outputs(left, right)
        ends = {p.candidate for p in outputs}
        self.inner = [p for p in align(self.there, self.here) if p.candidate not in ends]
        self.pairs = [*self.inner, *outputs]
        paired = {p.candidate for p in self.pairs}
        self.order = {name: i for i, name in enumerate(made_values(self.here))}
        self.alone = [name for name in self.order if name not in paired]
        self.unpaired = len(self.alone)
        self.stored = _stored(self.pairs, reference, candidate)
        self.profiles = profiles_of(right)
        self.predictions = [Prediction(candidate.graph, self.stored, self.profiles) for _ in feeds]
        for prediction, (_, fed) in zip(self.predictions, feeds, strict=True):
            for name, value in fed.items():
                prediction.enter(name, np.asarray(value))

    def compare(self, memory: int, progress: Callable[[str, int, int], None]) -> tuple[Row, ...]:
        what = f"{self.candidate.name} against {self.reference.name}"
        rows: list[Row] = []
        for group, alone in self._groups(memory):
            rows.extend(self._batch(group, alone))
            progress(what, len(rows), len(self.pairs))
        return tuple(rows)

    def _groups(self, memory: int) -> Iterator[tuple[list[Pair], list[str]]]:
        """As many values of the candidate at a time as ``memory`` holds, in its order: pairs, and values without partner.

        The outputs come last, together.
        """
        pairs = {p.candidate: p for p in self.inner}
        names_in_order = sorted([*pairs, *self.alone], key=lambda n: self.order.get(n, 0))
        for names in batched(names_in_order, memory, lambda n: 4 * self.here.sizes.get(n, UNKNOWN_SIZE)):
            yield [pairs[n] for n in names if n in pairs], [n for n in names if n not in pairs]
        yield self.pairs[len(self.inner) :], []

    def _batch(self, group: Sequence[Pair], alone: Sequence[str]) -> list[Row]:
        """Runs every sample with this group's values tapped, one sample at a time; only this sample's are held."""
        worst: dict[Pair, tuple[Judgement, tuple[int, ...], str]] = {}
        for prediction, (fed_left, fed_right) in zip(self.predictions, self.feeds, strict=True):
            left = self.left.run(fed_left, taps_of(self.left, (p.reference for p in group))) if group else {}
            right = self.right.run(fed_right, taps_of(self.right, (*(p.candidate for p in group), *alone)))
            for name in alone:
                prediction.observe(name, as_array(right.pop(name)))
            for pair in group:
                a, b = as_array(left[pair.reference]), as_array(right[pair.candidate])
                tolerance = self.given or prediction.tolerance(pair.candidate, a)
                judgement = judge(a, b, tolerance, self.profiles.get(pair.candidate))
                if judgement.agrees:
                    prediction.settle(pair.candidate, judgement.rms_error)
                if pair not in worst or _severity(judgement) > _severity(worst[pair][0]):
                    worst[pair] = (judgement, b.shape, str(b.dtype))
        return [self._row(pair, *worst[pair]) for pair in group]

    def _row(self, pair: Pair, judgement: Judgement, shape: tuple[int, ...], dtype: str) -> Row:
        here = self.candidate.graph.producer(pair.candidate)
        there = self.reference.graph.producer(pair.reference)
        made = here or there
        return Row(
            reference=pair.reference,
            candidate=pair.candidate,
            operator=made.operator if made is not None else "input",
            source=_source(there) or _source(here),
            shape=shape,
            dtype=self.stored.get(pair.candidate) or dtype,
            how=pair.how,
            judgement=judgement,
        )


def batched(items: Sequence[str], limit: int, size: Callable[[str], int]) -> Iterator[list[str]]:
    """Consecutive groups whose sizes sum to at most ``limit``; an item that is larger comes alone."""
    group: list[str] = []
    total = 0
    for item in items:
        if group and total + size(item) > limit:
            yield group
            group, total = [], 0
        group.append(item)
        total += size(item)
    if group:
        yield group


def _source(node: Node | None) -> str | None:
    return node.source if node is not None else None


def _severity(judgement: Judgement) -> tuple[bool, float]:
    """Disagreement first; then how far out, as a share of what was allowed."""
    if math.isnan(judgement.max_error):
        return True, math.inf
    allowed = judgement.tolerance.relative
    return not judgement.agrees, judgement.required_relative / allowed if allowed else judgement.max_error


def taps_of(of: Session, names: Any) -> list[str]:
    """Of the names, what a run does not bring anyway; a classifier's scores may bear the name of its dictionary."""
    declared = {f.name for f in of.signature.outputs} - {of.signature.scores}
    return [n for n in dict.fromkeys(names) if n not in declared]


def engine_shapes(of: Session) -> dict[str, tuple[int, ...]]:
    """Shapes of inner values that the engine's graph knows and the model's file does not say."""
    prepared = getattr(of, "prepared", None)
    if prepared is None:
        return {}
    shapes: dict[str, tuple[int, ...]] = {}
    for node in prepared.graph.graph:
        for value in node.outputs:
            if value.name and value.shape is not None and all(isinstance(d, int) for d in value.shape):
                shapes[value.name] = tuple(int(d) for d in value.shape)
    shapes.update({own: shapes[name] for own, name in prepared.values.items() if name in shapes})
    return shapes


def _stored(pairs: Sequence[Pair], reference: Model, candidate: Model) -> Mapping[str, str]:
    """The coarser of the two formats in which each value of the candidate, and its partner, is stored."""
    stored = {name: value.dtype for name, value in candidate.graph.values.items() if value.dtype}
    stored.update({f.name: f.dtype for f in candidate.signature.outputs if f.dtype})
    theirs = {name: value.dtype for name, value in reference.graph.values.items() if value.dtype}
    for pair in pairs:
        other = theirs.get(pair.reference)
        if other and UNIT_ROUNDOFF.get(other, 0.0) > UNIT_ROUNDOFF.get(stored.get(pair.candidate, "float32"), 0.0):
            stored[pair.candidate] = other
    return stored


def match_outputs(left: Session, right: Session) -> list[Pair]:
    """Outputs that are the same: by name, else by position. A classifier counts with its scores, as a tensor."""
    theirs, mine = _tensor_outputs(left), _tensor_outputs(right)
    common = [n for n in mine if n in theirs]
    rest_there, rest_here = [n for n in theirs if n not in common], [n for n in mine if n not in common]
    pairs = [Pair(n, n, "output") for n in common]
    if len(rest_there) == len(rest_here) or not common:
        pairs += [Pair(a, b, "output") for a, b in zip(rest_there, rest_here, strict=False)]
    if not pairs:
        raise InputError("the two models have no outputs that could be compared", expected=theirs, found=mine)
    return sorted(pairs, key=lambda p: mine.index(p.candidate))


def _tensor_outputs(of: Session) -> list[str]:
    signature = of.signature
    names = [f.name for f in signature.outputs if f.name not in (signature.predicted_label, signature.probabilities)]
    if signature.scores is not None and signature.scores not in names:
        names.append(signature.scores)
    return names


def as_array(value: Any) -> npt.NDArray[Any]:
    """A value as a session hands it out: arrays as they are, pictures as [1, C, H, W]."""
    array = np.asarray(value)
    if hasattr(value, "getbands"):
        array = array[None] if array.ndim == 2 else np.moveaxis(array, -1, 0)
        return array[None].astype(np.float32)
    return array
