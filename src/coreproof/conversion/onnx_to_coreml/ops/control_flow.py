"""If, Loop and Scan: what is known is taken or written out, anything else becomes MIL's cond and while_loop."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from coreproof.conversion.onnx_to_coreml.lowering import Context, lowering, mil_array
from coreproof.conversion.onnx_to_coreml.mil import Items, Operand, Var, several
from coreproof.conversion.onnx_to_coreml.ops.dtypes import axis_of, cast, is_known, name_of
from coreproof.conversion.onnx_to_coreml.ops.indexing import picked

_WRITTEN_OUT = 512
"""As many nodes may the rounds of a loop have together to be written out one after the other: more is a loop of Core ML's."""


def _constant_value(operand: Operand | None) -> np.ndarray | None:
    """What the operand is known to be."""
    if operand is None or isinstance(operand, np.ndarray):
        return operand
    return None if operand.val is None else np.asarray(operand.val)


def _variable(ctx: Context, operand: Operand) -> Var:
    """The operand as a value of the program, which blocks take and give."""
    if isinstance(operand, Items):
        raise ctx.refuse(
            "a sequence that comes out of a branch, or of rounds, that are chosen while the model runs",
            "a known condition, or a known count of rounds",
        )
    return ctx.mb.const(val=mil_array(operand, ctx.dtype)) if isinstance(operand, np.ndarray) else operand


def _one(ctx: Context, operand: Operand) -> Var:
    """A condition or a count as the scalar that MIL asks for; ONNX takes [1] as well.

    MIL tells a tensor of rank 0 from a scalar, and a loop has to go on with the one that it started with.
    """
    value = _variable(ctx, operand)
    rank = ctx.rank(value)
    # a squeeze of all axes makes the scalar that MIL means, of which a tensor of rank 0 is none
    if not rank:
        value, rank = ctx.mb.expand_dims(x=value, axes=[0]), 1
    return ctx.mb.squeeze(x=value, axes=list(range(rank)))


def _require_operands(operands: Sequence[Operand | None]) -> list[Operand]:
    """What a loop carries or walks along, of which nothing can be left out."""
    return [operand for operand in operands if operand is not None]


def _as_declared(ctx: Context, operand: Operand, value: ir.Value) -> Operand:
    """In the shape that the graph declares, where MIL does not see it: x[i : i + 1] has one element to the standard alone."""
    shape = value.shape
    if isinstance(operand, np.ndarray) or all(map(is_known, operand.shape)) or shape is None or not shape.is_static():
        return operand
    return ctx.mb.reshape(x=operand, shape=[int(d) for d in shape.numpy()])


def _size(graph: ir.Graph) -> int:
    return sum(1 for _ in graph.all_nodes())


@lowering("If", error="move", sequences=True)
def if_(ctx: Context, condition: Operand, *, then_branch: ir.Graph, else_branch: ir.Graph) -> list[Operand]:
    """The branch itself where the condition is known.

    ONNX lets the branches differ in shape, MIL's cond does not: lengths in which they do are given as free ones by both.
    """
    known = _constant_value(condition)
    if known is not None:
        return ctx.nested(then_branch if bool(known.reshape(-1)[0]) else else_branch, {})

    with _TakenOut():
        shapes = [[tuple(made.shape) for made in ctx.nested(graph, {})] for graph in (then_branch, else_branch)]
    if [*map(len, shapes[0])] != [*map(len, shapes[1])]:
        raise ctx.refuse(
            f"branches that give {shapes[0]} and {shapes[1]}", "values of the same ranks", "reshape one of them"
        )
    apart = [
        # lengths may be symbols, which compare by name
        [i for i, (n, m) in enumerate(zip(a, b, strict=True)) if str(n) != str(m)]
        for a, b in zip(*shapes, strict=True)
    ]

    def branch(graph: ir.Graph) -> Callable[[], list[Var]]:
        # an output is a value that the block itself makes: Core ML's blocks do not hand on what they only read
        return lambda: [
            _of_free_lengths(ctx, _variable(ctx, made), axes) if axes else ctx.mb.identity(x=_variable(ctx, made))
            for made, axes in zip(ctx.nested(graph, {}), apart, strict=True)
        ]

    pred = _one(ctx, cast(ctx, condition, "bool"))
    return [*several(ctx.mb.cond(pred=pred, _true_fn=branch(then_branch), _false_fn=branch(else_branch)))]


