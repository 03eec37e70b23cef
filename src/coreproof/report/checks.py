"""Checks: a result as CI wants to hear of it, one line a check, and the shares that a requirement is held against."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from coreproof.comparison.agreement import wilson
from coreproof.model.weakness import Weakness, failing

if TYPE_CHECKING:
    from coreproof.comparison.comparison import Comparison
    from coreproof.comparison.over_inputs import InputComparison
    from coreproof.doctor.diagnose import Diagnosis
    from coreproof.verification.row import Row
    from coreproof.verification.verification import Verification

Outcome = Literal["passed", "failed", "weak", "allowed", "skipped"]
_WORST = 5
"""Photos that are named of each two models: those on which they are furthest apart."""


@dataclass(frozen=True)
class Check:
    """One thing that was looked at. ``weak``: it agrees, and proves nothing by that. ``group``: the step that it is part of.

    ``allowed``: it failed or is weak, and whoever asked lets that pass. ``shared``: it is counted in a share, so that a
    requirement on the share judges it.
    """

    name: str
    outcome: Outcome
    text: str = ""
    group: str = ""
    seconds: float = 0.0
    shared: bool = False


@dataclass(frozen=True)
class Share:
    """How much agrees: ``agreeing`` of ``total`` values, photos or places. ``low``: the lower end of Wilson's 95% interval."""

    name: str
    agreeing: int
    total: int
    unit: str
    low: float

    @property
    def value(self) -> float:
        """The share, 0..1; 0 where nothing was compared."""
        return self.agreeing / self.total if self.total else 0.0

    def __str__(self) -> str:
        return f"{self.name}: {self.agreeing:,} of {self.total:,} {self.unit} agree ({self.value:.2%})"


@dataclass(frozen=True)
class Requirement:
    """What share has to agree (``share``), and what the lower end of its interval has to be (``lower``); None asks nothing."""

    share: float | None = None
    lower: float | None = None

    @property
    def asked(self) -> bool:
        """Whether anything is required."""
        return self.share is not None or self.lower is not None

    def misses(self, shares: Sequence[Share]) -> tuple[str, ...]:
        """In words, which shares are less than required; what could not be measured is missed, too."""
        if not self.asked:
            return ()
        if not shares:
            # what cannot be measured must not pass for agreement: CI would stay green for ever
            return ("no share was measured: nothing that can agree or differ was compared",)
        found = []
        for share in shares:
            if self.share is not None and share.value < self.share:
                found.append(f"{share}; required: {self.share:.2%}")
            if self.lower is not None and share.low < self.lower:
                found.append(f"{share}; 95% interval from {share.low:.2%}, required: {self.lower:.2%}")
        return tuple(found)


@dataclass(frozen=True)
class Checks:
    """All that CI hears of one result. ``worst``: between which models, and the photos on which they are furthest apart."""

    title: str
    verdict: str
    checks: tuple[Check, ...]
    shares: tuple[Share, ...] = ()
    worst: Mapping[str, tuple[str, ...]] | None = None

    def required(self, requirement: Requirement, *, allow_weak: bool = False) -> Checks:
        """The same with what was required, and with what that lets pass: the exit code and the checks say one thing."""
        misses, checks = requirement.misses(self.shares), list(self.checks)
        if allow_weak:
            checks = [replace(c, outcome="allowed") if c.outcome == "weak" else c for c in checks]
        if requirement.asked and not misses:
            checks = [replace(c, outcome="allowed") if c.shared and c.outcome == "failed" else c for c in checks]
        if requirement.asked:
            said = [f"{requirement.share:.2%}"] if requirement.share is not None else []
            said += [f"{requirement.lower:.2%} at the interval's lower end"] if requirement.lower is not None else []
            text = "; ".join(misses) or f"the least: {min(self.shares, key=lambda share: share.value)}"
            checks.append(Check(f"required: {' and '.join(said)}", "failed" if misses else "passed", text))
        return replace(self, checks=tuple(checks))

    def count(self, outcome: Outcome) -> int:
        """How many checks ended so."""
        return sum(check.outcome == outcome for check in self.checks)


def of_verification(found: Verification, group: str = "", seconds: float = 0.0) -> Checks:
    """Each compared value is a check; what fails says by how much, and weak outputs say why."""
    group = group or f"{found.candidate} against {found.reference}"
    rows = [Check(row.candidate, _outcome(row), _measured(row), group, shared=True) for row in found.rows]
    lone = [Check(name, "failed", "an output without a partner", group) for name in found.lone]
    # the time of a run cannot be divided among its values: the first one carries it
    if rows:
        rows[0] = replace(rows[0], seconds=seconds)
    return Checks(
        f"{found.candidate} against {found.reference}",
        found.summary().splitlines()[0],
        (*rows, *lone, *_weak(found.weaknesses, group)),
        (share_of(found, group),),
    )


