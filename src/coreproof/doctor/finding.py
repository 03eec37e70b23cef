"""Finding: what the doctor says about a model; Hypothesis and Repair: what a rule proposes, before it is proved."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from coreproof.editing.edit import Edit
from coreproof.errors import CoreproofError
from coreproof.model.notebook_view import NotebookView, Spoken
from coreproof.validation.problem import Problem
from coreproof.verification.row import Row


@dataclass(frozen=True)
class Repair:
    """A repair that may help: what it does in words, and its edits."""

    words: str
    edits: tuple[Edit, ...]


@dataclass(frozen=True)
class Answers:
    """Outputs that have to equal the source's: what a repair is about that any choice of values would make run."""

    outputs: tuple[str, ...]


@dataclass(frozen=True)
class Finite:
    """Outputs that have to be numbers: what a trial is about where nothing tells which numbers are right."""


@dataclass(frozen=True, kw_only=True)
class Hypothesis:
    """A fault as its rule supposes it.

    ``layer`` is where it shows; ``evidence`` is what was expected and found; ``cause`` is what is known to cause it. ``repairs``
    stand in the order in which they are tried. ``needs`` says what the doctor would have to be given where the
    model alone does not tell. ``weight`` orders findings: 90 the model cannot run, 70 its answers are wrong, 50 its values
    are, 20 it is untidy. ``advice``: nothing is wrong, but whoever uses the model has to know it.

    ``about`` is what a repair must take away for the hypothesis to hold: a problem, the reason why the model does not run, the
    error of a row, or wrong answers; None where the rule is sure. Repairs that do not take it away are dropped, and without any
    the hypothesis, unless it says what it ``needs``. Of several about one thing the first that holds counts. A row is judged on
    its stretch of layers alone; ``whole``: the model has to be run, and nothing be left to keep it from that. ``trial`` are edits
    that have to hold where no repair follows from it: as they would hide another fault. ``same``, of an advice: what has to
    compute the same, where nothing is to get better.
    """

    layer: str | None = None
    evidence: str
    cause: str
    repairs: tuple[Repair, ...] = ()
    needs: str | None = None
    weight: int = 50
    advice: bool = False
    about: Problem | CoreproofError | Row | Answers | Finite | None = None
    whole: bool = False
    trial: tuple[Edit, ...] = ()
    same: Repair | None = None


@dataclass(frozen=True, repr=False)
class Finding(Spoken, NotebookView):
    """A fault, its repair, and whether the repair was carried out and proved.

    ``proof`` says what was measured before and after the repair. ``edits`` carry it out. ``advice`` is no fault: a model with
    nothing else is healthy.
    """

    rule: str
    layer: str | None
    evidence: str
    cause: str
    repair: str
    repaired: bool = False
    proof: str | None = None
    edits: tuple[Edit, ...] = field(default=(), repr=False)
    weight: int = 50
    advice: bool = False

    def _spoken(self) -> str:
        place = f" at {self.layer}" if self.layer else ""
        return f"{self.rule}{place}: {self.evidence}; {'repaired' if self.repaired else 'repair'}: {self.repair}"

    @classmethod
    def from_hypothesis(cls, rule: str, supposed: Hypothesis, repair: str, **proved: Any) -> Finding:
        """What a rule's hypothesis became."""
        known = {key: getattr(supposed, key) for key in ("layer", "evidence", "cause", "weight", "advice")}
        return cls(rule=rule, repair=repair, **known, **proved)

    def to_json(self) -> dict[str, object]:
        """The finding as ``coreproof doctor --json`` prints it."""
        said = ("rule", "layer", "evidence", "cause", "repair", "repaired", "advice", "proof")
        return {key: getattr(self, key) for key in said} | {"edits": [str(edit) for edit in self.edits]}
