"""compare_proofs: two proofs held against each other: what became better, what became worse."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from coreproof.model.notebook_view import Spoken
from coreproof.model.public import public
from coreproof.proof.stored import StoredProof, StoredStep, read_proof
from coreproof.verification.verification import apart

_TIMES = 2.0
"""An output's error has to grow or shrink by more than this factor to be told: drawn inputs scatter less."""


@dataclass(frozen=True)
class ProofChange:
    """One thing that is not as it was. ``worse`` is None for what is neither better nor worse."""

    what: str
    before: str
    after: str
    worse: bool | None = None

    def to_json(self) -> dict[str, object]:
        """The change as ``coreproof compare-proofs --json`` prints it."""
        return vars(self)


@dataclass(frozen=True, repr=False)
class ProofDifference(Spoken):
    """What distinguishes two proofs. Truthy where nothing became worse."""

    before: str
    after: str
    changes: tuple[ProofChange, ...]

    def _spoken(self) -> str:
        return self.text

    @property
    def worse(self) -> tuple[ProofChange, ...]:
        """What became worse."""
        return tuple(change for change in self.changes if change.worse)

    def __bool__(self) -> bool:
        return not self.worse

    @property
    def text(self) -> str:
        """The finding in one sentence."""
        better = sum(change.worse is False for change in self.changes)
        told = [f"{len(self.worse)} worse", f"{better} better", f"{len(self.changes) - better - len(self.worse)} other"]
        said = [part for part in told if not part.startswith("0 ")]
        return f"{self.before} and {self.after}: {', '.join(said) if said else 'nothing differs'}"

    def to_json(self) -> dict[str, object]:
        """What ``coreproof compare-proofs --json`` prints."""
        return {
            "before": self.before,
            "after": self.after,
            "text": self.text,
            "worse": bool(self.worse),
            "changes": [change.to_json() for change in self.changes],
        }


@public
def compare_proofs(before: str | Path, after: str | Path) -> ProofDifference:
    """Holds two proofs against each other: verdict, steps, outputs' errors, agreement over photos, versions, what they rest on.

    ``before`` and ``after``: proof.json, or the folder that holds it. Raises InputError for what is no proof.

    Example:
        >>> proof = cp.prove("net.onnx", None, "proof", samples=2, witness=False)
        >>> bool(cp.compare_proofs("proof", "proof"))
        True

    """
    one, other = read_proof(before), read_proof(after)
    changes = [*_verdict(one, other), *_steps(one, other), *_agreement(one, other), *_grounds(one, other)]
    return ProofDifference(str(before), str(after), tuple(changes))


def _verdict(one: StoredProof, other: StoredProof) -> list[ProofChange]:
    found = []
    if one.title != other.title:
        found.append(ProofChange("model", one.title, other.title))
    standing = [(each.agrees, each.proves) for each in (one, other)]
    if standing[0] != standing[1]:
        found.append(ProofChange("verdict", one.text, other.text, worse=standing[1] < standing[0]))
    return found


def _steps(one: StoredProof, other: StoredProof) -> list[ProofChange]:
    found = []
    for key in dict.fromkeys((*one.steps, *other.steps)):
        a, b = one.steps.get(key), other.steps.get(key)
        if a is None or b is None:
            # a step that went is worse; one that came is neither
            name = (a or b or StoredStep("", "", "", "", None)).name
            found.append(ProofChange(name, in_words(a), in_words(b), worse=b is None or None))
        # shares without a division: a step may have no values
        elif a.ok != b.ok or a.agreeing * b.values != b.agreeing * a.values or a.first != b.first:
            worse = (b.ok is not False, b.agreeing / max(b.values, 1)) < (
                a.ok is not False,
                a.agreeing / max(a.values, 1),
            )
            found.append(ProofChange(a.name, in_words(a), in_words(b), worse=worse))
        elif a.error is not None and b.error is not None and max(a.error, b.error) > _TIMES * min(a.error, b.error):
            # both are within what rounding explains: the figure is told, and is no fault
            before, after = apart(a.error), apart(b.error)
            found.append(ProofChange(a.name, before, after))
    return found


def in_words(step: StoredStep | None) -> str:
    """What a step found, in a few words; of one that a proof does not have, that."""
    if step is None:
        return "not there"
    if not step.values:
        return {True: "agrees", False: "disagrees", None: "done"}[step.ok]
    first = "" if step.first is None else f", first diverges {step.first!r}"
    return f"{step.agreeing:,} of {step.values:,} values agree{first}"


def _agreement(one: StoredProof, other: StoredProof) -> list[ProofChange]:
    found = []
    for pair in dict.fromkeys((*one.shares, *other.shares)):
        a, b = one.shares.get(pair), other.shares.get(pair)
        if a != b:
            before, after = (
                "not compared" if s is None else f"same class on {s[0]:.2%} of {s[1]:,} photos" for s in (a, b)
            )
            worse = None if a is None or b is None or a[0] == b[0] else b[0] < a[0]
            found.append(ProofChange(f"{pair[0]} and {pair[1]}", before, after, worse))
    return found


def _grounds(one: StoredProof, other: StoredProof) -> list[ProofChange]:
    found = []
    for name in dict.fromkeys((*one.versions, *other.versions)):
        before, after = one.versions.get(name, "none"), other.versions.get(name, "none")
        if before != after:
            found.append(ProofChange(f"version of {name}", before, after))
    a, b = one.foundation, other.foundation
    if a is None or b is None:
        return found
    if a.source != b.source:
        found.append(ProofChange("source", a.source, b.source))
    if (a.fed, a.inputs) != (b.fed, b.inputs):
        found.append(ProofChange("inputs", f"{a.count:,} {a.fed}, {a.inputs}", f"{b.count:,} {b.fed}, {b.inputs}"))
    for name in dict.fromkeys((*a.options, *b.options)):
        before, after = (str(each.options.get(name, "not said"))[:200] for each in (a, b))
        if before != after:
            found.append(ProofChange(f"option {name}", before, after))
    return found