def share_of(found: Verification, name: str = "") -> Share:
    """How many of the compared values agree."""
    agreeing, total = sum(row.agrees for row in found.rows), len(found.rows)
    return Share(
        name or f"{found.candidate} against {found.reference}", agreeing, total, "values", _low(agreeing, total)
    )


def of_comparison(found: Comparison) -> Checks:
    """Each two models are a check: it measures, and fails by a requirement alone."""
    checks, shares, worst = [], [], {}
    for pair in found.pairs.values():
        name = f"{found.spoken(pair.a)} and {found.spoken(pair.b)}"
        share = Share(name, pair.count, pair.photos, "photos", pair.low)
        checks.append(Check(name, "passed", f"{share}, 95% interval {pair.low:.2%} to {pair.high:.2%}", "agreement"))
        shares.append(share)
        # named by the photos: a share alone shows nobody where to look
        if differing := found.disagreements(pair.a, pair.b, _WORST):
            worst[name] = tuple(differing)
    skipped = [Check(photo, "skipped", why, "photos") for photo, why in found.skipped.items()]
    title = found.title or "comparison"
    least = min(shares, key=lambda share: share.value, default=None)
    verdict = f"{_with_noun(len(found.names), 'model')} over {_with_noun(found.count, 'photo')}"
    verdict += f"; least agreement: {least}" if least is not None else ""
    return Checks(
        title, verdict, (*checks, *skipped, *_weak(found.weaknesses, "agreement")), tuple(shares), worst or None
    )


def of_input_comparison(found: InputComparison) -> Checks:
    """Each output and each two models are a check: it measures, and fails by a requirement alone."""
    checks, shares = [], []
    for pair in found.pairs:
        name = f"{pair.output}: {found.spoken(pair.a)} and {found.spoken(pair.b)}"
        text = f"furthest apart {pair.furthest:.2g} of its scale ({pair.sample})"
        if pair.same is not None and pair.places:
            shares.append(Share(name, pair.same, pair.places, "places", pair.low or 0.0))
            text = f"{shares[-1]}, {text}"
        checks.append(Check(name, "passed", text, "agreement"))
    return Checks(
        found.title or "comparison", found.text, (*checks, *_weak(found.weaknesses, "agreement")), tuple(shares)
    )


def of_diagnosis(found: Diagnosis, name: str) -> Checks:
    """Whether it runs is a check, and each finding; against a source, the share of values that agree is measured, too."""
    # not run here is no fault of the model's
    ran: Outcome = "skipped" if found.not_run is not None else "passed"
    checks = [Check("before any repair", ran, found.not_run or found.before, "doctor")]
    for finding in found:
        text = "; ".join(part for part in (finding.evidence, finding.cause, finding.repair, finding.proof) if part)
        place = f" at {finding.layer}" if finding.layer else ""
        checks.append(Check(f"{finding.rule}{place}", "passed" if finding.advice else "failed", text, "doctor"))
    shares: tuple[Share, ...] = () if found.verification is None else (share_of(found.verification),)
    if found.repaired is not None:
        # what was verified last is the copy with the repairs, which is not what was given
        shares = tuple(replace(share, name=f"{share.name}, repaired") for share in shares)
    word = {True: "healthy", False: _with_noun(len(found.faults), "finding"), None: "not known"}[found.healthy]
    verdict = f"{name}: {word}; {found.not_run or found.before}"
    return Checks(name, verdict, (*checks, *_weak(found.weaknesses, "doctor")), shares)


def together(title: str, parts: Mapping[str, Checks]) -> Checks:
    """The functions of a package, each with its checks, as one."""
    return Checks(
        title,
        "; ".join(f"{name}: {part.verdict}" for name, part in parts.items()),
        tuple(replace(c, group=f"{name}, {c.group}") for name, part in parts.items() for c in part.checks),
        tuple(replace(s, name=f"{name}, {s.name}") for name, part in parts.items() for s in part.shares),
    )


def _outcome(row: Row) -> Outcome:
    if not row.agrees:
        return "failed"
    # inner values may well be constant; an output that is proves nothing
    return "weak" if row.how == "output" and row.weakness is not None else "passed"


def _measured(row: Row) -> str:
    judged = row.judgement
    apart = (
        judged.problem if math.isnan(judged.max_error) and judged.problem else f"furthest apart {judged.max_error:.3g}"
    )
    text = f"{row.operator}: {apart}"
    return text if row.weakness is None else f"{text}; proves nothing: {row.weakness}"


def _weak(weaknesses: Iterable[Weakness], group: str) -> list[Check]:
    return [Check(f"weak: {weakness.kind}", "weak", weakness.text, group) for weakness in failing(weaknesses)]


def _low(agreeing: int, total: int) -> float:
    return wilson(agreeing, total)[0] if total else 0.0


def _with_noun(count: int, noun: str) -> str:
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"
