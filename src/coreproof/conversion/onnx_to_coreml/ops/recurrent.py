"""RNN, GRU and LSTM: Core ML's own operations where they mean the same, else the standard's equations step by step."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from coreproof.conversion.onnx_to_coreml.lowering import Array, Context, lowering
from coreproof.conversion.onnx_to_coreml.mil import Operand, Var, several
from coreproof.conversion.onnx_to_coreml.ops.control_flow import at_round, rounds, stack
from coreproof.conversion.onnx_to_coreml.ops.dtypes import cast, float_name, is_known
from coreproof.conversion.onnx_to_coreml.ops.elementwise import softplus
from coreproof.conversion.onnx_to_coreml.ops.indexing import picked

_GATES = {"RNN": 1, "GRU": 3, "LSTM": 4}
_DEFAULTS = {"RNN": ("Tanh",), "GRU": ("Sigmoid", "Tanh"), "LSTM": ("Sigmoid", "Tanh", "Tanh")}
_ORDER = {"RNN": (0,), "GRU": (1, 2, 0), "LSTM": (0, 2, 1, 3)}
"""Gates in MIL's order, by their place in ONNX's: z r h -> r h z; i o f c -> i f o c."""
PARAMETERS: Mapping[str, tuple[float | None, float | None]] = {
    "Affine": (1.0, 0.0),
    "LeakyRelu": (0.01, None),
    "ThresholdedRelu": (1.0, None),
    "ScaledTanh": (1.0, 1.0),
    "HardSigmoid": (0.2, 0.5),
    "Elu": (1.0, None),
}
"""Activations that have an alpha and a beta, and what these are where the model says nothing (ONNX, operator RNN)."""


@dataclass(frozen=True)
class Activation:
    """A function of a gate, with the two numbers that some of them have."""

    name: str
    alpha: float
    beta: float

    def apply(self, ctx: Context, x: Operand) -> Operand:
        """The function itself, as the standard writes it."""
        mb, alpha, beta = ctx.mb, ctx.scalar(self.alpha), ctx.scalar(self.beta)
        forms: dict[str, Callable[[], Operand]] = {
            "relu": lambda: mb.relu(x=x),
            "tanh": lambda: mb.tanh(x=x),
            "sigmoid": lambda: mb.sigmoid(x=x),
            "affine": lambda: mb.add(x=mb.mul(x=x, y=alpha), y=beta),
            "leakyrelu": lambda: mb.leaky_relu(x=x, alpha=alpha),
            "thresholdedrelu": lambda: mb.select(cond=mb.greater(x=x, y=alpha), a=x, b=ctx.scalar(0)),
            "scaledtanh": lambda: mb.mul(x=mb.tanh(x=mb.mul(x=x, y=beta)), y=alpha),
            "hardsigmoid": lambda: mb.sigmoid_hard(x=x, alpha=alpha, beta=beta),
            "elu": lambda: mb.elu(x=x, alpha=alpha),
            "softsign": lambda: mb.softsign(x=x),
            "softplus": lambda: softplus(ctx, x),
        }
        if self.name.lower() not in forms:
            raise ctx.refuse(f"the activation {self.name!r}", f"one of {', '.join(sorted(forms))}")
        return forms[self.name.lower()]()


@dataclass(frozen=True)
class _Cell:
    """One direction: weights [gates * H, I] and [gates * H, H], biases [gates * H], in ONNX's order of gates."""

    kind: str
    weights: Operand
    state_weights: Operand
    bias: Operand | None
    state_bias: Operand | None
    peepholes: Operand | None
    activations: Sequence[Activation]
    hidden: int
    clip: float | None = None
    reset_after: bool = False
    coupled: bool = False
    known: bool = True
    """Whether all weights are constants, as Core ML's own operations need them."""

    def is_own(self, target: int) -> bool:
        """Whether Core ML has an operation for it. Its limit on the cell (``clip``) is another than ONNX's on the gates."""
        usual = all(a.name.lower() in ("tanh", "sigmoid", "relu") for a in self.activations)
        # reset_after came with iOS 18
        if self.kind == "GRU" and self.reset_after and target < 18:
            return False
        return self.known and usual and self.clip is None and not self.coupled


