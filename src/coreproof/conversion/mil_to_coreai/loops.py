"""Blocks within operations: the loop of Core AI, and how a block ends."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from coreproof.conversion.mil_to_coreai.translation import Operand, Tensor, Translation, si
from coreproof.model.coreai.element_types import TensorType
from coreproof.model.coreai.program import StoredBlock


def closed(child: Translation, arguments: Sequence[Tensor], end: str, handed: Sequence[Tensor]) -> StoredBlock:
    """The block of a translation, which hands out these values."""
    child.append(end, [v.name for v in handed], [])
    return StoredBlock(tuple(a.name for a in arguments), tuple(child.operations))


def repeated(
    t: Translation,
    inits: Sequence[Tensor],
    goes_on: Callable[[Translation, Sequence[Tensor]], Tensor],
    turn: Callable[[Translation, Sequence[Tensor]], Sequence[Tensor]],
    types: Sequence[TensorType] | None = None,
) -> list[Tensor]:
    """What the values are behind the last turn: ``turn`` makes them anew as long as ``goes_on`` says so of them.

    ``types`` are those that hold in every turn, where they are freer than those of the first values.
    """
    held = [v.held for v in inits] if types is None else list(types)
    inits = [_freed(t, v, h) for v, h in zip(inits, held, strict=True)]
    before, after, made = ([t.result(h, kind) for h in held] for kind in ("argument", "argument", "while"))
    asked, done = t.nested(), t.nested()
    go = asked.value(goes_on(asked, before), "i1")
    go = asked.reshape(go, []) if go.shape else go
    blocks = [
        closed(asked, before, "condition", [go, *before]),
        closed(done, after, "yield", list(turn(done, after))),
    ]
    t.append("while", [v.name for v in inits], [v.name for v in made], {}, blocks)
    return made


def _freed(t: Translation, value: Tensor, held: TensorType) -> Tensor:
    """The value with lengths that nobody knows before it runs where a loop's may change.

    Apple's compiler (1.0.0b3) finds out what it can of the lengths before the loop, and then refuses the loop because its own are
    freer. So each free length is cut to what there are of truths that are as many, which it does not count.
    """
    if None not in held.shape:
        return value
    lengths = t.op("get_shape", value, shape=[len(held.shape)], element="ui32")
    ends: list[Operand] = []
    for axis, length in enumerate(held.shape):
        own = t.slice(lengths, [axis], [axis + 1])
        if length is None:
            truths = t.op("broadcast_to", np.ones(1, np.bool_), own, shape=[None])
            places = t.op("non_zero", truths, shape=[None, 1], element="si32")
            own = t.slice(t.op("get_shape", places, shape=[2], element="ui32"), [0], [1])
        ends.append(t.cast(own, "si32"))
    rank = len(held.shape)
    return t.op("slice", value, si([0] * rank), t.concat(ends, 0), si([1] * rank), shape=held.shape)
