"""Two models that remember, step by step: the same sequence is fed to both, and each goes on from what it remembers itself.

Both are opened (``coreproof.model.opened``): what they remember comes in and goes out like anything else. So the steps of a
sequence are samples of a comparison like others, save that the two sides are fed each its own memory; what that is apart by, and
was accepted in the step before, is where the errors of a step begin.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from coreproof.errors import InputError
from coreproof.feeding.drawn import Feeds, Inputs, Sample, random_sample, roles_for
from coreproof.feeding.ends import as_free_as
from coreproof.feeding.inputs import GIVEN, hand_over, samples
from coreproof.feeding.matched_inputs import match_inputs
from coreproof.feeding.roles.role import Role
from coreproof.model.base import Model
from coreproof.model.budget import afford, size_in_bytes
from coreproof.model.features import Feature
from coreproof.model.opened import opened, without_memory
from coreproof.model.remembered import identifier
from coreproof.model.torch.model import TorchModel
from coreproof.pairing.taps import as_array
from coreproof.runtime.session import Session

STEPS = 4
"""How many steps are drawn where nothing is given."""


@dataclass(frozen=True)
class Steps:
    """Two opened models, and of each input of the candidate that brings what it remembers the reference's."""

    reference: Model
    candidate: Model
    matched: Mapping[str, str]

    def sequence(
        self,
        reference_session: Session,
        candidate_session: Session,
        inputs: Inputs | None,
        feeds: tuple[Inputs, Inputs] | Feeds | None,
        seed: int,
    ) -> Feeds:
        """What both are fed, step by step: the same inputs, given or drawn, and what each remembers after the step before."""
        for running, model, other in (
            (reference_session, self.reference, self.candidate),
            (candidate_session, self.candidate, self.reference),
        ):
            # a module is not bound to the lengths of its example
            running.signature = as_free_as(model, other) if isinstance(model, TorchModel) else running.signature
        given, said = self._given(inputs, feeds, seed, reference_session, candidate_session)
        names = {side: frozenset(model.remembers) for side, model in enumerate((self.reference, self.candidate))}
        # the same beginning for every sequence that is fed
        held = self._first(given[0])
        size = sum(as_array(value).nbytes for state in held for value in state.values())
        afford(f"what both models remember over {len(given)} steps", size=size * len(given), where=self.candidate.name)
        pairs: list[tuple[Sample, Sample]] = []
        for sample in given:
            fed = [{**_without(own, names[side]), **held[side]} for side, own in enumerate(sample)]
            pairs.append((fed[0], fed[1]))
            # nobody asks what is remembered behind the last
            if len(pairs) < len(given):
                held = (
                    _after(self.reference, reference_session, fed[0]),
                    _after(self.candidate, candidate_session, fed[1]),
                )
        return Feeds(pairs, f"{said}; {len(pairs)} steps, each side with what it remembers itself")

    def _given(
        self,
        inputs: Inputs | None,
        feeds: tuple[Inputs, Inputs] | Feeds | None,
        seed: int,
        reference_session: Session,
        candidate_session: Session,
    ) -> tuple[list[tuple[Sample, Sample]], str]:
        sides = ((reference_session, self.reference), (candidate_session, self.candidate))
        reference, candidate = (without_memory(running.signature, model.remembers) for running, model in sides)
        if isinstance(feeds, Feeds):
            return list(feeds.pairs), feeds.said
        if feeds is not None:
            return list(zip(samples(feeds[0]), samples(feeds[1]), strict=True)), GIVEN
        if inputs is not None:
            return [hand_over(sample, reference, candidate) for sample in samples(inputs)], GIVEN
        roles = roles_for(self.reference, self.candidate, (reference_session, candidate_session))
        graphs = [self.reference.graph, self.candidate.graph]
        matched = [(a.name, b.name) for a, b in match_inputs(reference, candidate)]
        drawn = []
        for number in range(STEPS):
            first, second = random_sample(reference, candidate, seed, roles, number=number, graphs=graphs)
            for a, b in matched:
                if (role := roles.get(a)) is not None and role.kind == "index":
                    place = self._place(role, number, np.shape(as_array(first[a])), seed)
                    first = {**first, a: place.astype(as_array(first[a]).dtype)}
                    second = {**second, b: place.reshape(as_array(second[b]).shape).astype(as_array(second[b]).dtype)}
            drawn.append((first, second))
        return drawn, f"random, seed {seed}"

    def _place(self, role: Role, number: int, shape: tuple[int, ...], seed: int) -> np.ndarray:
        """Indices of one step: any of those that there are; of places in what is remembered, one step behind the other."""
        low, high = math.ceil(role.low), role.high
        remembered = [f for f in self.reference.signature.inputs if f.name in self.reference.remembers]
        # what is written into has to be written one place after the other, whatever it is called on the way there
        written = [f for f in remembered if f"`{f.name}`" in role.why]
        if not written and not (role.distinct and remembered):
            return np.random.default_rng([seed, number]).integers(low, max(low, math.floor(high)) + 1, shape)
        if math.isfinite(high):
            room = math.floor(high) + 1
        else:
            room = min((d for f in written for d in f.shape or () if isinstance(d, int) and d > 1), default=1)
        count = math.prod(shape)
        # behind what the step before wrote, and from the start again where there is no more room
        first = (number * count) % max(1, room - count + 1)
        return (first + np.arange(count)).reshape(shape)

    def _first(self, sample: tuple[Sample, Sample]) -> tuple[dict[str, object], dict[str, object]]:
        """What both remember before the first step: nothing, save what the buffers of a module hold, for both.

        A Core ML state begins with zeros; whoever runs it can write into it first, and has to where the module does not begin so.
        """
        reference, candidate = _first(self.reference, sample[0]), _first(self.candidate, sample[1])
        if isinstance(self.reference, TorchModel):
            candidate = {own: _as(candidate[own], reference[other]) for own, other in self.matched.items()}
        elif isinstance(self.candidate, TorchModel):
            reference = {other: _as(reference[other], candidate[own]) for own, other in self.matched.items()}
        return reference, candidate

    def at_one_length(self, pairs: Sequence[tuple[Sample, Sample]]) -> bool:
        """Whether a PyTorch program, which is traced at its example's lengths, has inner values to every step."""
        for side, model in enumerate((self.reference, self.candidate)):
            if isinstance(model, TorchModel):
                shapes = {f.name: f.shape for f in model.signature.inputs}
                if any(as_array(pair[side][name]).shape != shape for pair in pairs for name, shape in shapes.items()):
                    return False
        return True


