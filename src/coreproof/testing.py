"""predict: Core ML's answer for a model file, in the form that Apple's own test suite and a test double want.

``predict(path, function_name, inputs, state)`` answers as Core ML's native binding does, refusals included
(RuntimeError for what Core ML refuses, NotImplementedError for what coreproof does not lower). Sessions are kept per file
until ``predict.release(path)``.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from coreproof.errors import ConversionError, CoreproofError, InputError, RunError, UnsupportedOperatorsError
from coreproof.runtime.session import Session, State, refuse_other_sizes

_sessions: dict[tuple[str, str], Session] = {}


def predict(
    path: str, function_name: str, inputs: Mapping[str, object], state: State | None = None
) -> dict[str, object]:
    """The outputs of the model file at ``path`` for these inputs; ``state`` is read and updated in place."""
    key = (str(path), function_name)
    if key not in _sessions:
        _sessions[key] = _open(*key, inputs)
    running = _sessions[key]
    fed = {feature.name: inputs[feature.name] for feature in running.signature.inputs if feature.name in inputs}
    try:
        refuse_other_sizes(running.signature, fed, Path(path).name)
        return running.run(fed, state=state)
    except InputError as error:
        raise RunError(
            error.problem, where=error.where, expected=error.expected, found=error.found, fix=error.fix
        ) from None
    except CoreproofError as error:
        # Scripts recognise a failed prediction by Core ML's own words.
        raise RunError(
            "Unable to compute the prediction using ML Program", where=error.where, found=str(error)
        ) from None


def release(path: str) -> None:
    """Forgets the sessions of the model file at ``path``."""
    for key in [k for k in _sessions if k[0] == str(path)]:
        _sessions.pop(key).close()


predict.release = release  # type: ignore[attr-defined]


def _open(path: str, function: str, inputs: Mapping[str, object]) -> Session:
    from coreproof.model.coreml.model import load_coreml
    from coreproof.runtime.open import session_for

    try:
        return session_for(load_coreml(Path(path)), inputs, threads=1, function=function or None)
    except UnsupportedOperatorsError as error:
        raise NotImplementedError(f"op {', '.join(sorted(error.operators))}") from error
    except ConversionError as error:
        raise NotImplementedError(str(error)) from error
