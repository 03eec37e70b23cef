"""What merely follows: a value that is off because of what arrived, computed by both sides alike from the same values.

An operator may make much of a little: a tangent near its pole, a floor at an integer, a quantisation at the edge of a step,
the choice of a largest among equals. What arrives there differs by no more than rounding explains, and was accepted; what leaves
is far off. No bound from scales tells this from a fault. Running the stretch does: the reference computes it once more,
from the candidate's own values at the nearest accepted pairs before it. When it then says what the candidate says, within
what rounding explains in this stretch alone, the candidate computes what it should, and the difference came in.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Protocol

import numpy as np

from coreproof.errors import InputError, RunError
from coreproof.model.numbers import OVERFLOW, UNIT_ROUNDOFF
from coreproof.pairing.align import Pair
from coreproof.pairing.taps import as_array, batched
from coreproof.runtime.onnxruntime import OnnxRuntimeSession
from coreproof.runtime.session import read_inputs
from coreproof.runtime.subgraph import Subgraph
from coreproof.runtime.torch import TorchPart, TorchSession
from coreproof.verification.bisect import readers
from coreproof.verification.choices import Choice, choice_of, is_as_good
from coreproof.verification.entering import as_stored, in_halves
from coreproof.verification.fills import largest_finite, ordinary_part
from coreproof.verification.folded import both_right, folded_values
from coreproof.verification.match_by_value import arrange, arrange_back
from coreproof.verification.nudged import drawn_near, spread
from coreproof.verification.row import Row
from coreproof.verification.run import VerificationRun, severity
from coreproof.verification.tolerance import VACUOUS, Judgement

Array = np.ndarray


_LARGE = 0.01
"""A value off by more than this share of its scale, or on another step, is held against the same inputs, whatever explains it."""
_LOOSENED = 4.0
"""By so much what came in has loosened a bound behind which a fault may hide."""


class _Stretch(Protocol):
    """A part of the reference, from inner values to inner values."""

    inputs: tuple[str, ...]

    def run(self, inputs: Mapping[str, object]) -> dict[str, Array]: ...

    def close(self) -> None: ...


def settle_carried(run: VerificationRun, rows: Sequence[Row]) -> tuple[Row, ...]:
    """The rows, those that merely follow from accepted ones marked with how they agree on the same inputs (``Row.carried``).

    A bound that the caller gave is the caller's: nothing is excused then. A row stays as it is where something it is made from
    is itself out of tolerance, where a number is infinite on one side only (the logarithm of what rounding made zero) and
    anything made from that disagrees, where one is NaN on one side only, and where the reference's engine cannot run a part.
    Where a number of float32 is off by no more than the reference itself makes of inputs a rounding apart, it merely follows.
    What float16 makes infinite of a number within its range merely follows where the candidate's values lead beyond it.
    """
    open_rows = [row for row in rows if _is_open(row, run)]
    loose = [r for r in rows if r.judgement.agrees and r.judgement.rms_relative_error > _LARGE * (not r.tolerance.step)]
    # a recording has no layers to run
    if (
        not (open_rows or loose)
        or run.tolerance is not None
        or not isinstance(run.reference_session, OnnxRuntimeSession | TorchSession)
    ):
        return tuple(rows)
    trial = _Trial(run, rows)
    # first those that stand right behind accepted ones: where none of them is cleared, neither is what follows
    first = [row for row in open_rows if trial.made_from_accepted(row)]
    if first and trial.settle(first):
        trial.settle([row for row in open_rows if row not in first])
    found = trial.settled
    settled = [replace(row, carried=found[row.candidate]) if row.candidate in found else row for row in rows]
    for at, row in enumerate(settled):
        if row.candidate in trial.clipped and not row.judgement.clipped:
            settled[at] = replace(row, judgement=replace(row.judgement, clipped=trial.clipped[row.candidate]))
    judged = trial.on_same_inputs(loose)
    if apart := _apart(loose, judged):
        settled = [replace(row, judgement=apart[row.candidate]) if row.candidate in apart else row for row in settled]
    held = {name for name, found in judged.items() if found.agrees and found.required_relative < VACUOUS}
    settled = [replace(row, held=row.candidate in held) for row in settled]
    return _dropped(run, settled, trial.led - trial.met)


def computed_alike(
    run: VerificationRun, rows: Sequence[Row], asked: Sequence[Row], *, from_any: bool = False
) -> dict[str, Judgement]:
    """How those of the ``asked`` rows that agree on the same inputs do so, by the candidate's names.

    ``from_any``: both sides are fed what stands right before in the candidate, also where that is out of tolerance.
    """
    if not isinstance(run.reference_session, OnnxRuntimeSession | TorchSession):
        return {}
    trial = _Trial(run, rows)
    judged = trial.on_same_inputs(asked, from_any=from_any)
    return {name: judgement for name, judgement in judged.items() if judgement.agrees}


def _is_open(row: Row, run: VerificationRun) -> bool:
    """Whether the row is out of tolerance in a way that rounding can cause."""
    judgement = row.judgement
    if row.agrees or (math.isnan(judgement.max_error) and not _has_other_lengths(row, run)):
        return False
    if not judgement.misplaced:
        return True
    return judgement.nan[0] == judgement.nan[1] and (row.how != "output" or _is_overflowed(row, run))


def _has_other_lengths(row: Row, run: VerificationRun) -> bool:
    """Whether an inner value only has other lengths, as where a choice among equals decides how many go one way."""
    kinds = [kinds[row.reference][0] for kinds in run.kinds if row.reference in kinds]
    alike = bool(kinds) and all(len(shape) == len(row.shape) for shape in kinds)
    return alike and row.how != "output" and any(math.prod(shape) != math.prod(row.shape) for shape in kinds)


def _is_overflowed(row: Row, run: VerificationRun) -> bool:
    """Whether a row with the range of float16 is infinite where the reference is not, and may be so because of what arrived."""
    reference, candidate = row.judgement.infinite
    return run.ranges[row.candidate] == "float16" and row.judgement.misplaced > 0 and candidate > reference


def _dropped(run: VerificationRun, rows: Sequence[Row], led: Collection[str]) -> tuple[Row, ...]:
    """The rows, those with an infinity on one side only excused where all that is made from them agrees by itself.

    Or where what arrived ``led`` there.
    """
    found = {row.candidate: row for row in rows}
    for row in reversed(rows):
        if row.carried is not None and row.judgement.misplaced:
            if row.candidate in led:
                continue
            following = readers(run.candidate.graph, row.candidate, found)
            if not following or not all(found[name].agrees for name in following):
                found[row.candidate] = replace(row, carried=None)
    return tuple(found.values())


def _apart(rows: Sequence[Row], judged: Mapping[str, Judgement]) -> dict[str, Judgement]:
    """Those of the rows that agree within what came in, and not on the same inputs; with how they differ on these.

    What a step or a pole makes of a rounding loosens the bound of all that is made from it, behind which a fault can hide.
    """
    return {
        row.candidate: found
        for row in rows
        if (found := judged.get(row.candidate)) is not None
        and not found.agrees
        and not found.misplaced
        and (row.tolerance.typical or 0.0) > _LOOSENED * (found.tolerance.typical or 0.0)
    }


class _Trial:
    """The rows of one comparison, and those that were settled so far: the next may follow from these."""

    def __init__(self, run: VerificationRun, rows: Sequence[Row]) -> None:
        self._run = run
        self._rows = {row.candidate: row for row in rows}
        self._accepted = {row.candidate for row in rows if row.agrees}
        # pictures are 8 bits: what is fed back from them would be rounded
        pictures = {f.name for f in (*run.candidate.signature.outputs, *run.reference.signature.outputs) if f.image}
        self._feedable: dict[str, Row] = {}
        for row in rows:
            known = not math.isnan(row.judgement.max_error) or _has_other_lengths(row, run)
            if known and not {row.candidate, row.reference} & pictures:
                # of several that are one value of the reference's the first, which is settled before what is made of it
                self._feedable.setdefault(row.reference, row)
        self._pairs: dict[str, Pair] = {pair.candidate: pair for pair in run.pairs}
        self._constants = self._folded()
        self.settled: dict[str, Judgement] = {}
        self._hidden: set[str] = set()
        self._narrow = self._nudged = False
        self._wide: set[str] = set()
        """Values of the reference that were fed, and that float16 does not have."""
        self.clipped: dict[str, int] = {}
        """Rows of which float16's range alone is to blame on the same inputs, and for how many elements."""
        self.led: set[str] = set()
        """Rows infinite on the candidate's side where what arrived leads beyond float16."""
        self.met: set[str] = set()
        """Rows infinite there because a pole was met, which is infinite in any format."""

    def _clears(self, judgement: Judgement | None, row: Row) -> bool:
        """Whether the stretch's own judgement clears the row: of one with fills, only one that looks beside them too."""
        return (
            judgement is not None
            and judgement.agrees
            and not (row.judgement.astray and judgement.max_error)
            and (row.judgement.filled == 0 or row.candidate not in self._hidden)
        )

    def made_from_accepted(self, row: Row) -> bool:
        """Whether all of the nearest paired values that the row's is made from are accepted."""
        graph = self._run.candidate.graph
        front, seen = [row.candidate], {row.candidate}
        while front:
            node = graph.producer(front.pop())
            for read in () if node is None else node.inputs:
                if read in self._rows and read not in self._accepted:
                    return False
                if read not in seen and read not in self._rows:
                    seen.add(read)
                    front.append(read)
        return True

    def settle(self, rows: Sequence[Row]) -> bool:
        """Tries the rows, in the candidate's order; whether any was settled."""
        before = len(self.settled)
        self._settle_casts(rows)
        rows = [row for row in rows if row.candidate not in self.settled]
        judged = self._judge_all(rows, self._feedable)
        for row in rows:
            if (found := judged.get(row.candidate)) is not None and found.clipped and self.made_from_accepted(row):
                self.clipped[row.candidate] = found.clipped
        while doubtful := self._settle_clear(rows, judged):
            known = len(self.settled)
            # once more without what is out of tolerance itself: of a wrong value both sides make the same
            self._settle_cleared(doubtful, self._judge_all(doubtful, self._accepted_rows()))
            # what is made from these was not tried, and follows from them
            if len(self.settled) == known:
                break
        # and without what no name pairs: parts of equal numbers, or of none, may stand for one another
        paired, left = self._accepted_rows(), [row for row in rows if row.candidate not in self.settled]
        sure = {name: row for name, row in paired.items() if row.how not in ("value", "structure")}
        if left and len(sure) < len(paired):
            self._settle_cleared(left, self._judge_all(left, sure))
        # once more from values as float16 has them, where what is computed in it reads wide ones
        left = [row for row in rows if row.candidate not in self.settled and self._is_half(row)]
        if left := [row for row in left if self.made_from_accepted(row) and self._may_differ(row)]:
            self._narrow = True
            judged = self._judge_all(left, self._accepted_rows())
            self._narrow = False
            self._settle_cleared(left, judged)
        # and from values a rounding apart, where one operator of the reference is computed in many steps
        left = [row for row in rows if row.candidate not in self.settled and row.dtype == "float32"]
        left = [row for row in left if not (row.judgement.misplaced or math.isnan(row.judgement.max_error))]
        if left := [row for row in left if self.made_from_accepted(row)]:
            self._nudged = True
            judged = self._judge_all(left, self._accepted_rows())
            self._nudged = False
            self._settle_cleared(left, judged)
        return len(self.settled) > before

    def _settle_casts(self, rows: Sequence[Row]) -> None:
        """Settles what is nothing but a settled row in a wider format, which has the very same numbers."""
        for row in rows:
            first, made = self._feedable.get(row.reference, row), self._run.candidate.graph.producer(row.candidate)
            wider = made is not None and made.operator == "cast" and first.candidate in made.inputs
            if wider and first.candidate in self.settled and (first.dtype, row.dtype) == ("float16", "float32"):
                self._settle(row, self.settled[first.candidate])

    def _is_half(self, row: Row) -> bool:
        """Whether a row is of float16, or is cast from one of it that was settled."""
        first = self._feedable.get(row.reference, row)
        return row.dtype == "float16" or (first.dtype == "float16" and first.candidate in self.settled)

    def on_same_inputs(self, rows: Sequence[Row], *, from_any: bool = False) -> dict[str, Judgement]:
        """Each of the rows, both sides being fed what is accepted before it, or ``from_any``: whatever is compared."""
        return self._judge_all(rows, self._feedable if from_any else self._accepted_rows())

    def _settle_clear(self, rows: Sequence[Row], judged: Mapping[str, Judgement]) -> list[Row]:
        """Settles what agrees on what both sides are fed, where all of that is accepted; what is left for this alone."""
        doubtful = list[Row]()
        for row in rows:
            if row.candidate in self.settled or not self._clears(judged.get(row.candidate), row):
                continue
            if self.made_from_accepted(row):
                if all(fed.candidate in self._accepted for fed in self._fed_for(row)):
                    self._settle(row, judged[row.candidate])
                else:
                    doubtful.append(row)
        return doubtful

    def _settle_cleared(self, rows: Sequence[Row], judged: Mapping[str, Judgement]) -> None:
        """Settles what agrees and is made from what is accepted; in the candidate's order, so that one follows from another."""
        for row in rows:
            if self._clears(judged.get(row.candidate), row) and self.made_from_accepted(row):
                self._settle(row, judged[row.candidate])

    def _accepted_rows(self) -> Mapping[str, Row]:
        return {name: row for name, row in self._feedable.items() if row.candidate in self._accepted}

    def _settle(self, row: Row, judgement: Judgement) -> None:
        self.settled[row.candidate] = judgement
        self._accepted.add(row.candidate)

    def _may_differ(self, row: Row) -> bool:
        """Whether accepted values in float16 could make another number of the row than what was tried already."""
        if any(fed.candidate not in self._accepted or fed.reference in self._wide for fed in self._fed_for(row)):
            return True
        # some of what is computed from an input reads it as it is fed, and this row rounded
        inputs = {feature.name for feature in self._run.reference.signature.inputs}
        return any(read in inputs for read in self._read_for(row))

    def _fed_for(self, row: Row) -> Iterator[Row]:
        """What the reference is fed, to compute its partner of the row.

        What stands nearest before the row in the candidate may be paired with another value than stands there in the reference.
        """
        for read in self._read_for(row):
            if (fed := self._feedable.get(read)) is not None:
                yield fed

    def _read_for(self, row: Row) -> Iterator[str]:
        """The values of the reference that are read to compute its partner of the row, back to what is fed."""
        graph = self._run.reference.graph
        front, seen = [row.reference], {row.reference}
        while front:
            node = graph.producer(front.pop())
            for read in () if node is None else graph.reads(node):
                yield read
                if read not in self._feedable and read not in seen:
                    seen.add(read)
                    front.append(read)

    def _judge_all(self, rows: Sequence[Row], feedable: Mapping[str, Row]) -> dict[str, Judgement]:
        """Each of the rows, both sides being fed the candidate's values of ``feedable``; as many at a time as memory holds."""
        by_name = {row.candidate: row for row in rows}
        self._hidden = set()
        groups = batched(list(by_name), self._run.memory // 2, self._run.size)
        return self._judge_groups([[by_name[name] for name in group] for group in groups], feedable)

    def _part(self, given: Sequence[str], asked: Sequence[str]) -> _Stretch:
        """The reference's stretch from ``given`` to ``asked``. Raises InputError for a value that no name leads to."""
        if isinstance(self._run.reference_session, TorchSession):
            return TorchPart(self._run.reference_session, given, asked)
        assert isinstance(self._run.reference_session, OnnxRuntimeSession)
        return Subgraph(self._run.reference_session, given, asked, remake=True)

    def _folded(self) -> dict[str, Array]:
        """What a converter has folded, where the engine, asked for it, is as right."""
        known = folded_values(self._run.reference)
        if not known:
            return {}
        try:
            stretch = self._part([], list(known))
            engine = stretch.run({})
        except (InputError, RunError):
            return {}
        stretch.close()
        return {name: made for name, (made, exact) in known.items() if both_right(made, exact, engine[name])}

    def _judge_groups(self, groups: Sequence[Sequence[Row]], feedable: Mapping[str, Row]) -> dict[str, Judgement]:
        """The worst judgement over all samples of each row, both sides being fed the candidate's values; in one pass over it."""
        inputs = [f.name for f in self._run.reference.signature.inputs if f.name not in feedable]
        tasks: list[tuple[Sequence[Row], _Stretch, dict[str, Row]]] = []
        for group in groups:
            try:
                stretch = self._part([*feedable, *inputs, *self._constants], [row.reference for row in group])
            except InputError:
                continue
            tasks.append((group, stretch, {n: feedable[n] for n in stretch.inputs if n in feedable}))
        asked = [
            [row.candidate for row in (*fed.values(), *group)]
            + [name for row in group if (choice := self._choice(row)) is not None for name in map(str, choice.data)]
            for group, _, fed in tasks
        ]
        walks = [self._run.candidate_values(sample, asked) for sample in range(len(self._run.feeds))]
        worst: dict[str, Judgement] = {}
        refused: list[Sequence[Row]] = []
        for group, stretch, fed in tasks:
            try:
                for sample, walk in enumerate(walks):
                    self._judge(sample, stretch, fed, group, next(walk), worst)
            except RunError:
                refused.append(group)
                break  # the walks are out of step
            finally:
                stretch.close()
        if refused and len(refused[0]) > 1:
            at = next(i for i, group in enumerate(groups) if group is refused[0])
            half = len(refused[0]) // 2
            rest = [refused[0][:half], refused[0][half:], *groups[at + 1 :]]
            return worst | self._judge_groups(rest, feedable)
        return worst

    def _judge(
        self,
        sample: int,
        stretch: _Stretch,
        fed: Mapping[str, Row],
        group: Sequence[Row],
        candidate_values: Mapping[str, Array],
        worst: dict[str, Judgement],
    ) -> None:
        """One sample of one group."""
        run, (_, candidate_feed) = self._run, self._run.feeds[sample]
        entered = read_inputs(run.reference.signature, run.with_candidate_memory(sample), run.reference.name)
        given = {**self._constants, **as_stored(run, entered, candidate_feed)}
        halves = any(row.dtype == "float16" for row in group)
        if self._narrow:  # what is fed is rounded where it enters
            given |= {name: in_halves(array) for name, array in given.items() if isinstance(array, np.ndarray)}
        for name, row in fed.items():
            shape, dtype = run.kinds[sample][row.reference]
            own, axes = candidate_values[row.candidate], self._pairs[row.candidate].axes
            # as many as the candidate has, where both have another number of them
            back = arrange_back(own, axes, shape if own.size == math.prod(shape) else own.shape)
            given[name] = own = back.astype(dtype, copy=False)
            if halves and back.dtype == np.float32:
                rounded = in_halves(back).astype(dtype)
                if self._narrow:
                    given[name] = rounded
                elif not np.array_equal(rounded, own, equal_nan=True):
                    self._wide.add(name)
        reference_values = stretch.run(given)
        overflowed = [row.reference for row in group if _is_overflowed(row, run)]
        own_values = next(run.reference_values(sample, [overflowed])) if overflowed else {}
        moved = spread(stretch.run, given) if self._nudged else {}
        error_model = run.error_model(sample)
        for name, value in candidate_feed.items():
            error_model.feed(name, np.asarray(value))
        asked = {row.candidate for row in group}
        visited = {row.candidate: row for row in (*fed.values(), *group)}
        for row in sorted(visited.values(), key=lambda row: run.places.get(row.candidate, math.inf)):
            name = row.candidate
            if name in asked:
                expected = self._expected(row, fed, given, reference_values, own_values)
                choice = self._choice(row)
                if choice is not None and is_as_good(run, choice, expected[0], candidate_values):
                    expected.append(candidate_values[name])
                if row.reference in moved and expected[0].size == candidate_values[name].size:
                    near = arrange(moved[row.reference], self._pairs[name].axes)
                    own = candidate_values[name]
                    expected = [drawn_near(each, own.reshape(each.shape), near) for each in expected]
                judged = [run.judge(self._pairs[name], each, candidate_values[name], error_model) for each in expected]
                judgement = min(judged, key=severity)
                if name not in worst or severity(judgement) > severity(worst[name]):
                    worst[name] = judgement
                again = expected[judged.index(judgement)]
                if not judgement.filled and ordinary_part(again, largest_finite(again)) is not None:
                    self._hidden.add(name)
            if row.reference in fed:
                error_model.feed(name, candidate_values[name], exact=not self._rounds(name))

    def _expected(
        self,
        row: Row,
        fed: Mapping[str, Row],
        given: Mapping[str, object],
        reference_values: Mapping[str, Array],
        own_values: Mapping[str, Array],
    ) -> list[Array]:
        """What the candidate's value is to be, in its own arrangement: one of these."""
        axes, before = self._pairs[row.candidate].axes, fed.get(row.reference)
        if before is not None and before.candidate != row.candidate:
            self.led |= {row.candidate} if before.candidate in self.led else set()
            self.met |= {row.candidate} if before.candidate in self.met else set()
            return [arrange(as_array(given[row.reference]), axes)]  # cast from what both sides were fed
        again = arrange(as_array(reference_values[row.reference]), axes)
        if row.reference in own_values:
            again = self._beyond_range(row, again, arrange(own_values[row.reference], axes))
        # what is itself a constant may be stored as the converter folds it, or made from what it stores
        folded = self._constants.get(row.reference)
        return [again] if folded is None else [again, arrange(as_array(folded), axes)]

    def _choice(self, row: Row) -> Choice | None:
        """What a row's indices choose among, where that differs itself; where it agrees, ``settle_choices`` looks at them."""
        choice = choice_of(self._run, row)
        if choice is None or choice.axis is None:
            return None
        among = self._rows.get(str(choice.data[0]))
        return None if among is None or among.judgement.agrees else choice

    def _beyond_range(self, row: Row, again: Array, own: Array) -> Array:
        """What is computed again, infinite where float16 makes it so and the reference's ``own`` number is within the range.

        Where that is beyond the range too, the format is to blame, and not what arrived.
        """
        limit = OVERFLOW["float16"]
        within = np.abs(own) < limit
        led = np.isfinite(again) & (np.abs(again) >= limit) & within
        if (np.isinf(again) & within).any():
            before = {fed.candidate for fed in self._fed_for(row)}
            (self.led if before & self.led and not before & self.met else self.met).add(row.candidate)
        elif led.any():
            self.led.add(row.candidate)
        return np.where(led, np.copysign(np.inf, again), again) if led.any() else again

    def _rounds(self, name: str) -> bool:
        """Whether the reference stores the value in fewer bits than the candidate: then it rounds what it is given."""
        own = self._run.candidate.graph.values.get(name)
        dtype = (own.dtype if own is not None else None) or "float32"
        stored = self._run.stored.get(name, dtype)
        return UNIT_ROUNDOFF.get(stored, 0.0) > UNIT_ROUNDOFF.get(dtype, 0.0)
