"""Runs what a Core ML model is lowered to, without a session of coreproof around it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx_ir as ir
import onnxruntime as ort

from coreproof.conversion.coreml_to_onnx.convert import coreml_to_onnx
from coreproof.conversion.coreml_to_onnx.lowered_model import LoweredModel
from coreproof.model.coreml.model import CoreMLModel
from tests.build import layer, network


def run(model: CoreMLModel, precision: Any = "stored", **inputs: np.ndarray) -> dict[str, np.ndarray]:
    """All outputs of the lowered model."""
    return run_lowered(coreml_to_onnx(model, precision=precision), **inputs)


def only(outputs: Mapping[str, np.ndarray]) -> np.ndarray:
    """The one output that there is."""
    (value,) = outputs.values()
    return value


def run_lowered(lowered: LoweredModel, taps: Sequence[str] = (), **inputs: np.ndarray) -> dict[str, np.ndarray]:
    """Outputs of a lowered model, and taps on inner values."""
    proto = ir.to_proto(lowered.model)
    for tap in taps:
        proto.graph.output.add(name=tap)
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1  # a second one waits busily for work that tiny models have not
    session = ort.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
    names = [o.name for o in session.get_outputs()]
    return dict(zip(names, session.run(None, inputs), strict=True))


def run_layer(
    kind: str, *inputs: np.ndarray, outputs: int = 1, exact: bool = True, **fields: Any
) -> np.ndarray | list[np.ndarray]:
    """What one layer makes of arrays; ``exact`` keeps their ranks, else they are [C] or [C, H, W] of a rank 5 network."""
    names = [f"x{i}" for i in range(len(inputs))]
    made = [f"y{i}" for i in range(outputs)]
    model = network(
        [layer(kind, " ".join(names), " ".join(made), **fields)],
        {n: v.shape for n, v in zip(names, inputs, strict=True)},
        dict.fromkeys(made),
        exact=exact,
    )
    results = run(model, **{n: v.astype(np.float32) for n, v in zip(names, inputs, strict=True)})
    return results["y0"] if outputs == 1 else [results[n] for n in made]


def close(found: Any, expected: Any) -> None:
    """What float32 allows between two engines, and the same shape."""
    expected = expected.numpy() if hasattr(expected, "numpy") else expected
    assert found.shape == tuple(expected.shape)
    np.testing.assert_allclose(found, expected, rtol=2e-5, atol=2e-5)
