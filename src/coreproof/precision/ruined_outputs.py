"""Which outputs a model loses to float16 as it stores it, found without a source: by computing the same in float32."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from coreproof.feeding.drawn import Inputs
from coreproof.feeding.inputs import samples
from coreproof.model.base import Model
from coreproof.model.numbers import relative_rms
from coreproof.pairing.taps import as_array
from coreproof.precision.forecast import AT_MOST
from coreproof.runtime.open import session


def ruined_outputs(model: Model, inputs: Inputs, at_most: float = AT_MOST) -> Mapping[str, float]:
    """output -> its error as a share of its scale, for the outputs that are off by more than ``at_most``.

    Infinite where there is NaN or infinity in float16 only, or where float32 gives NaN too: then it is the stored weights.
    """
    lost: dict[str, float] = {}
    with session(model) as stored, session(model, precision="fp32") as ideal:
        scores = [model.signature.scores] if model.signature.scores else []
        for sample in samples(inputs):
            taps = [s for s in scores if s in stored.tappable]
            a, b = ideal.run(sample, taps), stored.run(sample, taps)
            for name in a:
                if isinstance(a[name], dict | str | list):
                    continue
                error = _error(as_array(a[name]), as_array(b[name]))
                if error > at_most:
                    lost[name] = max(error, lost.get(name, 0.0))
    return lost


def _error(ideal: np.ndarray, stored: np.ndarray) -> float:
    if ideal.dtype.kind != "f" or not ideal.size:
        return 0.0
    x, y = ideal.astype(np.float64), stored.astype(np.float64)  # in float16 a square of 256 is infinite
    same = (x == y) | (np.isfinite(x) & np.isfinite(y))
    if not same.all():
        return float("inf")
    finite = np.isfinite(x)
    return relative_rms(x[finite], y[finite])
