"""Core AI operations on complex numbers, which ONNX has no operators for: they stand as pairs along a last axis."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from coreproof.conversion.coreai_to_onnx.lowering import CoreAILowering, Operand, lowers


@lowers("create_complex", exact=True, error="move", complex_numbers=True)
def create_complex(low: CoreAILowering, real: Operand, imaginary: Operand) -> ir.Value:
    return low.op("Concat", *(low.op("Unsqueeze", part, [-1]) for part in (real, imaginary)), axis=-1)


@lowers("real_part", exact=True, error="move", hands_on="part", complex_numbers=True)
def real_part(low: CoreAILowering, z: Operand) -> ir.Value:
    return low.op("Gather", z, np.array(0, np.int64), axis=-1)


@lowers("imaginary_part", exact=True, error="move", hands_on="part", complex_numbers=True)
def imaginary_part(low: CoreAILowering, z: Operand) -> ir.Value:
    return low.op("Gather", z, np.array(1, np.int64), axis=-1)
