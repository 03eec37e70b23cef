"""diagnose: every rule looks at the model; a repair counts when the model is measurably better after it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from inspect import signature
from pathlib import Path
from typing import Any, NamedTuple, overload

from coreproof.conversion.coreml_to_onnx.convert import lowered_once
from coreproof.conversion.torch_to_onnx.frozen import freeze
from coreproof.doctor.case import Case
from coreproof.doctor.finding import Finding, Hypothesis, Repair
from coreproof.doctor.known_form import proved_same
from coreproof.doctor.own_answers import weak_answers
from coreproof.doctor.rules import rules
from coreproof.editing.edit import Edited, edit
from coreproof.errors import CoreproofError, InputError
from coreproof.feeding.drawn import Inputs, Sample
from coreproof.feeding.picture_values import unknown_feeding
from coreproof.feeding.user_inputs import given_samples
from coreproof.model.arguments import of_kind, texts, whole
from coreproof.model.base import Model
from coreproof.model.feeding import Feeding
from coreproof.model.load import load
from coreproof.model.notebook_view import NotebookView, Spoken
from coreproof.model.public import public
from coreproof.model.weakness import Weakness, failing, qualified
from coreproof.verification.verification import Verification

MOST_REPAIRS = 50
"""Repairs after which the doctor stops: a model with more faults should be converted anew."""


@dataclass(frozen=True, repr=False)
class Diagnosis(Spoken, NotebookView, Sequence[Finding]):
    """The findings in order of weight, and the model after every repair that was proved.

    ``before`` and ``after`` say in a line how the model stood. ``repaired`` is None where nothing could be repaired.
    ``not_run`` says why a model that may be sound could not be run here, None where it was run or is ill.
    ``inputs`` says what it was tried on, ``taken`` for what each drawn input was taken. ``verification`` is how the model, after
    every repair, compares with the source: what ``coreproof.verify`` would find; None without a source. ``alone`` says, without
    one, why it shows little that the model runs.
    """

    model: Model
    findings: tuple[Finding, ...]
    repaired: Model | None
    before: str
    after: str
    not_run: str | None = None
    inputs: str = ""
    taken: Mapping[str, str] = field(default_factory=dict)
    verification: Verification | None = None
    alone: tuple[Weakness, ...] = ()

    def _spoken(self) -> str:
        return "\n".join([f"{self.model.name}: {self._said}", *map(str, self.findings)])

    @property
    def healthy(self) -> bool | None:
        """False with findings that are more than advice, whether the model ran or not.

        None where nothing was found, and it was not run either, or an output proves nothing: by agreeing with the source, or,
        without one, because it is one constant.
        """
        if self.faults:
            return False
        return True if self.not_run is None and not self.weak else None

    @property
    def _said(self) -> str:
        count = len(self.faults)
        if not count:
            return "healthy" if self.healthy else "no fault found, and that proves little"
        return f"{count} fault{'s' if count != 1 else ''}{', repaired' if self.repaired is not None else ''}"

    @property
    def faults(self) -> tuple[Finding, ...]:
        """The findings that are more than advice."""
        return tuple(finding for finding in self.findings if not finding.advice)

    @property
    def weaknesses(self) -> tuple[Weakness, ...]:
        """Why agreeing with the source proves little or, without a source, that the model runs."""
        return self.alone if self.verification is None else self.verification.weaknesses

    @property
    def weak(self) -> bool:
        """Whether nothing contradicts the model, and an output proves nothing by that."""
        return bool(failing(self.weaknesses))

    @overload
    def __getitem__(self, index: int) -> Finding: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[Finding, ...]: ...
    def __getitem__(self, index: int | slice) -> Finding | tuple[Finding, ...]:
        return self.findings[index]

    def __len__(self) -> int:
        return len(self.findings)

    def to_json(self) -> dict[str, object]:
        """What ``coreproof doctor --json`` prints."""
        weak = "; ".join(weakness.text for weakness in failing(self.weaknesses))
        return {
            "healthy": self.healthy,
            "reason": self.not_run if self.not_run is not None else weak or None,
            "weaknesses": [weakness.to_json() for weakness in self.weaknesses],
            "findings": [finding.to_json() for finding in self.findings],
            "before": self.before,
            "after": self.after,
            "inputs": self.inputs,
            "taken_for": dict(self.taken),
        }


@lowered_once()
@public
def diagnose(
    model: Model | str | Path,
    source: Model | str | Path | None = None,
    *,
    labels: Sequence[str] | None = None,
    photos: Sequence[str | Path] = (),
    classes: Sequence[int] = (),
    feeding: Feeding | None = None,
    inputs: str | Path | Inputs | None = None,
    freeze_state: bool = False,
    freeze_branches: bool = False,
    progress: Callable[[str], None] | None = None,
) -> Diagnosis:
    """Examines a model with every rule in ``coreproof.doctor.rules`` and tries the repairs on copies of it.

    ``source``: the model that it should equal. ``labels``: the right class labels. ``photos`` and the right class index of
    each (``classes``): to judge preprocessing. ``feeding``: how a picture becomes the source's input. ``inputs``, in
    place of photos: a .npz as ``verify`` takes it, or mappings of name to array.
    ``freeze_state`` and ``freeze_branches`` are those of ``convert``, of a source that is a PyTorch module.
    ``progress`` hears what is being tried.

    A repair is kept only when the model is better after it: it runs and did not, it has fewer problems, or fewer of its
    values diverge from the source. The given model is never changed. Raises CoreproofError for a model that cannot be read.

    Example:
        >>> cp.diagnose("net.mlpackage", "net.onnx")
        <Diagnosis: net: healthy>

    """
    feeding = of_kind(feeding, Feeding, "feeding")
    labels = None if labels is None else texts(labels, "labels")
    files, classes = _photos_and_classes(photos, classes)
    model, source = load(model), None if source is None else load(source)
    given: Sequence[Sample] = ()
    examples = freeze(source or model, freeze_state=freeze_state, freeze_branches=freeze_branches)
    if examples is not None and inputs is None and not files and all(f.image is None for f in model.signature.inputs):
        inputs = examples
    if inputs is not None:
        if files:
            raise InputError("give arrays or photos, not both", where=model.name)
        given = given_samples(inputs, (source or model).signature, model.signature)
    if files and feeding is None:
        _require_feeding(model, source)
    case = Case(model, source, given=given, labels=labels, photos=files, classes=classes, feeding=feeding)
    return RepairLoop(case, progress or (lambda _: None)).carry_out()


def _photos_and_classes(
    photos: Sequence[str | Path], classes: Sequence[int]
) -> tuple[tuple[Path, ...], tuple[int, ...]]:
    """The photos and the class of each. Raises InputError for another number of classes."""
    files = tuple(Path(photo) for photo in photos)
    known = tuple(whole(each, "a class") for each in classes)
    if known and len(known) != len(files):
        raise InputError(
            "each photo has one class", expected=f"{len(files)} classes, one a photo", found=f"{len(known)} classes"
        )
    return files, known


def _require_feeding(model: Model, source: Model | None) -> None:
    """Raises InputError where photos are given, and nobody says how they become the one tensor that the model takes."""
    known = [each for each in (model, source) if each is not None]
    pictures = any(f.image is not None for each in known for f in each.signature.inputs)
    if len(model.signature.inputs) == 1 and not pictures and all(each.feeding is None for each in known):
        raise unknown_feeding(model.name, model.signature.inputs[0])


@public
def repair(model: Model | str | Path, findings: Sequence[Finding] | None = None, **known: Any) -> Edited:
    """A copy of ``model`` with the proved repairs of ``findings`` (default: of ``diagnose(model, **known)``).

    Example:
        >>> saved = cp.repair("net.mlmodel").model.save("repaired.mlmodel")

    """
    if unknown := ", ".join(name for name in known if name not in signature(diagnose).parameters):
        raise InputError(
            "repair knows what diagnose does", expected=", ".join(signature(diagnose).parameters), found=unknown
        )
    if findings is None:
        findings = diagnose(model, **known)
    return edit(model, [step for finding in findings if finding.repaired for step in finding.edits])


class Score(NamedTuple):
    """How badly a model stands: smaller is better, the first number that differs decides.

    Of a model that does not run ``behind_first`` counts the layers from the first problem on, for a repair brings to light what
    is wrong behind it. ``error`` is the sum of the relative errors at the outputs.
    """

    does_not_run: int = 0
    behind_first: int = 0
    fatal_problems: int = 0
    wrong_labels: int = 0
    wrong_outputs: int = 0
    wrong_values: int = 0
    missed_photos: int = 0
    error: float = 0.0

    @property
    def nothing_left(self) -> bool:
        """Whether neither a problem nor a wrong value remains; photos and rounding may speak for still better repairs."""
        return not any(self[:6])


class RepairLoop:
    """Asks the rules, tries what they offer, keeps what makes the model better, until nothing does."""

    def __init__(self, case: Case, progress: Callable[[str], None]) -> None:
        self.first = self.case = case
        self.progress = progress
        self.repaired: list[Finding] = []
        self._known: dict[tuple[str, bool], list[Hypothesis]] = {}

    def carry_out(self) -> Diagnosis:
        self.progress("examining")
        before = _describe(self.case)
        self._repair_all()
        if (whole := self.case.evidence.on_all_draws()) is not None:
            # one half of a fault was repaired, and hid the other
            self.case.evidence, self._known = whole, {}
            before = before if self.repaired else _describe(self.case)
            self._repair_all()
        self._put_known_forms()
        # sorted() keeps the order of what weighs the same: repairs before what is left
        findings = sorted([*self.repaired, *self._remaining_findings()], key=lambda f: -f.weight)
        seen = self.case.evidence
        return Diagnosis(
            self.first.model,
            tuple(findings),
            self.case.model if self.repaired else None,
            before,
            _describe(self.case),
            _reason(self.case) if seen.unsupported_here else None,
            *(seen.fed if seen.runs else ("", {})),
            verification=seen.verification if seen.runs else None,
            alone=seen.once(weak_answers),
        )

    def _repair_all(self) -> None:
        while len(self.repaired) < MOST_REPAIRS and self._repair_one():
            pass

    def _put_known_forms(self) -> None:
        """Carries out what is advised and proved to compute the same: nothing is wrong before it, and nothing better after it."""
        # all were supposed of one model, and none touches another's layers
        for rule, hypothesis in self._supposed(False) if self.case.evidence.runs else ():
            if hypothesis.same is None:
                continue
            self.progress(f"{rule} at {hypothesis.layer}")
            proved = proved_same(self.case, hypothesis.same)
            if proved is None or _score(proved[0])[:6] > _score(self.case)[:6]:
                continue
            self.case, proof = proved
            words, edits = hypothesis.same.words, hypothesis.same.edits
            self.repaired.append(
                Finding.from_hypothesis(rule, hypothesis, words, repaired=True, proof=proof, edits=edits)
            )

    def _supposed(self, *rounds: bool) -> list[tuple[str, Hypothesis]]:
        """What the rules suppose now (False), and as their last resort (True): the heaviest first, then in the layers' order."""
        place = {node.name: i for i, node in enumerate(self.case.graph.nodes)}
        found = []
        for last in rounds:
            for rule in rules():
                if (rule.id, last) not in self._known:
                    self._known[rule.id, last] = rule.suppose(self.case, last=last)
                found += [(rule.id, hypothesis) for hypothesis in self._known[rule.id, last]]
        # of equal weight the earliest layer first: what is wrong behind it may follow from it
        return sorted(found, key=lambda each: (-each[1].weight, place.get(each[1].layer or "", len(place))))

    def _repair_one(self) -> bool:
        # the last resort guesses, at a run or an inspection a guess: it waits until nothing else helps
        return self._repair_one_of(self._supposed(False)) or self._repair_one_of(self._supposed(True))

    def _repair_one_of(self, supposed: Sequence[tuple[str, Hypothesis]]) -> bool:
        for rule, hypothesis in supposed:
            self.progress(f"{rule} at {hypothesis.layer}" if hypothesis.layer else rule)
            tried = self._best(hypothesis)
            if tried is None:
                continue
            repair, case = tried
            proof = f"before: {_describe(self.case)}; after: {_describe(case)}"
            self.repaired.append(
                Finding.from_hypothesis(rule, hypothesis, repair.words, repaired=True, proof=proof, edits=repair.edits)
            )
            self.case = case
            self._known = {}  # all that was supposed was supposed of another model
            return True
        return False

    def _best(self, hypothesis: Hypothesis) -> tuple[Repair, Case] | None:
        """The repair after which the model stands best, if better than now; the first one that leaves nothing to do wins."""
        best: tuple[Score, Repair, Case] | None = None
        now = _score(self.case)
        for repair in hypothesis.repairs:
            try:
                case = self.case.after(repair.edits)
                then = _score(case)
            except CoreproofError:
                continue
            if then < now and (best is None or then < best[0]):
                best = (then, repair, case)
                if then.nothing_left:
                    break
        return None if best is None else (best[1], best[2])

    def _remaining_findings(self) -> Iterator[Finding]:
        """Faults that remain: what needs something to be repaired, and whatever is wrong that no rule explains."""
        explained: set[str | None] = set()
        treated = {(f.rule, f.layer) for f in self.repaired if not f.advice}
        carried_out = {f.evidence for f in self.repaired if f.advice}
        for rule, hypothesis in self._supposed(False, True):
            if hypothesis.repairs and hypothesis.needs is None and hypothesis.weight < 70:
                continue  # a guess that was tried and did not help
            if hypothesis.same is not None and hypothesis.evidence in carried_out:
                continue
            if (rule, hypothesis.layer) in treated:
                continue  # found again, smaller than before: it is told as repaired
            if not hypothesis.advice:
                explained.add(hypothesis.layer)
            yield Finding.from_hypothesis(
                rule, hypothesis, hypothesis.needs or "no repair that was tried made the model better"
            )
        yield from self._unexplained(bool(explained))

    def _unexplained(self, explained: bool) -> Iterator[Finding]:
        """Behind a fault that a rule explains, others may be its consequences."""
        if explained:
            return
        seen, unknown = self.case.evidence, "no rule knows this fault"
        fatal = [p for p in seen.problems if p.fatal]
        for problem in fatal:
            yield Finding(problem.kind, problem.layer, str(problem), unknown, _BY_HAND, weight=90)
        if not fatal and not seen.runs and not seen.unsupported_here:
            yield Finding("does-not-run", None, str(seen.failure), unknown, _BY_HAND, weight=90)
        for row in seen.faults[:1]:
            layer = self.case.graph.layer_of(row.candidate) or row.candidate
            told = f"first value that differs from the source: {row.judgement.problem}"
            yield Finding("diverges", layer, told, unknown, _BY_HAND, weight=60)