@lowering("RNN", "GRU", "LSTM", error="linear")
def recurrent(
    ctx: Context,
    x: Operand,
    w: Operand,
    r: Operand,
    *inputs: Operand | None,
    activation_alpha: Sequence[float] = (),
    activation_beta: Sequence[float] = (),
    activations: Sequence[str] = (),
    clip: float | None = None,
    direction: str = "forward",
    hidden_size: int = 0,
    input_forget: int = 0,
    layout: int = 0,
    linear_before_reset: int = 0,
    output_sequence: int = 0,
) -> list[Operand]:
    """Y [s, d, b, H] (with layout 1 [b, s, d, H]), Y_h [d, b, H], and of an LSTM Y_c; d: the directions."""
    mb, kind = ctx.mb, ctx.node.op_type
    optional: list[Operand | None] = list(inputs)
    optional += [None] * (5 - len(optional))
    bias, lengths, initial_h, initial_c, peepholes = optional
    batch_first = bool(layout)
    ways = ["forward", "reverse"] if direction.lower() == "bidirectional" else [direction.lower()]
    functions = _activations(ctx, activations, activation_alpha, activation_beta, len(ways))
    states: list[Operand | None] = [initial_h, initial_c if kind == "LSTM" else None]
    if batch_first:
        x = mb.transpose(x=x, perm=[1, 0, 2])
        states = [None if s is None else mb.transpose(x=s, perm=[1, 0, 2]) for s in states]
    # every sequence is as long as the input: nothing is padded
    if lengths is not None and isinstance(lengths, np.ndarray) and (lengths == x.shape[0]).all():
        lengths = None
    hidden = int(r.shape[-1])
    biases = [_biases(ctx, bias, d, _GATES[kind] * hidden) for d in range(len(ways))]
    cells = [
        _Cell(
            kind,
            picked(ctx, w, 0, d),
            picked(ctx, r, 0, d),
            *biases[d],
            None if kind != "LSTM" or peepholes is None else picked(ctx, peepholes, 0, d),
            functions[d],
            hidden,
            clip,
            bool(linear_before_reset),
            bool(input_forget),
            all(v is None or isinstance(v, np.ndarray) for v in (w, r, bias, peepholes)),
        )
        for d in range(len(ways))
    ]
    made = []
    for d, (way, cell) in enumerate(zip(ways, cells, strict=True)):
        start = [_start(ctx, s, d, x, hidden) for s in states[: 2 if kind == "LSTM" else 1]]
        # where nobody reads Y, Core ML need not keep the states of all steps
        whole = len(ctx.node.outputs) > 0 and bool(ctx.node.outputs[0].name)
        if lengths is None and cell.is_own(ctx.target):
            made.append(_native_layer(ctx, cell, x, start, way, whole))
        else:
            made.append(_stepwise(ctx, cell, x, start, way, lengths))
    return [_joined(ctx, [m[i] for m in made], batch_first, i == 0) for i in range(len(made[0]))]


def _biases(ctx: Context, bias: Operand | None, direction: int, count: int) -> tuple[Operand | None, Operand | None]:
    """The input's and the state's half of a bias [d, 2 * gates * H]."""
    if bias is None:
        return None, None
    own = picked(ctx, bias, 0, direction)
    if isinstance(own, np.ndarray):
        return own[:count], own[count:]
    parts = several(ctx.mb.split(x=own, num_splits=2, axis=0))
    return parts[0], parts[1]


