"""What each operator asks of its operands, given what is asked of its result."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace

import numpy as np

from coreproof.conversion.registry import registers
from coreproof.feeding.roles.flow import COMPARES, LOGIC, MOVES, Flow, FlowStep
from coreproof.feeding.roles.role import PLAIN, Role, reaching
from coreproof.model.features import Shape

Asked = Iterator[tuple[str, Role]]
Rule = Callable[[FlowStep, Role, Flow], Asked]

STEPS = 9.0
"""Of what is rounded to whole numbers, so many are to come out."""

FARTHEST = float(1 << 24)
"""Whole numbers below this are held by every format; nothing drawn goes further."""

LARGE = 1e3
"""What a mask is multiplied with is at least so large, where it becomes an additive mask."""

_BOOL = 9
"""``TensorProtocol.BOOL``, as Cast's ``to`` says it."""

MASK = Role("mask", 0, 1, why="a mask")
UNSURE = Role("unsure", 0, 1, why="a mask")
ADDITIVE = Role("additive", why="added before a softmax")
SCORES = Role("scores")
RISING = Role(rising=True, why="searched")

RULES: dict[str, Rule] = {}


def asked(step: FlowStep, result: Role, flow: Flow) -> Asked:
    """(operand, what it has to hold), for the operands of a step whose result has to hold ``result``."""
    if (rule := RULES.get(step.operator)) is not None:
        yield from rule(step, result, flow)
        return
    for name in step.inputs:
        yield name, PLAIN


rule = registers(RULES)
"""Registers what the named operators say of their inputs."""


def says(operators: str, *roles: Role | None) -> None:
    """Operators that ask the same of their operands, in order, whatever becomes of the result; None: what is asked of that."""

    def ask(step: FlowStep, result: Role, flow: Flow) -> Asked:
        for at, role in enumerate(roles):
            yield step.operand(at), result.moved() if role is None else role

    RULES.update(dict.fromkeys(operators.split(), ask))


# what moves values about


@rule(*sorted(MOVES - {"Cast", "Identity", "CastLike", "Expand", "Pad", "Reshape", "Slice", "Tile", "Split"}))
def _moves(step: FlowStep, result: Role, flow: Flow) -> Asked:
    yield step.operand(0), result.moved()
    if step.operator == "Compress":
        yield step.operand(1), MASK
    if step.operator == "ReverseSequence":
        axis = step.integer("time_axis")
        yield step.operand(1), length_of(flow, step.operand(0), axis, "sequence_lens of `ReverseSequence`")


@rule("Cast", "CastLike", "Identity")
def _casts(step: FlowStep, result: Role, flow: Flow) -> Asked:
    x = step.operand(0)
    to_bool = step.integer("to") == _BOOL or flow.dtype(step.result) == "bool"
    yield x, MASK if to_bool and flow.dtype(x) != "bool" else result


@rule("Concat")
def _concat(step: FlowStep, result: Role, flow: Flow) -> Asked:
    for name in step.inputs:
        # a distribution that is searched begins with a zero that is put before it
        yield name, replace(result.moved(), rising=result.rising)


@rule("Where")
def _where(step: FlowStep, result: Role, flow: Flow) -> Asked:
    condition, x, y = (step.operand(i) for i in range(3))
    if _wraps(flow, condition, x, y):  # negative indices counted from the end
        yield y, result
        return
    if _keeps_infinity(flow, condition, x):  # a float16 program lets infinity by, and clips all other numbers
        yield x, result
        return
    yield condition, UNSURE if result.kind in ("index", "length") else MASK
    for name in (x, y):
        if name not in flow.fixed:
            yield name, result.moved()


def _keeps_infinity(flow: Flow, condition: str, x: str) -> bool:
    """Whether the condition is ``abs(x) == infinity``."""
    equal = flow.producers.get(condition)
    if equal is None or equal.operator != "Equal" or flow.number(equal.operand(1)) != math.inf:
        return False
    size = flow.producers.get(equal.operand(0))
    return size is not None and size.operator == "Abs" and size.operand(0) == x


def _wraps(flow: Flow, condition: str, x: str, y: str) -> bool:
    """Whether this is ``where(y < 0, y + length, y)``."""
    less, add = flow.producers.get(condition), flow.producers.get(x)
    return (
        less is not None
        and add is not None
        and less.operator == "Less"
        and add.operator == "Add"
        and less.operand(0) == y
        and y in add.inputs
        and flow.number(less.operand(1)) == 0
    )


