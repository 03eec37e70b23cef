"""The reference with the weights that the candidate stores, and what storing them so costs: two questions, asked apart.

A compressed weight is off by more than any rounding. Carried on as an error it hides what else is wrong, and tells nobody how far
the outputs are off. So the reference is run with the very numbers that the candidate stores, wherever its bits explain that
they were made from the reference's: what is compared then differs by rounding alone. And the outputs of the reference as it is
are held beside the candidate's once, which is what the compression costs.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from coreproof.conversion.operators import error_class, operation_of
from coreproof.feeding.drawn import Sample
from coreproof.model.base import Model
from coreproof.model.layer_weights import all_weights
from coreproof.model.other_weights import with_weights
from coreproof.pairing.align import Pair
from coreproof.pairing.taps import as_array
from coreproof.runtime.session import Session
from coreproof.verification.compressed_weights import Compressed, Stored, compressed_weights
from coreproof.verification.match_by_value import arrange
from coreproof.verification.tolerance import EXACT, VACUOUS, judge

Array = np.ndarray


class Loss(NamedTuple):
    """How far compressed weights move an output: of the worst one, root mean square and largest, as shares of its scale."""

    output: str = ""
    share: float = 0.0
    largest: float = 0.0

    @property
    def ruins(self) -> bool:
        """Whether half of an output is something else: the same bound as of rounding."""
        return self.share >= VACUOUS

    def __str__(self) -> str:
        return f"compressed weights change output {self.output!r} by {self.share:.2g} of its scale ({self.largest:.2g} at most)"

    def to_json(self) -> dict[str, object]:
        """The same as JSON can hold it."""
        return {"output": self.output, "share": self.share, "largest": self.largest}


def with_stored_weights(reference: Model, candidate: Model) -> tuple[Model, Compressed]:
    """The reference with the weights that the candidate stores compressed, where their bits explain them, and what was found."""
    return with_numbers_of(reference, compressed_weights(reference, candidate))


def with_numbers_of(reference: Model, found: Compressed) -> tuple[Model, Compressed]:
    """The reference with what was found to be ``stored``, as far as it can be exchanged, and for which layers that was done.

    A weight that several layers of the reference read is exchanged only where all of them store the same numbers.
    """
    if not found.stored:
        return reference, found
    readers = _readers(reference)
    wanted: dict[str, Array] = {}
    for constant in dict.fromkeys(stored.constant for stored in found.stored):
        offered = [stored for stored in found.stored if stored.constant == constant]
        numbers = _whole(offered) if offered[0].block is not None else _same(offered)
        # gates are read by as many layers as there are steps, all of which are the one layer
        if numbers is not None and len(readers[constant]) == (len(offered) if offered[0].block is None else 1):
            wanted[constant] = numbers.astype(np.float32)
    made, done = with_weights(reference, wanted)
    if not done:
        return reference, found
    left = {stored.layer for stored in found.stored if stored.constant not in done}
    return made, found._replace(exchanged=frozenset(s.layer for s in found.stored) - left)


def _same(offered: Sequence[Stored]) -> Array | None:
    """What all of the layers store; None where they do not store the same."""
    first = offered[0].read()
    return first if all(np.array_equal(first, other.read()) for other in offered[1:]) else None


def _whole(offered: Sequence[Stored]) -> Array | None:
    """A weight of which layers store the gates one by one; None where one is lacking, or stored otherwise by another layer."""
    known = offered[0].block
    if known is None or any(stored.block is None for stored in offered):
        return None
    blocks = [_same(same) if same else None for same in (_of_block(offered, gate) for gate in range(known.gates))]
    whole = [block for block in blocks if block is not None]
    return np.stack(whole).reshape(known.shape) if len(whole) == known.gates else None


def _of_block(offered: Sequence[Stored], gate: int) -> list[Stored]:
    return [stored for stored in offered if stored.block is not None and stored.block.gate == gate]


def _readers(model: Model) -> dict[str, set[str]]:
    """The layers that read each constant; what only moves it, or parts of it (slices for an LSTM's gates), counts as one."""
    moves = {node.name for node in model.graph.nodes if error_class(operation_of(node)) == "move"}
    found: dict[str, set[str]] = {}
    for layer, weights in all_weights(model).items():
        for weight in weights.values():
            if weight.constant:
                found.setdefault(weight.constant, set()).add("" if layer in moves else layer)
    return found


def loss_of(
    plain: Session, judged: Session, pairs: Sequence[Pair], feeds: Iterable[tuple[Sample, Sample]]
) -> Loss | None:
    """What compression costs at the outputs, over all that was fed; None where no output is of floating-point numbers."""
    worst: Loss | None = None
    for wanted, fed in feeds:
        right, made = plain.run(wanted), judged.run(fed)
        for pair in pairs:
            a, b = as_array(right[pair.reference]), as_array(made[pair.candidate])
            if a.dtype.kind != "f" or b.dtype.kind != "f" or a.size != b.size:
                continue
            found = judge(arrange(a, pair.axes), b, EXACT)
            if np.isfinite(found.rms_relative_error) and (worst is None or found.rms_relative_error > worst.share):
                worst = Loss(pair.candidate, found.rms_relative_error, found.max_relative_error)
    return worst
