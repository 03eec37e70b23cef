"""Switches: an ML Program in which every operation computes in float16 or in float32, as an input says at run time.

One graph, made once, so answers every question of the kind "what if these operations alone stayed in float32?" with one run.
An operation whose switch is on reads its operands rounded to float16, constants included, and rounds what it makes; one whose
switch is off does neither. Whoever reads the value of a float32 operation in float16 rounds it himself, as the cast
between the two would::

    x ── conv ── relu ── y      becomes      x' = on[conv] ? half(x) : x           c = conv(x', on[conv] ? half(w) : w)
                                             c' = on[conv] | on[relu] ? half(c) : c        y = relu(c')
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeGuard

import numpy as np
import onnx_ir as ir

from coreproof.conversion.coreml_to_onnx.rounding import rounds
from coreproof.conversion.operators import MIL
from coreproof.model.numbers import FLOAT16_MAX, OVERFLOW, rms, to_float16

if TYPE_CHECKING:
    from coreproof.conversion.coreml_to_onnx.lowering import Lowering, Operand

SWITCHES = "coreproof/half"
"""The graph's extra input: one boolean an operation, in ``Switches.order``; true computes in float16."""

ROUNDS_TO_INFINITY = OVERFLOW["float16"]
"""Halfway between float16's largest and what would follow it, 32 further on: from here on it rounds to infinity."""
SMALLEST_NORMAL = 2.0**-14
SMALLEST_SUBNORMAL = 2.0**-24

_WORTH_KEEPING = 4096


@dataclass(frozen=True)
class Narrowed:
    """A constant of an operation as float16 takes it: how many of its numbers it cannot hold, and the error made.

    ``overflowing`` counts finite numbers beyond 65504, ``vanished`` numbers other than zero that become zero, ``subnormal``
    those below 6.1e-5, which some hardware takes for zero. ``error`` is a share of the constant's root mean square.
    """

    operation: str
    argument: str
    elements: int
    overflowing: int
    vanished: int
    subnormal: int
    largest: float
    smallest: float
    error: float


@dataclass(frozen=True)
class _Made:
    """A value in full, rounded, and the switch of the operation that made it (None: an input)."""

    exact: ir.Value
    half: ir.Value
    switch: ir.Value | None


class Switches:
    """Puts the switches in while a program is lowered, and notes what it saw.

    ``kept`` names operations whose constants stay as they are although the switch may be on; constants that the lowering has
    to know (an epsilon, a table) cannot be switched at run time. None: all of them. ``flushed`` takes float16 numbers
    below the smallest normal one for zero, as some hardware does. ``of`` is the width in which the program stores the
    operations that get a switch: "float32" asks what float16 would do, "float16" what float32 would mend. ``given`` are
    weights of a float16 program as they were before they were rounded, (operation, argument) -> weight: float32 takes
    those. ``known`` is filled with the narrowed large constants, and saves narrowing them again for another variant.
    """

    def __init__(
        self,
        kept: Collection[str] | None = (),
        *,
        flushed: bool = False,
        of: Literal["float32", "float16"] = "float32",
        given: Mapping[tuple[str, str], np.ndarray] | None = None,
        known: dict[object, tuple[np.ndarray, Narrowed]] | None = None,
    ) -> None:
        self.order: list[str] = []
        self.fixed: set[str] = set()
        self.narrowed: list[Narrowed] = []
        self._given = given or {}
        self._known = known if known is not None else {}
        self._kept = kept
        self._flushed = flushed
        self._of = of
        self._made: dict[ir.Value, _Made] = {}
        self._switch: dict[str, ir.Value] = {}
        self._input: ir.Value | None = None

    def declare(self, low: Lowering) -> None:
        """Adds the graph's extra input; its length is known when all operations are."""
        self._input = low.b.input(SWITCHES, np.bool_, ["operations"])

    def enter(self, low: Lowering, arguments: dict[str, Operand]) -> dict[str, Operand]:
        """The operands of the operation at hand, each as its switch says."""
        if not self._has_switch(low, arguments):
            return arguments
        switch = self._switch_of(low)
        return {key: self._operand(low, switch, key, operand) for key, operand in arguments.items()}

    def leave(self, low: Lowering, name: str, result: ir.Value) -> ir.Value:
        """What the operation hands on. The value before rounding is called ``NAME/exact``."""
        switch = self._switch.get(low.name)
        if switch is None or result.dtype != ir.DataType.FLOAT:
            low.shared.give_name(result, name)
            return result
        low.shared.give_name(result, f"{name}/exact")
        half = self._half(low, result)
        handed = low.op("Where", switch, half, result) if rounds(low.operation) else low.op("Identity", result)
        handed.shape = result.shape
        low.shared.give_name(handed, name)
        self._made[handed] = _Made(result, half, switch)
        return handed

    def _has_switch(self, low: Lowering, arguments: dict[str, Operand]) -> bool:
        if MIL.traits(low.operation).get("passes_on", False):
            return False
        made = any(o.dtype == self._of for o in low.outputs)
        return made and any(_is_float_value(o) for o in _flat(arguments.values()))

    def _switch_of(self, low: Lowering) -> ir.Value:
        if low.name not in self._switch:
            assert self._input is not None
            position = np.int64(len(self.order))
            self.order.append(low.name)
            # made in the function's own graph, where nested blocks see it too
            self._switch[low.name] = low.shared.root.op("Gather", self._input, np.asarray(position), axis=0)
        return self._switch[low.name]

    # operands

    def _operand(self, low: Lowering, switch: ir.Value, key: str, operand: Operand) -> Operand:
        if isinstance(operand, tuple | list) and any(_is_value(o) for o in operand):
            return type(operand)(self._operand(low, switch, key, o) for o in operand)
        if _is_value(operand):
            return self._read(low, switch, operand) if operand.dtype == ir.DataType.FLOAT else operand
        if key in MIL.traits(low.operation).get("wide", ()) or not _is_float_constant(operand):
            return operand
        return self._constant(low, switch, key, operand)

    def _read(self, low: Lowering, switch: ir.Value, value: ir.Value) -> ir.Value:
        made = self._made.get(value)
        if made is None:
            made = _Made(value, self._half(low, value), None)
            if low.parent is None:  # what a nested block makes cannot be read outside it
                self._made[value] = made
        on = switch if made.switch is None or made.switch is switch else low.op("Or", switch, made.switch)
        read: ir.Value = low.op("Where", on, made.half, made.exact)
        read.shape = value.shape
        return read

    def _half(self, low: Lowering, value: ir.Value) -> ir.Value:
        half: ir.Value = low.op("Cast", low.op("Cast", value, to=ir.DataType.FLOAT16), to=ir.DataType.FLOAT)
        if self._flushed:
            normal = low.op("GreaterOrEqual", low.op("Abs", half), np.float32(SMALLEST_NORMAL))
            # NaN is neither greater nor equal, and stays
            kept = low.op("Or", normal, low.op("IsNaN", half))
            half = low.op("Where", kept, half, np.float32(0))
        half.shape = value.shape
        return half

    def _constant(
        self, low: Lowering, switch: ir.Value, key: str, constant: np.ndarray | np.generic | float
    ) -> Operand:
        wide = np.asarray(constant)
        if wide.dtype == np.float16:
            wide = np.asarray(self._given.get((low.name, key), wide), np.float32).reshape(wide.shape)
        half, seen = self._narrow(low.name, key, wide)
        if seen.error == 0.0:
            return constant
        self.narrowed.append(seen)
        if MIL.traits(low.operation).get("weights_may_vary", False) and key != "epsilon":
            chosen: ir.Value = low.op("Where", switch, half, wide.astype(np.float32, copy=False))
            chosen.shape = ir.Shape(wide.shape)
            return chosen
        self.fixed.add(low.name)
        if self._kept is None or low.name in self._kept:
            return constant if np.asarray(constant).dtype == wide.dtype else wide if wide.ndim else np.float32(wide[()])
        return half if half.ndim else np.float32(half[()])

    def _narrow(self, operation: str, key: str, wide: np.ndarray) -> tuple[np.ndarray, Narrowed]:
        if wide.size < _WORTH_KEEPING:
            return narrow(wide, operation, key, flushed=self._flushed)
        # weights are mapped from one file, where they lie at the same place for every variant
        place = (operation, key, wide.__array_interface__["data"][0], wide.shape, self._flushed)
        if place not in self._known:
            self._known[place] = narrow(wide, operation, key, flushed=self._flushed)
        return self._known[place]


