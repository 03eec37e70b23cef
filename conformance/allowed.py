"""What no honest conversion of an ONNX graph exceeds: its own answer, and how far rounding moves that."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from coreproof.runtime.exact_integers import add_exactly

Feed = dict[str, np.ndarray[Any, Any]]


def run_source(model: onnx.ModelProto, fed: Feed) -> Feed:
    """ONNX Runtime's answer, without its rewrites; that of ONNX's reference implementation where ONNX Runtime has none."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    names = [o.name for o in model.graph.output]
    exact = onnx.ModelProto()
    exact.CopyFrom(model)
    add_exactly(exact, {})  # some processors' kernels stop in the middle of a sum of 8-bit products
    try:
        session = ort.InferenceSession(exact.SerializeToString(), options, providers=["CPUExecutionProvider"])
    except Exception:  # onnxruntime's exceptions share no base class: it has not this operator, or not in this version
        from onnx.reference import ReferenceEvaluator

        return dict(zip(names, ReferenceEvaluator(model).run(None, fed), strict=True))
    arrays = {name: np.asarray(value) for name, value in fed.items()}  # a single number that was computed is no array
    return dict(zip(names, session.run(names, arrays), strict=True))


def rounded(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same graph with every float32 value rounded to float16, inputs and weights too: what float16 alone does to it."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    inferred = onnx.shape_inference.infer_shapes(copy)
    floats = {
        v.name
        for v in (*inferred.graph.value_info, *inferred.graph.input, *inferred.graph.output)
        if v.type.tensor_type.elem_type == TensorProto.FLOAT
    } | {i.name for i in copy.graph.initializer if i.data_type == TensorProto.FLOAT}
    nodes: list[onnx.NodeProto] = []
    names: dict[str, str] = {}

    def through(name: str) -> None:
        half = f"{name}__half"
        names[name] = f"{name}__rounded"
        nodes.append(helper.make_node("Cast", [name], [half], to=TensorProto.FLOAT16))
        nodes.append(helper.make_node("Cast", [half], [names[name]], to=TensorProto.FLOAT))

    outputs = {o.name for o in copy.graph.output}
    for value in (*(i.name for i in copy.graph.input), *(i.name for i in copy.graph.initializer)):
        if value in floats and value not in names:
            through(value)
    for node in copy.graph.node:
        fresh = onnx.NodeProto()
        fresh.CopyFrom(node)
        del fresh.input[:]
        fresh.input.extend(names.get(name, name) for name in node.input)
        nodes.append(fresh)
        for name in node.output:
            if name in floats and name not in outputs:
                through(name)
    del copy.graph.node[:]
    copy.graph.node.extend(nodes)
    return copy


def noise(model: onnx.ModelProto, fed: Feed, exact: Feed, unit: float) -> dict[str, float] | None:
    """Per output, how far it moves when what it is made from moves by ``unit``; None where it has no finite answer then.

    An ill-conditioned graph (a tangent near its pole) moves far, and no implementation can do better.
    """
    rng = np.random.default_rng(0)
    moved = dict.fromkeys(exact, 0.0)

    def draws() -> Iterator[Feed]:
        for _ in range(4):
            near = {
                n: (v * (1 + unit * rng.uniform(-1, 1, v.shape))).astype(v.dtype) if v.dtype.kind == "f" else v
                for n, v in fed.items()
            }
            yield run_source(_shaken(model, rng, unit), near)
        if (cancelled := _cancelled(model, unit)) is not None:
            yield run_source(cancelled, fed)

    for made in draws():
        for name, value in made.items():
            if value.dtype.kind == "f" and not np.isfinite(value).all():
                return None
            moved[name] = max(moved[name], difference(exact[name], value))
    return moved


def _shaken(model: onnx.ModelProto, rng: np.random.Generator, unit: float) -> onnx.ModelProto:
    """The model with its float32 weights moved by ``unit``, and each inner value by half of that, which is what rounding does.

    A graph that is fed nothing rests on its weights alone; and what a constant becomes may lie at the edge of a step.
    """
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    _shake_inner(copy, rng, unit / 2)
    for stored in copy.graph.initializer:
        if stored.data_type == TensorProto.FLOAT:
            weights = numpy_helper.to_array(stored)
            moved = (weights * (1 + unit * rng.uniform(-1, 1, weights.shape))).astype(np.float32)
            stored.CopyFrom(numpy_helper.from_array(moved, stored.name))
    return copy


def _shake_inner(model: onnx.ModelProto, rng: np.random.Generator, unit: float) -> None:
    """Multiplies every inner float32 value by 1 within ``unit``."""
    inferred = onnx.shape_inference.infer_shapes(model).graph
    floats = {v.name for v in inferred.value_info if v.type.tensor_type.elem_type == TensorProto.FLOAT}
    floats -= {o.name for o in model.graph.output}
    nodes, named = [], dict[str, str]()
    for node in model.graph.node:
        node.input[:] = [named.get(name, name) for name in node.input]
        nodes.append(node)
        for name in node.output:
            if name in floats and node.op_type != "Constant":
                factor, named[name] = f"{name}__factor", f"{name}__shaken"
                nodes += [
                    _number(factor, 1 + unit * rng.uniform(-1, 1)),
                    helper.make_node("Mul", [name, factor], [named[name]]),
                ]
    kept = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del model.graph.node[:]
    model.graph.node.extend(kept)


def _cancelled(model: onnx.ModelProto, unit: float) -> onnx.ModelProto | None:
    """The model with 0 for each difference that is within ``unit`` of what it is made of; None where nothing asks for zeros.

    Whether a number is zero is asked by a cast to bool and by Equal. Rounding makes a zero of two numbers that are nearly alike,
    and no draw from around them ever does.
    """
    asks = any(
        node.op_type == "Equal" or (node.op_type == "Cast" and node.attribute[0].i == TensorProto.BOOL)
        for node in model.graph.node
    )
    if not asks:
        return None
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    inferred = onnx.shape_inference.infer_shapes(copy).graph
    values = (*inferred.value_info, *inferred.input, *inferred.output)
    floats = {v.name for v in values if v.type.tensor_type.elem_type == TensorProto.FLOAT}
    nodes: list[onnx.NodeProto] = []
    for node in copy.graph.node:
        result = node.output[0]
        if node.op_type not in ("Add", "Sub") or result not in floats:
            nodes.append(node)
            continue
        whole = f"{result}__whole"
        node.output[0] = whole
        part = [f"{result}__{letter}" for letter in "abcdefg"]
        nodes += [
            node,
            *(helper.make_node("Abs", [name], [size]) for name, size in zip((*node.input, whole), part, strict=False)),
            helper.make_node("Max", part[:2], [part[3]]),
            _number(part[4], unit),
            helper.make_node("Mul", [part[3], part[4]], [part[5]]),
            helper.make_node("Less", [part[2], part[5]], [part[6]]),
            _number(f"{result}__zero", 0.0),
            helper.make_node("Where", [part[6], f"{result}__zero", whole], [result]),
        ]
    kept = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del copy.graph.node[:]
    copy.graph.node.extend(kept)
    return copy


def _number(name: str, value: float) -> onnx.NodeProto:
    return helper.make_node("Constant", [], [name], value=numpy_helper.from_array(np.float32(value), name))


def interpolated(model: onnx.ModelProto, fed: Feed) -> float:
    """What rounding the places may do at which a Resize reads between neighbours, as a share of the scale; 0 without one.

    A place on an axis of length L is a quotient and a product of float32, each off by L / 2^24, and neighbours lie up to a few
    times the scale apart.
    """
    if not any(node.op_type == "Resize" for node in model.graph.node):
        return 0.0
    known = onnx.shape_inference.infer_shapes(model).graph
    shapes = [np.shape(value) for value in fed.values()]
    shapes += [tuple(d.dim_value for d in v.type.tensor_type.shape.dim) for v in known.value_info]
    return 6 * 2.0**-24 * max((length for shape in shapes for length in shape), default=0)


def difference(a: Any, b: Any) -> float:
    a, b = np.asarray(a, np.float64).ravel(), np.asarray(b, np.float64).ravel()
    if a.size != b.size:
        return float("inf")
    # one engine masks a place by the lowest number of float32, another by minus infinity
    a, b = (np.where(v == np.finfo(np.float32).min, -np.inf, v) for v in (a, b))
    with np.errstate(invalid="ignore"):
        apart = np.where(a == b, 0.0, np.abs(a - b))
    return float(np.max(apart, initial=0.0)) if not np.isnan(apart).any() else float("inf")


_POLES = frozenset({"Tan", "Div", "Reciprocal", "Pow"})
"""Operators whose result has no bound near some places."""

_UNBOUNDED = frozenset(
    [
        "Abs",
        "Add",
        "Cast",
        "Ceil",
        "Concat",
        "Expand",
        "Floor",
        "LeakyRelu",
        "MatMul",
        "Mul",
        "Neg",
        "PRelu",
        "Pad",
        "ReduceMean",
        "ReduceSum",
        "Relu",
        "Reshape",
        "Resize",
        "Round",
        "Slice",
        "Squeeze",
        "Sub",
        "Transpose",
        "Trilu",
        "Unsqueeze",
    ]
)
"""Operators that make no bound of what has none; any other is taken to make one."""


def _beyond_poles(model: onnx.ModelProto, scale: Mapping[str, float], moved: Mapping[str, float]) -> dict[str, float]:
    """What ``noise`` measured; without a bound where an output moves by half of its size and comes from where a pole may lie.

    Nearer to a pole than any of the draws came, a number is larger than all of them: the largest of a few bounds nothing.
    """
    makers = {name: node for node in model.graph.node for name in node.output}

    def comes_from_pole(name: str) -> bool:
        node = makers.get(name)
        if node is None:
            return False
        return node.op_type in _POLES or (node.op_type in _UNBOUNDED and any(map(comes_from_pole, node.input)))

    return {n: math.inf if off >= scale[n] / 2 > 0 and comes_from_pole(n) else off for n, off in moved.items()}


def allowances(model: onnx.ModelProto, fed: Feed, exact: Feed, half: bool) -> dict[str, float] | None:
    """Per output, what no honest conversion exceeds; None where the format itself cannot hold the graph's values.

    Sixteen roundings in float32, eight in float16, are made at once: a number near the edge of a step has to cross it.
    """
    scale = {n: float(np.max(np.abs(np.asarray(v, np.float64)), initial=0.0)) for n, v in exact.items()}
    if not half:
        # what the source itself rounds to float16 is off by that much wherever it is computed otherwise
        own = any(v.dtype == np.float16 for v in (*fed.values(), *exact.values()))
        moved = noise(model, fed, exact, 4 * 2.0**-11 if own else 16 * 2.0**-22)
        place = interpolated(model, fed)
        if moved is None:
            return None
        moved = _beyond_poles(model, scale, moved)
        step = {n: 2.0**-10 if exact[n].dtype == np.float16 else 1e-4 for n in exact}
        return {n: (step[n] + place) * scale[n] + 1e-6 + moved[n] for n in exact}
    # an output beyond float16 is computed in it as the rest is
    if any(scale[n] > float(np.finfo(np.float16).max) for n in exact if exact[n].dtype.kind == "f"):
        return None
    narrow = run_source(rounded(model), fed)
    moved = noise(model, fed, exact, 8 * 2.0**-10)
    if moved is None or any(not np.isfinite(np.asarray(v, np.float64)).all() for v in narrow.values()):
        return None
    moved = _beyond_poles(model, scale, moved)
    lost = {n: difference(exact[n], narrow[n]) for n in exact}
    return {n: 4e-3 * scale[n] + 1e-4 + max(moved[n], 8 * lost[n]) for n in exact}


def leaves_range(model: onnx.ModelProto, fed: Feed) -> bool:
    """Whether an inner value of the source is a number that float16 does not hold."""
    known = onnx.shape_inference.infer_shapes(model)
    outputs = {value.name for value in known.graph.output}
    known.graph.output.extend(value for value in known.graph.value_info if value.name not in outputs)
    values = (np.asarray(value) for value in run_source(known, fed).values())
    largest = (np.max(np.abs(v[np.isfinite(v)]), initial=0.0) for v in values if v.dtype.kind == "f")
    return any(float(number) > float(np.finfo(np.float16).max) for number in largest)
