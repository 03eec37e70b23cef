"""Proof: what was shown about one model, step by step; what proof.json holds and the page shows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from coreproof.model.base import Model
from coreproof.model.notebook_view import Spoken
from coreproof.model.versions import versions
from coreproof.model.weakness import Weakness, failing, qualified, together
from coreproof.proof.foundation import Foundation
from coreproof.verification.verification import Verification, joint_weaknesses

if TYPE_CHECKING:
    from coreproof.comparison.answers import Answer
    from coreproof.comparison.comparison import Comparison
    from coreproof.comparison.over_inputs import InputComparison

SPOKEN = {
    "torchm": "PyTorch",
    "onnxm": "ONNX",
    "t2o": "ONNX",
    **{f"{of}2c": "Core ML float32" for of in "to"},
    **{f"{of}2c16": "Core ML float16" for of in "to"},
    **{f"{of}2nn": "Core ML NeuralNetwork" for of in "to"},
    **{f"{of}2a": "Core AI" for of in "toc"},
    "ct": "coremltools",
    "cat": "coreai-torch",
    "cml": "Core ML",
    "apple": "Core AI by Apple's interpreter",
}
"""What people call the models of a chain, by the short names that stand in matrices and in documents."""


def spoken(name: str) -> str:
    """A model of a chain as a sentence names it: ``Core ML float16 (t2c16)``."""
    return f"{SPOKEN[name]} ({name})" if name in SPOKEN else name


Kind = Literal["obtain", "check", "convert", "verify", "witness", "compare"]


@dataclass(frozen=True)
class ProofStep:
    """One step of the chain and what it showed. ``ok`` None means that there was nothing to decide, or it was skipped."""

    name: str
    kind: Kind
    text: str
    ok: bool | None = None
    seconds: float = 0.0
    reference: str = ""
    candidate: str = ""
    engines: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    verification: Verification | None = None
    weak: tuple[Weakness, ...] = ()

    @property
    def weaknesses(self) -> tuple[Weakness, ...]:
        """Why what agrees in this step proves little: of its verification, else as was found where there is none."""
        return self.weak if self.verification is None else self.verification.weaknesses

    def to_json(self) -> dict[str, object]:
        """The step as the page and proof.json hold it."""
        document: dict[str, object] = {
            "name": self.name,
            "kind": self.kind,
            "from": self.reference,
            "to": self.candidate,
            "ok": self.ok,
            "text": self.text,
            # milliseconds: more digits differ from run to run and say nothing
            "seconds": round(self.seconds, 3),
            "engines": list(self.engines),
            "notes": list(self.notes),
            "weaknesses": [weakness.to_json() for weakness in self.weaknesses],
            "rows": [],
            "first_divergence": None,
        }
        return document if self.verification is None else {**document, **self.verification.to_json()}


@dataclass(frozen=True, repr=False)
class Proof(Spoken):
    """What was proved about one model. Truthy when every step agrees.

    Steps may agree and prove little: ``weaknesses`` says so, and ``proves`` is whether something was proved of every output.
    ``answers``: what source and conversion said of a few inputs, where no classes are compared; for the page alone.
    """

    title: str
    steps: tuple[ProofStep, ...]
    folder: Path
    comparison: Comparison | None
    command: str
    over_inputs: InputComparison | None = None
    models: Mapping[str, Model] = field(default_factory=dict)
    foundation: Foundation | None = None
    answers: tuple[Answer, ...] = ()

    def _spoken(self) -> str:
        return self.text

    @property
    def agrees(self) -> bool:
        """Whether no step of the chain disagrees."""
        return all(step.ok is not False for step in self.steps)

    def __bool__(self) -> bool:
        return self.agrees

    @property
    def verifications(self) -> tuple[Verification, ...]:
        """What each conversion's verification found."""
        return tuple(s.verification for s in self.steps if s.kind == "verify" and s.verification is not None)

    @property
    def weaknesses(self) -> tuple[Weakness, ...]:
        """Why all that agrees proves little, what fails first; that of several conversions is said once."""
        # what the source answers by itself is said again of each conversion
        apart = [step for step in self.steps if step.kind == "compare" or not self.verifications]
        found = [*joint_weaknesses(self.verifications), *(w for step in apart for w in step.weak)]
        if not self.verifications:
            found.append(Weakness("unverified", "no conversion was possible", fails=True))
        return together(found)

    @property
    def proves(self) -> bool:
        """Whether all agrees, and every output and the comparison prove something by that; exit code 0."""
        return self.agrees and not failing(self.weaknesses)

    @property
    def page(self) -> Path:
        """Where the page of the proof lies."""
        return self.folder / "index.html"

    @property
    def text(self) -> str:
        """The verdict in one sentence."""
        failed = [s for s in self.steps if s.ok is False]
        if failed:
            first = failed[0]
            where = ""
            if first.verification is not None and first.verification.first_divergence is not None:
                where = f", first at {first.verification.first_divergence.candidate!r}"
            return f"{self.title} does not survive: {first.name} disagrees{where}."
        # a proof of nothing says so through its weaknesses
        count, values = len(self.verifications), sum(len(v.rows) for v in self.verifications)
        agree = f"{count} conversion{'s agree' if count != 1 else ' agrees'} in all {values:,} values compared"
        same = f"{self.title} is still the same model: {agree}, each within what rounding explains"
        weaknesses = self.weaknesses
        return (
            qualified(f"{self.title}: {agree}" if failing(weaknesses) else same, weaknesses, of=self._weak_ones) + "."
        )

    @property
    def _weak_ones(self) -> str:
        """The conversions whose agreement proves little, where others prove something, and nothing else is weak."""
        verified = [step for step in self.steps if step.kind == "verify" and step.verification is not None]
        weak = [step for step in verified if failing(step.weaknesses)]
        elsewhere = any(failing(step.weak) for step in self.steps if step.verification is None)
        return "" if elsewhere or len(weak) == len(verified) else " and ".join(spoken(s.candidate) for s in weak)

    def to_json(self) -> dict[str, object]:
        """What proof.json holds and the page shows."""
        return {
            "format": "coreproof proof",
            "version": 1,
            "title": self.title,
            "verdict": {
                "agrees": self.agrees,
                "proves": self.proves,
                "text": self.text,
                "weaknesses": [weakness.to_json() for weakness in self.weaknesses],
            },
            "steps": [step.to_json() for step in self.steps],
            "over_inputs": None if self.over_inputs is None else self.over_inputs.to_json(),
            "rests_on": None if self.foundation is None else self.foundation.to_json(),
            "versions": versions(),
            "command": self.command,
        }
