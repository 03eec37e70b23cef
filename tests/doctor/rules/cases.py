"""What the doctor must achieve: the fault found where it is, and repaired; nothing found where nothing is wrong."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from coreproof.doctor.diagnose import Diagnosis, diagnose
from coreproof.feeding.drawn import random_sample
from coreproof.model.base import Model
from coreproof.runtime.open import session


def sample(model: Model) -> dict[str, Any]:
    return dict(random_sample(model.signature, model.signature)[0])


def outputs(model: Model, fed: Mapping[str, Any]) -> list[np.ndarray]:
    """All array outputs, flat."""
    with session(model) as running:
        made = running.run(fed)
    return [np.asarray(made[f.name]).reshape(-1) for f in model.signature.outputs if f.kind == "tensor"]


def assert_repaired(
    broken: Model, healthy: Model, rule: str, layer_name: str | None, source: Model | None = None, **known: Any
) -> Diagnosis:
    """The doctor finds this one fault at this layer, repairs it, and the model then computes what the healthy one does."""
    diagnosis = diagnose(broken, source, **known)
    assert [(f.rule, f.layer, f.repaired) for f in diagnosis] == [(rule, layer_name, True)]
    assert diagnosis.repaired is not None
    fed = sample(healthy)
    for made, wanted in zip(outputs(diagnosis.repaired, fed), outputs(healthy, fed), strict=True):
        np.testing.assert_allclose(made, wanted, rtol=1e-4, atol=1e-5)
    assert diagnose(diagnosis.repaired, source, **known).healthy
    return diagnosis


def assert_healthy(model: Model, source: Model | None = None, **known: Any) -> None:
    diagnosis = diagnose(model, source, **known)
    # what some of Apple's systems are known to get wrong of a healthy model is no fault of it
    assert [f for f in diagnosis if f.rule != "known-fault"] == []
    assert diagnosis.repaired is None
