"""Builds the tiny models of the tests, each kind in a file of its own. Nothing here runs a model or judges one."""

from __future__ import annotations

from tests.build.nets import (
    FEEDING,
    FLOAT,
    HalfModel,
    Net,
    as_half,
    classifier,
    conv_relu_onnx,
    residual_net,
)
from tests.build.onnx_models import (
    Node,
    graph_model,
    node_model,
    onnx_model,
    onnx_net,
    onnx_proto,
    weights,
)
from tests.build.programs import (
    counter,
    mil,
    program,
    quietly_converted,
    two_functions,
)
from tests.build.stored import (
    classic,
    convolution,
    feature,
    fill,
    inner_product,
    layer,
    named,
    network,
    pipeline,
    pool,
)

__all__ = [
    "FEEDING",
    "FLOAT",
    "HalfModel",
    "Net",
    "Node",
    "as_half",
    "classic",
    "classifier",
    "conv_relu_onnx",
    "convolution",
    "counter",
    "feature",
    "fill",
    "graph_model",
    "inner_product",
    "layer",
    "mil",
    "named",
    "network",
    "node_model",
    "onnx_model",
    "onnx_net",
    "onnx_proto",
    "pipeline",
    "pool",
    "program",
    "quietly_converted",
    "residual_net",
    "two_functions",
    "weights",
]