def _of_free_lengths(ctx: Context, value: Var, axes: Sequence[int]) -> Var:
    """The value whole, of which MIL does not know how long it is along these axes."""
    ends = _forgotten(ctx, ctx.mb.const(val=np.array([n if is_known(n) else 0 for n in value.shape], np.int32)))
    if not all(map(is_known, value.shape)):
        ends = ctx.mb.shape(x=value)
    whole = [axis not in axes for axis in range(ctx.rank(value))]
    return ctx.mb.slice_by_index(x=value, begin=[0] * len(whole), end=ends, begin_mask=whole, end_mask=whole)


@lowering("Loop", error="move", sequences=True)
def loop(
    ctx: Context, count: Operand | None, condition: Operand | None, *carried: Operand, body: ir.Graph
) -> list[Operand]:
    """Rounds until the count is reached or the condition fails; what a round gives beside the carried values is stacked."""
    trips, goes_on = _constant_value(count), _constant_value(condition)
    most = None if trips is None else int(trips.reshape(-1)[0])
    if most is not None and most > np.iinfo(np.int32).max:  # as exporters write a loop that only its condition ends
        count, most = None, None
    index, again, *names = (v.name or "" for v in body.inputs)
    values = _require_operands(ctx.raw[2:])

    def round_of(number: Operand, holds: Operand, carry: Sequence[Operand]) -> tuple[Operand, list[Operand]]:
        made = ctx.nested(body, {index: number, again: holds, **dict(zip(names, carry, strict=True))})
        return made[0], [_as_declared(ctx, m, v) for m, v in zip(made, body.outputs, strict=True)][1:]

    if most is not None and (condition is None or goes_on is not None) and most * _size(body) <= _WRITTEN_OUT:
        first = True if goes_on is None else bool(goes_on.reshape(-1)[0])
        with _TakenOut() as tried:
            written = _written_out(round_of, most, first, values)
            tried.stays = written is not None
        if written is not None:
            return _stacked(ctx, written, len(names), body)
    start = np.asarray(True) if condition is None else condition
    return _while_loop(ctx, _Rounds(round_of, count, start, most), values)


Round = Callable[[Operand, Operand, Sequence[Operand]], tuple[Operand, list[Operand]]]
"""(the round's number, whether it goes on, the carried values) -> whether it goes on, the carried values and what is stacked."""


def rounds(
    ctx: Context, round_of: Round, along: tuple[Operand, int], states: Sequence[Operand], nodes: int
) -> list[Operand]:
    """A round of about ``nodes`` operations for each place ``along`` an axis of a value: the states, then what is stacked."""
    length = along[0].shape[along[1]]
    known = int(length) if is_known(length) else None
    if known is not None and known * nodes <= _WRITTEN_OUT:
        written = _written_out(round_of, known, True, states)
        assert written is not None  # such rounds do not compute whether there is another
        carry, given = written
        return [*carry, *(stack(ctx, list(rows), 0) for rows in zip(*given, strict=True))]
    count = np.asarray(known, np.int32) if known is not None else _length(ctx, *along)
    return _while_loop(ctx, _Rounds(round_of, count, np.asarray(True), known), states)


def _written_out(
    round_of: Round, most: int, goes_on: bool, values: Sequence[Operand]
) -> tuple[list[Operand], list[list[Operand]]] | None:
    """The carried values at the end, and what each round gave; None where a round computes whether there is another."""
    carry, given = list(values), []
    for number in range(most):
        if not goes_on:
            break
        again, made = round_of(np.asarray(number, np.int64), np.asarray(True), carry)
        known = _constant_value(again)
        if known is None:
            return None
        goes_on = bool(known.reshape(-1)[0])
        carry, stacked = made[: len(values)], made[len(values) :]
        given.append(stacked)
    return carry, given


def _stacked(
    ctx: Context, written: tuple[list[Operand], list[list[Operand]]], count: int, body: ir.Graph
) -> list[Operand]:
    carry, given = written
    results = list(carry)
    for place, output in enumerate(body.outputs[1 + count :]):
        rows = [made[place] for made in given]
        if not rows:
            raise ctx.refuse(f"it has no round, so that {output.name!r} has no rows", "at least one round")
        results.append(stack(ctx, rows, 0))
    return results