def _activations(
    ctx: Context, names: Sequence[str], alphas: Sequence[float], betas: Sequence[float], directions: int
) -> list[list[Activation]]:
    """Those of each direction. Alphas and betas are listed for the activations that have one, in their order."""
    usual = _DEFAULTS[ctx.node.op_type]
    given = [list(alphas), list(betas)]
    found = []
    # names are compared without regard to case, as ONNX Runtime does
    for name in names or usual * directions:
        known = next((p for n, p in PARAMETERS.items() if n.lower() == name.lower()), (None, None))
        alpha, beta = (
            (values.pop(0) if values else default) if default is not None else 0.0
            for values, default in zip(given, known, strict=True)
        )
        found.append(Activation(name, float(alpha), float(beta)))
    each = len(usual)
    if len(found) != each * directions:
        raise ctx.refuse(f"{len(found)} activations", f"{each} for each of {directions} direction(s)")
    return [found[each * d : each * (d + 1)] for d in range(directions)]


def _start(ctx: Context, state: Operand | None, direction: int, x: Operand, hidden: int) -> Var:
    """[b, H]: as given, or zeros."""
    if state is not None:
        place = picked(ctx, state, 0, direction)
        return ctx.mb.const(val=place) if isinstance(place, np.ndarray) else place
    if is_known(x.shape[1]):
        return ctx.mb.const(val=np.zeros((int(x.shape[1]), hidden), ctx.dtype))
    batch = ctx.mb.slice_by_index(x=ctx.mb.shape(x=x), begin=[1], end=[2])
    shape = ctx.mb.concat(values=[batch, np.array([hidden], np.int32)], axis=0)
    return ctx.mb.fill(shape=shape, value=ctx.scalar(0))


# Core ML's operations


def _native_layer(
    ctx: Context, cell: _Cell, x: Operand, start: Sequence[Operand], way: str, whole: bool
) -> list[Operand]:
    """Y [s, b, H], Y_h [b, H] and of an LSTM Y_c. They compute in float32 before iOS 17."""
    wide = ctx.dtype == np.float16 and ctx.target < 17
    dtype = np.float32 if wide else ctx.dtype
    name = "fp32" if wide else float_name(ctx)
    gates, order = _GATES[cell.kind], _ORDER[cell.kind]

    def turned(value: Operand | None, count: int, places: Sequence[int]) -> Array | None:
        if value is None:
            return None
        # gate by gate, from ONNX's order into MIL's
        parts = np.split(ctx.constant(value, "weight"), count)
        return np.ascontiguousarray(np.concatenate([parts[p] for p in places])).astype(dtype)

    # ONNX has a bias for the input and one for the state; MIL has their sum
    biases = {"bias": turned(_sum(cell.bias, cell.state_bias), gates, order)}
    if cell.reset_after:  # the two biases stand on either side of the reset gate
        biases = {"bias": turned(cell.state_bias, gates, order), "input_bias": turned(cell.bias, gates, order)}
    weights = {
        "weight_ih": turned(cell.weights, gates, order),
        "weight_hh": turned(cell.state_weights, gates, order),
        **biases,
        # ONNX lists input, output, forget; MIL input, forget, output
        "peephole": turned(cell.peepholes, 3, (0, 2, 1)),
    }
    names = [a.name.lower() for a in cell.activations]
    kinds = {
        "RNN": ("activation",),
        "GRU": ("recurrent_activation", "activation"),
        "LSTM": ("recurrent_activation", "cell_activation", "activation"),
    }[cell.kind]
    states: list[Operand] = [cast(ctx, s, name) if not wide else ctx.mb.cast(x=s, dtype="fp32") for s in start]
    if ctx.is_network:
        # whose layers around a recurrent one are named after what it reads: each reads copies of its own
        x, states = ctx.mb.identity(x=x), [ctx.mb.identity(x=s) for s in states]
    made = several(
        getattr(ctx.mb, cell.kind.lower())(
            x=ctx.mb.cast(x=x, dtype="fp32") if wide else x,
            **dict(zip(("initial_h", "initial_c"), states, strict=False)),
            **{k: v for k, v in weights.items() if v is not None},
            **dict(zip(kinds, names, strict=True)),
            **({"reset_after": True} if cell.reset_after else {}),
            direction=way,
            output_sequence=whole,
        )
    )
    if way == "reverse" and whole:
        # Core ML gives the outputs in the order in which it makes them, ONNX each at the place of its input
        made[0] = ctx.mb.reverse(x=made[0], axes=[0])
    return [ctx.mb.cast(x=m, dtype=float_name(ctx)) if wide else m for m in made]


