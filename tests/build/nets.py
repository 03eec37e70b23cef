"""Small networks as ONNX models, node by node: a convolution, classifiers, residual blocks with a planted fault."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import onnx_ir as ir

from coreproof.model.feeding import Feeding
from coreproof.model.onnx.model import OnnxModel

FLOAT = ir.DataType.FLOAT
FEEDING = Feeding(size=(8, 8), resize="squash", scale=1 / 255)


def conv_relu_onnx(seed: int = 0, batch: int | str = 1) -> ir.Model:
    """x [batch, 3, 8, 8] -> Conv 3x3 -> c -> Relu -> y [batch, 4, 8, 8], seeded weights."""
    rng = np.random.default_rng(seed)
    x = ir.Value(name="x", type=ir.TensorType(ir.DataType.FLOAT), shape=ir.Shape([batch, 3, 8, 8]))
    weights = {
        "w": rng.normal(size=(4, 3, 3, 3)).astype(np.float32),
        "b": rng.normal(size=4).astype(np.float32),
    }
    initializers = []
    for name, array in weights.items():
        tensor = ir.Tensor(array, name=name)
        initializers.append(
            ir.Value(name=name, const_value=tensor, type=ir.TensorType(tensor.dtype), shape=tensor.shape)
        )
    c = ir.Value(name="c", type=ir.TensorType(ir.DataType.FLOAT), shape=ir.Shape([batch, 4, 8, 8]))
    y = ir.Value(name="y", type=ir.TensorType(ir.DataType.FLOAT), shape=ir.Shape([batch, 4, 8, 8]))
    nodes = [
        ir.Node("", "Conv", [x, *initializers], [ir.AttrInt64s("pads", [1, 1, 1, 1])], outputs=[c], name="conv"),
        ir.Node("", "Relu", [c], outputs=[y], name="relu"),
    ]
    graph = ir.Graph([x], [y], nodes=nodes, initializers=initializers, opset_imports={"": 17}, name="net")
    return ir.Model(graph, ir_version=9)


def classifier(seed: int, noise: float = 0.0, labels: tuple[str, ...] | None = None, classes: int = 6) -> OnnxModel:
    """x [1, 3, 8, 8] -> Flatten -> MatMul -> y [1, classes] (logits)."""
    rng = np.random.default_rng(seed)
    weights = rng.normal(size=(192, classes)).astype(np.float32)
    weights += noise * np.random.default_rng(99).normal(size=weights.shape).astype(np.float32)
    kind = ir.TensorType(ir.DataType.FLOAT)
    x = ir.Value(name="x", type=kind, shape=ir.Shape([1, 3, 8, 8]))
    w = ir.Value(name="w", type=kind, shape=ir.Shape(weights.shape), const_value=ir.Tensor(weights, name="w"))
    flat = ir.Value(name="flat", type=kind, shape=ir.Shape([1, 192]))
    y = ir.Value(name="y", type=kind, shape=ir.Shape([1, classes]))
    nodes = [ir.Node("", "Flatten", [x], outputs=[flat]), ir.Node("", "MatMul", [flat, w], outputs=[y])]
    graph = ir.Graph([x], [y], nodes=nodes, initializers=[w], opset_imports={"": 17}, name="net")
    return OnnxModel(ir.Model(graph, ir_version=9), name=f"net{seed}", feeding=FEEDING, labels=labels)


@dataclass
class Net:
    """Builds x -> ... -> y; with ``half`` every weight and every result is rounded to float16, as Core ML stores it."""

    half: bool = False
    nodes: list[ir.Node] = field(default_factory=list)
    initializers: list[ir.Value] = field(default_factory=list)

    def constant(self, name: str, array: np.ndarray) -> ir.Value:
        if self.half and array.dtype == np.float32:
            array = array.astype(np.float16).astype(np.float32)
        tensor = ir.Tensor(array, name=name)
        value = ir.Value(name=name, const_value=tensor, type=ir.TensorType(tensor.dtype), shape=tensor.shape)
        self.initializers.append(value)
        return value

    def add(self, operator: str, name: str, *inputs: ir.Value, **attributes: Any) -> ir.Value:
        attrs = ir.convenience.convert_attributes(attributes)
        exact = ir.Value(name=f"{name}/exact" if self.half else name, type=ir.TensorType(FLOAT))
        self.nodes.append(ir.Node("", operator, inputs, attrs, outputs=[exact], name=f"node_{name}"))
        if not self.half:
            return exact
        half = ir.Value(name=f"{name}/half", type=ir.TensorType(ir.DataType.FLOAT16))
        result = ir.Value(name=name, type=ir.TensorType(FLOAT))
        for to, before, after in ((ir.DataType.FLOAT16, exact, half), (FLOAT, half, result)):
            attrs = ir.convenience.convert_attributes({"to": int(to)})
            self.nodes.append(ir.Node("", "Cast", [before], attrs, outputs=[after], name=f"cast_{after.name}"))
        return result

    def model(self, x: ir.Value, y: ir.Value, name: str = "net") -> OnnxModel:
        graph = ir.Graph([x], [y], nodes=self.nodes, initializers=self.initializers, opset_imports={"": 20}, name=name)
        return OnnxModel(ir.Model(graph, ir_version=9), name=name)


def residual_net(*, half: bool = False, blocks: int = 4, channels: int = 16, fault: str = "") -> OnnxModel:
    """conv, batch norm, relu, residual sum, ``blocks`` times, then mean and a linear classifier; a planted ``fault``."""
    rng = np.random.default_rng(7)
    net = Net(half)
    x = ir.Value(name="x", type=ir.TensorType(FLOAT), shape=ir.Shape([1, channels, 12, 12]))
    h = x
    for i in range(blocks):
        faulty = i == 2
        w = (rng.normal(size=(channels, channels, 3, 3)) / np.sqrt(9 * channels)).astype(np.float32)
        b = (0.2 * rng.normal(size=channels)).astype(np.float32)
        variance = rng.uniform(0.005, 0.05, channels).astype(np.float32)
        scale = (np.sqrt(variance) * rng.uniform(0.5, 1.5, channels)).astype(np.float32)
        if faulty and fault == "swapped channel":
            w[[3, 4]] = w[[4, 3]]
        if faulty and fault == "float16 weights":
            w = w.astype(np.float16).astype(np.float32)
        if faulty and fault == "no bias":
            b = np.zeros_like(b)
        pads = [0, 0, 2, 2] if faulty and fault == "wrong pad" else [1, 1, 1, 1]
        c = net.add("Conv", f"conv{i}", h, net.constant(f"w{i}", w), net.constant(f"b{i}", b), pads=pads)
        norm = [net.constant(f"{k}{i}", v) for k, v in
                (("scale", scale), ("shift", np.zeros_like(b)), ("mean", b * 0.1), ("var", variance))]  # fmt: skip
        n = net.add("BatchNormalization", f"norm{i}", c, *norm, epsilon=1e-3 if faulty and fault == "epsilon" else 1e-5)
        h = net.add("Add", f"sum{i}", net.add("Relu", f"relu{i}", n), h)
    m = net.add("ReduceMean", "mean", h, net.constant("axes", np.array([2, 3])), keepdims=0)
    w = (rng.normal(size=(channels, 10)) / 4).astype(np.float32)
    y = net.add("Gemm", "y", m, net.constant("wy", w), net.constant("by", rng.normal(size=10).astype(np.float32)))
    return net.model(x, y)


class HalfModel(OnnxModel):
    """A model whose read view says what it stores: every result in float16."""

    @property
    def graph(self) -> Any:  # type: ignore[override]
        read = super().graph
        values = {
            name: value if value.dtype != "float32" or value.constant or name in read.inputs
            else replace(value, dtype="float16")
            for name, value in read.values.items()
        }  # fmt: skip
        return replace(read, values=values)


def as_half(model: OnnxModel) -> HalfModel:
    return HalfModel(model.ir, name=f"{model.name}-half")
