"""fixed-batch: a batch above 1 that model and source fix alike: nothing is wrong, and the app has to know it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from coreproof.doctor.case import Case
from coreproof.doctor.finding import Hypothesis
from coreproof.doctor.rules.declared_batch import fixed_batch, of_source
from coreproof.errors import CoreproofError
from coreproof.model.numbers import rms
from coreproof.runtime.open import session

_SAME = 1e-2
"""The share of an output's scale by which float16 may move a sample when it stands at another place of the batch."""


def applies(case: Case) -> bool:
    return case.model.is_coreml_graph and case.evidence.reference is not None and case.evidence.runs


def hypotheses(case: Case) -> Iterator[Hypothesis]:
    """Inputs [4, 3, 224, 224] here and in the source: a prediction takes four pictures, no less and no more.

    That the first length is a batch is seen by running: the samples in another order give the same answers in that order.
    """
    found = {
        feature: length
        for feature in case.model.signature.inputs
        if (length := fixed_batch(feature)) > 1 and length in map(fixed_batch, of_source(case, feature))
    }
    lengths = set(found.values())
    if len(lengths) != 1 or not _is_batch(case, {f.name for f in found}, length := lengths.pop()):
        return
    named = ", ".join(map(str, found))
    yield Hypothesis(
        evidence=f"{named}, as in the source: every prediction takes exactly {length} samples",
        cause=f"both were made with a dummy input of {length} samples, and none of the dimensions was left free",
        needs=(
            f"no repair: the app must feed batches of exactly {length} and fill up the last one; to predict one at a time, "
            "export the source anew with a batch of 1"
        ),
        weight=15,
        advice=True,
    )


def _is_batch(case: Case, names: set[str], length: int) -> bool:
    """Whether all outputs have that first length too, and follow their samples to other places of it."""
    fed = case.evidence.feeds.candidate[0]
    # a model that mixes its samples, or works along them, gives other answers in another order
    turned = {name: np.roll(np.asarray(value), 1, axis=0) if name in names else value for name, value in fed.items()}
    try:
        with session(case.evidence.model) as running:
            straight, moved = _arrays(running.run(fed)), _arrays(running.run(turned))
    except CoreproofError:
        return False
    return bool(straight) and all(
        value.ndim > 0 and value.shape[0] == length and _alike(np.roll(value, 1, axis=0), moved[name])
        for name, value in straight.items()
    )


def _arrays(made: Mapping[str, object]) -> dict[str, np.ndarray]:
    return {name: value for name, value in made.items() if isinstance(value, np.ndarray)}


def _alike(a: np.ndarray, b: np.ndarray) -> bool:
    if a.dtype.kind not in "fiu" or a.shape != b.shape:
        return False
    wide, other = a.astype(np.float64), b.astype(np.float64)
    return bool(np.all(np.abs(wide - other) <= _SAME * (rms(wide) or 1.0)))