def _sum(first: Operand | None, second: Operand | None) -> Operand | None:
    if first is None or second is None:
        return first if second is None else second
    total: np.ndarray = np.asarray(first) + np.asarray(second)
    return total


# step by step


def _stepwise(
    ctx: Context, cell: _Cell, x: Operand, start: Sequence[Operand], way: str, lengths: Operand | None
) -> list[Operand]:
    """The same by the standard's equations; beyond its length a sequence keeps its state and gives zeros."""
    mb = ctx.mb
    variable = mb.const(val=x) if isinstance(x, np.ndarray) else x
    numbers = None if lengths is None else cast(ctx, lengths, "int32")
    if way == "reverse":
        variable = _turned(ctx, variable, numbers)
    # the input's share of all gates, for all steps at once
    share: Operand = mb.matmul(x=variable, y=cell.weights, transpose_y=True)
    # a GRU's second bias stays apart: the reset gate may come between the product and it
    biases = [b for b in (cell.bias, None if cell.kind == "GRU" else cell.state_bias) if b is not None]
    for bias in biases:
        share = mb.add(x=share, y=bias)
    step = {"RNN": _rnn_step, "GRU": _gru_step, "LSTM": _lstm_step}[cell.kind]

    def round_of(number: Operand, _: Operand, carry: Sequence[Operand]) -> tuple[Operand, list[Operand]]:
        made = step(ctx, cell, at_round(ctx, share, number, 0), carry)
        if numbers is None:
            return np.asarray(True), [*made, made[0]]
        # [b, 1]: whether this step still belongs to the sequence
        inside = mb.expand_dims(x=mb.less(x=_index(number), y=numbers), axes=[1])
        kept = [mb.select(cond=inside, a=m, b=c) for m, c in zip(made, carry, strict=True)]
        return np.asarray(True), [*kept, mb.select(cond=inside, a=made[0], b=ctx.scalar(0))]

    *states, sequence = rounds(ctx, round_of, (variable, 0), start, 12)
    if way == "reverse":
        sequence = _turned(ctx, sequence, numbers)
    return [sequence, *states]


def _index(number: Operand) -> Var | np.int32:
    return np.int32(number) if isinstance(number, np.ndarray) else number


def _turned(ctx: Context, x: Operand, lengths: Operand | None) -> Var:
    """[s, b, ...] backwards, each sequence within its own length."""
    if lengths is None:
        return ctx.mb.reverse(x=x, axes=[0])
    return ctx.mb.reverse_sequence(x=x, lengths=lengths, seq_axis=0, batch_axis=1)


def _limited(ctx: Context, cell: _Cell, x: Operand) -> Operand:
    """What goes into an activation, within the clip."""
    return x if cell.clip is None else ctx.mb.clip(x=x, alpha=ctx.scalar(-cell.clip), beta=ctx.scalar(cell.clip))


def _times(ctx: Context, h: Operand, weights: Operand) -> Operand:
    return ctx.mb.matmul(x=h, y=weights, transpose_y=True)


def _rnn_step(ctx: Context, cell: _Cell, share: Operand, carry: Sequence[Operand]) -> list[Operand]:
    mb = ctx.mb
    total = mb.add(x=share, y=_times(ctx, carry[0], cell.state_weights))
    return [cell.activations[0].apply(ctx, _limited(ctx, cell, total))]