@rule("Reshape", "Expand")
def _reshape(step: FlowStep, result: Role, flow: Flow) -> Asked:
    yield step.operand(0), result.moved()
    known, exact = fixed_lengths(flow.shape(step.result))
    exact = exact or _fitting(step.operator, flow.shape(step.operand(0)), flow.length(step.operand(1), 0))
    yield step.operand(1), sized(1, max(known, default=1), f"shape of `{step.operator}`", exact)


def _fitting(operator: str, shape: Shape, rank: object) -> tuple[int, ...] | None:
    """A shape of so many lengths that a value of ``shape`` can be given, where the result's own is not known."""
    _, known = fixed_lengths(shape)
    if known is None or not isinstance(rank, int) or rank < 1:
        return None
    if operator == "Expand":
        apart = rank - len(known)
        return None if apart < 0 else (*[2] * apart, *(3 if length == 1 else length for length in known))
    return tuple(reversed(known)) if len(known) == rank else (*[1] * (rank - 1), math.prod(known))


# indices


def picks(flow: Flow, table: str, axis: int, *, distinct: bool = False) -> Role:
    """Indices along an axis of ``table``."""
    length = flow.length(table, axis)
    symbol = length if isinstance(length, str) else None
    high = length - 1 if isinstance(length, int) else math.inf if symbol else 0
    rows = length if isinstance(length, int) and _has_rows(flow, table, axis) else 0
    return Role("index", 0, high, symbol=symbol, distinct=distinct, rows=rows, why=_of(flow, table, axis, length))


def _has_rows(flow: Flow, table: str, axis: int) -> bool:
    """Whether it is a stored table, of which rows are picked."""
    return table in flow.static and axis == 0


def _of(flow: Flow, table: str, axis: int, length: int | str | None) -> str:
    many = f"{length:,} " if isinstance(length, int) else ""
    if _has_rows(flow, table, axis):
        return f"indices of {many}rows of `{flow.title(table)}`"
    return f"indices of {many or 'the '}entries of `{flow.title(table)}` along axis {axis}"


@rule("searchsorted", "bucketize")
def _searched(step: FlowStep, result: Role, flow: Flow) -> Asked:
    bounds = int(step.operator == "bucketize")
    # with a sorter it is the sorter's business
    if len(step.inputs) <= 2:
        yield step.operand(bounds), RISING
    yield step.operand(1 - bounds), reaching(_beyond(flow.constant(step.operand(bounds))))


@rule("ArrayFeatureExtractor")
def _columns(step: FlowStep, result: Role, flow: Flow) -> Asked:
    yield step.operand(0), result


@rule("LabelEncoder", "OneHotEncoder", "CategoryMapper")
def _looked_up(step: FlowStep, result: Role, flow: Flow) -> Asked:
    yield step.operand(0), Role("category", choices=step.keys) if step.keys else PLAIN


@rule("Gather", "GatherElements")
def _gather(step: FlowStep, result: Role, flow: Flow) -> Asked:
    data, indices = step.operand(0), step.operand(1)
    if data not in flow.static:
        yield data, _of_part(flow, data, step.integer("axis"), flow.constant(indices), result)
    if flow.dtype(indices) == "bool":  # PyTorch picks by truth values as well
        yield indices, MASK
        return
    yield indices, picks(flow, data, step.integer("axis"), distinct=bool(step.integer("written")))


def _of_part(flow: Flow, data: str, axis: int, place: np.ndarray | None, result: Role) -> Role:
    """What a value has to hold of which one part along an axis is taken out, which has to hold ``result``."""
    length, rank = flow.length(data, axis), len(flow.shape(data))
    if place is None or place.size != 1 or place.dtype.kind not in "iuf" or not isinstance(length, int):
        return result.moved()
    return result.column(int(place.reshape(-1)[0]), length, axis - rank if axis >= 0 else axis)


@rule("Column")
def _column(step: FlowStep, result: Role, flow: Flow) -> Asked:
    data = step.operand(0)
    yield data, _of_part(flow, data, step.integer("axis"), np.asarray(step.integer("place")), result)


