"""diagnose: every rule looks at the model; a repair counts when the model is measurably better after it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from coreproof.conversion.coreml_to_onnx.convert import lowered_once
from coreproof.doctor.evidence import Patient
from coreproof.doctor.finding import Finding, Remedy, Suspicion
from coreproof.doctor.rules import is_last, rules
from coreproof.editing.edit import Edited, edit
from coreproof.errors import CoreproofError, InputError
from coreproof.feeding.inputs import Inputs, Sample
from coreproof.feeding.user_inputs import given_samples
from coreproof.model.base import Model
from coreproof.model.feeding import Feeding
from coreproof.model.notebook_view import Shown
from coreproof.model.weakness import Weakness, failing, qualified
from coreproof.verification.verification import Verification

MOST_REPAIRS = 50
"""Repairs after which the doctor stops: a model with more faults should be converted anew."""


@dataclass(frozen=True)
class Diagnosis(Shown, Sequence[Finding]):
    """The findings in order of weight, and the model after every repair that was proved.

    ``before`` and ``after`` say in a line how the model stood. ``cured`` is None where nothing could be repaired.
    ``not_run`` says why a model that may be sound could not be run here, None where it was run or is ill.
    ``inputs`` says what it was tried on, ``taken`` for what each drawn input was taken. ``verification`` is how the model, after
    every repair, compares with the source: what ``coreproof.verify`` would find; None without a source.
    """

    model: Model
    findings: tuple[Finding, ...]
    cured: Model | None
    before: str
    after: str
    not_run: str | None = None
    inputs: str = ""
    taken: Mapping[str, str] = field(default_factory=dict)
    verification: Verification | None = None

    @property
    def healthy(self) -> bool | None:
        """False with findings that are more than advice, whether the model ran or not.

        None where nothing was found, and it was not run either, or an output proves nothing by agreeing with the source.
        """
        if self.faults:
            return False
        return True if self.not_run is None and not self.weak else None

    @property
    def faults(self) -> tuple[Finding, ...]:
        """The findings that are more than advice."""
        return tuple(finding for finding in self.findings if not finding.advice)

    @property
    def weaknesses(self) -> tuple[Weakness, ...]:
        """Why agreeing with the source proves little; empty without a source."""
        return () if self.verification is None else self.verification.weaknesses

    @property
    def weak(self) -> bool:
        """Whether the model agrees with its source, and an output proves nothing by that."""
        return bool(failing(self.weaknesses))

    def __getitem__(self, index: Any) -> Any:
        return self.findings[index]

    def __len__(self) -> int:
        return len(self.findings)

    def to_json(self) -> dict[str, Any]:
        """What ``coreproof doctor --json`` prints."""
        return {
            "healthy": self.healthy,
            "reason": self.not_run
            if self.not_run is not None
            else "; ".join(w.text for w in failing(self.weaknesses)) or None,
            "weaknesses": [weakness.to_json() for weakness in self.weaknesses],
            "findings": [finding.to_json() for finding in self.findings],
            "before": self.before,
            "after": self.after,
            "inputs": self.inputs,
            "taken_for": dict(self.taken),
        }


@lowered_once()
def diagnose(
    model: Model | str | Path,
    source: Model | str | Path | None = None,
    *,
    labels: Sequence[str] | None = None,
    photos: Sequence[Path] = (),
    classes: Sequence[int] = (),
    feeding: Feeding | None = None,
    inputs: str | Path | Inputs | None = None,
    progress: Callable[[str], None] | None = None,
) -> Diagnosis:
    """Examines a model with every rule in ``coreproof.doctor.rules`` and tries the repairs on copies of it.

    ``source``: the model that it should equal. ``labels``: the right class labels. ``photos`` and the right class index of
    each (``classes``): to judge preprocessing. ``feeding``: how a picture becomes the source's input. ``inputs``, in
    place of photos: a .npz as ``verify`` takes it, or mappings of name to array.
    ``progress`` hears what is being tried.

    A repair is kept only when the model is better after it: it runs and did not, it has fewer problems, or fewer of its
    values diverge from the source. The given model is never changed. Raises CoreproofError for a model that cannot be read.
    """
    from coreproof.model.load import load

    model, source = load(model), None if source is None else load(source)
    given: Sequence[Sample] = ()
    if inputs is not None:
        if photos:
            raise InputError("give arrays or photos, not both", where=model.name)
        given = given_samples(inputs, (source or model).signature, model.signature)
    patient = Patient(
        model,
        source,
        given=given,
        labels=labels,
        photos=photos,
        classes=classes,
        feeding=feeding,
    )
    return _Treatment(patient, progress or (lambda _: None)).carry_out()


def repair(model: Model | str | Path, findings: Sequence[Finding] | None = None, **known: Any) -> Edited:
    """A copy of ``model`` with the proved repairs of ``findings`` (default: of ``diagnose(model, **known)``)."""
    if findings is None:
        findings = diagnose(model, **known)
    return edit(model, [step for finding in findings if finding.repaired for step in finding.edits])


Standing = tuple[int, int, int, int, int, int, float]


class _Treatment:
    def __init__(self, patient: Patient, progress: Callable[[str], None]) -> None:
        self.first = self.patient = patient
        self.progress = progress
        self.repaired: list[Finding] = []

    def carry_out(self) -> Diagnosis:
        self.progress("examining")
        before = _describe(self.patient)
        while len(self.repaired) < MOST_REPAIRS and self._repair_one():
            pass
        findings = sorted([*self.repaired, *self._left()], key=lambda f: -f.weight)
        patient = self.patient
        return Diagnosis(
            self.first.model,
            tuple(findings),
            patient.model if self.repaired else None,
            before,
            _describe(patient),
            _reason(patient) if patient.beyond_us else None,
            *(patient.fed if patient.runs else ("", {})),
            verification=patient.verification if patient.runs else None,
        )

    def _suspicions(self, last: bool | None = None) -> list[Suspicion]:
        """What the rules see now (all, the last ones, or the others), the heaviest first, then in the order of the layers."""
        place = {node.name: i for i, node in enumerate(self.patient.graph.nodes)}
        asked = [rule for name, rule in rules().items() if last is None or is_last(name) == last]
        found = [s for rule in asked for s in rule(self.patient)]
        return sorted(found, key=lambda s: (-s.weight, place.get(s.layer or "", len(place))))

    def _repair_one(self) -> bool:
        return self._repair_one_of(self._suspicions(last=False)) or self._repair_one_of(self._suspicions(last=True))

    def _repair_one_of(self, suspicions: Sequence[Suspicion]) -> bool:
        for suspicion in suspicions:
            self.progress(f"{suspicion.rule} at {suspicion.layer}" if suspicion.layer else suspicion.rule)
            tried = self._best(suspicion)
            if tried is None:
                continue
            remedy, patient = tried
            self.repaired.append(
                Finding(
                    rule=suspicion.rule,
                    layer=suspicion.layer,
                    evidence=suspicion.evidence,
                    cause=suspicion.cause,
                    repair=remedy.words,
                    repaired=True,
                    proof=f"before: {_describe(self.patient)}; after: {_describe(patient)}",
                    edits=remedy.edits,
                    weight=suspicion.weight,
                )
            )
            self.patient = patient
            return True
        return False

    def _best(self, suspicion: Suspicion) -> tuple[Remedy, Patient] | None:
        """The remedy after which the model stands best, if better than now; the first one that leaves nothing to do wins."""
        best: tuple[Standing, Remedy, Patient] | None = None
        now = _standing(self.patient)
        for remedy in suspicion.remedies:
            try:
                patient = self.patient.after(remedy.edits)
                then = _standing(patient)
            except CoreproofError:
                continue
            if then < now and (best is None or then < best[0]):
                best = (then, remedy, patient)
                if not any(then[:5]):
                    break
        return None if best is None else (best[1], best[2])

    def _left(self) -> Iterator[Finding]:
        """Faults that remain: suspicions that need something, and whatever is wrong that no rule explains."""
        explained: set[str | None] = set()
        treated = {(f.rule, f.layer) for f in self.repaired}
        for suspicion in self._suspicions():
            if suspicion.remedies and suspicion.needs is None and suspicion.weight < 70:
                continue  # a guess that was tried and did not help
            if (suspicion.rule, suspicion.layer) in treated:
                continue
            explained.add(suspicion.layer)
            yield Finding(
                rule=suspicion.rule,
                layer=suspicion.layer,
                evidence=suspicion.evidence,
                cause=suspicion.cause,
                repair=suspicion.needs or "no repair that was tried made the model better",
                weight=suspicion.weight,
                advice=suspicion.advice,
            )
        yield from self._unexplained(explained)

    def _unexplained(self, explained: set[str | None]) -> Iterator[Finding]:
        patient = self.patient
        loud = [p for p in patient.problems if p.loud]
        for problem in loud:
            if problem.layer not in explained and not explained:
                yield Finding(
                    problem.kind, problem.layer, str(problem), "no rule knows this fault", _BY_HAND, weight=90
                )
        if not loud and not explained and not patient.runs and not patient.beyond_us:
            error = patient.failure
            yield Finding("does-not-run", None, str(error), "no rule knows this fault", _BY_HAND, weight=90)
        for row in patient.faults[:1]:
            if not explained:
                node = patient.graph.producer(row.candidate)
                yield Finding(
                    "diverges",
                    node.name if node is not None else row.candidate,
                    f"first value that differs from the source: {row.judgement.problem}",
                    "no rule knows this fault",
                    _BY_HAND,
                    weight=60,
                )


_BY_HAND = "look at the layer with `coreproof show`, and operate on it with `coreproof edit`"


def _standing(patient: Patient) -> Standing:
    """How badly the model stands, as numbers in order of weight: smaller is better.

    Does not run; problems that keep it from running; wrong labels; outputs that diverge; values that diverge; photos
    that are classified wrongly; the error at the outputs. Of a model that does not run: how many layers stand behind
    the first problem, for a repair brings to light what is wrong behind it; then how many problems there are.
    """
    loud = [p for p in patient.problems if p.loud]
    order = {node.name: i for i, node in enumerate(patient.graph.nodes)}
    if not patient.runs:
        first = min((order.get(p.layer or "", len(order)) for p in loud), default=len(order))
        return (1, len(order) - first, len(loud), 0, 0, 0, 0.0)
    wrong_labels, missed = _wrong_labels(patient), patient.misclassified or 0
    found = patient.verification
    if found is None:
        lost = patient.lost
        ruin = sum(min(error, 1e3) for error in lost.values())
        return (0, len(loud), wrong_labels, len(lost), len(patient.problems), missed, ruin)
    wrong = [row for row in found.rows if not row.agrees]
    outputs = sum(row.how == "output" for row in wrong)
    error = sum(min(row.judgement.rms_relative_error, 1e3) for row in found.outputs)
    return (0, len(loud), wrong_labels, outputs, len(wrong) + len(patient.problems), missed, error)


def _wrong_labels(patient: Patient) -> int:
    right, stored = patient.right_labels, patient.model.signature.labels
    if right is None or stored is None:
        return 0
    return abs(len(right) - len(stored)) + sum(str(a) != str(b) for a, b in zip(right, stored, strict=False))


def _describe(patient: Patient) -> str:
    if not patient.runs:
        loud = [p for p in patient.problems if p.loud]
        if not loud and patient.beyond_us:
            return f"inspected, not run: {_reason(patient)}"
        return f"does not run ({loud[0]})" if loud else f"does not run ({_first_line(patient.failure)})"
    found = patient.verification
    if found is None:
        count = len(patient.problems)
        ruined = f", float16 ruins {', '.join(map(repr, patient.lost))}" if patient.lost else ""
        problems = f", {count} problem{'s' if count > 1 else ''}" if count else ""
        return f"runs{ruined}{problems}{_accuracy(patient)}"
    wrong = sum(not row.agrees for row in found.rows)
    if not wrong:
        agree = qualified(f"all {len(found.rows)} compared values agree with the source", found.weaknesses)
        return f"{agree}{_accuracy(patient)}"
    return f"{wrong} of {len(found.rows)} compared values diverge from the source"


def _accuracy(patient: Patient) -> str:
    missed, photos = patient.misclassified, len(patient.photos)
    return "" if missed is None else f", {photos - missed} of {photos} photos right"


def _reason(patient: Patient) -> str:
    """Why coreproof could not run a model that may be sound, in a line."""
    error = patient.failure
    assert error is not None
    named = f" ({error.found})" if error.found is not None and "\n" not in str(error.found) else ""
    return f"{_first_line(error)}{named}"


def _first_line(error: CoreproofError | None) -> str:
    return "" if error is None else str(error).splitlines()[0]


__all__ = ["Diagnosis", "diagnose", "repair"]
