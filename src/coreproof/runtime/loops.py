"""Loops that would never end, or run for days: refused before an engine begins, where the model's own words say so.

A kilobyte can hold loops within loops of a million rounds each, which no engine bounds. A loop that a condition may end is left
alone: how often it runs, only running says.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import TypeAlias, TypeVar

import numpy as np
import onnx_ir as ir

from coreproof.errors import RunError
from coreproof.model.base import Model
from coreproof.model.coreml.model import CoreMLModel
from coreproof.model.formats import network, onnx
from coreproof.model.onnx.model import OnnxModel

ROUNDS = 200_000
"""Times that loops without a condition may run their innermost body."""

_Body = TypeVar("_Body")
_Loop: TypeAlias = tuple[str, float, Sequence[_Body]]
"""What holds graphs: its name, how often these run for certain, the graphs."""


def require_ending(model: Model) -> None:
    """Raises RunError where loops that nothing but their count ends run their innermost body too often, or never end."""
    if isinstance(model, OnnxModel):
        _require(model.name, model.ir.graph, _onnx_loops)
    elif isinstance(model, CoreMLModel) and model.is_network:
        _require(model.name, network.main(model.spec), _network_loops)


def _require(name: str, outermost: _Body, loops: Callable[[_Body], Iterator[_Loop[_Body]]]) -> None:
    waiting = [(outermost, 1.0)]
    while waiting:
        inside, rounds = waiting.pop()
        for loop, count, bodies in loops(inside):
            if rounds * count > ROUNDS:
                raise RunError(
                    "the loops of the model run too often",
                    where=f"{name}, {loop!r}",
                    expected=f"at most {ROUNDS:,} rounds of a loop without a condition, loops around it counted in",
                    found="no end" if math.isinf(count) else f"{int(rounds * count):,}",
                    fix="give the loop a condition that ends it, or fewer iterations",
                )
            waiting.extend((body, rounds * count) for body in bodies)


def _network_loops(inside: network.Network) -> Iterator[_Loop[network.Network]]:
    for layer in inside.layers:
        operator = layer.WhichOneof("layer")
        if operator == "branch":
            yield layer.name, 1, network.nested(layer)
        elif operator == "loop":
            loop = layer.loop
            # only without a condition, and without a break, does it run its full count for certain
            ends = loop.conditionVar or loop.conditionNetwork.layers or _breaks(loop.bodyNetwork)
            yield layer.name, 1 if ends else max(1, loop.maxLoopIterations), network.nested(layer)


def _breaks(body: network.Network) -> bool:
    """Whether a loop's body may leave it; a break inside an inner loop leaves that one alone."""
    waiting = [body]
    while waiting:
        for layer in waiting.pop().layers:
            if layer.WhichOneof("layer") == "loopBreak":
                return True
            if layer.WhichOneof("layer") == "branch":
                waiting += network.nested(layer)
    return False


def _onnx_loops(graph: ir.Graph) -> Iterator[_Loop[ir.Graph]]:
    for node in graph:
        bodies = list(onnx.nested_ir(node))
        if bodies:
            # an If runs one of its graphs, a Scan as often as its input is long
            certain = node.op_type == "Loop" and len(node.inputs) > 1 and not _may_end(node, bodies[0])
            yield node.name or node.op_type, _count(node.inputs[0]) if certain else 1, bodies


def _may_end(loop: ir.Node, body: ir.Graph) -> bool:
    """Whether a condition can end an ONNX Loop: not where none is fed, or true, and the body hands on what it was given."""
    fed = loop.inputs[1]
    first = None if fed is None else _constant(fed)
    if (fed is not None and (first is None or not first.any())) or len(body.inputs) < 2 or not body.outputs:
        return True
    handed = body.outputs[0]
    while (maker := handed.producer()) is not None and maker.op_type == "Identity":
        if (given := next(iter(maker.inputs), None)) is None:
            break
        handed = given
    known = _constant(handed)
    return handed is not body.inputs[1] and (known is None or not known.any())


def _count(trips: ir.Value | None) -> float:
    """How often a Loop runs; without a trip count, for ever (ONNX, Loop: "for (int i=0; ; ++i)")."""
    known = None if trips is None else _constant(trips)
    if known is None or known.size != 1:
        return math.inf if trips is None else 1
    return max(1, int(known.reshape(-1)[0]))


def _constant(value: ir.Value) -> np.ndarray | None:
    """A small value that the model states."""
    tensor = ir.convenience.get_const_tensor(value)
    return None if tensor is None or tensor.size > 1 else tensor.numpy()