def _gru_step(ctx: Context, cell: _Cell, share: Operand, carry: Sequence[Operand]) -> list[Operand]:
    """H = (1 - z) * h~ + z * H; the reset gate before or after the product of the state."""
    mb, hidden = ctx.mb, cell.hidden
    h = carry[0]
    f, g = cell.activations
    zs, rs, hs = several(mb.split(x=share, num_splits=3, axis=1))
    zw, rw, hw = _rows(ctx, cell.state_weights, hidden, 3)
    zb, rb, hb = (None,) * 3 if cell.state_bias is None else _rows(ctx, cell.state_bias, hidden, 3)

    def gate(own: Operand, weights: Operand, bias: Operand | None) -> Operand:
        total = mb.add(x=own, y=_times(ctx, h, weights))
        total = total if bias is None else mb.add(x=total, y=bias)
        return f.apply(ctx, _limited(ctx, cell, total))

    update, reset = gate(zs, zw, zb), gate(rs, rw, rb)
    if cell.reset_after:
        product = _times(ctx, h, hw)
        product = product if hb is None else mb.add(x=product, y=hb)
        inner: Operand = mb.mul(x=reset, y=product)
    else:
        inner = _times(ctx, mb.mul(x=reset, y=h), hw)
        inner = inner if hb is None else mb.add(x=inner, y=hb)
    proposed = g.apply(ctx, _limited(ctx, cell, mb.add(x=hs, y=inner)))
    # (1 - z) h~ + z h = h~ + z (h - h~): one product less
    return [mb.add(x=proposed, y=mb.mul(x=update, y=mb.sub(x=h, y=proposed)))]


def _rows(ctx: Context, weights: Operand, hidden: int, count: int) -> list[Operand]:
    if isinstance(weights, np.ndarray):
        return [np.ascontiguousarray(weights[i * hidden : (i + 1) * hidden]) for i in range(count)]
    return [*several(ctx.mb.split(x=weights, num_splits=count, axis=0))]


def _lstm_step(ctx: Context, cell: _Cell, share: Operand, carry: Sequence[Operand]) -> list[Operand]:
    """C = f * C + i * c~, H = o * h(C); peepholes look at C, the output's at the new one."""
    mb = ctx.mb
    h, c = carry
    f, g, last = cell.activations
    total = mb.add(x=share, y=_times(ctx, h, cell.state_weights))
    into, out, forget, proposed = several(mb.split(x=total, num_splits=4, axis=1))
    looks = [None] * 3 if cell.peepholes is None else _rows(ctx, cell.peepholes, cell.hidden, 3)

    def gate(x: Operand, look: Operand | None, at: Operand) -> Operand:
        seen = x if look is None else mb.add(x=x, y=mb.mul(x=look, y=at))
        return f.apply(ctx, _limited(ctx, cell, seen))

    i = gate(into, looks[0], c)
    # ONNX, LSTM, input_forget: the forget gate is 1 - i
    kept: Operand = mb.sub(x=ctx.scalar(1), y=i) if cell.coupled else gate(forget, looks[2], c)
    new = mb.add(x=mb.mul(x=kept, y=c), y=mb.mul(x=i, y=g.apply(ctx, _limited(ctx, cell, proposed))))
    # ONNX's peepholes stand in the order i, o, f
    o = gate(out, looks[1], new)
    return [mb.mul(x=o, y=last.apply(ctx, new)), new]


# results


def _joined(ctx: Context, parts: Sequence[Operand], batch_first: bool, is_sequence: bool) -> Operand:
    """[s, b, H] of each direction as Y, or [b, H] as Y_h and Y_c."""
    axis = 1 if is_sequence else 0
    both = stack(ctx, parts, axis) if len(parts) > 1 else ctx.mb.expand_dims(x=parts[0], axes=[axis])
    if not batch_first:
        return both
    return ctx.mb.transpose(x=both, perm=[2, 0, 1, 3] if is_sequence else [1, 0, 2])
