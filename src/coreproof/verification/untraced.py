"""What a PyTorch module does and its traced program does not: ``y.data = ...``, which an export drops without a word."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from coreproof.errors import CoreproofError
from coreproof.pairing.taps import as_array
from coreproof.runtime.torch import TorchSession
from coreproof.verification.row import Row
from coreproof.verification.run import VerificationRun

_APART = 0.01
"""Rounding explains less, as a share of the scale, between a module and what it was traced as."""


def as_traced(run: VerificationRun, rows: Sequence[Row]) -> list[Row]:
    """The rows without outputs that the module answers otherwise than its own program does.

    The program is what a stretch is computed with once more. It tells nothing of what it was traced without.
    """
    session = run.reference_session
    asked = [row for row in rows if row.how == "output" and not row.agrees]
    if not asked or not isinstance(session, TorchSession):
        return list(rows)
    other: set[str] = set()
    for sample, _ in run.feeds:
        try:
            answered, traced = session.run(sample), session.run_program(sample)
        except CoreproofError:
            continue  # a program is bound to the lengths that it was traced with
        other |= {name for name in traced if _is_apart(answered.get(name), traced[name])}
    return [row for row in rows if row.reference not in other or row not in asked]


def _is_apart(answered: object, traced: object) -> bool:
    if answered is None:
        return False
    a, b = (np.asarray(as_array(value), np.float64) for value in (answered, traced))
    if a.shape != b.shape:
        return False
    known = np.isfinite(a) & np.isfinite(b)
    if not known.any():
        return False
    scale, off = (math.sqrt(float(np.mean(v[known] ** 2))) for v in (a, a - b))
    return off > _APART * scale
