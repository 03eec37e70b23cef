"""Builds the tiny models of the tests: ONNX from text or nodes, NeuralNetworks layer by layer, ML Programs by coremltools.

Nothing here runs a model or judges one.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import onnx
import onnx_ir as ir
from onnx import TensorProto, helper, numpy_helper, parser

from coreproof.model.coreml.model import CoreMLModel, load_coreml
from coreproof.model.coreml.proto import Model_pb2, NeuralNetwork_pb2
from coreproof.model.feeding import Feeding
from coreproof.model.onnx.model import OnnxModel, from_message

FLOAT = ir.DataType.FLOAT
FEEDING = Feeding(size=(8, 8), resize="squash", scale=1 / 255)
Node = tuple[str, str, str, Mapping[str, Any]]
"""What an ONNX node computes, what it reads and what it makes (names between blanks), and its attributes."""


def weights(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


# ONNX


def onnx_model(text: str, **weights: Any) -> OnnxModel:
    """The model that ONNX's own text form describes; ``weights`` are initializers by name."""
    proto = parser.parse_model(text)
    proto.graph.initializer.extend(numpy_helper.from_array(np.asarray(v), k) for k, v in weights.items())
    return OnnxModel(ir.from_proto(proto), name="net")


def graph_model(text: str, opset: int = 18, **weights: Any) -> OnnxModel:
    """The model of a graph in ONNX's own text form, without the head that names versions."""
    graph = parser.parse_graph(text)
    graph.initializer.extend(numpy_helper.from_array(np.asarray(v), k) for k, v in weights.items())
    return from_message(helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)]))


