"""OnnxBuilder: collects the ONNX graph that a Core ML model becomes, node by node, with shapes known as it grows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Literal, TypeAlias, overload

import numpy as np
import numpy.typing as npt
import onnx
import onnx.shape_inference
import onnx_ir as ir

from coreproof.conversion.coreml_to_onnx.fold import folded
from coreproof.errors import ConversionError
from coreproof.model.budget import afford
from coreproof.model.features import Feature

OPSET = 21
"""The ONNX opset that Core ML is lowered to; onnxruntime 1.18 and later run it."""

DOMAINS = {"ai.onnx.ml": 3, "coreproof.custom": 1}
"""The versions of other domains whose operators are used; of ONNX's own what ONNX Runtime has run since 1.10."""

_MAY_BE_A_SHAPE = 1024
"""Constants of up to this many elements are shown to the inference: they may be shapes, axes or pads."""

Operand: TypeAlias = ir.Value | npt.ArrayLike | None


_SAME_SHAPE = {
    "Abs", "BatchNormalization", "Ceil", "Clip", "Elu", "Erf", "Exp", "Floor", "HardSigmoid", "Identity",
    "InstanceNormalization", "LeakyRelu", "Log", "LRN", "Neg", "PRelu", "Reciprocal", "Relu", "Round", "Sigmoid", "Sign",
    "Softmax", "Softplus", "Softsign", "Sqrt", "Tanh",
}  # fmt: skip
"""Operators whose result has the type and shape of their first input: half of a network, and nothing to infer."""


