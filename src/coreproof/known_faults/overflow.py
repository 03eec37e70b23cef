"""Patterns of functions that leave float16 on the way although their result does not: softplus, logsumexp and their like."""

from __future__ import annotations

from collections.abc import Iterator

from coreproof.known_faults.record import Seen, Sighting
from coreproof.known_faults.sight import back, called, fed, made_by, makes_half, of, told
from coreproof.model.graph import Graph, Node

_NEVER_POSITIVE_AFTER = ("abs", "relu", "square", "exp", "sigmoid", "softplus")
"""What makes no negative number: a negative multiple of it is never positive."""
_UNSEEN_EPSILON = 1e-7
"""An epsilon below this is zero in float16: a logarithm of zero stays minus infinity."""


def softplus(seen: Seen) -> Iterator[Sighting]:
    """``softplus x`` in float16, where x may be positive and large."""
    graph = seen.graph
    for node in of(seen, "softplus"):
        value = fed(graph, node)
        if value is not None and makes_half(graph, node) and not _never_positive(seen, value):
            yield seen.sighted(f"softplus of {told(graph, node.outputs[0])}", node)


def softplus_written_out(seen: Seen) -> Iterator[Sighting]:
    """``log(1 + exp x)`` in float16, where x may be positive and large."""
    graph = seen.graph
    for log in of(seen, "log"):
        add = back(graph, log, "add")
        exp = None if add is None else back(graph, add, "exp")
        if add is None or exp is None or not makes_half(graph, exp) or seen.numbers(add) != (1.0,):
            continue
        value = fed(graph, exp)
        if value is not None and not _never_positive(seen, value):
            yield seen.sighted(f"log(1 + exp x) of {told(graph, log.outputs[0])}", log, add, exp)


def logsumexp(seen: Seen) -> Iterator[Sighting]:
    """``reduce_log_sum_exp x`` in float16, where the largest x was not taken off before."""
    graph = seen.graph
    for node in of(seen, "reduce_log_sum_exp"):
        value = fed(graph, node)
        if value is not None and makes_half(graph, node) and not _shifted(graph, value):
            yield seen.sighted(f"reduce_log_sum_exp of {told(graph, value)}", node)


def logsumexp_written_out(seen: Seen) -> Iterator[Sighting]:
    """``log(sum(exp x))`` in float16, where the largest x was not taken off before."""
    yield from _log_of(seen, "reduce_sum", "log(sum(exp x))")


def logcumsumexp(seen: Seen) -> Iterator[Sighting]:
    """``log(cumsum(exp x))`` in float16, where the largest x was not taken off before."""
    yield from _log_of(seen, "cumsum", "log(cumsum(exp x))")


def _log_of(seen: Seen, summed: str, words: str) -> Iterator[Sighting]:
    graph = seen.graph
    for log in of(seen, "log"):
        total = back(graph, log, summed)
        exp = None if total is None else back(graph, total, "exp")
        value = None if exp is None else fed(graph, exp)
        if total is None or exp is None or value is None or not makes_half(graph, exp):
            continue
        if not _shifted(graph, value) and not _never_positive(seen, value):
            yield seen.sighted(f"{words} of {told(graph, value)}", log, total, exp)


def log_softmax(seen: Seen) -> Iterator[Sighting]:
    """``log(softmax x)`` in float16, without an epsilon that float16 can hold."""
    graph = seen.graph
    for log in of(seen, "log"):
        softmax = back(graph, log, "softmax")
        epsilon = log.attributes.get("epsilon", 0.0)
        if softmax is None or fed(graph, softmax) is None or not makes_half(graph, softmax):
            continue
        if isinstance(epsilon, int | float) and epsilon < _UNSEEN_EPSILON:
            yield seen.sighted(f"log(softmax x) of {told(graph, log.outputs[0])}", log, softmax)


def _never_positive(seen: Seen, value: str) -> bool:
    """Whether a value is -|x|, or another negative multiple of what is never negative."""
    graph = seen.graph
    node = made_by(graph, value, "mul", "sub", "neg")
    inner = None if node is None else fed(graph, node)
    if node is None or inner is None or made_by(graph, inner, *_NEVER_POSITIVE_AFTER) is None:
        return False
    if called(node) == "neg":
        return True
    held = seen.numbers(node)
    if called(node) == "mul":
        return len(held) == 1 and held[0] < 0
    # 0 - |x|, and not |x| - 0
    return held == (0.0,) and node.inputs[-1] == inner


def _shifted(graph: Graph, value: str) -> bool:
    """Whether a value is what remains when a maximum was taken off."""
    node = made_by(graph, value, "sub")
    return node is not None and any(_is_maximum(graph, read) for read in node.inputs[1:])


def _is_maximum(graph: Graph, value: str) -> bool:
    """Whether a value is a maximum, as it is or with infinities replaced, which PyTorch writes around it."""
    node: Node | None = graph.producer(value)
    for _ in range(3):
        if node is None or called(node) == "reduce_max":
            return node is not None
        if called(node) not in ("where", "select", "cast", "reshape", "expand_dims"):
            return False
        node = next((made for read in graph.data(node) if (made := _maximum_behind(graph, read)) is not None), None)
    return node is not None and called(node) == "reduce_max"


def _maximum_behind(graph: Graph, value: str) -> Node | None:
    return made_by(graph, value, "reduce_max", "cast", "reshape", "expand_dims")
