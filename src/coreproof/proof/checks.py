"""A proof as CI wants to hear of it: each step, each value that was verified, and each two models."""

from __future__ import annotations

from coreproof.model.weakness import failing
from coreproof.proof.document import Proof, ProofStep
from coreproof.report.checks import (
    Check,
    Checks,
    Outcome,
    Requirement,
    of_comparison,
    of_input_comparison,
    of_verification,
)


def of_proof(proof: Proof) -> Checks:
    """All steps of a proof in their order, then what was compared."""
    parts = [_of_step(proof, step) for step in proof.steps]
    if proof.comparison is not None:
        parts.append(of_comparison(proof.comparison))
    if proof.over_inputs is not None:
        parts.append(of_input_comparison(proof.over_inputs))
    worst = {name: photos for part in parts for name, photos in (part.worst or {}).items()}
    return Checks(
        proof.title,
        proof.text,
        tuple(check for part in parts for check in part.checks),
        tuple(share for part in parts for share in part.shares),
        worst or None,
    )


def survives(proof: Proof, required: Requirement) -> bool:
    """Whether every step agrees; with a requirement a verification may diverge in single values, as long as enough agree."""
    return all(step.ok is not False or (required.asked and step.verification is not None) for step in proof.steps)


def _of_step(proof: Proof, step: ProofStep) -> Checks:
    if step.verification is not None:
        return of_verification(step.verification, step.name, step.seconds)
    done: Outcome = "passed" if _was_carried_out(proof, step) else "skipped"
    outcome = "failed" if step.ok is False else "weak" if failing(step.weak) else done
    return Checks(step.name, step.text, (Check(step.name, outcome, step.text, "steps", step.seconds),))


def _was_carried_out(proof: Proof, step: ProofStep) -> bool:
    """A route that cannot express the model, and a comparison without photos, are steps that did not happen."""
    if step.kind == "compare":
        return proof.comparison is not None or proof.over_inputs is not None
    return step.kind not in ("convert", "witness") or step.candidate in proof.models
