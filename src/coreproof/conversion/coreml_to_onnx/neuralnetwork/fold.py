"""FoldingBuilder: an OnnxBuilder that computes small constants at once and refuses what ONNX says cannot fit together.

Core ML networks compute shapes with ordinary layers (getShape, gather, concatND, ...). Folding those keeps every later
blob's rank and shape known, which the rank rules of the layers need.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import onnx
import onnx.shape_inference
import onnx_ir as ir

from coreproof.conversion.coreml_to_onnx.builder import OPSET, OnnxBuilder, Operand, _type_proto
from coreproof.conversion.one_node import one_node_model
from coreproof.conversion.operators import meaning
from coreproof.errors import ConversionError

_LARGEST_FOLDED = 4096
_SAME_SHAPE = {
    "Abs", "BatchNormalization", "Ceil", "Clip", "Elu", "Erf", "Exp", "Floor", "HardSigmoid", "Identity",
    "InstanceNormalization", "LeakyRelu", "Log", "LRN", "Neg", "PRelu", "Reciprocal", "Relu", "Round", "Sigmoid", "Sign",
    "Softmax", "Softplus", "Softsign", "Sqrt", "Tanh",
}  # fmt: skip
"""Operators whose result has the type and shape of their first input: half of a network, and nothing to infer."""


class FoldingBuilder(OnnxBuilder):
    """Knows which layer it is working for, so that errors and node names can say so."""

    def __init__(self, name: str = "main", parent: FoldingBuilder | None = None) -> None:
        super().__init__(name, parent)
        self.layer: str = parent.layer if parent is not None else name

    @contextmanager
    def working_on(self, layer: str) -> Iterator[None]:
        """Everything appended inside belongs to ``layer``."""
        outer, self.layer = self.layer, layer
        try:
            yield
        finally:
            self.layer = outer

    def op(self, operator: str, *inputs: Operand, **attributes: Any) -> Any:
        """As OnnxBuilder.op; an operator on small constants becomes their result."""
        operands = [self._operand(i, operator) for i in inputs]
        if attributes.get("outputs") is None:
            folded = self._fold(operator, operands, attributes)
            if folded is not None:
                return self.constant(folded, attributes.get("name") or operator.lower())
        created: Any = super().op(operator, *operands, **attributes)
        first = created[0] if isinstance(created, tuple) else created
        node = first.producer()
        if node is not None:
            node.name = f"{self.layer}/{first.name}"
            node.metadata_props["coreml.layer"] = self.layer
            self._check(node)
        return created

    def rename(self, value: ir.Value, name: str) -> None:
        """Gives a value of this builder another name, which must be free."""
        if value.name in self.initializers and self.initializers[value.name] is value:
            del self.initializers[value.name]
            self.initializers[name] = value
            if value.const_value is not None:
                value.const_value.name = name
        value.name = name

    def _fold(self, operator: str, operands: list[ir.Value | None], attributes: dict[str, object]) -> np.ndarray | None:
        constants = [None if o is None else o.const_value for o in operands]
        if meaning(operator).get("random", False) or not operands or attributes.get("domain"):
            return None
        if any(o is not None and c is None for o, c in zip(operands, constants, strict=True)):
            return None
        if sum(c.size for c in constants if c is not None) > _LARGEST_FOLDED:
            return None
        from onnx.reference import ReferenceEvaluator

        names = ["" if c is None else f"i{k}" for k, c in enumerate(constants)]
        plain: dict[str, Any] = {
            k: v for k, v in attributes.items() if k not in ("name", "outputs", "domain") and v is not None
        }
        node = onnx.helper.make_node(operator, names, ["y"], **plain)
        feeds = {n: c.numpy() for n, c in zip(names, constants, strict=True) if c is not None}
        if not _stays_small(node, feeds):
            return None
        try:
            with np.errstate(all="ignore"):
                result: object = next(
                    iter(ReferenceEvaluator(one_node_model(node, feeds, {"": OPSET})).run(None, feeds))
                )
        except Exception as error:
            if self.parent is not None:  # a way that may never be taken
                return None
            raise ConversionError(
                f"layer {self.layer!r} cannot compute its constant result",
                where=f"layer {self.layer!r}",
                expected=f"inputs that {operator} accepts",
                found=f"{[list(v.shape) for v in feeds.values()]}: {error}",
            ) from None
        return result if isinstance(result, np.ndarray) and result.size <= _LARGEST_FOLDED else None

    def _infer(self, node: ir.Node) -> None:
        first = node.inputs[0] if node.inputs else None
        if node.op_type in _SAME_SHAPE and first is not None and len(node.outputs) == 1:
            node.outputs[0].type = first.type
            node.outputs[0].shape = None if first.shape is None else ir.Shape(list(first.shape))
            return
        super()._infer(node)

    def _check(self, node: ir.Node) -> None:
        """Refuses a node whose known input shapes contradict each other (its output then stays without a shape)."""
        if node.domain or all(o.shape is not None and o.type is not None for o in node.outputs):
            return
        if any(a.type in (ir.AttributeType.GRAPH, ir.AttributeType.GRAPHS) for a in node.attributes.values()):
            return
        values = [v for v in node.inputs if v is not None]
        if any(v.shape is None or v.type is None for v in values):
            return
        data = {
            v.name: ir.to_proto(v.const_value)
            for v in values
            if v.name is not None and v.const_value is not None and v.const_value.size <= 1024
        }
        try:
            onnx.shape_inference.infer_node_outputs(
                onnx.defs.get_schema(node.op_type, OPSET, ""),
                ir.to_proto(node),
                {v.name: _type_proto(v) for v in values if v.name is not None},
                data,
                opset_imports=[onnx.helper.make_opsetid("", OPSET)],
                ir_version=10,
            )
        except (onnx.shape_inference.InferenceError, RuntimeError) as error:
            reason = str(error).strip().splitlines()[-1]
            raise ConversionError(
                f"the inputs of layer {self.layer!r} do not fit together",
                where=f"layer {self.layer!r}",
                expected=f"shapes that {node.op_type} accepts ({reason.split('] ')[-1]})",
                found=" and ".join(
                    f"{v.name} {[d if isinstance(d, int) else '?' for d in v.shape or ()]}" for v in values
                ),
            ) from None


_GROW = {"ConstantOfShape", "Expand", "EyeLike", "OneHot", "Pad", "Range", "Resize", "Tile", "Upsample"}
"""Operators whose result may be of any size, however small their inputs are."""


def _stays_small(node: onnx.NodeProto, feeds: dict[str, np.ndarray]) -> bool:
    """Whether an operator on these constants makes a small constant, judged before it is computed."""
    types = {
        name: onnx.helper.make_tensor_type_proto(onnx.helper.np_dtype_to_tensor_dtype(array.dtype), array.shape)
        for name, array in feeds.items()
    }
    try:
        inferred = onnx.shape_inference.infer_node_outputs(
            onnx.defs.get_schema(node.op_type, OPSET, ""),
            node,
            types,
            {name: onnx.numpy_helper.from_array(array, name) for name, array in feeds.items()},
            opset_imports=[onnx.helper.make_opsetid("", OPSET)],
            ir_version=10,
        )
        lengths = [d.dim_value for d in inferred["y"].tensor_type.shape.dim if d.HasField("dim_value")]
        known = len(lengths) == len(inferred["y"].tensor_type.shape.dim) and bool(
            lengths or node.op_type not in _GROW or inferred["y"].tensor_type.HasField("shape")
        )
    except (onnx.shape_inference.InferenceError, RuntimeError, KeyError):
        return node.op_type not in _GROW  # what is wrong with it is said by the one that computes
    return math.prod(lengths) <= _LARGEST_FOLDED if known else node.op_type not in _GROW
