"""One ONNX node, converted and run: what the tests of the operator families share.

The expected values come from the tests themselves (PyTorch, numpy, or written down), never from this project.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from coreproof.conversion.onnx_to_coreml.convert import onnx_to_coreml
from coreproof.model.coreml.model import CoreMLModel
from coreproof.model.onnx.model import OnnxModel
from coreproof.runtime.open import session
from tests.build import node_model

TARGETS: tuple[tuple[str, str | None], ...] = (("mlprogram", "iOS15"), ("mlprogram", "iOS17"), ("neuralnetwork", None))


def convert_node(model: OnnxModel, to: str, target: str | None, **options: Any) -> CoreMLModel:
    return onnx_to_coreml(model, to, target=target, **{"precision": "fp32", **options})  # type: ignore[arg-type]


def check_node(
    operator: str,
    inputs: Mapping[str, Any],
    expected: Any,
    constants: Mapping[str, Any] | None = None,
    *,
    targets: Sequence[tuple[str, str | None]] = TARGETS,
    shapes: Mapping[str, Any] | None = None,
    rtol: float = 1e-5,
    atol: float = 1e-5,
    **described: Any,
) -> None:
    """Converts the node for each target, runs it and compares with ``expected`` (one array, or a list of them)."""
    wanted = [np.asarray(e) for e in (expected if isinstance(expected, list) else [expected])]
    dtypes = [np.int64 if w.dtype.kind == "i" else w.dtype for w in wanted]
    model = node_model(operator, inputs, constants, outputs=dtypes, **described)
    for to, target in targets:
        converted = convert_node(model, to, target, shapes=shapes)
        with session(converted, "onnxruntime") as running:
            results = running.run({name: np.asarray(array) for name, array in inputs.items()})
        for index, want in enumerate(wanted):
            got = np.asarray(results[f"y{index}"])
            where = f"{operator} as {to} {target}, output {index}"
            if want.ndim == 0:
                got = got.reshape(())  # a NeuralNetwork has no rank 0: a single number has shape (1,)
            assert got.shape == want.shape, f"{where}: {got.shape} instead of {want.shape}"
            np.testing.assert_allclose(
                got.astype(np.float64), want.astype(np.float64), rtol=rtol, atol=atol, err_msg=where
            )