@rule("ScatterElements", "Scatter")
def _scatter(step: FlowStep, result: Role, flow: Flow) -> Asked:
    data, indices, updates = (step.operand(i) for i in range(3))
    yield data, result.moved()
    yield indices, picks(flow, data, step.integer("axis"), distinct=True)
    yield updates, result.moved()


@rule("TensorScatter")
def _tensor_scatter(step: FlowStep, result: Role, flow: Flow) -> Asked:
    cache, update, places = (step.operand(i) for i in range(3))
    yield cache, result.moved()
    yield update, result.moved()
    axis = step.integer("axis", -2)
    where, written = picks(flow, cache, axis), flow.length(update, axis)
    if not step.integer("mode=circular"):  # all that is written has to lie within the cache
        high = where.high - written + 1 if isinstance(written, int) and where.symbol is None else 0
        where = replace(where, high=max(0, high), symbol=None, why=f"first {where.why} that are written at once")
    yield places, where


@rule("RoiAlign")
def _roi_align(step: FlowStep, result: Role, flow: Flow) -> Asked:
    x = step.operand(0)
    yield x, PLAIN
    sides = [n for n in (flow.length(x, -2), flow.length(x, -1)) if isinstance(n, int)]
    yield step.operand(1), domain(0, min(sides, default=1), "corners of `RoiAlign`")
    yield step.operand(2), picks(flow, x, 0)


@rule("MaxUnpool")
def _max_unpool(step: FlowStep, result: Role, flow: Flow) -> Asked:
    yield step.operand(0), result.moved()
    # each value came from its own place of the picture
    size = [n for n in flow.shape(step.result) if isinstance(n, int)]
    many = math.prod(size) if size and len(size) == len(flow.shape(step.result)) else 1
    yield step.operand(1), Role("index", 0, many - 1, distinct=True, why=f"places of {many:,} of `MaxUnpool`")


@rule("GatherND", "ScatterND")
def _gather_nd(step: FlowStep, result: Role, flow: Flow) -> Asked:
    data, indices = step.operand(0), step.operand(1)
    if data not in flow.static:
        yield data, result.moved()
    batch, shape, depth = step.integer("batch_dims"), flow.shape(data), flow.length(indices, -1)
    # each row of the last axis picks from as many of the data's axes as it is long
    _, known = fixed_lengths(shape[batch : batch + depth] if isinstance(depth, int) else shape[batch:])
    why = f"indices of {'x'.join(map(str, known)) if known else 'the'} entries of `{flow.title(data)}`"
    high = max(known) - 1 if known else 0
    yield indices, Role("index", 0, high, columns=known, distinct=step.operator == "ScatterND", why=why)
    yield step.operand(2), result.moved()


@rule("OneHot")
def _one_hot(step: FlowStep, result: Role, flow: Flow) -> Asked:
    depth = flow.number(step.operand(1))
    known = flow.length(step.result, step.integer("axis", -1)) if depth is None else int(depth)
    high = known - 1 if isinstance(known, int) and known > 0 else 0
    yield step.operand(0), Role("index", 0, high, why=f"indices of {high + 1:,} classes of `OneHot`")
    yield step.operand(1), sized(2, 8, "depth of `OneHot`")
    yield step.operand(2), PLAIN


@rule("EmbeddingBag")
def _embedding_bag(step: FlowStep, result: Role, flow: Flow) -> Asked:
    yield step.operand(1), picks(flow, step.operand(0), 0)
    count = flow.length(step.operand(1), 0)
    yield step.operand(2), sized(0, count - 1 if isinstance(count, int) else 0, "offsets of `EmbeddingBag`", (0,))


@rule("EmbedLayerNormalization")
def _embed(step: FlowStep, result: Role, flow: Flow) -> Asked:
    # ONNX Runtime's own operator: words, segments and positions, each with its table
    for ids, table in ((0, 2), (1, 4), (8, 3)):
        if step.operand(ids) and step.operand(table):
            yield step.operand(ids), picks(flow, step.operand(table), 0)
    yield step.operand(7), MASK


# lengths


def sized(low: float, high: float, why: str, exact: tuple[int, ...] | None = None) -> Role:
    """Whole numbers that size something."""
    return Role("length", low, high, exact=exact, why=why)


