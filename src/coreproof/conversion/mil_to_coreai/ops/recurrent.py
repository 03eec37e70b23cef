"""MIL's recurrent operations in Core AI's, which has none: the steps of a sequence as turns of a loop."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np

from coreproof.conversion.mil_to_coreai.loops import repeated
from coreproof.conversion.mil_to_coreai.ops.linear import swapped
from coreproof.conversion.mil_to_coreai.translation import Operand, Tensor, Translation, si, translates

Step = Callable[[Translation, Tensor, Sequence[Tensor]], list[Tensor]]
"""(block, what the input gives to this step [b, gates * H], the states before) -> the states behind, the output first."""


def _activated(t: Translation, name: str, x: Operand) -> Tensor:
    if name in ("sigmoid", "tanh", "relu"):
        return t.unary(name, x)
    if name == "scaled_tanh":
        return t.unary("tanh", x)
    if name in ("hard_sigmoid", "sigmoid_hard"):
        line = t.binary("add", t.binary("mul", x, 0.2), 0.5)
        return t.binary("minimum", t.binary("maximum", line, 0.0), 1.0)
    if name != "linear":
        raise t.refuse("this activation is not known", found=name)
    return t.value(x)


def _parts(t: Translation, x: Tensor, count: int) -> list[Tensor]:
    """The gates, side by side along the last axis."""
    *front, last = t.fixed(x.shape)
    width = last // count
    starts = [0] * len(front)
    return [t.slice(x, [*starts, i * width], [*front, (i + 1) * width]) for i in range(count)]


def _run(
    t: Translation, x: Operand, weight: Operand, bias: Operand, states: Sequence[Tensor], step: Step, *, backwards: bool
) -> tuple[Tensor, list[Tensor]]:
    """[s, b, H] of all steps, each at the place of its input, and the states behind the last one."""
    given = t.matmul(t.value(x), t.value(swapped(t, t.value(weight, "f32"))))
    if bias is not None:
        given = t.binary("add", given, bias)
    steps, batch, width = t.fixed(given.shape, "it needs a sequence of known shape")
    hidden = states[0].shape[1]

    def at(block: Translation, place: Tensor) -> Tensor:
        picked = block.op("gather_nd", given, block.reshape(place, [1]), shape=[batch, width])
        return picked

    if steps == 1:
        behind = step(t, t.reshape(given, [batch, width]), states)
        return t.expand_dims(behind[0], [0]), behind
    # row by row, in the order in which they are made: a loop hands on what it changes
    rows = t.broadcast_to(t.like(0, given), [steps, batch, hidden or 0])
    first = t.value(si(steps - 1 if backwards else 0))

    def turn(block: Translation, held: Sequence[Tensor]) -> list[Tensor]:
        place, made, *before = held
        behind = step(block, at(block, place), before)
        start = block.concat([block.reshape(place, [1]), si([0, 0])], 0)
        end = block.binary("add", start, si([1, batch, hidden or 0]))
        put = block.op(
            "slice_update", made, start, end, si([1, 1, 1]), block.expand_dims(behind[0], [0]), shape=made.shape
        )
        return [block.binary("add", place, si(-1 if backwards else 1)), put, *behind]

    def goes_on(block: Translation, held: Sequence[Tensor]) -> Tensor:
        return (
            block.binary("greater", held[0], -1, "i1") if backwards else block.binary("greater", steps, held[0], "i1")
        )

    _, made, *behind = repeated(t, [first, rows, *states], goes_on, turn)
    return made, behind


def _sequence(t: Translation, made: Tensor, behind: Tensor, direction: str, *, whole: bool) -> Tensor:
    """All steps, or the last one alone. What reads its sequence backwards tells them in the order in which it made them."""
    if not whole:
        return t.expand_dims(behind, [0])
    return t.op("reverse", made, si([0]), shape=made.shape) if direction == "reverse" else made


@translates("rnn", in_float32=True)
def rnn(
    t: Translation,
    *,
    x: Operand,
    initial_h: Operand,
    weight_ih: Operand,
    weight_hh: Operand,
    bias: Operand = None,
    direction: str = "forward",
    output_sequence: bool = False,
    activation: str = "tanh",
) -> list[Tensor]:
    turned = swapped(t, t.value(weight_hh))

    def step(block: Translation, now: Tensor, before: Sequence[Tensor]) -> list[Tensor]:
        return [_activated(block, activation, block.binary("add", now, block.matmul(before[0], turned)))]

    made, (h,) = _run(t, x, weight_ih, bias, [t.value(initial_h)], step, backwards=direction == "reverse")
    return [_sequence(t, made, h, direction, whole=output_sequence), h]


@translates("gru", in_float32=True)
def gru(
    t: Translation,
    *,
    x: Operand,
    initial_h: Operand,
    weight_ih: Operand,
    weight_hh: Operand,
    bias: Operand = None,
    input_bias: Operand = None,
    direction: str = "forward",
    output_sequence: bool = False,
    recurrent_activation: str = "sigmoid",
    activation: str = "tanh",
    reset_after: bool = False,
) -> list[Tensor]:
    """The gates stand as reset, output, update; ``bias`` belongs to the state, ``input_bias`` to the input."""
    turned = swapped(t, t.value(weight_hh))
    (hidden,) = t.fixed(turned.shape[:1])
    own = np.zeros(3 * hidden, np.float32) if bias is None else t.constant(bias, "bias").astype(np.float32)
    reset_w, out_w, update_w = _parts(t, turned, 3)
    reset_b, out_b, update_b = np.split(own, 3)

    def step(block: Translation, now: Tensor, before: Sequence[Tensor]) -> list[Tensor]:
        (h,) = before
        now_r, now_o, now_z = _parts(block, now, 3)
        gate = partial(_activated, block, recurrent_activation)

        def of_state(value: Tensor, weight: Tensor, shift: np.ndarray) -> Tensor:
            return block.binary("add", block.matmul(value, weight), shift)

        r = gate(block.binary("add", now_r, of_state(h, reset_w, reset_b)))
        z = gate(block.binary("add", now_z, of_state(h, update_w, update_b)))
        if reset_after:
            share = block.binary("mul", r, of_state(h, out_w, out_b))
        else:
            share = of_state(block.binary("mul", r, h), out_w, out_b)
        new = _activated(block, activation, block.binary("add", now_o, share))
        kept = block.binary("mul", z, h)
        return [block.binary("add", block.binary("mul", block.binary("sub", 1.0, z), new), kept)]

    made, (h,) = _run(t, x, weight_ih, input_bias, [t.value(initial_h)], step, backwards=direction == "reverse")
    return [_sequence(t, made, h, direction, whole=output_sequence), h]


@translates("lstm", in_float32=True)
def lstm(
    t: Translation,
    *,
    x: Operand,
    initial_h: Operand,
    initial_c: Operand,
    weight_ih: Operand,
    weight_hh: Operand,
    bias: Operand = None,
    peephole: Operand = None,
    weight_ih_back: Operand = None,
    weight_hh_back: Operand = None,
    bias_back: Operand = None,
    peephole_back: Operand = None,
    direction: str = "forward",
    output_sequence: bool = False,
    recurrent_activation: str = "sigmoid",
    cell_activation: str = "tanh",
    activation: str = "tanh",
    clip: Operand = None,
) -> list[Tensor]:
    """The gates stand as input, forget, output, cell; the states of two directions side by side."""
    names = (recurrent_activation, cell_activation, activation)
    ways = [(weight_ih, weight_hh, bias, peephole, direction == "reverse")]
    h, c = t.value(initial_h), t.value(initial_c)
    starts = [(h, c)]
    if direction == "bidirectional":
        ways.append((weight_ih_back, weight_hh_back, bias_back, peephole_back, True))
        starts = list(zip(_parts(t, h, 2), _parts(t, c, 2), strict=True))
    sequences, last = [], []
    for (into, recurrent, shift, look, backwards), (first_h, first_c) in zip(ways, starts, strict=True):
        step = _lstm_step(t, recurrent, look, names, clip)
        made, behind = _run(t, x, into, shift, [first_h, first_c], step, backwards=backwards)
        sequences.append(made)
        last.append(behind)
    h, c = (t.concat([way[i] for way in last], 1) for i in (0, 1))
    return [_sequence(t, t.concat(sequences, 2), h, direction, whole=output_sequence), h, c]


def _lstm_step(t: Translation, weight: Operand, peephole: Operand, names: tuple[str, str, str], clip: Operand) -> Step:
    turned = swapped(t, t.value(weight))
    looks: Sequence[np.ndarray | None] = [None] * 3
    if peephole is not None:
        looks = np.split(t.constant(peephole, "peephole").astype(np.float32), 3)

    def step(block: Translation, now: Tensor, before: Sequence[Tensor]) -> list[Tensor]:
        h, c = before
        sums = _parts(block, block.binary("add", now, block.matmul(h, turned)), 4)

        def gate(i: int, cell: Tensor) -> Tensor:
            look = looks[i]
            total = sums[i] if look is None else block.binary("add", sums[i], block.binary("mul", cell, look))
            return _activated(block, names[0], total)

        let_in = block.binary("mul", gate(0, c), _activated(block, names[1], sums[3]))
        cell = block.binary("add", block.binary("mul", gate(1, c), c), let_in)
        if clip is not None:
            limit = float(np.ravel(t.constant(clip, "clip"))[0])
            cell = block.binary("minimum", block.binary("maximum", cell, -limit), limit)
        return [block.binary("mul", gate(2, cell), _activated(block, names[2], cell)), cell]

    return step
