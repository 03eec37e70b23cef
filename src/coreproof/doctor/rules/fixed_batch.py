"""fixed-batch: a batch above 1 that model and source fix alike: nothing is wrong, and the app has to know it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from coreproof.doctor.case import Case
from coreproof.doctor.finding import Hypothesis
from coreproof.errors import CoreproofError
from coreproof.model.features import Feature
from coreproof.runtime.open import session

Array = np.ndarray

_SAME = 1e-2
"""The share of an output's scale by which float16 may move a sample when it stands at another place of the batch."""


def applies(case: Case) -> bool:
    return case.model.is_coreml_graph and case.evidence.reference is not None and case.evidence.runs


def hypotheses(case: Case) -> Iterator[Hypothesis]:
    """Inputs [4, 3, 224, 224] here and in the source: a prediction takes four pictures, no less and no more.

    That the first length is a batch is seen by running: the samples in another order give the same answers in that order.
    """
    if not case.model.is_coreml_graph or case.evidence.reference is None or not case.evidence.runs:
        return
    found = [(f, b) for f in case.model.signature.inputs if (b := _first(f)) > 1 and _in_source(case, f, b)]
    if not found or len({b for _, b in found}) > 1 or not _is_batch(case, {f.name for f, _ in found}, found[0][1]):
        return
    length = found[0][1]
    named = ", ".join(str(f) for f, _ in found)
    yield Hypothesis(
        layer=None,
        evidence=f"{named}, as in the source: every prediction takes exactly {length} samples",
        cause=f"both were made with a dummy input of {length} samples, and none of the dimensions was left free",
        needs=(
            f"no repair: the app must feed batches of exactly {length} and fill up the last one; to predict one at a time, "
            "export the source anew with a batch of 1"
        ),
        weight=15,
        advice=True,
    )


def _first(feature: Feature) -> int:
    """The fixed first length of an array of two dimensions or more; 1 for everything else."""
    shape = feature.shape
    if feature.kind != "tensor" or feature.ranges or len(feature.enumerated) > 1 or shape is None or len(shape) < 2:
        return 1
    return shape[0] if isinstance(shape[0], int) else 1


def _in_source(case: Case, feature: Feature, batch: int) -> bool:
    assert case.evidence.reference is not None
    theirs = case.evidence.reference.signature.inputs
    named = [f for f in theirs if f.name == feature.name] or (list(theirs) if len(theirs) == 1 else [])
    return any(_first(f) == batch for f in named)


def _is_batch(case: Case, names: set[str], length: int) -> bool:
    """Whether all outputs have that first length too, and follow their samples to other places of it."""
    fed = case.evidence.feeds.model[0]
    turned = {name: np.roll(np.asarray(value), 1, axis=0) if name in names else value for name, value in fed.items()}
    try:
        with session(case.model) as running:
            straight, moved = _arrays(running.run(fed)), _arrays(running.run(turned))
    except CoreproofError:
        return False
    return bool(straight) and all(
        value.ndim > 0 and value.shape[0] == length and _alike(np.roll(value, 1, axis=0), moved[name])
        for name, value in straight.items()
    )


def _arrays(made: Mapping[str, Any]) -> dict[str, Array]:
    return {name: value for name, value in made.items() if isinstance(value, np.ndarray)}


def _alike(a: Array, b: Array) -> bool:
    if a.dtype.kind not in "fiu" or a.shape != b.shape:
        return False
    scale = float(np.sqrt(np.mean(np.square(a.astype(np.float64))))) or 1.0
    return bool(np.all(np.abs(a.astype(np.float64) - b.astype(np.float64)) <= _SAME * scale))