def steps_of(reference: Model, candidate: Model, states: Mapping[str, str] | None = None) -> Steps | None:
    """The two as steps of a sequence; None where neither remembers anything, or a module that does meets a model that does not.

    ``states`` are patterns that say what an ONNX model remembers. Raises InputError where the two do not remember the same.
    """
    sides = tuple(opened(model, states if model.is_onnx else None) for model in (reference, candidate))
    one, other = sides
    if not (one.remembers or other.remembers):
        return None
    if not (one.remembers and other.remembers):
        silent, knows = (one, other) if other.remembers else (other, one)
        room = len(silent.signature.inputs) > len(knows.signature.inputs) - len(knows.remembers)
        if knows.is_torch and not room:
            return None  # what a module keeps was frozen in the other: whoever calls it twice sees that
        raise InputError(
            "one of the two models remembers, and the other is not known to",
            where=silent.name,
            expected=f"what {knows.name} remembers: {', '.join(knows.remembers)}",
            found=f"inputs {', '.join(f.name for f in silent.signature.inputs)}",
            fix="say which input holds what is remembered, and which output: --state past_*=present_*, "
            "states={'past_*': 'present_*'}",
        )
    return Steps(one, other, dict(_matched(one, other)))


def _matched(reference: Model, candidate: Model) -> Iterator[tuple[str, str]]:
    """The candidate's memories, each with the reference's: by name, spelled as Core ML does, else in their order."""
    known = {identifier(name): name for name in reference.remembers}
    # names in an ML Program hold no dots, ONNX's and PyTorch's may
    rest = [name for name in candidate.remembers if identifier(name) not in known]
    others = [name for own, name in known.items() if own not in {identifier(n) for n in candidate.remembers}]
    if len(rest) != len(others):
        raise InputError(
            "the two models do not remember the same",
            expected=", ".join(reference.remembers),
            found=", ".join(candidate.remembers),
            fix="give both sides the same states; --freeze-state leaves those of a PyTorch module out",
        )
    for name in candidate.remembers:
        yield name, known[identifier(name)] if identifier(name) in known else others[rest.index(name)]


def _as(own: object, other: object) -> np.ndarray:
    """The other side's memory in this side's dtype and shape."""
    mine, theirs = as_array(own), as_array(other)
    # a memory of another size, as of another length, begins as its own side has it
    return theirs.reshape(mine.shape).astype(mine.dtype) if theirs.size == mine.size else mine


def _without(sample: Sample, names: frozenset[str]) -> dict[str, object]:
    return {name: value for name, value in sample.items() if name not in names}


def _first(model: Model, sample: Sample) -> dict[str, object]:
    """What is remembered before the first step: zeros, and of a module what its buffers hold."""
    if isinstance(model, TorchModel):
        return {name: array for name, array in model.examples.items() if name in model.remembers}
    lengths: dict[str, int] = {}
    for feature in model.signature.inputs:
        if feature.name in sample and feature.name not in model.remembers:
            shape = np.shape(as_array(sample[feature.name]))
            lengths |= {d: n for d, n in zip(feature.shape or (), shape, strict=False) if isinstance(d, str)}
    held = [feature for feature in model.signature.inputs if feature.name in model.remembers]
    shapes = {feature.name: _lengths(feature, lengths) for feature in held}
    sizes = (size_in_bytes(shapes[f.name], np.dtype(f.dtype or "float32").itemsize) for f in held)
    afford("what the model remembers", size=sum(sizes), where=model.name)
    return {f.name: np.zeros(shapes[f.name], f.dtype) for f in held}


def _lengths(feature: Feature, known: Mapping[str, int]) -> tuple[int, ...]:
    """The lengths of a memory that holds nothing yet: one that is free, and no input's, grows from 0."""
    free = feature.shape or ()
    return tuple(d if isinstance(d, int) else known.get(d or "", 1 if at == 0 else 0) for at, d in enumerate(free))


def _after(model: Model, running: Session, fed: Sample) -> dict[str, object]:
    values = running.run(fed)
    return {name: as_array(values[output]) for name, output in model.remembers.items()}
