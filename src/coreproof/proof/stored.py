"""A proof.json read back, whoever wrote it: what it said, and what it rests on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from coreproof.errors import InputError
from coreproof.model.files.entries import Entry, read_json
from coreproof.proof.foundation import Foundation


@dataclass(frozen=True)
class StoredStep:
    """A step as the file says it. ``error``: the largest relative error of an output; None where nothing was verified."""

    name: str
    kind: str
    reference: str
    candidate: str
    ok: bool | None
    values: int = 0
    agreeing: int = 0
    first: str | None = None
    error: float | None = None

    @property
    def key(self) -> tuple[str, str, str]:
        """What tells it from the others of its proof."""
        return self.kind, self.reference, self.candidate or self.name


@dataclass(frozen=True)
class StoredProof:
    """What proof.json says. ``shares``: of each two models the share of photos on which they name one class, and the photos."""

    path: Path
    title: str
    text: str
    agrees: bool
    proves: bool
    steps: Mapping[tuple[str, str, str], StoredStep]
    versions: Mapping[str, str]
    foundation: Foundation | None
    shares: Mapping[tuple[str, str], tuple[float, int]]


def read_proof(path: str | Path) -> StoredProof:
    """Reads proof.json, or the folder that holds it. Raises InputError for what is no proof."""
    path = Path(path)
    if path.is_dir():
        path = path / "proof.json"
    fail = InputError.of_file("this is no proof of coreproof, or it is damaged", path)
    document = read_json(path, fail)
    if document.get("format").value != "coreproof proof" or document.get("version").value != 1:
        raise InputError(
            "this is no proof that this coreproof reads",
            where=str(path),
            expected='"format": "coreproof proof", "version": 1',
            found=f"{document.get('format').value!r}, version {document.get('version').value!r}",
            fix="give the proof.json that coreproof prove wrote",
        )
    verdict, rests_on = document["verdict"], document.get("rests_on")
    steps = [_step(entry) for entry in document["steps"].each()]
    return StoredProof(
        path,
        document["title"].text(),
        verdict["text"].text(),
        verdict["agrees"].flag(),
        verdict["proves"].flag(),
        {step.key: step for step in steps},
        {name: version.text() for name, version in document["versions"].table().items()},
        rests_on.optional(Foundation.read),
        _shares(path.with_name("comparison.json")),
    )


def _step(entry: Entry) -> StoredStep:
    name, kind, reference, candidate = (entry[key].text() for key in ("name", "kind", "from", "to"))
    ok = entry["ok"].optional(Entry.flag)
    rows = entry["rows"].each()
    if not rows:
        return StoredStep(name, kind, reference, candidate, ok)
    outputs = [row for row in rows if row["how"].text() == "output"]
    errors = [_share_of_scale(row) for row in outputs]
    first = entry["first_divergence"]
    return StoredStep(
        name,
        kind,
        reference,
        candidate,
        ok,
        len(rows),
        sum(row["agrees"].flag() for row in rows),
        first.optional(lambda row: row["candidate"].text()),
        max(errors, default=None),
    )


def _share_of_scale(row: Entry) -> float:
    # what is not finite is written as a word
    error = row["max_relative_error"].value
    return float(error) if isinstance(error, int | float) else float("inf")


def _shares(path: Path) -> dict[tuple[str, str], tuple[float, int]]:
    if not path.is_file():
        return {}
    document = read_json(path, InputError.of_file("the comparison beside the proof is damaged", path))
    pairs = document.get("pairs")
    if pairs.value is None:  # over other inputs than photos
        return {}
    return {
        (pair["a"].text(), pair["b"].text()): (pair["share"].number(), pair["photos"].whole()) for pair in pairs.each()
    }