def stack(ctx: Context, rows: Sequence[Operand], axis: int) -> Operand:
    """The rows along a new axis."""
    known = [r for r in rows if isinstance(r, np.ndarray)]
    if len(known) == len(rows):
        return np.stack(known, axis)
    return ctx.mb.stack(values=[_variable(ctx, r) for r in rows], axis=axis)


@dataclass(frozen=True)
class _Rounds:
    """What a loop of Core ML's does: its body, how many rounds at most (None: as long as the condition holds), and its start."""

    round_of: Round
    count: Operand | None
    start: Operand
    known: int | None


def _while_loop(ctx: Context, rounds: _Rounds, values: Sequence[Operand]) -> list[Operand]:
    """MIL's while_loop; what is stacked is written into lists, whose elements have one fixed shape, or into room for all rows."""
    mb = ctx.mb
    # what they start with is forgotten: MIL would take it for what a later round reads
    carried = [_open(ctx, v) for v in values]
    kinds = _kinds_of_a_round(ctx, rounds, carried)
    limit = None if rounds.count is None else _one(ctx, rounds.count)
    lists = [
        mb.make_list(
            init_length=max(rounds.known or 1, 1),
            dynamic_length=rounds.known is None,
            elem_shape=shape or (1,),
            dtype=dtype,
        )
        if all(map(is_known, shape))
        else _room(ctx, shape, dtype, limit, carried)
        for shape, dtype in kinds.stacked
    ]
    width = len(carried)

    def condition(number: Var, goes_on: Var, *_: Var) -> Var:
        within = goes_on if limit is None else mb.less(x=number, y=limit)
        return mb.logical_and(x=within, y=goes_on)

    def body(number: Var, goes_on: Var, *rest: Var) -> list[Var]:
        again, made = rounds.round_of(number, goes_on, rest[:width])
        carry = [_like(ctx, _open(ctx, m), v) for m, v in zip(made[:width], carried, strict=True)]
        if ctx.is_network:  # whose values are written over one after the other: two that change places are copied first
            carry = [mb.identity(x=m) if any(m is r for r in rest) else m for m in carry]
        written = [
            _with_row(ctx, place, number, _variable(ctx, value))
            for place, value in zip(rest[width:], made[width:], strict=True)
        ]
        # coremltools writes a constant that a body gives twice into a NeuralNetwork; within the loop this one is true
        always = ctx.is_network and _constant_value(again) is not None and bool(np.all(_constant_value(again)))
        return [mb.add(x=number, y=np.int32(1)), goes_on if always else _one(ctx, again), *carry, *written]

    start = [mb.const(val=np.int32(0)), _one(ctx, rounds.start)]
    done, _, *results = several(mb.while_loop(_cond=condition, _body=body, loop_vars=(*start, *carried, *lists)))
    if not lists:
        return [*results]
    if rounds.known is not None and kinds.goes_on:
        rows: Operand = np.arange(rounds.known, dtype=np.int32)
    else:
        rows = mb.range_1d(start=np.int32(0), end=done, step=np.int32(1))
    stacked: list[Operand] = []
    for place, (shape, _) in zip(results[width:], kinds.stacked, strict=True):
        if not _is_list(place):
            stacked.append(place if kinds.goes_on else mb.gather(x=place, indices=rows, axis=0))
            continue
        gathered = mb.list_gather(ls=place, indices=rows)
        stacked.append(gathered if shape else mb.squeeze(x=gathered, axes=[1]))
    return [*results[:width], *stacked]


def _is_list(value: Var) -> bool:
    from coremltools.converters.mil.mil import ListVar

    return isinstance(value, ListVar)


def _with_row(ctx: Context, place: Var, number: Var, value: Var) -> Var:
    """A round's row in its place. A list's elements are arrays: a single number is written as one of one."""
    mb = ctx.mb
    if _is_list(place):
        return mb.list_write(
            ls=place, index=number, value=value if ctx.rank(value) else mb.expand_dims(x=value, axes=[0])
        )
    # a scatter along axis 0 writes rows, here one
    row, index = (mb.expand_dims(x=v, axes=[0]) for v in (value, number))
    return mb.scatter(data=place, indices=index, updates=row, axis=0, mode="update")