class OnnxBuilder:
    """Appends ONNX nodes to one graph.

    Every value's dtype and shape are inferred as its node is added (by ONNX's own inference, constants included), so a
    lowering can ask ``value.shape`` and ``value.dtype`` of what it reads. A builder made with ``parent`` builds the body
    of an If, Loop or Scan, may read the parent's values, and works as the parent does.

    ``by_layer``: nodes bear the name of the layer that they are made for (``working_on``), and inputs whose shapes
    contradict each other are refused in its name. ``fold``: operators on small constants become their result. Core ML
    networks compute shapes with ordinary layers (getShape, gather, concatND, ...); folding those keeps every later blob's
    rank and shape known, which the rank rules of the layers need. ML Programs say all shapes, and are stored folded.
    """

    def __init__(
        self, name: str = "main", parent: OnnxBuilder | None = None, *, by_layer: bool = False, fold: bool = False
    ) -> None:
        self.name = name
        self.parent = parent
        self.inputs: list[ir.Value] = []
        self.nodes: list[ir.Node] = []
        self.initializers: dict[str, ir.Value] = {}
        self.by_layer: bool = by_layer if parent is None else parent.by_layer
        self.fold: bool = fold if parent is None else parent.fold
        self.layer: str = name if parent is None else parent.layer
        self.taken: set[str] = parent.taken if parent is not None else set()
        self.domains: dict[str, int] = parent.domains if parent is not None else {"": OPSET}
        self._counter = 0

    @contextmanager
    def working_on(self, layer: str) -> Iterator[None]:
        """Everything appended inside belongs to ``layer``."""
        outer, self.layer = self.layer, layer
        try:
            yield
        finally:
            self.layer = outer

    # values

    def unique(self, wanted: str) -> str:
        """``wanted``, or ``wanted_1``, ``wanted_2``, ... when it is taken."""
        name = wanted
        while name in self.taken:
            self._counter += 1
            name = f"{wanted}_{self._counter}"
        self.taken.add(name)
        return name

    def input(
        self, name: str, dtype: npt.DTypeLike | ir.DataType, shape: Sequence[int | str | None] | None
    ) -> ir.Value:
        """Declares a graph input; its name is kept as it is."""
        self.taken.add(name)
        kind = dtype if isinstance(dtype, ir.DataType) else ir.DataType.from_numpy(np.dtype(dtype))
        value = ir.Value(name=name, type=ir.TensorType(kind))
        value.shape = None if shape is None else ir.Shape(shape)
        self.inputs.append(value)
        return value

    def may_be_left_out(self, value: ir.Value, feature: Feature, where: str) -> None:
        """Gives an input of this graph the number that its feature declares to be held where nothing is fed."""
        if feature.kind != "tensor" or not feature.optional or feature.default is None or value.shape is None:
            return
        lengths = [length if isinstance(length, int) else 1 for length in value.shape]
        afford(f"the default of input {value.name!r}", lengths, 8, where=where)
        held = np.full(lengths, feature.default, None if value.dtype is None else value.dtype.numpy())
        value.const_value = ir.Tensor(held, name=value.name)
        self.initializers[value.name or ""] = value

    def constant(self, array: npt.ArrayLike, name: str = "const") -> ir.Value:
        """An initializer. The array is kept as it is (memory-mapped stays memory-mapped)."""
        data = np.asarray(array)
        name = self.unique(name)
        tensor: ir.TensorProtocol
        if data.dtype.kind == "U":  # ONNX stores texts as bytes
            tensor = ir.StringTensor(
                [text.encode() for text in data.ravel().tolist()], shape=ir.Shape(data.shape), name=name
            )
        else:
            tensor = ir.Tensor(data, name=name)
        value = ir.Value(name=name, type=ir.TensorType(tensor.dtype), shape=tensor.shape, const_value=tensor)
        self.initializers[name] = value
        return value

    def rename(self, value: ir.Value, name: str) -> None:
        """Gives a value of this builder another name, which must be free."""
        if value.name in self.initializers and self.initializers[value.name] is value:
            del self.initializers[value.name]
            self.initializers[name] = value
            if value.const_value is not None:
                value.const_value.name = name
        value.name = name

    # nodes

    @overload
    def op(
        self, operator: str, *inputs: Operand, name: str | None = None, outputs: None = None, **attributes: Any
    ) -> ir.Value: ...
    @overload
    def op(
        self, operator: str, *inputs: Operand, outputs: Sequence[str | None] | int, **attributes: Any
    ) -> tuple[ir.Value, ...]: ...
    def op(
        self,
        operator: str,
        *inputs: Operand,
        name: str | None = None,
        outputs: Sequence[str | None] | int | None = None,
        domain: str = "",
        **attributes: Any,
    ) -> ir.Value | tuple[ir.Value, ...]:
        """Appends ``operator`` and returns its output (or a tuple of them when ``outputs`` is given).

        Arrays and Python numbers among the inputs become initializers; None leaves an optional input out.
        ``name`` names the output; without it the output is called after the operator.
        """
        operands = [self._operand(i, operator) for i in inputs]
        if self.fold and outputs is None:
            known = self._folded(operator, operands, {**attributes, "domain": domain})
            if known is not None:
                return self.constant(known, name or operator.lower())
        # inputs that are left out at the end are no inputs; between others they are empty names
        while operands and operands[-1] is None:
            operands.pop()
        wanted: Sequence[str | None]
        wanted = [name] if outputs is None else [None] * outputs if isinstance(outputs, int) else outputs
        results = [ir.Value(name=self.unique(w or operator.lower())) for w in wanted]
        node = ir.Node(
            domain,
            operator,
            operands,
            [_attribute(k, v) for k, v in attributes.items() if v is not None],
            outputs=results,
            name=results[0].name,
        )
        self.nodes.append(node)
        if domain:
            self.domains[domain] = DOMAINS[domain]
        misfit = self._infer(node)
        if self.by_layer:
            node.name = f"{self.layer}/{results[0].name}"
            node.metadata_props["coreml.layer"] = self.layer
            if misfit is not None:
                self._refuse_unfit(node, misfit)
        return results[0] if outputs is None else tuple(results)

    def copy(self, value: Operand) -> ir.Value:
        """The value under a name of its own: an Identity that stays one, where others of constants are folded."""
        return self.op("Identity", value, outputs=1)[0]

    def _folded(
        self, operator: str, operands: list[ir.Value | None], attributes: dict[str, object]
    ) -> np.ndarray | None:
        try:
            return folded(operator, operands, attributes, OPSET)
        except Exception as error:  # the reference implementation, on constants that may be anything
            if self.parent is not None:  # a way that may never be taken
                return None
            shapes = [list(o.const_value.shape) for o in operands if o is not None and o.const_value is not None]
            raise ConversionError(
                f"layer {self.layer!r} cannot compute its constant result",
                where=f"layer {self.layer!r}",
                expected=f"inputs that {operator} accepts",
                found=f"{shapes}: {error}",
            ) from None

    def _operand(self, operand: Operand, operator: str) -> ir.Value | None:
        if operand is None or isinstance(operand, ir.Value):
            return operand
        return self.constant(operand, f"{operator.lower()}_const")

    def _infer(self, node: ir.Node) -> Exception | None:
        """Fills in dtypes and shapes of a new node's outputs; where ONNX cannot, leaves them open and says why."""
        first = node.inputs[0] if node.inputs else None
        if node.op_type in _SAME_SHAPE and self.by_layer and first is not None and len(node.outputs) == 1:
            node.outputs[0].type = first.type
            node.outputs[0].shape = None if first.shape is None else ir.Shape(list(first.shape))
            return None
        if node.domain or _holds_graphs(node):
            return None
        try:
            inferred = _inferred(node)
        except (onnx.shape_inference.InferenceError, RuntimeError) as error:
            return error
        except KeyError:  # an input without a type, made by a node whose own inputs did not fit
            return None
        for value in node.outputs:
            proto = inferred.get(value.name or "")
            if proto is not None and proto.HasField("tensor_type"):
                value.type = ir.TensorType(ir.DataType(proto.tensor_type.elem_type))
                if proto.tensor_type.HasField("shape"):
                    value.shape = ir.Shape([_dimension(d) for d in proto.tensor_type.shape.dim])
                    _afford(value)
        return None

    def _refuse_unfit(self, node: ir.Node, error: Exception) -> None:
        """Refuses a node whose inputs contradict each other, unless one of them is not known."""
        values = [v for v in node.inputs if v is not None]
        if any(v.shape is None or v.type is None for v in values):
            return
        reason = str(error).strip().splitlines()[-1]
        raise ConversionError(
            f"the inputs of layer {self.layer!r} do not fit together",
            where=f"layer {self.layer!r}",
            expected=f"shapes that {node.op_type} accepts ({reason.split('] ')[-1]})",
            found=" and ".join(f"{v.name} {[d if isinstance(d, int) else '?' for d in v.shape or ()]}" for v in values),
        )

    # result

    def graph(self, outputs: Sequence[ir.Value]) -> ir.Graph:
        """The finished graph with these outputs."""
        return ir.Graph(
            self.inputs,
            outputs,
            nodes=self.nodes,
            initializers=list(self.initializers.values()),
            opset_imports=dict(self.domains) if self.parent is None else {},
            name=self.name,
        )

    def model(self, outputs: Sequence[ir.Value], producer: Literal["coreproof"] = "coreproof") -> ir.Model:
        """The finished model with these outputs."""
        # ONNX Runtime 1.18, the oldest that runs this opset, reads no newer file format
        return ir.Model(self.graph(outputs), ir_version=10, producer_name=producer)