_BY_HAND = "look at the layer with `coreproof show`, and operate on it with `coreproof edit`"


def _score(case: Case) -> Score:
    seen = case.evidence
    fatal = [p for p in seen.problems if p.fatal]
    order = {node.name: i for i, node in enumerate(case.graph.nodes)}
    if not seen.runs:
        # a repair may bring several new problems to light: what counts is that they come later
        first = min((order.get(p.layer or "", len(order)) for p in fatal), default=len(order))
        return Score(does_not_run=1, behind_first=len(order) - first, fatal_problems=len(fatal))
    found = seen.verification
    rows = () if found is None else found.rows
    wrong = [row for row in rows if not row.agrees]
    # without a source, what float16 ruins is all that is known to be wrong with an output
    errors = seen.lost.values() if found is None else [row.judgement.rms_relative_error for row in found.outputs]
    return Score(
        fatal_problems=len(fatal),
        wrong_labels=_wrong_labels(case),
        wrong_outputs=len(seen.lost) if found is None else sum(row.how == "output" for row in wrong),
        wrong_values=len(wrong) + len(seen.problems),
        missed_photos=seen.misclassified or 0,
        error=sum(min(error, 1e3) for error in errors),  # or an infinite one would hide what became of the others
    )


def _wrong_labels(case: Case) -> int:
    right, stored = case.right_labels, case.model.signature.labels
    if right is None or stored is None:
        return 0
    return abs(len(right) - len(stored)) + sum(str(a) != str(b) for a, b in zip(right, stored, strict=False))


