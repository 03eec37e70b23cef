"""proved_same: a form that is known to be good is carried out on a copy, and held against the model as it is."""

from __future__ import annotations

from coreproof.doctor.case import Case
from coreproof.doctor.finding import Repair
from coreproof.errors import CoreproofError
from coreproof.verification.verify import verify


def proved_same(case: Case, form: Repair) -> tuple[Case, str] | None:
    """The case with the form in it, and what was measured; None where it cannot be carried out, or does not compute the same.

    Every output of the model as it is and of the one with the form has to agree, on draws from what the model declares. Inner
    values are not asked: the form is made of others. An output that proves nothing by agreeing proves nothing here either.
    """
    try:
        after = case.after(form.edits)
        found = verify(case.evidence.model, after.evidence.model)
    except CoreproofError:
        return None
    outputs = found.outputs
    if not outputs or not all(row.agrees for row in outputs) or found.weak:
        return None
    return after, f"computes the same: all {len(outputs)} outputs agree with those of the model as it is"
