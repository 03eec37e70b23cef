"""One node of ai.onnx.ml, converted and run: what the tests of its estimators and transforms share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime

import coreproof as cp
from coreproof.model.onnx.model import OnnxModel

ML = "ai.onnx.ml"


def ml_proto(
    operator: str, version: int, inputs: dict[str, np.ndarray], outputs: Sequence[int] = (1,), **attributes: Any
) -> onnx.ModelProto:
    """A model of one node; ``outputs`` are their ONNX element types, of y0, y1 and so on."""
    names = [f"y{at}" for at in range(len(outputs))]
    node = onnx.helper.make_node(operator, [*inputs], names, domain=ML, **attributes)
    described = [
        onnx.helper.make_tensor_value_info(n, onnx.helper.np_dtype_to_tensor_dtype(a.dtype), a.shape)
        for n, a in inputs.items()
    ]
    made = [onnx.helper.make_tensor_value_info(n, t, None) for n, t in zip(names, outputs, strict=True)]
    graph = onnx.helper.make_graph([node], "one", described, made)
    opsets = [onnx.helper.make_opsetid("", 21), onnx.helper.make_opsetid(ML, version)]
    return onnx.helper.make_model(graph, opset_imports=opsets, ir_version=10)


def ml_model(
    operator: str, version: int, inputs: dict[str, np.ndarray], outputs: Sequence[int] = (1,), **attributes: Any
) -> OnnxModel:
    return OnnxModel(ir.from_proto(ml_proto(operator, version, inputs, outputs, **attributes)), name=operator)


def run_ml(model: OnnxModel, **fed: np.ndarray) -> list[np.ndarray]:
    """What the converted model answers, in float32."""
    with cp.session(cp.convert(model, "mlprogram", target="iOS17", check=False)) as running:
        return [np.asarray(value) for value in running.run(fed).values()]


def check_ml(operator: str, version: int, x: np.ndarray, outputs: Sequence[int] = (1,), **attributes: Any) -> None:
    """Converts the node, and holds what it answers against ONNX Runtime's answer."""
    proto = ml_proto(operator, version, {"x": x}, outputs, **attributes)
    judge = onnxruntime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    wanted = judge.run(None, {"x": x})
    got = run_ml(OnnxModel(ir.from_proto(proto), name=operator), x=x)
    assert len(got) == len(wanted)
    for a, b in zip(got, wanted, strict=True):
        assert a.shape == b.shape
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)
