"""How deep a model file may nest, and how far it may unfold: every bound in one place, each said by the error that refuses.

A kilobyte can hold a program that takes a day: graphs within graphs, pipelines within pipelines, functions that call each other
twice. Files with none of that are not touched; nothing here looks at what is computed. (Loops: see ``runtime/loops.py``.)
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import onnx
from google.protobuf.descriptor import Descriptor
from google.protobuf.message import DecodeError, Message

from coreproof.errors import UnreadableModelError
from coreproof.model.files.wire import records
from coreproof.model.formats import onnx as stored
from coreproof.model.order import Circle, behind_needs

MESSAGES = 100
"""Messages within each other that protobuf reads, in every language: about 32 graphs, 33 networks, 49 pipelines."""

CALLS = 100
"""Functions that may call each other in a row; the bound of ONNX's checker and of ONNX Runtime."""

UNFOLDED = 30_000
"""Nodes that a graph may have once every function stands where it is called."""

_LOOKED_AT = 2_000_000
"""Fields that are looked at to explain why a file does not parse."""

Called = tuple[str, str, str]


def refuse_depth(content: bytes, message: Message, where: str) -> None:
    """Raises UnreadableModelError where ``content``, which protobuf refused, nests deeper than protobuf reads."""
    descriptor: Any = message.DESCRIPTOR  # one of two classes that do the same, by how protobuf is built
    try:
        deepest = _deepest(memoryview(content), descriptor)
    except DecodeError:
        return
    if deepest > MESSAGES:
        most = f"{MESSAGES} messages within each other: some 30 graphs or networks, or 49 pipelines"
        raise _too_deep("the model is", most, deepest, where)


def _too_deep(what: str, most: str, found: int, where: str) -> UnreadableModelError:
    return UnreadableModelError(
        f"{what} nested too deeply",
        where=where,
        expected=f"at most {most}",
        found=f"{found}",
        fix="write the inner parts side by side, or export the model again",
    )


def _deepest(content: memoryview, message: Descriptor) -> int:
    """How many messages stand within each other at the most, by the bytes alone and without recursion."""
    known: dict[Descriptor, dict[int, Descriptor]] = {}
    waiting = [(content, message, 0)]
    deepest = seen = 0
    while waiting:
        data, kind, depth = waiting.pop()
        deepest = max(deepest, depth)
        if kind not in known:
            known[kind] = {f.number: f.message_type for f in kind.fields if f.message_type is not None}
        for record in records(data):
            seen += 1
            # the error is raised in any case; only its words hang on this
            if seen > _LOOKED_AT:
                return deepest
            inner = known[kind].get(record.number)
            if inner is not None and record.wire == 2:
                waiting.append((memoryview(record.payload), inner, depth + 1))
    return deepest


# ONNX


def check_nesting(proto: onnx.ModelProto, where: str) -> None:
    """Raises UnreadableModelError where graphs nest too deeply, or functions call themselves or unfold without end."""
    roots = [proto.graph.node, *(function.node for function in proto.functions)]
    deepest = max(depth for nodes in roots for depth, _ in _nodes(nodes))
    # a graph within a graph costs three messages: its node, the attribute, the graph
    if deepest > MESSAGES // 3:
        raise _too_deep("the graphs are", f"{MESSAGES // 3} graphs within each other", deepest, where)
    if not proto.functions:
        return
    bodies = {(f.domain, f.name, f.overload): f.node for f in proto.functions}
    calls = {name: [c for c in _called(nodes) if c in bodies] for name, nodes in bodies.items()}
    order = _callees_first(calls, where)
    levels: dict[Called, int] = {}
    unfolded: dict[Called, int] = {}
    for name in order:
        levels[name] = 1 + max((levels[c] for c in calls[name]), default=0)
        # a node that calls a function is none once the function stands in its place
        own = sum(1 for _ in _called(bodies[name])) - len(calls[name])
        unfolded[name] = own + sum(unfolded[c] for c in calls[name])
    deep = max(levels.values())
    if deep > CALLS:
        raise UnreadableModelError(
            "the functions call each other too deeply",
            where=where,
            expected=f"at most {CALLS} functions that call each other in a row",
            found=f"{deep}, from {_name(max(levels, key=lambda n: levels[n]))}",
            fix="inline the functions when exporting",
        )
    in_graph = [c for c in _called(proto.graph.node) if c in bodies]
    total = sum(unfolded[c] for c in in_graph)
    if total > UNFOLDED:
        most = max(in_graph, key=lambda c: unfolded[c])
        raise UnreadableModelError(
            "the functions unfold into too many nodes",
            where=where,
            expected=f"at most {UNFOLDED:,} nodes once every function stands where it is called",
            found=f"{total:,}, of which {_name(most)} makes {unfolded[most]:,} each time",
            fix="write such a graph in full, without functions",
        )


def _nodes(nodes: Iterable[onnx.NodeProto]) -> Iterator[tuple[int, onnx.NodeProto | None]]:
    """Every node and how many graphs it stands within, without recursion; first (1, None), for graphs without nodes."""
    yield 1, None
    waiting = [(1, nodes)]
    while waiting:
        depth, inside = waiting.pop()
        for node in inside:
            yield depth, node
            waiting.extend((depth + 1, graph.node) for graph in stored.nested(node))


def _called(nodes: Iterable[onnx.NodeProto]) -> Iterator[Called]:
    """What each node calls, an operator or a function, those of nested graphs too."""
    return ((node.domain, node.op_type, node.overload) for _, node in _nodes(nodes) if node is not None)


def _callees_first(calls: Mapping[Called, list[Called]], where: str) -> list[Called]:
    """Every function after those that it calls. UnreadableModelError names those that call themselves in the end."""
    try:
        return behind_needs(calls, calls.__getitem__)
    except Circle as circle:
        raise UnreadableModelError(
            "functions of the model call themselves",
            where=where,
            expected="functions that end",
            found=" -> ".join(map(_name, circle.path[:8])) + (" -> ..." if len(circle.path) > 8 else ""),
            fix="export the model again; ONNX has no recursion",
        ) from None


def _name(called: Called) -> str:
    domain, name, overload = called
    return repr("::".join(part for part in (domain, name, overload) if part))
