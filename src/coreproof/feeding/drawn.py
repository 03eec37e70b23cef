"""What both models are fed where nothing is given: several draws, each within everything that the two models say."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TypeAlias

import numpy as np

from coreproof.errors import CoreproofError, InputError
from coreproof.feeding.draw import MIXED, SCALES, draw, draw_structured, one_vector, opens, takes_zeros
from coreproof.feeding.ends import Ends, count_elements, is_drawn_apart
from coreproof.feeding.lengths import End, lengths, takes_shape
from coreproof.feeding.matched_inputs import fitted, handed_by_column, match_inputs, text_columns
from coreproof.feeding.roles.find import joint, roles_of
from coreproof.feeding.roles.role import PLAIN, Role
from coreproof.feeding.roles.words import in_words
from coreproof.model.base import Model
from coreproof.model.features import Feature, Signature
from coreproof.model.graph import Graph
from coreproof.model.structured import is_structured
from coreproof.runtime.session import Session

Sample: TypeAlias = Mapping[str, object]
"""Inputs by name: arrays, dictionaries or sequences."""
Inputs: TypeAlias = Sample | Sequence[Sample]
Pair: TypeAlias = tuple[Sample, Sample]
Sessions: TypeAlias = tuple[Session, Session | None]
SEED = 20180607


def random_sample(
    reference: Signature,
    candidate: Signature,
    seed: int = SEED,
    roles: Mapping[str, Role] | None = None,
    *,
    number: int = 0,
    shapes: Mapping[str, tuple[int, ...]] | None = None,
    graphs: Sequence[Graph] = (),
    clean: bool = False,
    far: bool = False,
) -> tuple[Sample, Sample]:
    """The same random values for both models: drawn for the reference's inputs, handed to the candidate's.

    What is drawn, and in which shape, ``coreproof.feeding.draw`` says. Where one side takes a picture, both are fed its
    pixels. ``roles`` say what the reference's inputs are for (``roles_for``), ``number`` counts the draws of one seed, ``shapes``
    are other lengths than the usual ones; ``graphs`` know the keys of dictionaries. ``clean``: without zeros among the numbers.
    ``far``: whole numbers without an end go ten times as far as usual.
    """
    # the first draw hangs on the seed alone, every further one on its number too
    rng = np.random.default_rng(seed if number == 0 else [seed, number])
    reference_sample: dict[str, object] = {}
    candidate_sample: dict[str, object] = {}
    pairs = match_inputs(reference, candidate)
    # where only the candidate takes a picture, that is what is drawn
    fed = [(a if a.image is not None or b.image is None else b, a, b) for a, b in pairs]
    structured = {a.name for drawn, a, _ in fed if drawn.holds and drawn.kind in ("dictionary", "sequence")}
    asked = {a.name: (shapes or {}).get(a.name) or lengths(a, b) for _, a, b in fed if a.name not in structured}
    # one name of a length is one length, wherever it stands
    free = {
        dimension: length
        for _, a, _ in fed
        for dimension, length in zip(a.shape or (), asked.get(a.name, ()), strict=False)
        if isinstance(dimension, str)
    }
    for drawn, a, b in fed:
        role = (roles or {}).get(a.name, PLAIN)
        if a.optional and b.optional and a.kind in ("double", "int64", "string", "sequence"):
            continue  # a threshold, a number of results, a missing value: the model has one of its own
        if a.name in structured:
            reference_sample[a.name] = candidate_sample[b.name] = draw_structured(drawn, rng, graphs, role)
            continue
        value = draw(drawn, asked[a.name], rng, role, number, free, clean=clean, far=far)
        reference_sample[a.name], candidate_sample[b.name] = value, (handed := fitted(value, b))
        if a.image is None and b.image is None and not takes_shape(b, np.asarray(handed).shape):
            raise InputError(
                f"the two models take another shape at input {a.name!r}",
                expected=str(a),
                found=str(b),
                fix="give both models the same shape (coreproof edit: reshape), or say what each is fed: feeds=",
            )
    columns = text_columns(reference, candidate)
    for name, singles in columns.items():
        role = (roles or {}).get(name, PLAIN)
        reference_sample[name] = draw(reference.input(name), (1, len(singles)), rng, role, number)
    return reference_sample, {**candidate_sample, **handed_by_column(reference_sample, columns)}


def roles_for(reference: Model, candidate: Model, sessions: Sessions | None = None) -> dict[str, Role]:
    """What the reference's inputs are for, as the operators of both models say; what only one says is enough.

    ``sessions``: the two models ready to run, if they are.
    """
    return _roles(reference, candidate, sessions)[0]


def _roles(
    reference: Model, candidate: Model, sessions: Sessions | None = None
) -> tuple[dict[str, Role], dict[str, Role]]:
    """The same, and what the reference alone says."""
    reference_session, candidate_session = sessions or (None, None)
    of_reference = roles_of(reference, reference_session)
    of_candidate = of_reference if candidate is reference else roles_of(candidate, candidate_session)
    pairs = match_inputs(reference.signature, candidate.signature)
    alone = text_columns(reference.signature, candidate.signature)
    found = {
        **{name: of_reference[name] for name in alone if name in of_reference},
        **{a.name: joint(of_reference.get(a.name), of_candidate.get(b.name)) for a, b in pairs},
    }
    return found, of_reference


def random_feeds(reference: Model, candidate: Model, seed: int = SEED, sessions: Sessions | None = None) -> Pair:
    """What both models are fed once where nothing is given: random values within everything that the two models say."""
    graphs = [reference.graph, candidate.graph]
    roles = roles_for(reference, candidate, sessions)
    return random_sample(reference.signature, candidate.signature, seed, roles, graphs=graphs)


@dataclass(frozen=True)
class Feeds:
    """What two models are fed, sample by sample, and in words where that came from.

    Of what was drawn, ``taken`` says what each input of the reference was taken for, and ``large`` which samples are of more
    than the usual magnitude, ``far`` which of these hold whole numbers that go further than anything asks for. ``draft``: they
    were drawn and not tried yet; it draws each of them again, without zeros.
    """

    pairs: Sequence[Pair]
    said: str
    taken: Mapping[str, str] = field(default_factory=dict)
    large: tuple[int, ...] = ()
    far: tuple[int, ...] = ()
    draft: Draft | None = None

    @property
    def reference(self) -> list[Sample]:
        """What the reference is fed, sample by sample."""
        return [sample for sample, _ in self.pairs]

    @property
    def candidate(self) -> list[Sample]:
        """What the candidate is fed, sample by sample."""
        return [sample for _, sample in self.pairs]


def several(reference: Model, candidate: Model, seed: int = SEED, sessions: Sessions | None = None) -> Feeds:
    """Draws of different magnitude, at both ends of declared ranges; one where only pictures are taken.

    A draw on which the reference fails, or answers with what is not finite, is drawn once more without zeros; if that is no
    better and it is not the only one, it is left out, and ``said`` says so. ``sessions``: the models ready to run, if they are.
    Whoever runs the draws anyway takes ``Draft`` instead, and need not run them twice.
    """
    draft = Draft(reference, candidate, seed, sessions)
    if sessions is None or not draft.may_redraw:
        return Feeds(draft.pairs, draft.said(), draft.taken, draft.large)
    kept: dict[int, Pair] = {}
    # zeros are what most divisions and logarithms fail on: without them a draw often has an answer
    for number, drawn in enumerate(draft.pairs):
        for pair in (drawn, draft.again(number)):
            if _answers(sessions[0], pair[0]):
                kept[number] = pair
                break
    if not kept:  # nothing that was drawn gives a finite answer: the verdict says what that is worth
        return Feeds(draft.pairs[:1], draft.said(), draft.taken)
    large = tuple(at for at, number in enumerate(kept) if number in draft.large)
    left_out = [number for number in range(len(draft.pairs)) if number not in kept]
    return Feeds(list(kept.values()), draft.said(left_out), draft.taken, large)


@dataclass(frozen=True)
class _Plan:
    """One draw: its number, the end of the declared ranges, and how it is called."""

    number: int
    end: End
    said: str
    zeros: bool = False
    own: bool = False

    @property
    def large(self) -> bool:
        return not self.zeros and not self.own and (self.number == MIXED or SCALES[self.number % len(SCALES)] > 1)


_LARGE = 1 << 22
"""Inner values of a model, in elements, beyond which all magnitudes go into one further draw: a run of it takes long."""


class Draft:
    """Several draws of which nobody knows yet whether the reference has a finite answer to each.

    ``pairs`` are the draws, ``large`` the numbers of those of more than the usual magnitude; ``taken`` says what each input of
    the reference was taken for. ``may_redraw``: whether zeros may be why an answer is not finite, and ``again`` helps.
    """

    def __init__(self, reference: Model, candidate: Model, seed: int = SEED, sessions: Sessions | None = None) -> None:
        self.reference, self.candidate = reference, candidate
        self.seed = seed
        self.matched = match_inputs(reference.signature, candidate.signature)
        self.roles, own = _roles(reference, candidate, sessions)
        self.wider = {
            a.name: role
            for a, _ in self.matched
            if (role := _wider(own.get(a.name, PLAIN), self.roles.get(a.name, PLAIN))) is not None
        }
        self.graphs = [reference.graph, candidate.graph]
        # all of it by name: a function that held this draft would hold the models with it in a circle
        self.ends = Ends(self.matched, self.graphs, partial(_count, reference, candidate, seed, self.roles, sessions))
        self.shapes = self.ends.shapes
        self._plans = list(self._planned())
        self.pairs = [self._drawn(plan, clean=False) for plan in self._plans]
        self.large = tuple(number for number, plan in enumerate(self._plans) if plan.large)
        self.far = self.large if any(opens(a, self.roles.get(a.name, PLAIN)) for a, _ in self.matched) else ()
        self.taken = _in_words(self.matched, self.roles)
        self.may_redraw = all(a.image is None and b.image is None for a, b in self.matched)

    def again(self, number: int) -> Pair:
        """The draw of that number without zeros among it."""
        return self._drawn(self._plans[number], clean=True)

    def said(self, left_out: Sequence[int] = ()) -> str:
        """Where the draws came from, in words, and which of them were left out."""
        said = f"random, seed {self.seed}"
        if left_out:
            names = ", ".join(self._plans[number].said for number in left_out)
            said += f"; left out, for want of a finite answer of the reference: {names}"
        return said + "".join(f"; {note}" for note in self.ends.notes)

    def rows_fed(self, samples: Sequence[Sample]) -> Iterator[str]:
        """In words, of how many rows of a table the reference's samples name one, where it is not all: what differs in others."""
        for a, _ in self.matched:
            role = self.roles.get(a.name, PLAIN)
            # behind a sum or beside an axis the numbers fed are not those of the rows
            if not role.rows or role.tables is not None or (role.low, role.high) != (0, role.rows - 1):
                continue
            named = np.unique(np.concatenate([_keys(sample[a.name]) for sample in samples]))
            if named.dtype.kind not in "iu":
                continue
            many = int(np.count_nonzero((named >= 0) & (named < role.rows)))
            if many < role.rows:
                yield f"{many:,} of {role.why.removeprefix('indices of ')} fed"

    def _planned(self) -> Iterator[_Plan]:
        numbers = [a for a, b in self.matched if a.image is None and b.image is None and not is_drawn_apart(a)]
        scaled = any(self._scales(a) for a in numbers)
        flexible = any(self.shapes(end) != self.shapes("usual") for end in ("low", "high"))
        # the usual lengths first: a fault that shows at all mostly shows there
        ends: tuple[End, ...] = ("usual", "high", "low") if flexible else ("usual",) * 3
        # one further draw instead of two where a run takes long
        mixed = scaled and not flexible and self.ends.elements > _LARGE
        count = 2 if mixed else 3 if flexible or scaled or any(map(self._lone, numbers)) else 2 if numbers else 1
        for number in range(count):
            size = f"{SCALES[number]:g} times the magnitude" if number and scaled else ""
            end = f"the {ends[number]} end of the declared lengths" if ends[number] != "usual" else ""
            if mixed and number:
                yield _Plan(MIXED, "usual", "0.1 to 10 times the magnitude, row by row")
                continue
            yield _Plan(number, ends[number], " at ".join(filter(None, (size, end))) or f"draw {number + 1}")
        if any(self._zeroed(a) for a in numbers):
            yield _Plan(count, "usual", "zeros alone", zeros=True)
        if self.wider:
            yield _Plan(len(SCALES), "usual", "indices that the reference alone allows", own=True)

    def _scales(self, feature: Feature) -> bool:
        role = self.roles.get(feature.name, PLAIN)
        if opens(feature, role):
            return True
        bounded = role.low > -math.inf and role.high < math.inf
        return (feature.dtype or "float32").startswith(("float", "bfloat")) and role.kind == "number" and not bounded

    def _lone(self, feature: Feature) -> bool:
        """Whether an input is one number that a draw has as one end of its range, the other, or between: a length, an index."""
        kind = self.roles.get(feature.name, PLAIN).kind
        return kind == "length" or (kind == "index" and math.prod(self.shapes("usual").get(feature.name, ())) == 1)

    def _zeroed(self, feature: Feature) -> bool:
        role = self.roles.get(feature.name, PLAIN)
        return takes_zeros(feature, role) and one_vector(self.shapes("usual").get(feature.name, ()))

    def _drawn(self, plan: _Plan, *, clean: bool) -> Pair:
        reference, candidate = random_sample(
            self.reference.signature,
            self.candidate.signature,
            self.seed,
            {**self.roles, **self.wider} if plan.own else self.roles,
            number=plan.number,
            shapes=self.shapes(plan.end),
            graphs=self.graphs,
            clean=clean,
            far=plan.large,
        )
        if not plan.zeros:
            return reference, candidate
        zeroed = [(a.name, b.name) for a, b in self.matched if self._zeroed(a)]
        return (
            {**reference, **{name: np.zeros_like(np.asarray(reference[name])) for name, _ in zeroed}},
            {**candidate, **{name: np.zeros_like(np.asarray(candidate[name])) for _, name in zeroed}},
        )


