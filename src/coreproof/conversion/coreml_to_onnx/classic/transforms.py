"""What linear models and trees do to their sums: link functions, in float64."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from coreproof.conversion.coreml_to_onnx.builder import OnnxBuilder
from coreproof.conversion.coreml_to_onnx.classic.stage import f64


def normal_distribution(b: OnnxBuilder, x: ir.Value) -> ir.Value:
    """The cumulative distribution of the standard normal, which Core ML calls probit, to float64's own accuracy.

    ONNX Runtime has no Erf of float64. After G. West, "Better approximations to cumulative normal functions" (2005), who has it
    from J. F. Hart et al.: a quotient of polynomials up to 10 / sqrt(2), a continued fraction beyond.
    """
    size = b.op("Min", b.op("Abs", x), f64(40))  # at 40 it is 0 already, and nothing overflows
    falling = b.op("Exp", b.op("Mul", b.op("Mul", size, size), f64(-0.5)))
    near = b.op("Div", b.op("Mul", falling, _polynomial(b, size, _ABOVE)), _polynomial(b, size, _BELOW))
    beyond = b.op("Add", size, f64(0.65))
    for step in (4.0, 3.0, 2.0, 1.0):
        beyond = b.op("Add", size, b.op("Div", f64(step), beyond))
    far = b.op("Div", b.op("Div", falling, beyond), f64(np.sqrt(2 * np.pi)))
    tail = b.op("Where", b.op("Less", size, f64(10 / np.sqrt(2))), near, far)
    result = b.op("Where", b.op("Greater", x, f64(0)), b.op("Sub", f64(1), tail), tail)
    return b.op("Where", b.op("IsNaN", x), x, result)


_ABOVE = (
    0.0352624965998911, 0.700383064443688, 6.37396220353165, 33.912866078383, 112.079291497871, 221.213596169931,
    220.206867912376,
)  # fmt: skip
_BELOW = (
    0.0883883476483184, 1.75566716318264, 16.064177579207, 86.7807322029461, 296.564248779674, 637.333633378831,
    793.826512519948, 440.413735824752,
)  # fmt: skip


def _polynomial(b: OnnxBuilder, x: ir.Value, coefficients: tuple[float, ...]) -> ir.Value:
    """The highest power comes first."""
    value = b.op("Mul", x, f64(coefficients[0]))
    for coefficient in coefficients[1:-1]:
        value = b.op("Mul", b.op("Add", value, f64(coefficient)), x)
    return b.op("Add", value, f64(coefficients[-1]))


def both_classes(b: OnnxBuilder, probability: ir.Value) -> ir.Value:
    """[1 - p, p] of a vector of the one number p, the probability of the second class."""
    return b.op("Concat", b.op("Sub", f64(1), probability), probability, axis=0)
