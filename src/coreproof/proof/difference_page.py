"""The page of compare_proofs: two proofs side by side, what became worse first."""

from __future__ import annotations

from pathlib import Path

from coreproof.model.files.atomic import replacing
from coreproof.model.files.outputs import PAGE, check_output
from coreproof.proof.difference import ProofDifference, in_words
from coreproof.proof.stored import StoredProof, read_proof
from coreproof.report.page import environment


def difference_page(found: ProofDifference, folder: str | Path, *, replace: bool = False) -> Path:
    """Writes index.html into a folder; returns its path.

    The two proofs are read again from where ``found`` says that they lie. Raises OutputExistsError where something else than a
    page stands there, unless ``replace`` allows it, and InputError where a proof is gone.
    """
    path = Path(folder) / "index.html"
    check_output(path, PAGE, replace=replace)
    before, after = read_proof(found.before), read_proof(found.after)
    # what is worse, then better, then neither
    changes = sorted(found.changes, key=lambda change: {True: 0, False: 1, None: 2}[change.worse])
    html = environment().get_template("difference.html.j2").render(
        found=found,
        state="bad" if found.worse else "good" if changes else "neutral",
        sides=[(Path(name).name, proof, _state(proof)) for name, proof in ((found.before, before), (found.after, after))],
        changes=changes,
        counts={
            word: sum(change.worse is worse for change in changes)
            for word, worse in (("worse", True), ("better", False), ("other", None))
        },
        steps=_steps(before, after),
    )  # fmt: skip
    with replacing(path, PAGE, replace=replace) as fresh:
        fresh.write_text(html, encoding="utf-8")
    return path


def _state(proof: StoredProof) -> str:
    return "bad" if not proof.agrees else "good" if proof.proves else "weak"


def _steps(before: StoredProof, after: StoredProof) -> list[tuple[str, list[tuple[str, str, float | None]]]]:
    """Each step of either, and of both proofs its standing, what it found and the error of its outputs."""
    found = []
    for key in dict.fromkeys((*before.steps, *after.steps)):
        each = [proof.steps.get(key) for proof in (before, after)]
        name = next(step.name for step in each if step is not None)
        states = ["neutral" if s is None or s.ok is None else "good" if s.ok else "bad" for s in each]
        sides = [
            (state, in_words(step), None if step is None else step.error)
            for state, step in zip(states, each, strict=True)
        ]
        found.append((name, sides))
    return found