def _keys(indices: object) -> np.ndarray:
    """What names rows: numbers, or the keys of a dictionary."""
    return np.asarray(list(indices) if isinstance(indices, Mapping) else indices).reshape(-1)


def _wider(own: Role, both: Role) -> Role | None:
    """The indices that the reference takes and the candidate, as its operators say, does not: it may be wrong in that."""
    finite = all(-math.inf < end < math.inf for role in (own, both) for end in (role.low, role.high))
    if own.kind != "index" or both.kind != "index" or not finite or own.symbol is not None:
        return None
    if own.low < both.low:
        return replace(both, low=own.low, high=both.low - 1)
    return replace(both, low=both.high + 1, high=own.high) if own.high > both.high else None


def _count(
    reference: Model,
    candidate: Model,
    seed: int,
    roles: Mapping[str, Role],
    sessions: Sessions | None,
    shapes: Mapping[str, tuple[int, ...]],
) -> int:
    """Elements of all inner values at these shapes, of the session that has more of them."""
    graphs = [reference.graph, candidate.graph]
    samples = random_sample(
        reference.signature, candidate.signature, seed, roles, number=0, shapes=shapes, graphs=graphs, clean=False
    )
    return count_elements((of, sample) for of, sample in zip(sessions or (), samples, strict=False) if of)


def is_finite(value: object) -> bool:
    """Whether a value of a run is finite throughout; what holds no floating-point numbers is."""
    if is_structured(value) or not isinstance(value, np.ndarray) or value.dtype.kind not in "fc":
        return True
    return bool(np.isfinite(value).all())


def _answers(running: Session, sample: Sample) -> bool:
    """Whether the model runs on a sample, and all that it answers is finite."""
    try:
        outputs = running.run(sample)
    except CoreproofError:
        return False
    return all(is_finite(value) for value in outputs.values())


def taken_for(reference: Model, candidate: Model) -> dict[str, str]:
    """What each input of the reference is taken for where inputs are drawn, in words."""
    return _in_words(match_inputs(reference.signature, candidate.signature), roles_for(reference, candidate))


def _in_words(matched: Sequence[tuple[Feature, Feature]], roles: Mapping[str, Role]) -> dict[str, str]:
    return {
        a.name: in_words(b if a.image is None and b.image is not None else a, roles.get(a.name, PLAIN))
        for a, b in matched
    }
