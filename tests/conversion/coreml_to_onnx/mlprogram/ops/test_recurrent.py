"""Recurrent operations against loops over the steps, as Apple's documentation of their gates has it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from scipy.special import expit

from tests.conversion.coreml_to_onnx.mlprogram.family import Family, Trial
from tests.drawn import normal

family = Family("recurrent")
Array = np.ndarray
FUNCTIONS: dict[str, Callable[[Array], Array]] = {
    "sigmoid": expit, "tanh": np.tanh, "scaled_tanh": np.tanh, "relu": lambda x: np.maximum(x, 0), "linear": lambda x: x,
    "hard_sigmoid": lambda x: np.clip(0.2 * x + 0.5, 0, 1), "sigmoid_hard": lambda x: np.clip(0.2 * x + 0.5, 0, 1),
}  # fmt: skip
STEPS, BATCH, INPUTS, HIDDEN = 4, 2, 3, 5


def given(gates: int, **more: Any) -> dict[str, Any]:
    """Operands of a layer with so many gates."""
    weights = {"weight_ih": normal(gates * HIDDEN, INPUTS), "weight_hh": normal(gates * HIDDEN, HIDDEN) / 2}
    return {"x": normal(STEPS, BATCH, INPUTS), "initial_h": normal(BATCH, HIDDEN), **weights, **more}


def run(
    x: Array, states: list[Array], step: Callable[..., list[Array]], direction: str, whole: bool
) -> tuple[Array, ...]:
    """``step`` takes the input and the states, h first, and gives them anew; what is read backwards is told in that order too."""
    seen = []
    for now in x if direction == "forward" else x[::-1]:
        states = step(now, *states)
        seen.append(states[0])
    return np.stack(seen if whole else seen[-1:]), *states


@family.defines(
    "rnn", "x initial_h",
    [
        given(1), given(1, bias=normal(HIDDEN), output_sequence=True), given(1, direction="reverse", output_sequence=True),
        *(given(1, activation=name) for name in ("relu", "sigmoid", "sigmoid_hard", "scaled_tanh", "linear")),
    ],
    within=1e-5,
)  # fmt: skip
def rnn(
    x: Array, initial_h: Array, weight_ih: Array, weight_hh: Array, bias: Array | int = 0, direction: str = "forward",
    output_sequence: bool = False, activation: str = "tanh",
) -> tuple[Array, ...]:  # fmt: skip
    def step(now: Array, h: Array) -> list[Array]:
        return [FUNCTIONS[activation](now @ weight_ih.T + h @ weight_hh.T + bias)]

    return run(x, [initial_h], step, direction, output_sequence)


GRUS = [
    given(3), given(3, bias=normal(3 * HIDDEN), output_sequence=True), given(3, direction="reverse", output_sequence=True),
    given(3, recurrent_activation="hard_sigmoid", activation="relu"),
]  # fmt: skip


@family.defines("gru", "x initial_h", GRUS, within=1e-5)
@family.defines(
    "gru", "x initial_h",
    [*GRUS, given(3, reset_after=True, bias=normal(3 * HIDDEN), input_bias=normal(3 * HIDDEN)),
      given(3, input_bias=normal(3 * HIDDEN))],
    within=1e-5, target="iOS18",
)  # fmt: skip
def gru(
    x: Array, initial_h: Array, weight_ih: Array, weight_hh: Array, bias: Array | None = None, input_bias: Array | None = None,
    direction: str = "forward", output_sequence: bool = False, recurrent_activation: str = "sigmoid", activation: str = "tanh",
    reset_after: bool = False,
) -> tuple[Array, ...]:  # fmt: skip
    """Gates stand as reset, output, update."""
    none = np.zeros(3 * HIDDEN)
    in_r, in_o, in_z = np.split(none if input_bias is None else input_bias, 3)
    b_r, b_o, b_z = np.split(none if bias is None else bias, 3)
    (w_r, w_o, w_z), (r_r, r_o, r_z) = np.split(weight_ih, 3), np.split(weight_hh, 3)
    gate, act = FUNCTIONS[recurrent_activation], FUNCTIONS[activation]

    def step(now: Array, h: Array) -> list[Array]:
        r = gate(now @ w_r.T + in_r + h @ r_r.T + b_r)
        z = gate(now @ w_z.T + in_z + h @ r_z.T + b_z)
        from_h = r * (h @ r_o.T + b_o) if reset_after else (r * h) @ r_o.T + b_o
        return [(1 - z) * act(now @ w_o.T + in_o + from_h) + z * h]

    return run(x, [initial_h], step, direction, output_sequence)


def cell(**more: Any) -> dict[str, Any]:
    return given(4, initial_c=normal(BATCH, HIDDEN), **more)


def both_ways(**more: Any) -> dict[str, Any]:
    states = {"initial_h": normal(BATCH, 2 * HIDDEN), "initial_c": normal(BATCH, 2 * HIDDEN)}
    back = {"weight_ih_back": normal(4 * HIDDEN, INPUTS), "weight_hh_back": normal(4 * HIDDEN, HIDDEN) / 2}
    return given(4) | states | back | {"direction": "bidirectional", **more}


@family.defines(
    "lstm", "x initial_h initial_c",
    [
        cell(), cell(bias=normal(4 * HIDDEN), peephole=normal(3 * HIDDEN), output_sequence=True),
        cell(direction="reverse", output_sequence=True),
        cell(recurrent_activation="hard_sigmoid", cell_activation="scaled_tanh", activation="linear"),
        cell(recurrent_activation="tanh", cell_activation="relu", activation="sigmoid"), both_ways(),
        both_ways(output_sequence=True),
        both_ways(bias=normal(4 * HIDDEN), bias_back=normal(4 * HIDDEN), peephole=normal(3 * HIDDEN),
          peephole_back=normal(3 * HIDDEN)),
        both_ways(bias_back=normal(4 * HIDDEN)),
        # limits that the cells reach
        cell(clip=np.float32(0.2)),
        cell(clip=np.float32(0.1), output_sequence=True, direction="reverse", bias=normal(4 * HIDDEN)),
        cell(clip=np.float32(0.3), peephole=normal(3 * HIDDEN), recurrent_activation="hard_sigmoid",
          cell_activation="relu", activation="linear"),
        cell(clip=np.float32(50)), both_ways(clip=np.float32(0.2), output_sequence=True, peephole_back=normal(3 * HIDDEN)),
    ],
    within=1e-5,
)  # fmt: skip
def lstm(
    x: Array, initial_h: Array, initial_c: Array, weight_ih: Array, weight_hh: Array, bias: Array | None = None,
    peephole: Array | None = None, weight_ih_back: Array | None = None, weight_hh_back: Array | None = None,
    bias_back: Array | None = None, peephole_back: Array | None = None, direction: str = "forward", **settings: Any,
) -> tuple[Array, ...]:  # fmt: skip
    if direction != "bidirectional":
        return one_way(x, initial_h, initial_c, weight_ih, weight_hh, bias, peephole, direction, **settings)
    (h, h_back), (c, c_back) = (np.split(s, 2, axis=1) for s in (initial_h, initial_c))
    ahead = one_way(x, h, c, weight_ih, weight_hh, bias, peephole, "forward", **settings)
    back = one_way(x, h_back, c_back, weight_ih_back, weight_hh_back, bias_back, peephole_back, "reverse", **settings)
    # side by side stands what belongs to the same step
    back = (back[0][::-1], *back[1:])
    return tuple(np.concatenate(pair, axis=-1) for pair in zip(ahead, back, strict=True))


def one_way(
    x: Array, h: Array, c: Array, weight: Any, recursion: Any, bias: Array | None, peephole: Array | None, direction: str,
    output_sequence: bool = False, recurrent_activation: str = "sigmoid", cell_activation: str = "tanh", activation: str = "tanh",
    clip: float = np.inf,
) -> tuple[Array, ...]:  # fmt: skip
    """Gates stand as input, forget, output, cell."""
    p_i, p_f, p_o = np.zeros((3, HIDDEN)) if peephole is None else np.split(peephole, 3)
    gate, inner, outer = (FUNCTIONS[name] for name in (recurrent_activation, cell_activation, activation))

    def step(now: Array, h: Array, c: Array) -> list[Array]:
        i, f, o, z = np.split(now @ weight.T + h @ recursion.T + (0 if bias is None else bias), 4, axis=1)
        c_new = np.clip(gate(f + p_f * c) * c + gate(i + p_i * c) * inner(z), -clip, clip)
        return [gate(o + p_o * c_new) * outer(c_new), c_new]

    return run(x, [h, c], step, direction, output_sequence)


@family.each
def test_each_follows_its_gates_step_by_step(trial: Trial, tmp_path: Path) -> None:
    trial.hold(tmp_path)
