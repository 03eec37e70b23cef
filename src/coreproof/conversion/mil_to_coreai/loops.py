"""Blocks within operations: the loop of Core AI, and how a block ends."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from coreproof.conversion.mil_to_coreai.translation import Tensor, Translation
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
