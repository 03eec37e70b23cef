"""What a model remembers between runs, as arrays that the caller keeps: checked, cast, and zeros where nothing is held yet."""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping

import numpy as np

from coreproof.errors import InputError
from coreproof.model.budget import afford, size_in_bytes
from coreproof.model.features import Feature, Signature

State = MutableMapping[str, np.ndarray]


def read_state(signature: Signature, state: Mapping[str, object], where: str) -> dict[str, np.ndarray]:
    """Every state of the model, in its dtype and shape; zeros for what ``state`` does not hold.

    Raises InputError for names that the model does not have and arrays that do not fit, all at once; TooLargeError for zeros
    beyond the memory budget.
    """
    declared = {feature.name: feature for feature in signature.states}
    if unknown := [name for name in state if name not in declared]:
        raise InputError(
            "the model has no such states",
            where=where,
            expected=", ".join(declared) or "no state",
            found=", ".join(unknown),
        )
    fresh = [(_shape(f), np.dtype(f.dtype or "float32").itemsize) for f in signature.states if f.name not in state]
    # together: each may be within the budget, and all of them not
    afford("the states of the model", size=sum(size_in_bytes(shape, size) for shape, size in fresh), where=where)
    held: dict[str, np.ndarray] = {}
    wrong: list[tuple[Feature, str]] = []
    for name, feature in declared.items():
        if name not in state:
            held[name] = np.zeros(_shape(feature), feature.dtype)
            continue
        try:
            held[name] = np.asarray(state[name], feature.dtype)
        except (TypeError, ValueError) as error:
            wrong.append((feature, f"{name}: {error}"))
            continue
        if held[name].shape != _shape(feature):
            wrong.append((feature, f"{name}: {held[name].dtype}{list(held[name].shape)}"))
    if wrong:
        raise InputError(
            "the state does not fit the model" if len(wrong) == 1 else "the states do not fit the model",
            where=where,
            expected="; ".join(str(feature) for feature, _ in wrong),
            found="; ".join(found for _, found in wrong),
            fix="begin with what session.state() gives, and hand on what a run leaves in it",
        )
    return held


def require_no_states(signature: Signature, where: str) -> None:
    """Raises InputError for a model that remembers and is run without a state: each answer would be that of a first run."""
    if signature.states:
        raise InputError(
            "the model has states, and is run without one",
            where=where,
            expected="; ".join(str(feature) for feature in signature.states),
            found="no state",
            fix="keep one for each sequence: state = session.state(), then session.run(inputs, state=state)",
        )


def _shape(feature: Feature) -> tuple[int, ...]:
    return tuple(d for d in feature.shape or () if isinstance(d, int))
