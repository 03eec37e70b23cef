"""Proof: what was shown about one model, step by step; what proof.json holds and the page shows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from coreproof.model.base import Model
from coreproof.model.versions import versions
from coreproof.verify.verify import Verification

if TYPE_CHECKING:
    from coreproof.compare.comparison import Comparison

Kind = Literal["obtain", "check", "convert", "verify", "witness", "compare"]


@dataclass(frozen=True)
class Step:
    """One step of the chain and what it showed. ``ok`` None means that there was nothing to decide, or it was skipped."""

    name: str
    kind: Kind
    text: str
    ok: bool | None
    seconds: float
    reference: str = ""
    candidate: str = ""
    engines: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    verification: Verification | None = None

    def to_json(self) -> dict[str, Any]:
        """The step as the page and proof.json hold it."""
        document: dict[str, Any] = {
            "name": self.name,
            "kind": self.kind,
            "from": self.reference,
            "to": self.candidate,
            "ok": self.ok,
            "text": self.text,
            "seconds": round(self.seconds, 3),
            "engines": list(self.engines),
            "notes": list(self.notes),
            "rows": [],
            "first_divergence": None,
        }
        if self.verification is not None:
            document.update(self.verification.to_json())
        return document


@dataclass(frozen=True)
class Proof:
    """What was proved about one model. Truthy when every step agrees."""

    title: str
    steps: tuple[Step, ...]
    folder: Path
    comparison: Comparison | None
    command: str
    models: Mapping[str, Model] = field(default_factory=dict)

    @property
    def agrees(self) -> bool:
        return all(step.ok is not False for step in self.steps)

    def __bool__(self) -> bool:
        return self.agrees

    @property
    def page(self) -> Path:
        return self.folder / "index.html"

    @property
    def text(self) -> str:
        """The verdict in one sentence."""
        verified = [s for s in self.steps if s.kind == "verify" and s.ok is not None]
        failed = [s for s in self.steps if s.ok is False]
        if failed:
            first = failed[0]
            where = ""
            if first.verification is not None and first.verification.first_divergence is not None:
                where = f", first at {first.verification.first_divergence.candidate!r}"
            return f"{self.title} does not survive: {first.name} disagrees{where}."
        found = [s.verification for s in verified if s.verification is not None]
        values = sum(len(v.rows) for v in found)
        weak = sum(len(v.weak) for v in found)
        text = (
            f"{self.title} is still the same model: {len(verified)} conversions agree "
            f"in all {values:,} values compared, each within what rounding explains."
        )
        if weak:
            text += f" For {weak:,} of them that says little: rounding alone may change half of the value."
        return text

    def to_json(self) -> dict[str, Any]:
        """What proof.json holds and the page shows."""
        return {
            "format": "coreproof proof",
            "version": 1,
            "title": self.title,
            "verdict": {"agrees": self.agrees, "text": self.text},
            "steps": [step.to_json() for step in self.steps],
            "versions": versions(),
            "command": self.command,
        }