def fixed_lengths(shape: Shape) -> tuple[tuple[int, ...], tuple[int, ...] | None]:
    """The lengths of a shape that are known, and again as the whole shape, where all of them are."""
    known = tuple(d for d in shape if isinstance(d, int) and d > 0)
    return known, known if known and len(known) == len(shape) else None


def length_of(flow: Flow, value: str, axis: int, why: str) -> Role:
    """A length within an axis."""
    length = flow.length(value, axis)
    symbol = length if isinstance(length, str) else None
    return Role("length", 1, length if isinstance(length, int) else math.inf if symbol else 1, symbol=symbol, why=why)


@rule("LSTM", "GRU", "RNN")
def _recurrent(step: FlowStep, result: Role, flow: Flow) -> Asked:
    time = 1 if step.integer("layout") else 0
    for at, name in enumerate(step.inputs):  # X, W, R, B, sequence_lens, initial states, peepholes
        yield name, PLAIN if at != 4 else length_of(flow, step.operand(0), time, f"sequence_lens of `{step.operator}`")


@rule("TopK")
def _top_k(step: FlowStep, result: Role, flow: Flow) -> Asked:
    yield step.operand(0), PLAIN
    yield step.operand(1), length_of(flow, step.operand(0), step.integer("axis", -1), "k of `TopK`")


@rule("ConstantOfShape", "RandomNormalLike", "EyeLike")
def _of_shape(step: FlowStep, result: Role, flow: Flow) -> Asked:
    yield step.operand(0), sized(1, 8, f"shape of `{step.operator}`", fixed_lengths(flow.shape(step.result))[1])


@rule("Resize", "Upsample")
def _resize(step: FlowStep, result: Role, flow: Flow) -> Asked:
    yield step.operand(0), result.moved()
    # Resize has a region of interest before its scales since opset 11
    scales = 1 if step.operator == "Upsample" or len(step.inputs) == 2 else 2
    yield step.operand(scales), sized(1, 2, f"scales of `{step.operator}`")
    shape = tuple(d for d in flow.shape(step.operand(0)) if isinstance(d, int))
    yield step.operand(3), sized(1, max(shape, default=1), f"sizes of `{step.operator}`", shape or None)


# masks


@rule("Attention")
def _attention(step: FlowStep, result: Role, flow: Flow) -> Asked:
    for name in step.inputs[:3]:
        yield name, PLAIN
    mask = step.operand(3)
    if mask and mask not in flow.static:
        yield mask, MASK if flow.dtype(mask) == "bool" else ADDITIVE


@rule(*sorted(LOGIC))
def _logic(step: FlowStep, result: Role, flow: Flow) -> Asked:
    for name in step.inputs:
        yield name, result if result.kind in ("mask", "unsure") else UNSURE


@rule(*sorted(COMPARES))
def _compares(step: FlowStep, result: Role, flow: Flow) -> Asked:
    for at in (0, 1):
        name, other = step.operand(at), step.operand(1 - at)
        if name in flow.static:
            continue
        number = flow.number(other)
        if number is not None:
            among = frozenset((number,))
            # ``x != 0`` and ``x > 0.5`` are how masks are read; any other number is only one among those that x may be
            # beyond it as well: of what equals 1000, nothing is greater than 1000
            compared = Role("compared", reach=_beyond(np.asarray(number)))
            yield name, replace(UNSURE if number in (0.0, 0.5, 1.0) else compared, among=among)
        elif other in flow.static and flow.dtype(name).startswith(("int", "uint")):
            yield name, _role_by_comparison(flow, other, step)
        else:
            yield name, PLAIN


def _beyond(numbers: np.ndarray | None) -> float:
    """A number past all that something is compared with; 0 where that is not known, or further than anything is drawn."""
    if numbers is None or not numbers.size or numbers.dtype.kind not in "iuf":
        return 0.0
    furthest = float(np.max(np.abs(numbers)))
    return 2 * furthest if furthest < FARTHEST else 0.0