def _room(ctx: Context, shape: Sequence[int], dtype: str, count: Var | None, carried: Sequence[Var]) -> Var:
    """Zeros for all rows of a value whose lengths are free: those that what the loop carries has, too, can be measured."""
    mb = ctx.mb
    known: dict[str, tuple[Var, int]] = {
        str(n): (value, axis) for value in carried for axis, n in enumerate(value.shape) if not is_known(n)
    }
    if count is None or dtype == "bool" or any(not is_known(n) and str(n) not in known for n in shape):
        raise ctx.refuse(
            f"the shape {tuple(shape)} of what a round gives is not fixed", "fixed lengths", "fix the input's shape"
        )
    pieces: list[Operand] = [mb.expand_dims(x=count, axes=[0])]
    for n in shape:
        if is_known(n):
            pieces.append(np.array([n], np.int32))
        else:
            value, axis = known[str(n)]
            pieces.append(mb.slice_by_index(x=mb.shape(x=value), begin=[axis], end=[axis + 1]))
    return mb.fill(shape=mb.concat(values=pieces, axis=0), value=np.int32(0) if dtype == "int32" else ctx.scalar(0))


@dataclass(frozen=True)
class _Kinds:
    """What one round was seen to give: shape and dtype of what is stacked, and whether it always goes on."""

    stacked: list[tuple[tuple[int, ...], str]]
    goes_on: bool


class _TakenOut:
    """What is lowered within is taken out of the block again, unless it ``stays``; its constants, which others share, are not."""

    stays = False

    def __enter__(self) -> _TakenOut:
        from coremltools.converters.mil.mil.block import curr_block

        self._block = curr_block()
        self._before = len(self._block.operations)
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        # what failed half-way is in no state to be taken out, and nothing is made of its block any more
        if not self.stays and kind is None:
            made = list(self._block.operations)[self._before :]
            self._block.remove_ops([operation for operation in made if operation.op_type != "const"])


def _kinds_of_a_round(ctx: Context, rounds: _Rounds, carried: Sequence[Var]) -> _Kinds:
    """One round lowered to see what it gives, and taken out again."""
    with _TakenOut():
        number = _forgotten(ctx, ctx.mb.const(val=np.int32(0)))
        # with nothing known of the values, or the round would be folded to what the first one gives
        again, made = rounds.round_of(number, np.asarray(True), [_forgotten(ctx, v) for v in carried])
        known = _constant_value(again)
        stacked = [(tuple(m.shape), name_of(ctx, m)) for m in made[len(carried) :]]
    return _Kinds(stacked, known is not None and bool(known.reshape(-1)[0]))


def _forgotten(ctx: Context, value: Var) -> Var:
    """The same without what is known of it: a round must not be lowered for the first round's numbers."""
    copy = ctx.mb.identity(x=value)
    copy._sym_val = None  # type: ignore[assignment]
    return copy


def _open(ctx: Context, operand: Operand) -> Var:
    """A value that a loop carries, of which nothing is known, nor any element by its symbol."""
    value = _single(ctx, _variable(ctx, operand))
    return value if value._sym_val is None else _forgotten(ctx, value)


def _single(ctx: Context, value: Var) -> Var:
    """The same number, where MIL holds it as an array without axes: it takes that for another type than a number."""
    from coremltools.converters.mil.mil import types

    if ctx.rank(value) or not types.is_tensor(value._sym_type):  # noqa: SLF001 - there is no public way
        return value
    return ctx.mb.squeeze(x=ctx.mb.expand_dims(x=value, axes=[0]), axes=[0])


def _like(ctx: Context, value: Var, carried: Var) -> Var:
    """What a round gives, in the rank that the loop carries: a single number may come as [1]."""
    return ctx.mb.reshape(x=value, shape=carried.shape) if ctx.rank(value) != ctx.rank(carried) else value


@lowering("Scan", since=9, error="move", sequences=True)
def scan(
    ctx: Context,
    *operands: Operand,
    body: ir.Graph,
    num_scan_inputs: int,
    scan_input_axes: Sequence[int] = (),
    scan_input_directions: Sequence[int] = (),
    scan_output_axes: Sequence[int] = (),
    scan_output_directions: Sequence[int] = (),
) -> list[Operand]:
    """A round for each position along the scanned axes; a direction of 1 goes backwards."""
    count = len(operands) - num_scan_inputs
    results = _scanned(ctx, _require_operands(ctx.raw), body, num_scan_inputs, scan_input_axes, scan_input_directions)
    outputs = len(results) - count
    turned = zip(
        results[count:], scan_output_axes or [0] * outputs, scan_output_directions or [0] * outputs, strict=True
    )
    return [*results[:count], *(_placed(ctx, rows, axis, back) for rows, axis, back in turned)]


