"""The steps of a proof: what is done to a source and to what is made of it, whatever the formats, and how it is written down."""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from coreproof.conversion.torch_to_onnx.branches import take_program
from coreproof.errors import IntegerRangeError, RunError
from coreproof.feeding.drawn import Feeds, Sample
from coreproof.feeding.photos import Photos
from coreproof.feeding.proof_feeds import ProofFeeds
from coreproof.model.base import Model
from coreproof.model.class_labels import class_count
from coreproof.model.files.outputs import check_output, model_kind
from coreproof.model.load import load
from coreproof.model.progress import Progress
from coreproof.model.torch.model import TorchModel
from coreproof.model.weakness import qualified
from coreproof.pairing.taps import as_array
from coreproof.proof.document import SPOKEN, Proof, ProofStep, spoken
from coreproof.runtime.open import session
from coreproof.runtime.session import Engine, Session
from coreproof.verification.refused_draws import EXAMPLE, takes
from coreproof.verification.steady import unsteady
from coreproof.verification.verify import verify
from coreproof.verification.weaknesses import weaknesses_alone

if TYPE_CHECKING:
    from coreproof.comparison.answers import Answer
    from coreproof.comparison.comparison import Comparison
    from coreproof.comparison.over_inputs import InputComparison

LEFT_OUT = "photo left out: "
_FEW = 2
"""Samples that an engine is given which takes seconds for each."""
WITNESSES = frozenset({"ct", "cat"})
"""What others' converters made: it proves nothing of ours."""