def _role_by_comparison(flow: Flow, counted: str, step: FlowStep) -> Role:
    """What is compared with 0, 1, 2 ... is a length, ``arange(n) < lengths``; what has to equal one of them picks it."""
    numbers = flow.constant(counted)
    if numbers is not None and numbers.size > 1:
        flat = numbers.reshape(-1)
        if not np.array_equal(flat, np.arange(flat.size)):
            return reaching(_beyond(numbers))
        if step.operator in ("Equal", "NotEqual"):
            return Role("index", 0, flat.size - 1, why=f"indices of {flat.size:,} classes")
        return sized(1, flat.size, f"lengths within {flat.size:,}")
    if not _counts(flow, counted):
        return PLAIN
    # along the axis that is counted: [1, n, 1] where rows are kept or not, and the last where nothing tells
    long = [at for at, length in enumerate(flow.shape(counted)) if length != 1]
    at = long[0] - len(flow.shape(counted)) if len(long) == 1 else -1
    last = flow.length(step.result, at)
    return length_of(flow, step.result, at, f"lengths within {last}") if last is not None else PLAIN


def _counts(flow: Flow, name: str) -> bool:
    """Whether a value that no input is part of counts 0, 1, 2 ..., and is not a length itself."""
    seen = 0
    while (step := flow.producers.get(name)) is not None and seen < 20:
        if step.operator in ("Range", "arange", "CumSum", "NonZero"):
            return True
        name, seen = step.operand(0), seen + 1
        if step.operator not in MOVES:
            return False
    return False


# numbers of a domain


def domain(low: float, high: float, why: str, *, above: bool = False, below: bool = False) -> Role:
    """Numbers from ``low`` to ``high``; ``above``, ``below``: without the end."""
    return Role("number", low, high, above, below, why=why)


_DOMAINS: Mapping[str, Role] = {
    "Log": domain(0, math.inf, "logarithm", above=True),
    "Sqrt": domain(0, math.inf, "square root"),
    "Acos": domain(-1, 1, "arc cosine"),
    "Asin": domain(-1, 1, "arc sine"),
    "Acosh": domain(1, math.inf, "inverse hyperbolic cosine"),
    "Atanh": domain(-1, 1, "inverse hyperbolic tangent", above=True, below=True),
}
DENOMINATOR = Role("number", nonzero=True, why="denominator")


@rule(*_DOMAINS)
def _domains(step: FlowStep, result: Role, flow: Flow) -> Asked:
    role = _DOMAINS[step.operator]
    above_zero = step.operator == "Sqrt" and (result.nonzero or (result.above and result.low >= 0))
    yield step.operand(0), replace(role, above=True) if above_zero else role


@rule("ReduceSum", "ReduceL1", "ReduceL2", "ReduceMean", "ReduceMax", "ReduceMin", "GlobalAveragePool", "AveragePool")
def _reduces(step: FlowStep, result: Role, flow: Flow) -> Asked:
    # what lies between its operands is in an interval when they are; a sum of positive numbers is positive
    convex = step.operator not in ("ReduceSum", "ReduceL1", "ReduceL2")
    positive = step.operator == "ReduceSum" and result.kind == "number" and result.low == 0
    yield step.operand(0), result.moved() if (convex and result.kind == "number") or positive else PLAIN


@rule("Floor", "Ceil", "Round", "Trunc", "floor", "ceil", "round", "trunc")
def _whole_parts(step: FlowStep, result: Role, flow: Flow) -> Asked:
    # a few steps of it at least
    yield step.operand(0), reaching(max(result.reach, STEPS))


@rule("CumSum")
def _cumsum(step: FlowStep, result: Role, flow: Flow) -> Asked:
    # positions of a text are often counted from its mask; what is searched has to grow
    grows = domain(0, math.inf, "added up to what is searched") if result.rising else PLAIN
    yield step.operand(0), UNSURE if result.kind == "index" else grows


# the same of every operator of a kind

says("Shape Size Scan")
says("Tile", None, sized(1, 3, "repeats of `Tile`"))
says("Pad", None, sized(0, 2, "pads of `Pad`"), PLAIN)
says("Sizes", *[sized(1, 8, "a size")] * 4)
says("Loop", sized(1, 4, "trip count of `Loop`"), MASK)
says("If", MASK)
says("Softmax LogSoftmax", SCORES)
says("Reciprocal", DENOMINATOR)
says("BatchNormalization", PLAIN, PLAIN, PLAIN, PLAIN, domain(0, math.inf, "variance"))  # X, scale, B, mean, variance
says("GridSample", PLAIN, domain(-1, 1, "places of `GridSample`"))
