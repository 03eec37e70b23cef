"""What parts ask of the numbers that cut them out: starts and ends of a slice, sizes of a split, limits of a range."""

from __future__ import annotations

import math

from coreproof.feeding.roles.flow import MOVES, Flow, FlowStep
from coreproof.feeding.roles.role import Role
from coreproof.feeding.roles.rules import Asked, rule, sized


@rule("Slice")
def _slice(step: FlowStep, result: Role, flow: Flow) -> Asked:
    shape = flow.shape(step.operand(0))
    axes = flow.constant(step.operand(3)) if step.operand(3) else None
    named = range(len(shape)) if axes is None else [int(a) for a in axes.reshape(-1)]
    yield step.operand(0), _of_slice(step, result, flow, list(named))
    lengths = [n for a in named if isinstance(n := flow.length(step.operand(0), a), int)]
    shortest = min(lengths, default=2)
    start, end = flow.number(step.operand(1)), flow.number(step.operand(2))
    one = len(named) == 1 and len(lengths) == 1
    if one and end is not None and step.operand(1) not in flow.static:
        last = min(end, shortest) if end >= 0 else shortest + end
        negative = _negated(flow, step.operand(1))
        yield (
            step.operand(1),
            sized(-shortest if negative else 0, -1 if negative else max(0, last - 1), "starts of `Slice`"),
        )
    elif one and start is not None and step.operand(2) not in flow.static:
        first = min(start, shortest - 1) if start >= 0 else max(0, shortest + start)
        negative = _negated(flow, step.operand(2))
        low, high = (min(-1, first + 1 - shortest), -1) if negative else (first + 1, max(first + 1, shortest))
        yield step.operand(2), sized(low, high, "ends of `Slice`")
    else:
        # starts in the first half and ends in the second: something is left of every axis
        yield step.operand(1), sized(0, max(0, (shortest - 1) // 2), "starts of `Slice`")
        yield step.operand(2), sized(shortest // 2 + 1, max(shortest // 2 + 1, shortest), "ends of `Slice`")
    yield step.operand(3), sized(0, max(0, len(shape) - 1), "axes of `Slice`", tuple(range(len(shape))))
    yield step.operand(4), sized(1, 2, "steps of `Slice`")


def _of_slice(step: FlowStep, result: Role, flow: Flow, axes: list[int]) -> Role:
    """What is asked of a value that is cut: where one part along one axis is left, of that part alone."""
    ends = [flow.constant(step.operand(place)) for place in (1, 2)]
    known, rank = step.operand(0), len(flow.shape(step.operand(0)))
    lengths = [flow.length(known, axis) for axis in axes]
    if any(end is None or end.size != len(axes) for end in ends):
        return result.moved()
    cut: list[tuple[int, int, int]] = []
    for axis, length, *places in zip(axes, lengths, *(end.reshape(-1) for end in ends if end is not None), strict=True):
        if not isinstance(length, int):
            return result.moved()
        first, last = (min(max(int(n) + length if n < 0 else int(n), 0), length) for n in places)
        if (first, last) != (0, length):
            cut.append((first, length, axis - rank if axis >= 0 else axis) if last - first == 1 else (-1, 0, 0))
    # one part along one axis, and all of the others
    return result.column(*cut[0]) if len(cut) == 1 else result.moved()


def _negated(flow: Flow, name: str) -> bool:
    """Whether a place is counted from behind: it is a number with its sign turned."""
    step, seen = flow.producers.get(name), 0
    while step is not None and step.operator in MOVES | {"Gather"} and seen < 20:
        step, seen = flow.producers.get(step.operand(0)), seen + 1
    return step is not None and step.operator == "Neg"


@rule("Split")
def _split(step: FlowStep, result: Role, flow: Flow) -> Asked:
    yield step.operand(0), result.moved()
    whole = flow.length(step.operand(0), step.integer("axis"))
    parts = len(step.outputs)
    if isinstance(whole, int) and parts:
        # sizes have to sum up to the whole, which numbers drawn apart would not
        exact = (*([whole // parts] * (parts - 1)), whole - whole // parts * (parts - 1))
        yield step.operand(1), sized(0, whole, "sizes of `Split`", exact)


@rule("Range")
def _range(step: FlowStep, result: Role, flow: Flow) -> Asked:
    start, limit, delta = (step.operand(at) for at in range(3))
    # such that the range is never empty, and counts no further than what it picks from
    yield start, sized(0, 2, "start of `Range`")
    picked = result.kind == "index" and result.high < math.inf and flow.number(start) == 0 and flow.number(delta) == 1
    yield limit, sized(1, result.high + 1, "limit of `Range`") if picked else sized(4, 8, "limit of `Range`")
    yield delta, sized(1, 2, "delta of `Range`")
