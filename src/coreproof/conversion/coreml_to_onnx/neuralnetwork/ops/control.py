"""Control flow: branch as ONNX If, loop as ONNX Loop. Blobs that they write are seen by the layers after them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np
import onnx_ir as ir

from coreproof.conversion.coreml_to_onnx.builder import OnnxBuilder, Operand
from coreproof.conversion.coreml_to_onnx.neuralnetwork.blobs import Blob, Layer, f32, i64, known
from coreproof.conversion.coreml_to_onnx.neuralnetwork.layer_arguments import lowers
from coreproof.conversion.coreml_to_onnx.neuralnetwork.scope import Scope, exact_value, scope_of
from coreproof.model.coreml.proto import NeuralNetwork_pb2
from coreproof.model.formats import network

_BROKEN = "loop has been left"
"""The name of the blob by which a loopBreak tells its loop to end."""


def _is_true(layer: Layer, b: OnnxBuilder, blob: Blob) -> ir.Value:
    """|value| > 1e-6 as an ONNX scalar."""
    # the bound is that of BranchLayerParams and LoopLayerParams (NeuralNetwork.proto)
    holds = b.op("Greater", b.op("Abs", blob.value), f32(1e-6))
    shape = known(blob.value)
    if shape is None or None in shape or math.prod(d or 0 for d in shape) == 1:
        return b.op("Reshape", holds, i64([]))
    # The format asks for a single number. Of several that say the same it is that; where they differ, two are left, which is no
    # single number, so that the run fails: which of them Core ML takes is not written anywhere.
    each = b.op("Reshape", b.op("Cast", holds, to=int(ir.DataType.INT64)), i64([-1]))
    apart = b.op("Sub", b.op("ReduceMax", each, keepdims=1), b.op("ReduceMin", each, keepdims=1))
    left = b.op("Slice", each, i64([0]), b.op("Add", apart, i64([1])))
    return b.op("Cast", b.op("Reshape", left, i64([])), to=int(ir.DataType.BOOL))


@lowers("branch")
def branch(
    layer: Layer,
    condition: Blob,
    *,
    ifBranch: NeuralNetwork_pb2.NeuralNetwork | None = None,
    elseBranch: NeuralNetwork_pb2.NeuralNetwork | None = None,
) -> list[Blob]:
    scope = scope_of(layer)
    decided = condition.value.const_value
    if decided is not None:  # the other way can never be taken
        ways = np.abs(decided.numpy()) > 1e-6
        if ways.any() != ways.all():
            raise layer.refuse("its condition is several numbers, which do not say the same")
        taken = ifBranch if ways.all() else elseBranch
        scope.lower(taken.layers if taken is not None else [])
        return []
    networks = [list(n.layers) if n is not None else [] for n in (ifBranch, elseBranch)]
    written = [_written(layers) for layers in networks]
    # what somebody reads behind, and has a value on both ways: written there, or from before
    names = [
        name
        for name in dict.fromkeys([*written[0], *written[1]])
        if name in scope.needed | {_BROKEN} and (scope.find(name) is not None or all(name in w for w in written))
    ]
    # a graph of its own for each way, which sees what is outside
    inner = [Scope(OnnxBuilder(f"{layer.name} {word}", layer.b), scope.needed, scope) for word in ("if", "else")]
    for branch_scope, layers in zip(inner, networks, strict=True):
        branch_scope.lower(layers)
    if not names:
        return []
    results = [[exact_value(s, _found(layer, s, name)) for name in names] for s in inner]
    graphs = [s.b.graph(values) for s, values in zip(inner, results, strict=True)]
    values = layer.b.op(
        "If", _is_true(layer, layer.b, condition), then_branch=graphs[0], else_branch=graphs[1], outputs=len(names)
    )
    for name, value, one, other in zip(names, values, *results, strict=True):
        value.type = ir.TensorType(ir.DataType.FLOAT)
        shape = _merged(known(one), known(other))
        value.shape = None if shape is None else ir.Shape(shape)
        scope.write(name, Blob(value))
    return []


def _found(layer: Layer, scope: Scope, name: str) -> Blob:
    blob = scope.find(name)
    if blob is None:
        raise layer.refuse(f"the blob {name!r} has no value on one of its ways")
    return blob


def _written(layers: Sequence[NeuralNetwork_pb2.NeuralNetworkLayer]) -> list[str]:
    breaks = any(inner.WhichOneof("layer") == "loopBreak" for inner in _same_loop(layers))
    return [*_named(layers), *([_BROKEN] if breaks else [])]


def _named(layers: Iterable[NeuralNetwork_pb2.NeuralNetworkLayer]) -> list[str]:
    """The blobs that layers (and those nested in them) write, each once, in order."""
    return list(dict.fromkeys(name for layer in layers for name in network.writes(layer)))


def _read(layers: Iterable[NeuralNetwork_pb2.NeuralNetworkLayer]) -> set[str]:
    """The blobs that layers, and those nested in them, read: what they made themselves included."""
    return {name for layer in network.nodes(layers) for name in network.reads(layer)}


def _same_loop(layers: Sequence[NeuralNetwork_pb2.NeuralNetworkLayer]) -> list[NeuralNetwork_pb2.NeuralNetworkLayer]:
    """The layers and those of nested branches, not those of nested loops."""
    found: list[NeuralNetwork_pb2.NeuralNetworkLayer] = []
    for layer in layers:
        found.append(layer)
        if layer.WhichOneof("layer") == "branch":
            found += [inner for taken in network.nested(layer) for inner in _same_loop(taken.layers)]
    return found


@lowers("loopBreak")
def loop_break(layer: Layer) -> list[Blob]:
    if scope_of(layer).find(_BROKEN) is None:
        raise layer.refuse("it stands outside of a loop")
    scope_of(layer).write(_BROKEN, Blob(layer.b.constant(f32([1]))))
    return []


@lowers("loopContinue")
def loop_continue(layer: Layer) -> list[Blob]:
    """The end of the iteration, where ``loop`` has made sure that it stands."""
    return []


@lowers("loop")
def loop(
    layer: Layer,
    count: Blob | None = None,
    *,
    maxLoopIterations: int = 0,
    conditionVar: str = "",
    conditionNetwork: NeuralNetwork_pb2.NeuralNetwork | None = None,
    bodyNetwork: NeuralNetwork_pb2.NeuralNetwork | None = None,
) -> list[Blob]:
    """The three cases of LoopLayerParams: counted, while, and both."""
    scope = scope_of(layer)
    body = list(bodyNetwork.layers) if bodyNetwork is not None else []
    condition = list(conditionNetwork.layers) if conditionNetwork is not None and conditionVar else []
    _check_jumps(layer, body)
    start: ir.Value | None = None
    if conditionVar:
        scope.lower(condition)
        start = _is_true(layer, layer.b, _found(layer, scope, conditionVar))
    limit: Operand = None
    if count is not None:
        limit = layer.b.op("Reshape", layer.integers(count), i64([]))
    elif maxLoopIterations or not conditionVar:
        limit = i64(maxLoopIterations)
    inside = [*body, *condition]
    read_inside = _read(inside) | {conditionVar}
    carried = [
        name
        for name in _named(inside)
        if (scope.find(name) is not None and name in read_inside | scope.needed) or name in scope.needed
    ]
    initial = [_initial(layer, scope, name) for name in carried]
    shapes = [known(v) for v in initial]
    # a blob whose shape changes in a turn has none that is known, which may leave others without one in the next
    while True:
        inner, results, go_on = _body(layer, scope, body, condition, conditionVar, carried, shapes)
        grown = [_merged(shape, known(v)) for shape, v in zip(shapes, results, strict=True)]
        if grown == shapes:
            break
        shapes = grown
    graph = inner.b.graph([go_on, *results])
    values = layer.b.op("Loop", limit, start, *initial, body=graph, outputs=len(carried)) if carried else ()
    for name, value, shape in zip(carried, values, shapes, strict=True):
        value.type = ir.TensorType(ir.DataType.FLOAT)
        value.shape = None if shape is None else ir.Shape(shape)
        scope.write(name, Blob(value))
    return []


def _initial(layer: Layer, scope: Scope, name: str) -> ir.Value:
    blob = scope.find(name)
    if blob is None:  # first written inside; a loop that never runs leaves it empty
        return layer.b.constant(np.zeros(0, np.float32))
    return layer.exact(blob)


def _merged(
    shape: tuple[int | None, ...] | None, after: tuple[int | None, ...] | None
) -> tuple[int | None, ...] | None:
    """What holds for a blob before and after an iteration, or on both ways."""
    if shape is None or after is None or len(shape) != len(after):
        return None
    return tuple(a if a == b else None for a, b in zip(shape, after, strict=True))


def _body(
    layer: Layer,
    scope: Scope,
    body: Sequence[NeuralNetwork_pb2.NeuralNetworkLayer],
    condition: Sequence[NeuralNetwork_pb2.NeuralNetworkLayer],
    condition_name: str,
    carried: Sequence[str],
    shapes: Sequence[tuple[int | None, ...] | None],
) -> tuple[Scope, list[ir.Value], ir.Value]:
    """One iteration as a graph (iteration, go on, *carried) -> (go on, *carried)."""
    b = OnnxBuilder(f"{layer.name} body", layer.b)
    inner = Scope(b, scope.needed | _read([*body, *condition]), scope)
    b.input(b.unique("iteration"), np.int64, [])
    b.input(b.unique("go_on"), np.bool_, [])
    for name, shape in zip(carried, shapes, strict=True):
        value = b.input(b.unique(f"{name}_before"), np.float32, shape)
        inner.blobs[name] = Blob(value)
    inner.blobs[_BROKEN] = Blob(b.copy(f32([0])))
    inner.lower(body)
    broken = inner.blobs[_BROKEN]
    go_on: ir.Value = b.op("Not", _is_true(layer, b, broken))
    if condition_name:
        inner.lower(condition)
        go_on = b.op("And", go_on, _is_true(layer, b, _found(layer, inner, condition_name)))
    results = [exact_value(inner, _found(layer, inner, name)) for name in carried]
    if go_on.const_value is not None:
        go_on = b.copy(go_on)
    return inner, results, go_on


def _check_jumps(layer: Layer, body: Sequence[NeuralNetwork_pb2.NeuralNetworkLayer]) -> None:
    """A break or continue is lowered where nothing of the iteration comes after it."""

    def check(layers: Sequence[NeuralNetwork_pb2.NeuralNetworkLayer], *, last: bool) -> None:
        for position, inner in enumerate(layers):
            at_end = last and position == len(layers) - 1
            kind = inner.WhichOneof("layer")
            if kind in ("loopBreak", "loopContinue") and not at_end:
                raise layer.refuse(f"its {kind} {inner.name!r} has layers after it in the same iteration")
            if kind == "branch":
                for taken in network.nested(inner):
                    check(list(taken.layers), last=at_end)

    check(body, last=True)