def _holds_graphs(node: ir.Node) -> bool:
    """Whether the node is an If, Loop or Scan, of which ONNX infers nothing by itself."""
    return any(a.type in (ir.AttributeType.GRAPH, ir.AttributeType.GRAPHS) for a in node.attributes.values())


def _inferred(node: ir.Node) -> Mapping[str, onnx.TypeProto]:
    """The types of the node's outputs, by ONNX's own inference. Raises what it raises."""
    types, data = {}, {}
    for value in node.inputs:
        if value is None or value.name is None or value.type is None:
            continue
        types[value.name] = _type_proto(value)
        if value.const_value is not None and value.const_value.size <= _MAY_BE_A_SHAPE:
            data[value.name] = ir.serde.serialize_tensor(value.const_value)
    return onnx.shape_inference.infer_node_outputs(
        onnx.defs.get_schema(node.op_type, OPSET, node.domain),
        ir.serde.serialize_node(node),  # to_proto asks ten protocols first, which takes as long as all the rest
        types,
        data,
        opset_imports=[onnx.helper.make_opsetid("", OPSET)],
        ir_version=10,
    )


def _attribute(name: str, value: int | float | str | Sequence[int] | Sequence[float] | ir.Graph) -> ir.Attr:
    """An attribute. The library asks of every list what protocols it fulfils, which takes longer than to infer a shape."""
    kinds = {type(element) for element in value} if isinstance(value, list | tuple) else set()
    kind = ir.AttributeType.INTS if kinds == {int} else ir.AttributeType.FLOATS if kinds == {float} else None
    return ir.convenience.convert_attribute(name, value, kind)


def _afford(value: ir.Value) -> None:
    """Refuses a value that a file makes larger than memory: engines take the memory first, and fail then."""
    lengths = [d for d in value.shape or () if isinstance(d, int) and d > 0]
    # what has no dtype yet, or holds texts, is counted as float32
    unsized = value.dtype is None or value.dtype in (ir.DataType.UNDEFINED, ir.DataType.STRING)
    afford(
        f"the value {value.name!r}", lengths, 4 if value.dtype is None or unsized else max(value.dtype.bitwidth // 8, 1)
    )


def _type_proto(value: ir.Value) -> onnx.TypeProto:
    proto = onnx.TypeProto()
    assert value.type is not None
    proto.tensor_type.elem_type = int(value.type.dtype)
    if value.shape is not None:
        proto.tensor_type.shape.SetInParent()
        for dimension in value.shape:
            entry = proto.tensor_type.shape.dim.add()
            if isinstance(dimension, int):
                entry.dim_value = dimension
            elif dimension.value is not None:
                entry.dim_param = dimension.value
    return proto


def _dimension(proto: onnx.TensorShapeProto.Dimension) -> int | str | None:
    which = proto.WhichOneof("value")
    return None if which is None else getattr(proto, which)
