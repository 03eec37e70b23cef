"""fp16 as stored: which MIL operations round their results, and the pair of casts that does it in a float32 graph.

ONNX Runtime's CPU provider computes a graph that is typed float16 in float32 and drops the rounding between neighbours. A
graph typed float32 with Cast(FLOAT16), Cast(FLOAT) behind each operation that rounds keeps it, at no measurable cost.
"""

from __future__ import annotations

from coreproof.conversion.operators import MIL


def rounds(operator: str) -> bool:
    """Whether a float16 result of this MIL operation has to be rounded when its inputs are."""
    return not MIL.traits(operator).get("exact", False)


def commutes(operator: str) -> bool:
    """Whether this MIL operation may be done before the rounding of its input.

    Done first, it stands right behind the convolution that makes its input, where the engine fuses the two.
    """
    return MIL.traits(operator).get("commutes", False)
