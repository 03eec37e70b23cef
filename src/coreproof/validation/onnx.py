"""The shapes of an ONNX model: ONNX's own inference, and what it does not check: channels and declared outputs."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from math import prod
from typing import TYPE_CHECKING

from coreproof.validation.problem import Problem, declared_shape, rank_or_shape, shape_words

if TYPE_CHECKING:
    import onnx
    import onnx_ir as ir

    from coreproof.model.onnx.model import OnnxModel

Shapes = dict[str, tuple[int, ...]]
Known = Mapping[str, tuple[int | None, ...]]

_MOST_DIMENSIONS = 16
"""Longer lists of whole numbers are no targets of a reshape: tables of indices may have thousands."""

_ERROR = re.compile(r"\(op_type:([^,]+), node name: (.*?)\): \[\w+\] (.*)")
_FOLLOWS = "expected to have type but instead is null"
"""What inference says of a node that reads what a broken node should have made."""


def follow_onnx(model: OnnxModel) -> tuple[list[Problem], Shapes]:
    """Every node whose inputs do not fit it, and the shape of each value that is known before the model runs."""
    problems, inferred = follow_graph(model.ir)
    known = {name: shape for name, shape in inferred.items() if None not in shape}
    problems += _declared(model, inferred)
    return problems, {name: tuple(n or 0 for n in shape) for name, shape in known.items()}


def follow_graph(model: ir.Model) -> tuple[list[Problem], dict[str, tuple[int | None, ...]]]:
    """The problems that follow from shapes alone, by node name, and what is known of every value's shape."""
    from onnx.shape_inference import infer_shapes

    from coreproof.model.onnx.shapes import can_follow_data, light_proto
    from coreproof.model.onnx.shapes import inferred as without_complaint

    light = light_proto(model)
    problems: list[Problem] = []
    try:
        # strict mode goes on behind a node that fails, and raises at the end with a line for each
        safe = can_follow_data(without_complaint(light, data=False))
        inferred = infer_shapes(light, check_type=True, strict_mode=True, data_prop=safe)
    except Exception as error:  # InferenceError, and what C++ throws on a model that it cannot walk
        problems = list(_complaints(str(error), light))
        inferred = without_complaint(light)
    shapes: dict[str, tuple[int | None, ...]] = {t.name: tuple(t.dims) for t in light.graph.initializer}
    for value in (*light.graph.input, *inferred.graph.value_info, *inferred.graph.output):
        if value.type.tensor_type.HasField("shape"):
            shapes[value.name] = tuple(_length(d) for d in value.type.tensor_type.shape.dim)
    for name, tensor in (constants := _constant_nodes(light)).items():
        shapes[name] = tuple(tensor.dims)
    broken = {p.layer for p in problems}
    targets = _small_integers({**{t.name: t for t in light.graph.initializer}, **constants})
    for node in light.graph.node:
        if node.name not in broken and node.domain in ("", "ai.onnx"):
            numbers = {a.name: a.i for a in node.attribute}
            problems += channels(node.name, node.op_type, node.input, numbers, shapes)
            if node.op_type == "Reshape" and len(node.input) > 1 and node.input[1] in targets:
                problems += elements(node.name, node.input[0], shapes.get(node.input[0]), targets[node.input[1]])
    return problems, shapes


def _length(dimension: onnx.TensorShapeProto.Dimension) -> int | None:
    return int(dimension.dim_value) if dimension.WhichOneof("value") == "dim_value" else None


def _complaints(words: str, light: onnx.ModelProto) -> Iterator[Problem]:
    """What ONNX's inference complains of, node by node."""
    nodes = {node.name: node for node in light.graph.node}
    for operator, name, reason in _ERROR.findall(words):
        if _FOLLOWS in reason or name not in nodes:
            continue
        read = ", ".join(n for n in nodes[name].input if n)
        yield Problem(rank_or_shape(reason), name, f"inputs that {operator} accepts", f"{read}: {reason}")


# what inference does not check


def channels(
    layer: str, operator: str, inputs: Sequence[str], attributes: Mapping[str, object], shapes: Known
) -> Iterator[Problem]:
    """Weights whose channels are not those of the data: onnx's inference takes any, the engine refuses them."""
    x, w = (shapes.get(name) for name in inputs[:2]) if len(inputs) > 1 else (None, None)
    if x is None or w is None:
        return
    expected = _channels_wanted(operator, attributes, w)
    if expected is None or (operator == "BatchNormalization" and len(x) == 1):
        return
    axis = 0 if operator == "Gemm" and attributes.get("transA", 0) else 1
    if len(x) <= axis:
        yield Problem("rank", layer, f"an input with {expected} channels", f"{inputs[0]} {shape_words(x)}")
    elif x[axis] is not None and x[axis] != expected:
        yield Problem(
            "shape",
            layer,
            f"{expected} channels, as the weight {shape_words(w)} has them",
            f"{x[axis]} in {inputs[0]} {shape_words(x)}",
        )


def elements(layer: str, value: str, shape: Sequence[int | None] | None, target: Sequence[int]) -> Iterator[Problem]:
    """A reshape whose literal target cannot hold just the elements that it is given."""
    # a 0 in the target copies a length (or, with allowzero, is one): the inference has checked those
    if shape is None or None in shape or 0 in target:
        return
    have, wanted = prod(n or 0 for n in shape), prod(n for n in target if n != -1)
    if have != wanted and (-1 not in target or have % wanted):
        yield Problem(
            "shape",
            layer,
            f"values for the target shape {list(target)}",
            f"{have} values in {value} {shape_words(shape)}",
        )


def _constant_nodes(light: onnx.ModelProto) -> dict[str, onnx.TensorProto]:
    return {
        node.output[0]: node.attribute[0].t
        for node in light.graph.node
        if node.op_type == "Constant" and node.output and node.attribute and node.attribute[0].HasField("t")
    }


def _small_integers(stored: Mapping[str, onnx.TensorProto]) -> dict[str, list[int]]:
    """The constants that may be targets of a reshape: short lists of int64."""
    from onnx import TensorProto, numpy_helper

    return {
        name: numpy_helper.to_array(tensor).reshape(-1).tolist()
        for name, tensor in stored.items()
        if tensor.data_type == TensorProto.INT64 and len(tensor.dims) == 1 and tensor.dims[0] <= _MOST_DIMENSIONS
    }


def _channels_wanted(operator: str, attributes: Mapping[str, object], weight: tuple[int | None, ...]) -> int | None:
    if operator in ("Conv", "ConvInteger") and len(weight) > 1:
        group = attributes.get("group", 1)
        # W is [M, C / group, ...] (Conv), and [C, M / group, ...] the other way round (ConvTranspose)
        return weight[1] * group if weight[1] is not None and isinstance(group, int) else None
    if operator in ("ConvTranspose", "BatchNormalization", "InstanceNormalization") and weight:
        return weight[0]
    if operator == "Gemm" and len(weight) == 2:
        return weight[1 if attributes.get("transB", 0) else 0]
    return None


def _declared(model: OnnxModel, inferred: Known) -> Iterator[Problem]:
    """Outputs whose declared shape contradicts what follows from the inputs."""
    for feature in model.signature.outputs:
        real = inferred.get(feature.name)
        if real is None or feature.shape is None:
            continue
        pairs = zip(feature.shape, real, strict=False)
        if len(real) != len(feature.shape) or any(isinstance(d, int) and n is not None and d != n for d, n in pairs):
            yield declared_shape(model.graph, feature.name, str(list(feature.shape)), shape_words(real))