@lowering("Scan", since=8, error="move")
def scan_8(
    ctx: Context,
    lengths: Operand | None,
    *operands: Operand,
    body: ir.Graph,
    num_scan_inputs: int,
    directions: Sequence[int] = (),
) -> list[Operand]:
    """The first form, in which the first axis of everything is the batch, and the second of what is scanned the steps."""
    if lengths is not None:
        raise ctx.refuse("sequence_lens", "sequences of one length")
    rows = []
    for number in range(ctx.shape(operands[0])[0]):
        # each sample by itself: opset 8 has a batch where opset 9 leaves that to whoever writes the body
        own = [picked(ctx, x, 0, number) for x in _require_operands(ctx.raw[1:])]
        rows.append(_scanned(ctx, own, body, num_scan_inputs, (), directions))
    return [stack(ctx, list(parts), 0) for parts in zip(*rows, strict=True)]


def _scanned(
    ctx: Context,
    operands: Sequence[Operand],
    body: ir.Graph,
    scans: int,
    axes: Sequence[int],
    directions: Sequence[int],
) -> list[Operand]:
    """The states at the end, and what the rounds give, stacked along a first axis."""
    states, scanned = operands[:-scans], operands[-scans:]
    along = [axis_of(a, ctx.rank(x)) for a, x in zip(axes or [0] * scans, scanned, strict=True)]
    backwards = directions or [0] * scans
    names = [v.name or "" for v in body.inputs]

    def round_of(number: Operand, _: Operand, carry: Sequence[Operand]) -> tuple[Operand, list[Operand]]:
        rows = [_row(ctx, x, number, a, b) for x, a, b in zip(scanned, along, backwards, strict=True)]
        return np.asarray(True), ctx.nested(body, dict(zip(names, (*carry, *rows), strict=True)))

    return rounds(ctx, round_of, (scanned[0], along[0]), states, _size(body) + scans)


def _length(ctx: Context, x: Operand, axis: int) -> Var:
    shape = ctx.mb.shape(x=x)
    return ctx.mb.slice_by_index(x=shape, begin=[axis], end=[axis + 1], squeeze_mask=[True])


def _row(ctx: Context, x: Operand, number: Operand, axis: int, backwards: int) -> Operand:
    """The slice of a round."""
    if not backwards:
        return at_round(ctx, x, number, axis)
    length = x.shape[axis]
    if isinstance(number, np.ndarray):
        return picked(ctx, x, axis, int(length) - 1 - int(number))
    last = np.int32(int(length) - 1) if is_known(length) else ctx.mb.sub(x=_length(ctx, x, axis), y=np.int32(1))
    return at_round(ctx, x, ctx.mb.sub(x=last, y=number), axis)


def at_round(ctx: Context, x: Operand, number: Operand, axis: int) -> Operand:
    """What stands at the round's place of an axis."""
    if isinstance(number, np.ndarray):
        return picked(ctx, x, axis, int(number))
    value = _variable(ctx, x)
    if not ctx.is_network:
        return ctx.mb.gather(x=value, indices=number, axis=axis)
    # whose gather keeps the axis of a single place
    one = ctx.mb.gather(x=value, indices=ctx.mb.expand_dims(x=number, axes=[0]), axis=axis)
    return ctx.mb.squeeze(x=one, axes=[axis])


def _placed(ctx: Context, rows: Operand, axis: int, backwards: int) -> Operand:
    """Stacked rows, of which the first axis becomes ``axis``."""
    axis = axis_of(axis, ctx.rank(rows))
    # rounds are stacked first; np.moveaxis(0, axis) as a permutation
    order = [*range(1, axis + 1), 0, *range(axis + 1, ctx.rank(rows))]
    if isinstance(rows, np.ndarray):
        return np.transpose(rows[::-1] if backwards else rows, order)
    if backwards:
        rows = ctx.mb.reverse(x=rows, axes=[0])
    return ctx.mb.transpose(x=rows, perm=order) if axis else rows
