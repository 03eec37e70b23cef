"""Small models for the rules: healthy ones, and the same with one thing wrong; and what doctoring must achieve."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx_ir as ir
from onnx import TensorProto, helper, numpy_helper

from coreproof.doctor.diagnose import Diagnosis, diagnose
from coreproof.feeding.inputs import random_sample
from coreproof.model.base import Model
from coreproof.model.onnx.model import OnnxModel
from coreproof.runtime.open import session
from tests.conversion.coreml_to_onnx.neuralnetwork.networks import layer

Node = tuple[str, str, str, Mapping[str, Any]]


def weights(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def onnx_model(
    nodes: Sequence[Node], inputs: Mapping[str, Sequence[Any]], outputs: Mapping[str, Any], **stored: Any
) -> OnnxModel:
    """Nodes as (operator, what it reads, what it makes, attributes); each is called after what it makes."""
    graph = helper.make_graph(
        [helper.make_node(o, i.split(" "), m.split(), name=f"to_{m.split()[0]}", **a) for o, i, m, a in nodes],
        "g",
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in inputs.items()],
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in outputs.items()],
        [numpy_helper.from_array(np.asarray(v), k) for k, v in stored.items()],
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    return OnnxModel(ir.from_proto(proto), name="net")


def named(name: str, kind: str, reads: str, makes: str, **fields: Any) -> Any:
    """A NeuralNetwork layer of that name."""
    message = layer(kind, reads, makes, **fields)
    message.name = name
    return message


def convolution(name: str, reads: str, makes: str, weight: np.ndarray, stride: int = 1) -> Any:
    edge = {"startEdgeSize": 1, "endEdgeSize": 1}
    return named(
        name, "convolution", reads, makes, outputChannels=weight.shape[0], kernelChannels=weight.shape[1], nGroups=1,
        kernelSize=weight.shape[2:], stride=[stride, stride], dilationFactor=[1, 1], weights=weight,
        valid={"paddingAmounts": {"borderAmounts": [edge, edge]}},
    )  # fmt: skip


def inner_product(name: str, reads: str, makes: str, weight: np.ndarray) -> Any:
    return named(
        name,
        "innerProduct",
        reads,
        makes,
        inputChannels=weight.shape[1],
        outputChannels=weight.shape[0],
        weights=weight,
    )


def pool(name: str, reads: str, makes: str, kind: str = "AVERAGE") -> Any:
    return named(name, "pooling", reads, makes, type=kind, globalPooling=True)


def sample(model: Model) -> dict[str, Any]:
    return dict(random_sample(model.signature, model.signature)[0])


def outputs(model: Model, fed: Mapping[str, Any]) -> list[np.ndarray]:
    """All array outputs, flat."""
    with session(model) as running:
        made = running.run(fed)
    return [np.asarray(made[f.name]).reshape(-1) for f in model.signature.outputs if f.kind == "tensor"]


def assert_repaired(
    broken: Model, healthy: Model, rule: str, layer_name: str | None, source: Model | None = None, **known: Any
) -> Diagnosis:
    """The doctor finds this one fault at this layer, repairs it, and the model then computes what the healthy one does."""
    diagnosis = diagnose(broken, source, **known)
    assert [(f.rule, f.layer, f.repaired) for f in diagnosis] == [(rule, layer_name, True)]
    assert diagnosis.repaired is not None
    fed = sample(healthy)
    for made, wanted in zip(outputs(diagnosis.repaired, fed), outputs(healthy, fed), strict=True):
        np.testing.assert_allclose(made, wanted, rtol=1e-4, atol=1e-5)
    assert diagnose(diagnosis.repaired, source, **known).healthy
    return diagnosis


def assert_healthy(model: Model, source: Model | None = None, **known: Any) -> None:
    diagnosis = diagnose(model, source, **known)
    assert list(diagnosis) == []
    assert diagnosis.repaired is None
