"""Builds small MIL programs with coremltools, saves them, and runs the stored file through coreproof."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import onnxruntime as ort

from coreproof.conversion.coreml_to_onnx.convert import coreml_to_onnx
from coreproof.conversion.coreml_to_onnx.lowered_model import LoweredModel
from coreproof.model.coreml.model import CoreMLModel, load_coreml


def mil(
    folder: Path, build: Callable[..., Any], *shapes: tuple[int, ...], target: str = "iOS17", half: bool = False
) -> CoreMLModel:
    """The program ``build(mb, *inputs)`` as a package on disk, all in float16 when ``half`` (inputs and outputs too)."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import coremltools as ct
        from coremltools.converters.mil import Builder as mb
        from coremltools.converters.mil.mil import types

        version = getattr(ct.target, target)
        dtype = types.fp16 if half else types.fp32

        specs = [mb.TensorSpec(s, dtype=dtype) for s in shapes]
        names = "abcdef"[: len(specs)]
        function = eval(f"lambda {', '.join(names)}: build({', '.join(['mb', *names])})", {"build": build, "mb": mb})
        program = mb.program(input_specs=specs, opset_version=version)(function)
        model = ct.convert(
            program,
            compute_precision=ct.precision.FLOAT16 if half else ct.precision.FLOAT32,
            minimum_deployment_target=version,
            pass_pipeline=ct.PassPipeline.EMPTY,
            skip_model_load=True,
        )
        path = folder / "program.mlpackage"
        model.save(str(path))
    return load_coreml(path)


def run(model: CoreMLModel, inputs: Mapping[str, np.ndarray], precision: Any = "stored") -> list[np.ndarray]:
    """The outputs of the stored model, in order."""
    lowered = coreml_to_onnx(model, precision=precision)
    return run_lowered(lowered, inputs)


def run_lowered(lowered: LoweredModel, inputs: Mapping[str, np.ndarray]) -> list[np.ndarray]:
    """The outputs of a lowered model."""
    options = ort.SessionOptions()
    options.log_severity_level = 4
    engine = ort.InferenceSession(ir.to_proto(lowered.model).SerializeToString(), options)
    return list(engine.run(None, dict(inputs)))
