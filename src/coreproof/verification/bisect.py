"""Where a fault really is: each diverging stretch is run by itself on the reference's values and judged alone."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from coreproof.errors import RunError
from coreproof.model.graph import Graph, Node
from coreproof.pairing.structured import Leaves
from coreproof.pairing.taps import as_array, batched
from coreproof.runtime.onnxruntime import OnnxRuntimeSession
from coreproof.runtime.session import read_inputs
from coreproof.runtime.subgraph import Subgraph
from coreproof.verification.match_by_value import ALIKE, arrange
from coreproof.verification.row import Row, Stretch
from coreproof.verification.run import VerificationRun, severity
from coreproof.verification.tolerance import VACUOUS, Judgement

Array = np.ndarray

GUESSED = ("structure", "value")
"""How pairs are known that may be mistaken."""
UNRELATED = 1.0
"""Values that have nothing to do with each other differ by about 1.4 of their scale; what a fault has changed, by less."""


@dataclass(frozen=True)
class _Alone:
    """A row judged alone (None: it agrees then), and the rows whose values of the reference it was fed."""

    row: Row
    judgement: Judgement | None
    fed: tuple[Row, ...]


def bisect(run: VerificationRun, rows: Sequence[Row]) -> tuple[tuple[Stretch, ...], tuple[Row, ...], frozenset[str]]:
    """The stretches of the candidate that diverge by themselves, in its order; guessed pairs that are no pairs; what is spared.

    Spared are inner values that leave float16's range without harm, by the candidate's names, where a fault elsewhere hides
    from ``spare_harmless`` that they do none.

    A value may diverge because its layer is wrong, or because what it was fed was wrong already. So every diverging value
    is computed once more, from the reference's values at the nearest pairs before it (one further run of each model, in
    batches that the memory holds), and judged against what rounding explains within this stretch. Empty where the
    candidate's engine cannot run parts.
    """
    first = next((i for i, row in enumerate(rows) if not row.agrees), None)
    if first is None:
        return (), (), frozenset()
    # Apple's engine and a recording run no parts
    if not isinstance(run.candidate_session, OnnxRuntimeSession):
        return (), _contradicted(rows), frozenset()
    # behind a divergence so much error is expected that nothing may be proved by agreeing
    known = _second_names(run, rows)
    wrong = [row for row in rows[first:] if not _proves(row) and row.candidate not in known]
    found = _judge_alone(run, rows, [*wrong, *_right_behind_guesses(run.candidate.graph, rows)])
    mistaken = _wrong_guesses(run, rows, found)
    # the rows right behind guesses were computed only to test these
    found = [a for a in found if a.row in wrong]
    if mistaken:
        kept = [row for row in rows if row not in mistaken]
        found = _judge_alone(run, kept, [row for row in wrong if row not in mistaken])
    spared = _harmless_values(run.candidate.graph, rows, found)
    at_fault = (a for a in found if a.row.candidate not in spared)
    return tuple(_stretch(run, a, a.judgement) for a in at_fault if a.judgement is not None), mistaken, spared


def _second_names(run: VerificationRun, rows: Sequence[Row]) -> frozenset[str]:
    """Of rows that are one value on both sides, all but the first: a state read back is what was written to it, and no layer."""
    graphs = run.reference_session.executable, run.candidate_session.executable
    if graphs[0] is None or graphs[1] is None:
        return frozenset()
    seen, second = set[tuple[str, str]](), set[str]()
    for row in rows:
        pair = (
            graphs[0].values.get(row.reference, row.reference),
            graphs[1].values.get(row.candidate, row.candidate),
        )
        if pair in seen:
            second.add(row.candidate)
        seen.add(pair)
    return frozenset(second)


def suspects(run: VerificationRun, rows: Sequence[Row]) -> Stretch | None:
    """The stretch of the first diverging row, from the values before it that agree."""
    first = next((row for row in rows if not row.agrees), None)
    if first is None:
        return None
    return _stretch(run, _Alone(first, None, tuple(row for row in rows if row.agrees)), first.judgement)


def _judge_alone(run: VerificationRun, rows: Sequence[Row], wrong: Sequence[Row]) -> list[_Alone]:
    """Every row in ``wrong``, computed from the reference's values at the nearest of ``rows`` before it."""
    pictures = {f.name for f in run.candidate.signature.outputs if f.image is not None}
    # no value beyond float16 is fed: what follows it shows what its being clipped does
    clipped = _clipped(rows)
    feedable = {
        r.candidate: r
        for r in rows
        if not math.isnan(r.judgement.max_error) and r.candidate not in pictures and r.candidate not in clipped
    }
    asked = [row for row in wrong if row.candidate not in pictures]
    by_name = {row.candidate: row for row in asked}
    groups = [[by_name[name] for name in names] for names in batched(list(by_name), run.memory // 2, run.size)]
    return _judge_groups(run, feedable, groups)


@dataclass(frozen=True)
class _Task:
    """A group of rows to be judged alone: the part that computes them, what it is fed, and what it makes on the way."""

    group: Sequence[Row]
    part: Subgraph
    fed: Mapping[str, Row]
    inner: Sequence[str]

    @property
    def references(self) -> list[str]:
        """The values of the reference that are fed or compared."""
        return sorted({row.reference for row in (*self.fed.values(), *self.group)})


def _task(run: VerificationRun, feedable: Mapping[str, Row], group: Sequence[Row]) -> _Task:
    given = [*feedable, *(f.name for f in run.candidate.signature.inputs if f.name not in feedable)]
    asked = [row.candidate for row in group]
    part = Subgraph(run.candidate_session, given, asked, remake=True)
    inner = [name for name in run.alone if part.computes(name)]
    # again with the values on the way that have no partner: the error model needs their scales
    part = Subgraph(run.candidate_session, given, [*asked, *inner], remake=True)
    return _Task(group, part, {name: feedable[name] for name in part.inputs if name in feedable}, inner)


def _judge_groups(run: VerificationRun, feedable: Mapping[str, Row], groups: Sequence[Sequence[Row]]) -> list[_Alone]:
    """Each group of rows judged alone in one run, with one pass over the reference; where the engine refuses one, in two."""
    tasks = [_task(run, feedable, group) for group in groups]
    walks = [run.reference_values(sample, [task.references for task in tasks]) for sample in range(len(run.feeds))]
    found: list[_Alone] = []
    for task in tasks:
        judged = _run_alone(run, task, walks)
        if judged is not None:
            fed = tuple(task.fed.values())
            found.extend(_Alone(row, judged.get(row.candidate), fed) for row in task.group)
        elif len(task.group) > 1:
            half = len(task.group) // 2
            found.extend(_judge_groups(run, feedable, [task.group[:half], task.group[half:]]))
    return found


def _run_alone(
    run: VerificationRun, task: _Task, walks: Sequence[Iterator[dict[str, Array]]]
) -> dict[str, Judgement] | None:
    """The worst judgement over all samples of each row of the group that diverges; None where the engine refuses."""
    worst: dict[str, Judgement] = {}
    refused = False
    asked = {row.candidate: row for row in task.group}
    pairs = {pair.candidate: pair for pair in run.pairs}
    visited = sorted({*task.fed, *asked}, key=lambda name: run.places.get(name, math.inf))
    for sample, walk in enumerate(walks):
        reference = next(walk)
        if refused:
            continue
        expected = {
            row.candidate: arrange(reference[row.reference], pairs[row.candidate].axes)
            for row in (*task.fed.values(), *task.group)
        }
        entered = read_inputs(run.candidate.signature, run.with_reference_memory(sample), run.candidate.name)
        given = {name: _shaped(expected[name], row.shape) for name, row in task.fed.items()}
        try:
            if any(isinstance(array, Leaves) for array in given.values()):
                raise RunError("a part that begins at a dictionary or a sequence is not run by itself")
            values = {name: as_array(value) for name, value in task.part.run({**entered, **given}).items()}
        except RunError:
            refused = True
            continue
        error_model = run.error_model(sample)
        for name, array in entered.items():
            error_model.feed(name, as_array(array))
        for name in task.inner:
            error_model.note_scale(name, values[name])
        for name in visited:
            if name in asked:
                judgement = run.judge_fault(pairs[name], expected[name], values[name], error_model)
                if judgement is not None and (name not in worst or severity(judgement) > severity(worst[name])):
                    worst[name] = judgement
            if name in task.fed:
                error_model.feed(name, expected[name])
    task.part.close()
    return None if refused else worst


def _shaped(array: Array, shape: tuple[int, ...]) -> Array:
    return array.reshape(shape) if array.size == math.prod(shape) else array


def _proves(row: Row) -> bool:
    """Whether the row agrees, and more closely than by half of its value."""
    return row.agrees and (row.tolerance.typical or 0.0) < VACUOUS


def _may_be_mistaken(row: Row) -> bool:
    """A guess may be; a name too, where what it names is not alike: exporters count names, and two traces count apart."""
    unlike = not row.judgement.rms_relative_error < ALIKE
    return row.how in GUESSED or (row.how == "name" and unlike)


def _is_wrong_guess(row: Row) -> bool:
    return row.how in GUESSED and not row.agrees


def _right_behind_guesses(graph: Graph, rows: Sequence[Row]) -> list[Row]:
    """What agrees although a guessed pair right before it does not: from that one's partner it tells whether they are a pair."""
    known = {row.candidate: row for row in rows}
    reached = (n for row in rows if _is_wrong_guess(row) for n in readers(graph, row.candidate, known))
    return [known[n] for n in dict.fromkeys(reached) if _proves(known[n])]


def _wrong_guesses(run: VerificationRun, rows: Sequence[Row], found: Sequence[_Alone]) -> tuple[Row, ...]:
    """Guessed pairs that diverge and do not hold: what follows is right all the same, or wrong even from the partner's value.

    Nor does one of which no output is made: nothing rests on it, and nothing can say that the guess was right. Nor one whose axes
    lie in another order, which nothing that agrees has told how to turn.

    A real fault is the other way round: what follows is wrong, and right when fed what the reference has here.
    """
    known = {row.candidate: row for row in rows}
    wrong = {a.row.candidate for a in found if a.judgement is not None}
    graph = run.candidate.graph
    ends = {*known, *graph.outputs}
    mistaken = {
        row.candidate: row
        for row in filter(_is_wrong_guess, rows)
        if row.candidate not in graph.outputs and (not readers(graph, row.candidate, ends) or _lies_otherwise(run, row))
    }
    for row in [a.row for a in reversed(found) if _may_be_mistaken(a.row)]:
        name = row.candidate
        following = [n for n in readers(graph, name, known) if n not in mistaken]
        # the guess is wrong where what follows is right from it, or wrong although it was fed the partner's value
        if name in wrong and any((n in wrong and row.how in GUESSED) or _proves(known[n]) for n in following):
            mistaken[name] = row
        else:
            # names that moved along a chain are mistaken at each of its steps: what follows them all is right
            behind = readers(graph, name, known.keys() - mistaken.keys())
            right = [_proves(known[n]) for n in behind]
            if (name in wrong and right and all(right)) or (
                any(right) and row.judgement.rms_relative_error >= UNRELATED
            ):
                mistaken[name] = row
        if name not in mistaken and _is_wrong_guess(row):
            # what was right is wrong from the partner's value; or right from it, and of what is no pair itself
            reached = readers(graph, name, known)
            if any((n in wrong and known[n].agrees) or (n in mistaken and n not in wrong) for n in reached):
                mistaken[name] = row
    return tuple(mistaken.values())


def _lies_otherwise(run: VerificationRun, row: Row) -> bool:
    """Whether the two values have the same lengths (those of 1 left out) in another order, and no order that is known."""
    value = run.reference.graph.values.get(row.reference)
    if value is None or value.shape is None or any(pair.axes for pair in run.pairs if pair.candidate == row.candidate):
        return False
    lengths = [n for n in value.shape if n != 1], [n for n in row.shape if n != 1]
    known = [n for n in lengths[0] if isinstance(n, int)]
    return len(known) == len(lengths[0]) and known != lengths[1] and sorted(known) == sorted(lengths[1])


def spare_harmless(graph: Graph, rows: Sequence[Row], led: Collection[str] = ()) -> tuple[Row, ...]:
    """The rows, inner values that leave float16's range marked as harmless where all outputs, and all made from them, agree.

    ``led``: what is off only because it is made from such values, as a mask's minimum that is scaled.
    """
    if not _all_outputs_agree(rows):
        return tuple(rows)
    spared = _clipped_before_right(graph, rows, lambda row: row.agrees, led)
    return tuple(replace(row, harmless=True) if row.candidate in spared else row for row in rows)


def behind_clipped(graph: Graph, rows: Sequence[Row]) -> list[Row]:
    """Inner values that are off and made from ones that leave float16's range, where all outputs agree; they may be ``led``."""
    if not _all_outputs_agree(rows):
        return []
    known, clipped = {row.candidate: row for row in rows}, _clipped(rows)
    reached = dict.fromkeys(n for name in clipped for n in readers(graph, name, known))
    found: dict[str, Row] = {}
    while reached:
        off = [n for n in reached if n not in found and not known[n].agrees and known[n].how != "output"]
        found.update((n, known[n]) for n in off)
        reached = dict.fromkeys(n for name in off for n in readers(graph, name, known))
    return [row for name, row in found.items() if name not in clipped]


def _all_outputs_agree(rows: Sequence[Row]) -> bool:
    outputs = [row for row in rows if row.how == "output"]
    return bool(outputs) and all(row.agrees for row in outputs)


def _clipped_before_right(
    graph: Graph, rows: Sequence[Row], right: Callable[[Row], bool], led: Collection[str] = ()
) -> frozenset[str]:
    """The clipped values, and those ``led`` by them, behind which every row is right, or such a value itself."""
    known = {row.candidate: row for row in rows}
    spared: set[str] = set()
    clipped = _clipped(rows)
    # from the outputs back, so that what follows a clipped value is known when its turn comes
    for name in [row.candidate for row in reversed(rows) if row.candidate in clipped or row.candidate in led]:
        following = readers(graph, name, known)
        if following and all(n in spared or right(known[n]) for n in following):
            spared.add(name)
    return frozenset(spared)


def _clipped(rows: Sequence[Row]) -> dict[str, Row]:
    """The inner values that leave float16's range and diverge, by the candidate's names."""
    return {row.candidate: row for row in rows if row.judgement.clipped and not row.agrees and row.how != "output"}


def _harmless_values(graph: Graph, rows: Sequence[Row], found: Sequence[_Alone]) -> frozenset[str]:
    """The clipped values behind which everything is right by itself, where a fault in another place is left to be named.

    What is infinite on one side alone is no proof, however much rounding explains of it.
    """
    alone = {a.row.candidate: a.judgement for a in found}
    # behind a fault a masked score differs for that as well: alone it shows that the format's range is all that is left
    judged = {name: judgement for name, judgement in alone.items() if judgement is not None}
    rows = [replace(row, judgement=judged.get(row.candidate, row.judgement)) for row in rows]
    spared = _clipped_before_right(graph, rows, lambda row: _right(row, alone))
    other_faults = any(judgement is not None and name not in spared for name, judgement in alone.items())
    return spared if other_faults else frozenset()


def _right(row: Row, alone: Mapping[str, Judgement | None]) -> bool:
    """Whether a row is right by itself, with as many infinities as the reference has."""
    on_reference, on_candidate = row.judgement.infinite
    return on_reference == on_candidate and (alone[row.candidate] is None if row.candidate in alone else row.agrees)


def _contradicted(rows: Sequence[Row]) -> tuple[Row, ...]:
    """Guessed pairs that diverge while all outputs agree, where the engine runs no parts that could tell: no evidence."""
    return tuple(filter(_is_wrong_guess, rows)) if _all_outputs_agree(rows) else ()


def readers(graph: Graph, name: str, stops: Collection[str]) -> list[str]:
    """The nearest values among ``stops`` that are computed from ``name``."""
    front, seen = [name], {name}
    reached: list[str] = []
    while front:
        for node in graph.consumers(front.pop()):
            for output in node.outputs:
                if output in seen:
                    continue
                seen.add(output)
                (reached if output in stops else front).append(output)
    return reached


def _stretch(run: VerificationRun, alone: _Alone, judgement: Judgement) -> Stretch:
    return Stretch(
        row=alone.row,
        judgement=judgement,
        layers=_computed(run.candidate.graph, alone.row.candidate, {row.candidate for row in alone.fed}),
        nodes=_computed(run.reference.graph, alone.row.reference, {row.reference for row in alone.fed}),
    )


def _computed(graph: Graph, end: str, starts: Collection[str]) -> tuple[Node, ...]:
    """The nodes that compute ``end`` from ``starts``; those that make constants apart."""
    constants = {name for name, value in graph.values.items() if value.constant}
    return graph.between(constants.union(starts), [end]) if end not in constants else ()
