"""What compression explains: a weight that is off by no more than the steps in which it is stored."""

from __future__ import annotations

import numpy as np

from coreproof.doctor.source.layer_differences import STORED, LayerDifference
from coreproof.model.base import Model
from coreproof.model.layer_weights import layer_steps, layer_weights
from coreproof.verification.rounded_weights import explains


def is_compressed(model: Model, difference: LayerDifference) -> bool:
    """Whether a difference is about a weight that is stored in few bits, as a table, or with zeros left out."""
    return difference.kind in STORED and difference.subject in layer_steps(model, difference.layer)


def is_cost(model: Model, difference: LayerDifference) -> bool:
    """Whether a difference is what compression costs, as far as ``explains`` says. A factor is never a cost: it got lost."""
    if difference.kind not in STORED or "scaled by" in difference.words:
        return False
    steps = layer_steps(model, difference.layer).get(difference.subject)
    meant = difference.edits[0].arguments.get("value")
    now = layer_weights(model, difference.layer).get(difference.subject)
    if steps is None or now is None or not isinstance(meant, np.ndarray) or meant.shape != now.shape != ():
        return False
    return explains(now.astype(np.float64), meant.astype(np.float64), steps.astype(np.float64))
