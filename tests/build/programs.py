"""ML Programs by coremltools' builder and converter, and packages with states or several functions."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

from coreproof.model.coreml.model import CoreMLModel, load_coreml
from tests.build.onnx_models import onnx_net


def mil(
    folder: Path, build: Callable[..., Any], *shapes: tuple[int, ...], target: str = "iOS17", half: bool = False
) -> CoreMLModel:
    """The program ``build(mb, *inputs)`` as a package on disk, all in float16 when ``half`` (inputs and outputs too)."""
    dtype = "float16" if half else "float32"
    return program(folder, build, [(shape, dtype) for shape in shapes], target=target, half=half)


def program(
    folder: Path,
    build: Callable[..., Any],
    inputs: Sequence[tuple[Sequence[int | None], str]],
    *,
    target: str = "iOS17",
    half: bool = False,
) -> CoreMLModel:
    """``mil`` with inputs of these shapes and dtypes, called a, b, ... z, a1, ...; a length of None is free from 0 to 100."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import coremltools as ct
        from coremltools.converters.mil import Builder as mb
        from coremltools.converters.mil.mil import get_new_symbol, types

        version = getattr(ct.target, target)
        dtypes = {"float16": types.fp16, "float32": types.fp32, "int32": types.int32, "bool": types.bool}
        specs = [
            mb.TensorSpec([get_new_symbol() if n is None else n for n in shape] or (), dtype=dtypes[dtype])
            for shape, dtype in inputs
        ]
        names = [chr(ord("a") + i % 26) + str(i // 26 or "") for i in range(len(specs))]
        ranges = [
            ct.TensorType(name=name, shape=[ct.RangeDim(0, 100) if n is None else n for n in shape])
            for name, (shape, _) in zip(names, inputs, strict=True)
        ]
        function = eval(f"lambda {', '.join(names)}: build({', '.join(['mb', *names])})", {"build": build, "mb": mb})
        written = mb.program(input_specs=specs, opset_version=version)(function)
    path = quietly_converted(
        folder,
        written,
        inputs=ranges if any(None in shape for shape, _ in inputs) else None,
        compute_precision=ct.precision.FLOAT16 if half else ct.precision.FLOAT32,
        minimum_deployment_target=version,
        pass_pipeline=ct.PassPipeline.EMPTY,
    )
    return load_coreml(path)


def quietly_converted(folder: Path, source: Any, **settings: Any) -> Path:
    """The package that coremltools makes of a program or a model of PyTorch, without what it says about it."""
    import coremltools as ct

    path = folder / "program.mlpackage"
    # it looks through the whole memory for garbage after each conversion, which takes ten times as long as a small one
    with warnings.catch_warnings(), mock.patch("gc.collect"):
        warnings.simplefilter("ignore")
        ct.convert(source, skip_model_load=True, **settings).save(str(path))
    return path


def counter(path: Path) -> CoreMLModel:
    """y = 2 * total, after total += x: a package with a state, written to ``path``."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import coremltools as ct
        from coremltools.converters.mil import Builder as mb
        from coremltools.converters.mil.mil import types

        specs = [mb.StateTensorSpec((1, 4), dtype=types.fp16), mb.TensorSpec((1, 4), dtype=types.fp16)]

        @mb.program(input_specs=specs, opset_version=ct.target.iOS18)
        def program(total: Any, x: Any) -> Any:
            after = mb.coreml_update_state(state=total, value=mb.add(x=mb.read_state(input=total), y=x))
            return mb.add(x=after, y=after, name="y")

        ct.convert(program, minimum_deployment_target=ct.target.iOS18, skip_model_load=True).save(str(path))
    return load_coreml(path)


def two_functions(path: Path) -> CoreMLModel:
    """A package whose functions are "once", its default one, and "thrice": y = x and y = 3 x, of two numbers."""
    from coreproof.conversion.convert import convert

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import coremltools as ct

        described = ct.utils.MultiFunctionDescriptor()
        for name, factor in (("once", 1.0), ("thrice", 3.0)):
            net = onnx_net([("Mul", "x k", "y", {})], {"x": [2]}, {"y": [2]}, k=np.float32([factor]))
            part = convert(net, "mlprogram", precision="fp32", target="iOS18").save(path.with_name(f"{name}.mlpackage"))
            described.add_function(str(part), src_function_name="main", target_function_name=name)
        described.default_function_name = "once"
        ct.utils.save_multifunction(described, str(path))
    return load_coreml(path)
