"""One node of ONNX Runtime's own (com.microsoft), converted and run, and held against ONNX Runtime's kernel."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
from onnx import helper, numpy_helper

from coreproof.conversion.onnx_to_coreml.convert import onnx_to_coreml
from coreproof.model.onnx.model import OnnxModel
from coreproof.runtime.exact_integers import add_exactly
from coreproof.runtime.open import session

EVERYWHERE = (
    ("mlprogram", "iOS15", "fp32"),
    ("mlprogram", "iOS18", "fp32"),
    ("mlprogram", "iOS18", "fp16"),
    ("neuralnetwork", None, "fp32"),
)
PROGRAMS = EVERYWHERE[:3]


def microsoft_model(
    operator: str,
    inputs: Mapping[str, np.ndarray],
    constants: Mapping[str, np.ndarray],
    order: Sequence[str],
    outputs: Sequence[str] = ("y",),
    domain: str = "com.microsoft",
    whole: Sequence[str] = (),
    **attributes: Any,
) -> onnx.ModelProto:
    """``order`` names the operands, "" for one that is left out; so do ``outputs``, of which those in ``whole`` are integers."""
    node = helper.make_node(operator, [*order], [*outputs], name="node", domain=domain, **attributes)
    graph = helper.make_graph(
        [node],
        "one",
        [
            helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(a.dtype), a.shape)
            for n, a in inputs.items()
        ],
        [
            helper.make_tensor_value_info(n, onnx.TensorProto.INT32 if n in whole else onnx.TensorProto.FLOAT, None)
            for n in outputs
            if n
        ],
        [numpy_helper.from_array(np.asarray(a), n) for n, a in constants.items()],
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8)


def check_microsoft(
    operator: str,
    inputs: Mapping[str, np.ndarray],
    constants: Mapping[str, np.ndarray] | None = None,
    order: Sequence[str] | None = None,
    *,
    targets: Sequence[tuple[str, str | None, str]] = EVERYWHERE,
    half: float = 1e-2,
    compared: int | None = None,
    **described: Any,
) -> None:
    """The node's results, the first ``compared`` of them, as ONNX Runtime has them; in float16 within ``half`` of their size."""
    constants = constants or {}
    proto = microsoft_model(operator, inputs, constants, order or [*inputs, *constants], **described)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    exact = copy.deepcopy(proto)
    add_exactly(
        exact, {}
    )  # some processors' kernels stop in the middle of a sum: see tests/runtime/test_exact_integers.py
    wanted = onnxruntime.InferenceSession(exact.SerializeToString(), options).run(None, dict(inputs))
    for to, target, precision in targets:
        model = OnnxModel(ir.from_proto(proto), name=operator)
        converted = onnx_to_coreml(model, to, target=target, precision=precision)  # type: ignore[arg-type]
        with session(converted, "onnxruntime") as running:
            results = [*running.run({n: np.atleast_1d(a) for n, a in inputs.items()}).values()]
        for got, want in zip(results[:compared], wanted[:compared], strict=True):
            where = f"{operator} as {to} {target} {precision}"
            assert got.shape == want.shape, f"{where}: {got.shape} instead of {want.shape}"
            near = half * max(float(np.abs(want).max(initial=0)), 1e-3) if precision == "fp16" else 1e-5
            np.testing.assert_allclose(got, want, rtol=2e-4 if precision == "fp32" else 0, atol=near, err_msg=where)
