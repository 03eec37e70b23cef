"""Whether a PyTorch module and its exported program answer alike: where not, the program excuses no output.

Outputs come from the module itself, inner values from the program that ``torch.export`` traced. An output that is further off
than its bound is computed again from what arrives there, by the program. Where a module goes another way while it is exported
(``torch.compiler.is_exporting``), or keeps numbers in attributes, the program and what was made of it are wrong alike.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import TypeGuard

import numpy as np

from coreproof.errors import CoreproofError
from coreproof.model.base import Model
from coreproof.model.numbers import relative_rms
from coreproof.model.torch.model import TorchModel
from coreproof.pairing.taps import as_array
from coreproof.runtime.session import Session
from coreproof.verification.run import VerificationRun
from coreproof.verification.verification import Verification

_APART = {"float16": 0.05, "bfloat16": 0.1}
"""So far apart, as shares of an output's scale, two orders of the same computation hardly come in these types; in others 1e-3."""

_TIMES_NUDGED = 30
"""So many times what the last digits of the inputs bring about."""


def held_to_the_module(run: VerificationRun, found: Verification) -> Verification:
    """The verification, without the excuses of outputs at which a module and its own exported program are apart.

    The module is called once more only where an output is excused; rows that agree by their bounds are as they were.
    """
    excused = {row.reference: row for row in found.outputs if row.agrees and not row.judgement.agrees}
    if not found.agrees or not excused:
        return found
    told: dict[str, float] = {}
    for at, (model, running) in enumerate(
        ((run.reference, run.reference_session), (run.candidate, run.candidate_session))
    ):
        names = {row.reference: (row.reference, row.candidate)[at] for row in excused.values()}
        if not _has_both(model):
            continue
        for pair in run.feeds:
            try:
                apart = _apart(running, model, pair[at])
            except CoreproofError:
                continue  # the program is bound to the lengths of the example
            told |= {key: max(told.get(key, 0.0), apart[name]) for key, name in names.items() if name in apart}
    if not told:
        return found
    rows = tuple(
        replace(row, carried=None, harmless=False, switched=0) if row.how == "output" and row.reference in told else row
        for row in found.rows
    )
    furthest = max(told, key=lambda name: told[name])
    said = (
        f"; the module itself and the program that PyTorch exports are apart at {furthest!r} by {told[furthest]:.2g} of its "
        "scale: its forward goes another way while it is exported, or keeps numbers in attributes"
    )
    return replace(found, rows=rows, inputs=found.inputs + said)


def _has_both(model: Model) -> TypeGuard[TorchModel]:
    return (
        isinstance(model, TorchModel)
        and model.has_program
        and not (model.path is not None and model.path.suffix == ".pt2")
    )


def _apart(running: Session, model: TorchModel, sample: Mapping[str, object]) -> dict[str, float]:
    """The outputs at which the two are apart by more than rounding, with the share of the scale."""
    ends = [end for end in model.exported().graph_signature.user_outputs if isinstance(end, str)]
    of = {name: end for name, end in zip(model.example_outputs, ends, strict=False) if end in running.tappable}
    once = running.run(sample, tuple(dict.fromkeys(of.values())))
    nudged = running.run({name: _nudged(value) for name, value in sample.items()})
    found = {}
    for name, end in of.items():
        if name not in once or end not in once:
            continue
        answer = as_array(once[name])
        share = _share(answer, as_array(once[end]))
        allowed = max(_APART.get(answer.dtype.name, 1e-3), _TIMES_NUDGED * _share(answer, as_array(nudged[name])))
        if share > allowed:
            found[name] = share
    return found


def _nudged(value: object) -> object:
    """Moved by some of its last digits."""
    array = as_array(value)
    if array.dtype.kind != "f":
        return value
    return (array * (1 + 4 * np.finfo(array.dtype).eps)).astype(array.dtype)


def _share(a: np.ndarray, b: np.ndarray) -> float:
    """The root-mean-square difference as a share of the scale, over what is finite in both; of whole numbers how many differ."""
    if a.size != b.size:
        return math.inf
    if a.dtype.kind in "iub":
        # a choice between two near numbers falls either way: most of them do not
        differing = float(np.mean(a.reshape(-1) != b.reshape(-1))) if a.size else 0.0
        return differing if differing > 0.5 else 0.0
    x, y = a.reshape(-1), b.reshape(-1)
    both = np.isfinite(x) & np.isfinite(y)
    return relative_rms(x[both], y[both])