def onnx_proto(
    nodes: Sequence[Node | onnx.NodeProto],
    inputs: Mapping[str, Any],
    outputs: Mapping[str, Any],
    stored: Mapping[str, Any] | None = None,
    *,
    opset: int = 17,
    name: str = "net",
) -> onnx.ModelProto:
    """A model of these nodes; one that is given as a Node is called after what it makes.

    ``inputs`` and ``outputs`` are shapes of float32, or (dtype, shape); ``stored`` are the initializers.
    """

    def feature(end: str, about: Any) -> onnx.ValueInfoProto:
        dtype, shape = (
            about
            if isinstance(about, tuple) and len(about) == 2 and not isinstance(about[1], int | str)
            else (TensorProto.FLOAT, about)
        )
        return helper.make_tensor_value_info(end, dtype, shape)

    graph = helper.make_graph(
        [
            node
            if isinstance(node, onnx.NodeProto)
            else helper.make_node(
                node[0], node[1].split(" "), node[2].split(), name=f"to_{node[2].split()[0]}", **node[3]
            )
            for node in nodes
        ],
        name,
        [feature(*end) for end in inputs.items()],
        [feature(*end) for end in outputs.items()],
        [numpy_helper.from_array(np.asarray(array), known) for known, array in (stored or {}).items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def onnx_net(
    nodes: Sequence[Node | onnx.NodeProto], inputs: Mapping[str, Any], outputs: Mapping[str, Any], **stored: Any
) -> OnnxModel:
    """``onnx_proto``, as a model."""
    return OnnxModel(ir.from_proto(onnx_proto(nodes, inputs, outputs, stored)), name="net")


def node_model(
    operator: str,
    inputs: Mapping[str, Any],
    constants: Mapping[str, Any] | None = None,
    *,
    opset: int = 17,
    outputs: Sequence[Any] = (np.float32,),
    order: Sequence[str] | None = None,
    free: Mapping[str, Sequence[int]] | None = None,
    **attributes: Any,
) -> OnnxModel:
    """A model of one node. ``order`` names its operands ("" for one left out); by default inputs, then constants.

    ``outputs`` are their dtypes; ``free`` names the axes of inputs whose length is left open.
    """
    constants = dict(constants or {})
    names = list(order) if order is not None else [*inputs, *constants]
    results = [f"y{i}" for i in range(len(outputs))]
    open_axes = dict(free or {})
    graph = helper.make_graph(
        [helper.make_node(operator, names, results, name="node", **attributes)],
        "one",
        [
            helper.make_tensor_value_info(
                name,
                helper.np_dtype_to_tensor_dtype(array.dtype),
                [f"{name}{i}" if i in open_axes.get(name, ()) else n for i, n in enumerate(array.shape)],
            )
            for name, array in inputs.items()
        ],
        [
            helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(np.dtype(dtype)), None)
            for name, dtype in zip(results, outputs, strict=True)
        ],
        [numpy_helper.from_array(np.asarray(array), name) for name, array in constants.items()],
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    return OnnxModel(ir.from_proto(onnx.shape_inference.infer_shapes(proto)), name=operator)


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


# Core ML


def fill(message: Any, fields: Mapping[str, Any]) -> None:
    """Sets fields: arrays become WeightParams, mappings sub-messages, words enumeration values."""
    for name, value in fields.items():
        descriptor = message.DESCRIPTOR.fields_by_name[name]
        if isinstance(value, np.ndarray):
            getattr(message, name).floatValue.extend(value.astype(np.float32).ravel())
        elif isinstance(value, Mapping) and descriptor.message_type.GetOptions().map_entry:
            getattr(message, name).update(value)
        elif isinstance(value, Mapping):
            getattr(message, name).SetInParent()
            fill(getattr(message, name), value)
        elif isinstance(value, list | tuple) and value and isinstance(value[0], Mapping):
            for item in value:
                fill(getattr(message, name).add(), item)
        elif isinstance(value, list | tuple):
            getattr(message, name).extend(value)
        elif descriptor.enum_type is not None:
            setattr(message, name, descriptor.enum_type.values_by_name[value].number)
        else:
            setattr(message, name, value)


def layer(kind: str, inputs: str, outputs: str, **fields: Any) -> Any:
    """A layer; inputs and outputs are blank-separated names."""
    message = NeuralNetwork_pb2.NeuralNetworkLayer(name=f"the {kind}", input=inputs.split(), output=outputs.split())
    getattr(message, kind).SetInParent()
    fill(getattr(message, kind), fields)
    return message


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


def network(
    layers: Sequence[Any],
    inputs: Mapping[str, Sequence[int] | str],
    outputs: Mapping[str, Sequence[int] | None],
    *,
    exact: bool = False,
    labels: Sequence[str] | None = None,
    preprocessing: Sequence[Mapping[str, Any]] = (),
) -> CoreMLModel:
    """A model; an input is a shape, or an image as "RGB 4x6" (height x width)."""
    spec = Model_pb2.Model(specificationVersion=4 if exact else 1)
    body = spec.neuralNetworkClassifier if labels is not None else spec.neuralNetwork
    body.layers.extend(layers)
    for step in preprocessing:
        fill(body.preprocessing.add(), step)
    body.arrayInputShapeMapping = body.imageInputShapeMapping = int(exact)
    for name, given in inputs.items():
        kind = spec.description.input.add(name=name).type
        if isinstance(given, str):
            colour, size = given.split()
            kind.imageType.height, kind.imageType.width = (int(n) for n in size.split("x"))
            kind.imageType.colorSpace = type(kind.imageType).ColorSpace.Value(colour)
        else:
            kind.multiArrayType.shape.extend(given)
            kind.multiArrayType.dataType = type(kind.multiArrayType).FLOAT32
    for name, shape in outputs.items():
        kind = spec.description.output.add(name=name).type
        kind.multiArrayType.shape.extend(shape or ())
        kind.multiArrayType.dataType = type(kind.multiArrayType).FLOAT32
    if labels is not None:
        body.stringClassLabels.vector.extend(labels)
        del spec.description.output[:]
        (probabilities,) = outputs
        spec.description.output.add(name=probabilities).type.dictionaryType.stringKeyType.SetInParent()
        spec.description.output.add(name="label").type.stringType.SetInParent()
        spec.description.predictedFeatureName = "label"
        spec.description.predictedProbabilitiesName = probabilities
    return CoreMLModel(spec, name="net")


def feature(
    message: Any, name: str, kind: str | Sequence[int], dtype: str = "DOUBLE", *, optional: bool = False
) -> None:
    """A FeatureDescription: an array where ``kind`` is a shape, else "double", "int64", "string", "dictionary string" ..."""
    described = message.add(name=name).type
    described.isOptional = optional
    if not isinstance(kind, str):
        described.multiArrayType.shape.extend(kind)
        described.multiArrayType.dataType = type(described.multiArrayType).ArrayDataType.Value(dtype)
    elif " " in kind:
        of, element = kind.split()
        ending = "KeyType" if of == "dictionary" else "Type"
        getattr(getattr(described, f"{of}Type"), f"{element}{ending}").SetInParent()
    else:
        getattr(described, f"{kind}Type").SetInParent()


def classic(
    kind: str,
    inputs: Mapping[str, str | Sequence[int]],
    outputs: Mapping[str, str | Sequence[int]],
    *,
    optional: Sequence[str] = (),
    dtype: str = "DOUBLE",
    **fields: Any,
) -> CoreMLModel:
    """A model that is no network; the first output is the predicted one, a dictionary holds the probabilities."""
    spec = Model_pb2.Model(specificationVersion=4)
    for name, of in inputs.items():
        feature(spec.description.input, name, of, dtype, optional=name in optional)
    for name, of in outputs.items():
        feature(spec.description.output, name, of, dtype)
        if of in ("dictionary string", "dictionary int64") and kind.endswith("Classifier"):
            spec.description.predictedProbabilitiesName = name
    if kind.endswith(("Classifier", "Regressor")):
        spec.description.predictedFeatureName = next(iter(outputs))
    getattr(spec, kind).SetInParent()
    fill(getattr(spec, kind), fields)
    return CoreMLModel(spec, name=kind)


def pipeline(
    kind: str, stages: Sequence[CoreMLModel], inputs: Mapping[str, Any], outputs: Mapping[str, Any]
) -> CoreMLModel:
    """A pipeline, plain or a classifier or a regressor, of these models."""
    model = classic(kind, inputs, outputs)
    body = model.spec.pipeline if kind == "pipeline" else getattr(model.spec, kind).pipeline
    body.models.extend(stage.spec for stage in stages)
    return CoreMLModel(model.spec, name=kind)


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
