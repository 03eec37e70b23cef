"""What arithmetic asks of its operands, given what is asked of its result: intervals backwards, masks through."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from coreproof.feeding.roles.flow import COMPARES, LOGIC, MOVES, Flow, FlowStep
from coreproof.feeding.roles.role import PLAIN, Role, reaching
from coreproof.feeding.roles.rules import (
    ADDITIVE,
    DENOMINATOR,
    FARTHEST,
    LARGE,
    MASK,
    SCORES,
    STEPS,
    Asked,
    domain,
    rule,
    sized,
)


def _ends(flow: Flow, name: str) -> tuple[float, float] | None:
    """The least and the greatest number of a constant."""
    value = flow.constant(name)
    if value is None and (counted := _counted(flow, name)) is not None:
        return counted
    if value is None or not value.size or value.dtype.kind not in "biuf":
        return None
    return float(np.min(value)), float(np.max(value))


def _counted(flow: Flow, name: str) -> tuple[float, float] | None:
    """The ends of what counts from a known number in known steps, moved about: ``torch.arange(5)``."""
    step, seen = flow.producers.get(name), 0
    while step is not None and step.operator in MOVES and seen < 20:
        name, step, seen = step.operand(0), flow.producers.get(step.operand(0)), seen + 1
    if step is None or step.operator != "Range":
        return None
    start, delta, length = flow.number(step.operand(0)), flow.number(step.operand(2)), flow.length(name, 0)
    if start is None or delta is None or not isinstance(length, int):
        return None
    last = start + delta * (length - 1)
    return min(start, last), max(start, last)


def _through(result: Role, factor: float, low: float, high: float) -> Role:
    """``result`` behind ``factor * x + c``; masks, whatever they are turned into, stay masks."""
    if result.kind in ("mask", "unsure"):
        # what a mask is compared with says nothing of what it was made from
        return replace(result, among=frozenset())
    if result.kind == "compared":
        return reaching(result.reach).affine(factor, low, high)
    return result.affine(factor, low, high)


@rule("Add")
def _add(step: FlowStep, result: Role, flow: Flow) -> Asked:
    a, b = step.operand(0), step.operand(1)
    if result is PLAIN:  # of most sums nothing is asked, whatever is added
        yield from ((name, PLAIN) for name in (a, b) if name not in flow.static)
        return
    for name, other in ((a, b), (b, a)):
        if name in flow.static:
            continue
        if (ends := _ends(flow, other)) is not None:
            yield name, _through(result, 1.0, *ends)
        elif (stays := _unknown(flow, other, result)) is not None:
            yield name, stays
        elif result.kind in ("scores", "additive"):
            apart = name in flow.direct and other not in flow.direct and other not in flow.static
            yield name, ADDITIVE if apart or result.kind == "additive" else SCORES
        elif result.kind == "index" and result.high < math.inf:
            # each half of the range: whatever the two are, their sum is within
            yield name, replace(result.moved(), low=0, high=result.high // 2, symbol=None)
        elif result.kind == "number" and result.low == 0 and result.high == math.inf:
            yield name, result.moved()
        else:
            yield name, reaching(result.reach / 2)


@rule("Sub")
def _sub(step: FlowStep, result: Role, flow: Flow) -> Asked:
    a, b = step.operand(0), step.operand(1)
    if a not in flow.static:
        ends = _ends(flow, b)
        if ends is not None:
            yield a, _through(result, 1.0, -ends[1], -ends[0])
        elif _is_truth(flow, b):
            # one less where a division of a negative number leaves a rest
            yield a, result.moved() if result.kind in ("index", "length") else reaching(result.reach)
        elif result.kind == "index" and result.high < math.inf:
            # a remainder, written out: whatever it is taken of, it is within its divisor
            left = _hangs_on(flow, b, a)
            yield a, _hashed(result) if left else replace(result.moved(), low=math.ceil(result.high / 2), symbol=None)
        else:
            yield a, result if result.kind == "scores" else reaching(result.reach)
    if b not in flow.static:
        ends = _ends(flow, a)
        if ends is not None:
            yield b, _through(result, -1.0, *ends)
        elif (stays := _unknown(flow, a, result)) is not None:
            yield b, stays
        elif result.kind == "index" and result.high < math.inf:
            left = _hangs_on(flow, b, a)
            yield b, PLAIN if left else replace(result.moved(), low=0, high=result.high // 2, symbol=None)
        else:
            yield b, reaching(result.reach)


def _is_truth(flow: Flow, name: str) -> bool:
    """Whether a value is a truth as a number: 0 or 1."""
    step = flow.producers.get(name)
    while step is not None and step.operator in ("Cast", "Identity"):
        step = flow.producers.get(step.operand(0))
    return step is not None and step.operator in LOGIC | COMPARES


def _hangs_on(flow: Flow, name: str, on: str) -> bool:
    """Whether a value is made of another, a few steps on."""
    seen = {name}
    for _ in range(8):
        if on in seen:
            return True
        makers = [flow.producers[each] for each in seen if each in flow.producers]
        seen = {each for step in makers for each in step.inputs if each and each not in flow.static}
    return False


def _hashed(result: Role, of: float = 0.0) -> Role:
    """What is asked of a number whose remainder picks a row: ids as they are, of which there may be any number."""
    return replace(domain(0, math.inf, result.why), reach=max(_IDS, 8 * of, result.reach))


_IDS = 1e6
"""So far ids are drawn of which a remainder picks a row."""


def _unknown(flow: Flow, name: str, result: Role) -> Role | None:
    """The role behind arithmetic with numbers that are not known but do not hang on an input: masks stay masks."""
    stays = result.kind in ("mask", "unsure", "scores", "additive")
    return replace(result.moved(), among=frozenset()) if name in flow.static and stays else None


def _less_one(flow: Flow, name: str) -> bool:
    """Whether a value is something minus one."""
    made = flow.producers.get(name)
    if made is None or made.operator not in ("Sub", "Add"):
        return False
    # (mask - 1) * 10000, as BERT's (1 - mask) * -10000, makes an additive mask of one
    taken = -1.0 if made.operator == "Add" else 1.0
    return flow.number(made.operand(1)) == taken or (made.operator == "Add" and flow.number(made.operand(0)) == taken)


_FAR_AWAY = 1e6
"""What stands for no number at all: a step of time, one less a share of it, is multiplied with less."""


def _from_one(flow: Flow, name: str) -> bool:
    """Whether a value is one minus something: ``scores - 1e10 * (1 - mask)``, a softmin of ``scores + 1e9 * (1 - mask)``."""
    made = flow.producers.get(name)
    while made is not None and (made.operator in MOVES or made.operator == "Neg"):
        made = flow.producers.get(made.operand(0))
    return made is not None and made.operator == "Sub" and flow.number(made.operand(0)) == 1.0


@rule("Mul")
def _mul(step: FlowStep, result: Role, flow: Flow) -> Asked:
    a, b = step.operand(0), step.operand(1)
    if a == b:  # a square: never negative, and zero where its root is
        root = reaching(math.sqrt(result.reach))
        yield a, replace(DENOMINATOR, why=result.why, reach=root.reach) if result.nonzero or result.above else root
        return
    for name, other in ((a, b), (b, a)):
        if name in flow.static:
            continue
        factor = flow.number(other)
        if factor is not None:
            masked = factor <= -LARGE or (factor >= LARGE and _less_one(flow, name))
            far = abs(factor) >= _FAR_AWAY and _from_one(flow, name)
            if far or (name in flow.direct and (masked or (result.kind == "additive" and factor < 0))):
                yield name, MASK
            else:
                yield name, _through(result, factor, 0.0, 0.0)
        elif result.kind == "mask":
            yield name, result  # of two masks that are both to hold, the product is one
        else:
            sign = result.kind == "number" and (result.nonzero or (result.low == 0 and result.high == math.inf))
            of_both = math.sqrt(result.reach)
            yield name, replace(result.moved(), reach=of_both) if sign or result.kind == "index" else reaching(of_both)


@rule("Div")
def _div(step: FlowStep, result: Role, flow: Flow) -> Asked:
    a, b = step.operand(0), step.operand(1)
    if b not in flow.static:
        yield b, DENOMINATOR
    if a in flow.static:
        return
    by = flow.number(b)
    total = flow.producers.get(b)
    if total is not None and total.operator == "ReduceSum" and total.operand(0) == a and result.kind == "number":
        # shares of a whole: none is below zero where nothing is
        yield a, result.moved() if (result.low, result.high) == (0, math.inf) else PLAIN
    elif by is None or by == 0:
        yield a, PLAIN
    elif abs(by) >= FARTHEST:
        yield (
            a,
            _undivided(result, by)
            if result.kind == "index"
            else replace(_through(result, 1 / by, 0.0, 0.0), reach=0.0),
        )
    elif result.kind == "index":
        yield a, _undivided(result, by)
    else:
        whole = flow.dtype(step.result).startswith(("int", "uint")) or flow.dtype(a).startswith(("int", "uint"))
        shown = replace(result, reach=max(result.reach, STEPS)) if whole and result.kind == "number" else result
        yield a, _through(shown, 1 / by, 0.0, 0.0)


def _undivided(result: Role, by: float) -> Role:
    """What is divided without rest for an index: by * n to by * n + by - 1 all give n."""
    low, high = result.low * by, result.high * by + by - 1
    # nobody feeds numbers so large: it is one of the ways in which a shift is written out, and for another distance
    return PLAIN if max(abs(low), abs(high)) >= 2**31 else replace(result.moved(), low=low, high=high)


@rule("BitShift")
def _shift(step: FlowStep, result: Role, flow: Flow) -> Asked:
    """To the right it divides without rest, to the left it multiplies, by a power of two."""
    by = flow.number(step.operand(1))
    if step.operand(1) not in flow.static:
        # beyond the width of the smallest, uint8, no result is defined
        yield step.operand(1), sized(0, 7, "shift of `BitShift`")
    if by is None:
        yield step.operand(0), reaching(result.reach)
    elif result.kind != "index":
        left = "direction=LEFT" in step.attributes
        yield step.operand(0), reaching(result.reach / 2**by if left else 2**by * max(result.reach, STEPS))
    elif "direction=LEFT" in step.attributes:
        yield step.operand(0), _through(result, 2.0**by, 0.0, 0.0)
    else:
        yield step.operand(0), _undivided(result, 2.0**by)


@rule("Mod")
def _mod(step: FlowStep, result: Role, flow: Flow) -> Asked:
    # what is left of a division is within its divisor whatever is divided: a hash of any number picks a row
    divisor = flow.number(step.operand(1))
    of = 0.0 if divisor is None or abs(divisor) >= FARTHEST else abs(divisor)
    # several times the divisor: of less nothing is divided
    yield step.operand(0), _hashed(result, of) if result.kind == "index" else reaching(max(8 * of, result.reach))
    yield step.operand(1), DENOMINATOR


@rule("BitwiseAnd", "BitwiseOr", "BitwiseXor")
def _bits(step: FlowStep, result: Role, flow: Flow) -> Asked:
    for at in (0, 1):
        name, other = step.operand(at), flow.number(step.operand(1 - at))
        if name in flow.static:
            continue
        if step.operator == "BitwiseAnd" and result.kind == "index" and other is not None and 0 <= other <= result.high:
            yield name, _hashed(result, other)
        else:
            # the bits that are asked for, and one above
            bits = 0.0 if other is None or not 0 < other < FARTHEST else 4 * other
            yield name, reaching(max(bits, result.reach))


@rule("Neg")
def _neg(step: FlowStep, result: Role, flow: Flow) -> Asked:
    yield step.operand(0), _through(result, -1.0, 0.0, 0.0)


@rule("Abs")
def _abs(step: FlowStep, result: Role, flow: Flow) -> Asked:
    if result.kind in ("index", "length"):
        yield step.operand(0), result.moved()
    elif result.nonzero or (result.above and result.low >= 0):
        yield step.operand(0), replace(DENOMINATOR, why=result.why)
    elif result.kind == "number" and 0 < result.high < math.inf:
        yield step.operand(0), domain(-result.high, result.high, result.why)
    else:
        yield step.operand(0), reaching(result.reach)


@rule("Relu", "Clip", "Max", "Min")
def _clips(step: FlowStep, result: Role, flow: Flow) -> Asked:
    low, high = _limits(step, flow)
    names = step.inputs if step.operator in ("Max", "Min") else step.inputs[:1]
    for name in names:
        if name and name not in flow.static:
            within = _within(result, low, high)
            ends = max((abs(end) for end in (low, high) if abs(end) < FARTHEST), default=0.0)
            yield (
                name,
                replace(within, reach=max(within.reach, 2 * ends)) if within.kind == "number" and ends else within,
            )


def _limits(step: FlowStep, flow: Flow) -> tuple[float, float]:
    """What the result cannot leave, whatever goes in."""
    if step.operator == "Relu":
        return 0.0, math.inf
    if step.operator == "Clip":
        # attributes until opset 11, operands since
        low = step.attributes.get("min", flow.number(step.operand(1)))
        high = step.attributes.get("max", flow.number(step.operand(2)))
        return -math.inf if low is None else float(low), math.inf if high is None else float(high)
    numbers = [n for n in map(flow.number, step.inputs) if n is not None]
    if step.operator == "Max":
        return max(numbers, default=-math.inf), math.inf
    return -math.inf, min(numbers, default=math.inf)


def _within(result: Role, low: float, high: float) -> Role:
    """What is left to ask where the result lies between ``low`` and ``high`` in any case."""
    if result.kind == "index" and result.bounded and result.symbol is None:
        return _held(result.moved(), low, high)
    if result.kind != "number":
        return result.moved()
    # a least number so small keeps a count, a size or a weight from zero: none of these is negative
    if result.nonzero and 0 < low < _LEAST:
        return domain(0, result.high, result.why)
    if low > result.low or (low == result.low and not result.above):
        result = replace(result, low=-math.inf, above=False, nonzero=result.nonzero and not low > 0)
    if high < result.high or (high == result.high and not result.below):
        result = replace(result, high=math.inf, below=False, nonzero=result.nonzero and not high < 0)
    if result.nonzero and (low > 0 or high < 0):
        result = replace(result, nonzero=False)
    return result


_LEAST = 1e-3
"""A denominator that is held above a number below this is nothing that may be negative."""


def _held(result: Role, low: float, high: float) -> Role:
    """Indices that are held within ends: a quarter of as many lie beyond one that is enough, where the holding shows."""
    beyond = (result.high - result.low) // 4 + 1
    if not beyond < math.inf:
        return result
    lowest = result.low - beyond if low >= result.low else result.low
    return replace(result, low=lowest, high=result.high + beyond if high <= result.high else result.high)


@rule("Pow")
def _pow(step: FlowStep, result: Role, flow: Flow) -> Asked:
    base, exponent = step.operand(0), step.operand(1)
    power = flow.number(exponent)
    if base not in flow.static:
        if power is None:
            yield base, domain(0, math.inf, "base of a power", above=True)
        elif power != int(power):
            yield base, domain(0, math.inf, f"base of a power of {power:g}", above=power < 0 or result.nonzero)
        # an even power is positive wherever its base is not 0
        elif power < 0 or result.nonzero or (result.above and power % 2 == 0):
            yield base, replace(DENOMINATOR, why=result.why if power > 0 else "base of a negative power")
        else:
            yield base, PLAIN
    if exponent not in flow.static:
        yield exponent, domain(-3, 3, "exponent")  # of a base of 10 float16 holds 4 powers above 1
