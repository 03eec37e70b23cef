"""session: a model made ready to run, by the engine that its format and the caller ask for."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from coreproof.errors import RunError, UnsupportedModelError
from coreproof.model.arguments import one_of
from coreproof.model.base import Model
from coreproof.runtime.session import Engine, Precision, Session

ENGINES = ("auto", "onnxruntime", "torch", "openvino", "coreml")


def session(
    model: Model | str | Path,
    engine: Engine = "auto",
    precision: Precision = "stored",
    threads: int | None = None,
) -> Session:
    """Makes a model ready to run. A saved run answers with what was recorded, whatever the engine.

    ``engine`` "auto" is PyTorch for PyTorch models, ONNX Runtime for ONNX models, and coreproof's runtime (Core ML
    lowered to ONNX) for Core ML models. "coreml" is Apple's own engine, on a Mac. ``precision`` "stored" rounds every
    result of a float16 operation to float16 as the program says; "fp32" is ideal arithmetic. ``threads`` None leaves
    the number to the engine.

    Raises InputError for an engine or a precision that there is not, UnsupportedOperatorsError when a Core ML model holds
    operators that coreproof cannot lower (all are named), UnsupportedModelError for one with states.
    """
    from coreproof.model.load import load

    engine = one_of(engine, ENGINES, "engine")
    precision = one_of(precision, ("stored", "fp32"), "precision")
    model = load(model)
    if model.format == "recording":
        from coreproof.runtime.recorded import RecordedSession

        return RecordedSession(_of_format(model, ("recording",), engine))
    if engine == "auto":
        engine = "torch" if model.format == "torch" else "onnxruntime"
    if engine == "torch":
        from coreproof.runtime.torch import TorchSession

        return TorchSession(_of_format(model, ("torch",), engine), threads=threads)
    if engine == "coreml":
        if sys.platform != "darwin":
            raise RunError(
                "Apple's Core ML runs on a Mac only",
                where=model.name,
                fix='use engine="auto", coreproof\'s own runtime',
            )
        from coreproof.runtime.coreml import CoreMLSession

        return CoreMLSession(_of_format(model, ("mlprogram", "neuralnetwork", "pipeline", "classic"), engine))
    _of_format(model, ("onnx", "mlprogram", "neuralnetwork", "pipeline", "classic"), engine)
    from coreproof.model.files.nesting import require_ending
    from coreproof.runtime.executable import compile_model

    require_ending(model)
    _require_no_states(model)
    executable = compile_model(model, precision)
    if engine == "openvino":
        from coreproof.runtime.openvino import OpenVinoSession

        return OpenVinoSession(executable, threads=threads)
    from coreproof.runtime.onnxruntime import OnnxRuntimeSession

    return OnnxRuntimeSession(executable, threads=threads)


def _require_no_states(model: Model) -> None:
    """Raises UnsupportedModelError for a model that remembers: each of its answers would be that of a first prediction."""
    states = model.signature.states
    if states:
        raise UnsupportedModelError(
            "the model has states, and coreproof's runtime does not run such a model yet",
            where=model.name,
            expected="a model whose answers depend on what it is fed alone",
            found=f"states {', '.join(state.name for state in states)}",
            fix="convert it to ONNX, where each state is an input and an output, and run that",
        )


def _of_format(model: Model, formats: Sequence[str], engine: str) -> Any:
    if model.format not in formats:
        raise RunError(
            f"the {engine} engine does not run {model.format} models",
            where=model.name,
            expected=" or ".join(formats),
            found=model.format,
            fix="convert the model first, or leave the engine at auto",
        )
    return model