@dataclass
class ProofSteps:
    """The models made so far, by the short names that the matrix uses, and the steps that made them.

    ``stored`` says where each model will stand in ``out``; until all are there they stand in ``stage``.
    """

    source: Model
    photos: Photos | None
    fed: ProofFeeds
    out: Path
    stage: Path
    progress: Progress | None
    announce: Callable[[ProofStep], None] | None
    replace: bool
    stored: dict[str, str] = field(default_factory=dict)
    steps: list[ProofStep] = field(default_factory=list)
    models: dict[str, Model] = field(default_factory=dict)

    def add(self, step: ProofStep, started: float | None = None) -> None:
        """Keeps a step, with the time since it was ``started``, and announces it."""
        if started is not None:
            step = dataclasses.replace(step, seconds=time.monotonic() - started)
        self.steps.append(step)
        if self.announce is not None:
            self.announce(step)

    def sanity_step(self, name: str) -> None:
        """Whether a model by itself computes finite, repeatable numbers."""
        started = time.monotonic()
        with session(self.source) as running:
            sample = self._answered(running)
            problem = unsteady(self.source, running, sample)
            # twice: what is drawn anew in each run cannot be verified by anything behind
            first, second = (running.run(sample, state=running.state() or None) for _ in range(2))
            engines = (running.engine,)
        # what is drawn anew in each run cannot be held against anything, and NaN may stand at the same places
        apart = (name for name, value in first.items() if not _same(as_array(value), as_array(second[name])))
        if problem is None and (output := next(apart, None)) is not None:
            problem = f"output {output!r} differs between two runs on the same input"
        weak = weaknesses_alone([first])
        text = problem or "; ".join(w.text for w in weak) or "outputs are finite, repeatable, and not constant"
        self.add(
            ProofStep("Sanity", "check", text, problem is None, candidate=name, engines=engines, weak=weak), started
        )

    def _answered(self, running: Session) -> Sample:
        """The first sample; where a module's checks refuse what was drawn, its example inputs, for all steps from here on."""
        # what was given is to be taken
        if not self.fed.draws or not isinstance(self.source, TorchModel):
            return self.fed.samples_for(self.source)[0]
        if self.source.has_program:  # by which inputs are drawn
            take_program(self.source)
        sample = self.fed.samples_for(self.source)[0]
        if self.source.examples and not takes(running, sample):
            self.fed.give(self.source.examples, EXAMPLE)
            return self.fed.samples_for(self.source)[0]
        return sample

    def left_out(self) -> list[str]:
        """The photos that cannot be read, and why, as notes."""
        return [f"{LEFT_OUT}{name}: {why}" for name, why in self.fed.unreadable.items()]

    def place(self, name: str, file: str) -> Path:
        """Where a model is written until all are there; what stands at its own place is looked at first."""
        check_output(self.out / "models" / file, model_kind(file), replace=self.replace)
        self.stored[name] = f"models/{file}"
        (self.stage / "models").mkdir(exist_ok=True)
        return self.stage / "models" / file

    def follow(self) -> None:
        """Opens the stored models where they are now."""
        for name, place in self.stored.items():
            # what was loaded names its place in the stage, which is gone
            before, now = self.models[name], load(self.out / place)
            now.name, now.notes, now.untrained = before.name, before.notes, before.untrained
            now.take_provenance(before)
            self.models[name] = now

    def verify_step(self, name: str, reference: str, engine: Engine = "auto", called: str | None = None) -> None:
        """A conversion held against the step before, value by value; ``called`` so where another ``engine`` runs it."""
        started, called = time.monotonic(), called or name
        title = f"Verify {spoken(called)} against {spoken(reference)}"
        a, b = self.models[reference], self.models[name]
        try:
            feeds = self.fed.between(a, b)
            # a run takes the interpreter seconds
            few = feeds if engine == "auto" or feeds is None or len(feeds.pairs) <= _FEW else _first(feeds)
            found = verify(a, b, feeds=few, candidate_engine=engine, progress=self.progress)
        except RunError as error:
            if engine == "auto":
                raise
            # it was asked whether that engine computes the same: it does not
            text, notes = f"not run: {error.found or error.problem}", tuple(str(error).splitlines())
            step = ProofStep(title, "verify", text, False, reference=reference, candidate=called, notes=notes)
        else:
            step = ProofStep(
                title,
                "verify",
                found.summary().splitlines()[0],
                found.agrees,
                reference=reference,
                candidate=called,
                engines=found.engines,
                verification=found,
            )
        self.add(step, started)

    def compare(self) -> Comparison | None:
        """All models over all photos, where the model is a classifier."""
        from coreproof.comparison.compare import compare
        from coreproof.comparison.lineup import lineup_of

        missing = "the model is no classifier: its answer is no row of scores"
        if self.photos is None:
            missing = "one input was given, and several are compared" if self.fed.by_user else "no photos were given"
        if self.fed.are_compared:
            return None
        # a Core ML classifier hands out labels and no row of scores
        if self.photos is None or not _tells_classes(self.source):
            self.add(ProofStep("Compare predictions", "compare", f"skipped: {missing}"))
            return None
        started = time.monotonic()
        lineup = lineup_of(self.models, self.fed.feeding, SPOKEN)
        found = compare(lineup, self.photos, store=self.out / "store", progress=self.progress)
        weak = found.weaknesses
        skipped = f", {found.skipped_count:,} left out" if found.skipped_count else ""
        text = qualified(f"{len(self.models)} models over {found.count:,} photos{skipped}", weak)
        self.add(ProofStep("Compare predictions", "compare", text, weak=weak), started)
        return found

    def compare_over_inputs(self) -> InputComparison | None:
        """All models over all inputs that were given, output by output."""
        from coreproof.comparison.over_inputs import over_inputs

        if not self.fed.are_compared:
            return None
        started = time.monotonic()
        try:
            found = over_inputs(self.models, self.fed.named, progress=self.progress, called=SPOKEN)
        except IntegerRangeError as error:  # each step of the chain has told which value that is
            text, notes = f"not run: {error.problem}", tuple(str(error).splitlines())
            self.add(ProofStep("Compare over inputs", "compare", text, False, notes=notes), started)
            return None
        found = dataclasses.replace(found, origin=self.fed.origin)
        text = qualified(found.text, found.weaknesses)
        self.add(ProofStep("Compare over inputs", "compare", text, weak=found.weaknesses), started)
        return found

    def answers(self) -> tuple[Answer, ...]:
        """What the source, and of the models made of it the one furthest from its reference, say of the first few inputs."""
        from coreproof.comparison.answers import MOST, answers_of

        if self.source.signature.states:  # one answer of a sequence tells nothing
            return ()
        # a witness is not ours, and an export's outputs are those of the source
        verified = {
            s.candidate: s.verification
            for s in self.steps
            if s.verification is not None and s.candidate in self.models and s.candidate not in WITNESSES
        }
        made = {name: found for name, found in verified.items() if not self.models[name].is_onnx} or verified
        if not made:
            return ()
        furthest = max(made, key=lambda name: made[name].furthest)
        source = next(iter(self.models))
        samples = self.fed.shown(self.source, self.models[furthest], MOST)
        return answers_of({source: self.source, furthest: self.models[furthest]}, samples)


def write_proof(proof: Proof, stage: Path) -> None:
    """Writes proof.json, the page, and comparison.json where there is one, into ``stage``, from where they go on."""
    from coreproof.report.page import write_page

    (stage / "proof.json").write_text(json.dumps(proof.to_json(), indent=1, default=str))
    if proof.comparison is not None:
        proof.comparison.save_json(stage)
    write_page(
        stage,
        proof=proof.to_json(),
        comparison=proof.comparison,
        over_inputs=proof.over_inputs,
        answers=proof.answers,
        called=SPOKEN,
        place=proof.folder,
    )


def _first(feeds: Feeds) -> Feeds:
    """The first samples alone, and that they are."""
    return dataclasses.replace(feeds, pairs=feeds.pairs[:_FEW], said=f"the first {_FEW} of {feeds.said}")


def _same(a: np.ndarray, b: np.ndarray) -> bool:
    return np.array_equal(a, b, equal_nan=a.dtype.kind == "f")


def _tells_classes(source: Model) -> bool:
    """Whether a model's answer to a photo is a row of scores; a single number, or the number of a class, is none."""
    from coreproof.comparison.scored import Scored

    signature = source.signature
    if signature.probabilities is not None:
        return True
    output = signature.outputs[0] if signature.outputs else None
    if output is None or (class_count(signature) or 0) < 2 or (output.dtype or "").startswith(("int", "uint", "bool")):
        return False
    return Scored(source).is_row(output.name)