def _describe(case: Case) -> str:
    if not case.evidence.runs:
        fatal = [p for p in case.evidence.problems if p.fatal]
        if not fatal and case.evidence.unsupported_here:
            return f"inspected, not run: {_reason(case)}"
        return f"does not run ({fatal[0]})" if fatal else f"does not run ({_first_line(case.evidence.failure)})"
    found = case.evidence.verification
    if found is None:
        count = len(case.evidence.problems)
        weak = case.evidence.once(weak_answers)
        told = {name for weakness in failing(weak) for name in weakness.values}
        lost = [repr(name) for name in case.evidence.lost if name not in told]
        ruined = f", float16 ruins {', '.join(lost)}" if lost else ""
        problems = f", {count} problem{'s' if count > 1 else ''}" if count else ""
        return f"{qualified('runs', weak)}{ruined}{problems}{_accuracy(case)}"
    wrong = sum(not row.agrees for row in found.rows)
    if not wrong:
        agree = qualified(f"all {len(found.rows)} compared values agree with the source", found.weaknesses)
        return f"{agree}{_accuracy(case)}"
    return f"{wrong} of {len(found.rows)} compared values diverge from the source"


def _accuracy(case: Case) -> str:
    missed, photos = case.evidence.misclassified, len(case.photos)
    return "" if missed is None else f", {photos - missed} of {photos} photos right"


def _reason(case: Case) -> str:
    """Why coreproof could not run a model that may be sound, in a line."""
    error = case.evidence.failure
    assert error is not None
    named = f" ({error.found})" if error.found is not None and "\n" not in str(error.found) else ""
    return f"{_first_line(error)}{named}"


def _first_line(error: CoreproofError | None) -> str:
    return "" if error is None else str(error).splitlines()[0]


__all__ = ["Diagnosis", "diagnose", "repair"]