def narrow(wide: np.ndarray, operation: str, key: str, *, flushed: bool) -> tuple[np.ndarray, Narrowed]:
    """``wide`` in float16 as the converter stores it, and what that loses.

    Finite numbers beyond the largest become the largest; an epsilon is not rounded to zero.
    """
    values = wide.astype(np.float32, copy=False)
    size = np.abs(values)
    half = to_float16(values)
    overflowing = (np.abs(half) == FLOAT16_MAX) & (size >= ROUNDS_TO_INFINITY) & np.isfinite(values)
    vanished = (half == 0) & (values != 0)
    if key == "epsilon":
        half = np.where(vanished, np.float16(SMALLEST_SUBNORMAL), half).astype(np.float16)
    subnormal = (size < SMALLEST_NORMAL) & (values != 0)
    if flushed:
        half = np.where(subnormal, np.float16(0), half).astype(np.float16)
    finite = np.isfinite(values)
    scale = rms(values[finite].astype(np.float64))
    off = np.subtract(half, values, dtype=np.float64, where=finite, out=np.zeros(values.shape))
    error = rms(off) / scale if scale > 0 else 0.0
    nonzero = size[(values != 0) & finite]
    return half.astype(np.float16), Narrowed(
        operation=operation,
        argument=key,
        elements=int(values.size),
        overflowing=int(overflowing.sum()),
        vanished=int(vanished.sum()),
        subnormal=int(subnormal.sum()),
        largest=float(nonzero.max(initial=0.0)),
        smallest=float(nonzero.min(initial=np.inf)) if nonzero.size else 0.0,
        error=error,
    )


def _flat(operands: Iterable[Operand]) -> list[Operand]:
    flat: list[Operand] = []
    for operand in operands:
        flat.extend(operand) if isinstance(operand, tuple | list) else flat.append(operand)
    return flat


def _is_value(operand: object) -> TypeGuard[ir.Value]:
    # isinstance would compare ir.Value's whole protocol, attribute by attribute
    return type(operand) is ir.Value


def _is_float_value(operand: Operand) -> bool:
    return _is_value(operand) and bool(operand.dtype == ir.DataType.FLOAT)


def _is_float_constant(operand: object) -> TypeGuard[np.ndarray | np.generic | float]:
    if isinstance(operand, np.ndarray | np.generic):
        return operand.dtype in (np.float32, np.float16)
    return isinstance(operand, float)
