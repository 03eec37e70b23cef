"""predict: Core ML's answer for a model file, in the form that Apple's own test suite and a test double want.

``predict(path, function_name, inputs, state)`` answers as Core ML's native binding does, refusals included
(RuntimeError for what Core ML refuses, NotImplementedError for what coreproof does not lower). Sessions are kept per file
until ``predict.release(path)``.
"""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from coreproof.errors import ConversionError, RunError, UnsupportedOperatorsError
from coreproof.model.features import Feature

State = MutableMapping[str, npt.NDArray[Any]]


@dataclass(frozen=True)
class _Loaded:
    """A lowered model with its engine."""

    executable: Any
    states: Mapping[str, str]
    engine: Any

    def run(self, feeds: dict[str, npt.NDArray[Any]], state: State | None) -> dict[str, Any]:
        for feature in self.executable.signature.states:
            stored = None if state is None else state.get(feature.name)
            shape = [d for d in feature.shape or () if isinstance(d, int)]
            feeds[feature.name] = (
                np.zeros(shape, feature.dtype) if stored is None else np.asarray(stored, feature.dtype)
            )
        names = [o.name for o in self.engine.get_outputs()]
        try:
            values = dict(zip(names, self.engine.run(names, feeds), strict=True))
        except Exception as error:  # onnxruntime's exceptions share no base class
            # Scripts recognise a failed prediction by Core ML's own words.
            raise RunError(
                "Unable to compute the prediction using ML Program", where=self.executable.name, found=str(error)
            ) from None
        if state is not None:
            for name, output in self.states.items():
                state[name] = values[output]
        finished: dict[str, Any] = self.executable.decode_outputs(values)
        return finished


_loaded: dict[tuple[str, str], _Loaded] = {}


def predict(path: str, function_name: str, inputs: Mapping[str, Any], state: State | None = None) -> dict[str, Any]:
    """The outputs of the model file at ``path`` for these inputs; ``state`` is read and updated in place."""
    model = _load(str(path), function_name)
    return model.run(_feeds(model.executable.signature.inputs, inputs), state)


def release(path: str) -> None:
    """Forgets the sessions of the model file at ``path``."""
    for key in [k for k in _loaded if k[0] == str(path)]:
        del _loaded[key]


predict.release = release  # type: ignore[attr-defined]


def _load(path: str, function: str) -> _Loaded:
    key = (path, function)
    if key in _loaded:
        return _loaded[key]
    import onnxruntime as ort

    from coreproof.conversion.coreml_to_onnx.convert import coreml_to_onnx
    from coreproof.model.coreml.model import load_coreml
    from coreproof.runtime.executable import Executable

    model = load_coreml(Path(path))
    try:
        lowered = coreml_to_onnx(model, function=function or None)
    except UnsupportedOperatorsError as error:
        raise NotImplementedError(f"op {', '.join(sorted(error.operators))}") from error
    except ConversionError as error:
        raise NotImplementedError(str(error)) from error
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    proto = ir.to_proto(lowered.model).SerializeToString()
    try:
        engine = ort.InferenceSession(proto, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's exceptions share no base class
        raise RunError("ONNX Runtime refuses the lowered model", where=path, found=str(error)) from None
    executable = Executable(lowered.model, lowered.signature, lowered.values, model.name, "ONNX Runtime")
    _loaded[key] = _Loaded(executable, lowered.states, engine)
    return _loaded[key]


def _feeds(features: tuple[Feature, ...], inputs: Mapping[str, Any]) -> dict[str, npt.NDArray[Any]]:
    from coreproof.runtime.session import read_input

    feeds = {}
    for feature in features:
        if feature.name not in inputs:
            if feature.optional:
                continue
            raise RunError(f"input {feature.name!r} is missing", expected=str(feature))
        value = inputs[feature.name]
        if feature.kind == "tensor":
            value = np.asarray(value)
            _check_shape(feature, value)
        feeds[feature.name] = read_input(feature, value, feature.name)
    return feeds


def _check_shape(feature: Feature, value: npt.NDArray[Any]) -> None:
    """Refuses a shape that the model does not declare, in Core ML's own words (scripts look for them)."""
    shape = value.shape
    for index, allowed in enumerate(feature.ranges if len(feature.ranges) == len(shape) else ()):
        if not allowed.low <= shape[index] or (allowed.high is not None and shape[index] > allowed.high):
            raise RunError(
                f"Size ({shape[index]}) of dimension ({index}) is not in allowed range "
                f"({allowed.low}..{'inf' if allowed.high is None else allowed.high})",
                where=f"input {feature.name!r}",
            )
    if feature.enumerated and shape not in feature.enumerated:
        raise RunError(
            f"MultiArray Shape ({' x '.join(map(str, shape))}) was not in enumerated set of allowed shapes",
            where=f"input {feature.name!r}",
            expected=", ".join(" x ".join(map(str, s)) for s in feature.enumerated),
        )
