"""session: a model made ready to run, by the engine that its format and the caller ask for."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from numbers import Integral
from pathlib import Path

from coreproof.errors import ConversionError, InputError, RunError, UnsupportedModelError
from coreproof.model.arguments import ENGINES, one_of
from coreproof.model.base import Format, Model
from coreproof.model.declared_outputs import require_outputs
from coreproof.model.public import public
from coreproof.runtime.session import Engine, Precision, Session

_COREML: tuple[Format, ...] = ("mlprogram", "neuralnetwork", "pipeline", "classic")
_RUNS: Mapping[Engine, tuple[Format, ...]] = {
    "torch": ("torch",),
    "coreai": ("coreai",),
    "coreml": _COREML,
    "onnxruntime": ("onnx", "coreai", *_COREML),
    "openvino": ("onnx", "coreai", *_COREML),
    "reference": ("onnx",),
}
"""Engine -> the formats that it runs. A saved run answers whatever the engine."""


@public
def session(
    model: Model | str | Path | object,
    engine: Engine = "auto",
    precision: Precision = "stored",
    threads: int | None = None,
    function: str | None = None,
) -> Session:
    """Makes a model ready to run. A saved run answers with what was recorded, whatever the engine.

    ``engine`` "auto" is PyTorch for PyTorch models, ONNX Runtime for ONNX models, and coreproof's runtime (Core ML
    lowered to ONNX) for Core ML and Core AI models. "coreml" is Apple's own engine, on a Mac; "coreai" is Apple's interpreter
    of Core AI, in a process of its own; "reference" is ONNX's own evaluator in NumPy, slow, for ONNX models.
    ``precision`` "stored" rounds every
    result of a float16 operation to float16 as the program says; "fp32" is ideal arithmetic. ``threads`` None leaves
    the number, from 1 on, to OMP_NUM_THREADS, or to the engine. ``function`` is one of an ML Program that has several; None is
    its default one, or the one at which a coremltools MLModel was opened.

    Raises InputError for an engine, a precision or a number of threads that there is not, UnsupportedOperatorsError when a
    Core ML model holds operators that coreproof cannot lower (all are named), ConversionError for a function that it does not
    have, and UnsupportedModelError where no function can be chosen. A model with states is run with ``run(inputs, state=)``.

    Example:
        >>> import numpy
        >>> with cp.session("net.mlpackage") as running:
        ...     running.run({"x": numpy.ones((1, 3, 8, 8), "float32")})["y"].shape
        (1, 4, 8, 8)

    """
    from coreproof.model.coreai.model import CoreAIModel
    from coreproof.model.coreml.model import CoreMLModel
    from coreproof.model.load import from_mlmodel, is_mlmodel, load
    from coreproof.model.recording import Recording
    from coreproof.model.torch.model import TorchModel

    engine = one_of(engine, ENGINES, "engine")
    precision = one_of(precision, ("stored", "fp32"), "precision")
    if threads is not None and (isinstance(threads, bool) or not isinstance(threads, Integral) or threads < 1):
        raise InputError("threads is a whole number from 1 on, or None", found=repr(threads))
    # a function that is named counts, whatever the one at which an MLModel was opened
    model = from_mlmodel(model)[0] if is_mlmodel(model) and function is not None else load(model)
    if engine == "auto":
        engine = "torch" if model.is_torch else "onnxruntime"
    if function is not None:
        _require_functions(model, engine)
    if isinstance(model, Recording):
        from coreproof.runtime.recorded import RecordedSession

        return RecordedSession(model)
    require_outputs(model, RunError)
    if engine == "coreml" and sys.platform != "darwin":
        raise RunError(
            "Apple's Core ML runs on a Mac only",
            where=model.name,
            fix='use engine="auto", coreproof\'s own runtime',
        )
    if model.format not in _RUNS[engine]:
        raise RunError(
            f"the {engine} engine does not run {model.format} models",
            where=model.name,
            expected=" or ".join(_RUNS[engine]),
            found=model.format,
            fix="convert the model first, or leave the engine at auto",
        )
    if isinstance(model, TorchModel):
        from coreproof.runtime.torch import TorchSession

        return TorchSession(model, threads=threads)
    if engine == "coreml" and isinstance(model, CoreMLModel):
        from coreproof.runtime.coreml import CoreMLSession

        return CoreMLSession(model)
    if engine == "coreai" and isinstance(model, CoreAIModel):
        from coreproof.runtime.coreai import CoreAISession

        return CoreAISession(model if function is None else model.at_function(function))
    from coreproof.runtime.executable import compile_model
    from coreproof.runtime.loops import require_ending

    require_ending(model)
    if engine == "reference":
        from coreproof.runtime.reference import ReferenceSession

        return ReferenceSession(model)
    executable = compile_model(model, precision, function)
    if engine == "openvino":
        from coreproof.runtime.openvino import OpenVinoSession

        return OpenVinoSession(executable, threads=threads)
    from coreproof.runtime.sequences import SequenceSession, takes_sequences

    if takes_sequences(model):
        return SequenceSession(model, executable, threads=threads)
    from coreproof.runtime.onnxruntime import OnnxRuntimeSession

    return OnnxRuntimeSession(executable, threads=threads)


def session_for(
    model: Model | str | Path | object,
    inputs: Mapping[str, object],
    threads: int | None = None,
    function: str | None = None,
) -> Session:
    """The session that ``session`` makes; of a network that makes sense over sequences alone, one over those of ``inputs``.

    Some networks make no sense at the shape that they declare, which is one step. Raises as ``session`` does.
    """
    from coreproof.model.load import load
    from coreproof.runtime.sequences import SequenceSession, over, sequences, takes_sequences

    try:
        return session(model, threads=threads, function=function)
    except ConversionError:
        loaded = load(model)
        shapes = sequences(loaded.signature, inputs) if takes_sequences(loaded) else {}
        if not shapes or not takes_sequences(loaded):
            raise
        return SequenceSession(loaded, over(loaded, shapes), threads=threads)


def _require_functions(model: Model, engine: Engine) -> None:
    if not (model.is_program or model.is_coreai) or engine == "coreml":
        raise UnsupportedModelError(
            "a function can be chosen of an ML Program or a Core AI model, on coreproof's runtime",
            where=model.name,
            found=f"a model of format {model.format}, on the {engine} engine",
            fix="leave the function out",
        )
