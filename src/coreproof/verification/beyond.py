"""Whole numbers that Core ML computes in 32 bits: which of them a model guards, and a run in which one leaves these.

A guard lets such a run fail, where the source has 64 bits and gives a number. That is a difference of the two models, and is told
like one: with the value, and by what number it leaves the 32 bits.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from contextlib import suppress

import numpy as np

from coreproof.conversion.onnx_to_coreml.checked_integers import BEYOND_32_BITS
from coreproof.errors import CoreproofError, IntegerRangeError
from coreproof.feeding.draw import SCALES
from coreproof.feeding.drawn import Feeds, Pair
from coreproof.feeding.example_feeds import example_feeds
from coreproof.feeding.inputs import describe
from coreproof.model.base import Model
from coreproof.model.torch.model import TorchModel
from coreproof.pairing.taps import as_array
from coreproof.runtime.session import Session
from coreproof.verification.row import Row
from coreproof.verification.tolerance import Tolerance, disagreement
from coreproof.verification.verification import Verification

_EXACT = Tolerance(0.0, why="whole numbers are equal or not")
_ENDS = np.iinfo(np.int32)


def guarded(*models: Model) -> tuple[str, ...]:
    """The values of these models that fail a run in which they leave 32 bits, by the names that they have there."""
    return tuple(dict.fromkeys(name for model in models for name in _guards(model).values()))


def _guards(model: Model) -> dict[str, str]:
    """Each guard, with the value that it guards: the sum to which it comes as a zero."""
    if not (model.is_coreml or model.is_onnx):
        return {}
    found = {}
    nodes = model.graph.nodes
    for guard in (v for node in nodes for v in node.outputs if v.startswith(tuple(BEYOND_32_BITS))):
        name = guard
        while (reader := next((n for n in nodes if name in n.inputs), None)) is not None:
            name = reader.outputs[0]
            if reader.operator.lower() == "add":
                found[guard] = name
                break
        else:
            found[guard] = guard
    return found


def too_far(models: tuple[Model, Model], sessions: tuple[Session, Session], fed: Feeds) -> dict[int, str]:
    """Draws of whole numbers larger than anything asks for, on which one of both does not run; and that in words.

    Nobody said that such are fed: a product that leaves 32 bits there, or a table that ends before, is no difference.
    """
    found = {}
    for at in fed.far:
        for model, running, sample in zip(models, sessions, fed.pairs[at], strict=True):
            try:
                running.run(sample)
            except CoreproofError as error:
                why = f"at which {model.name} does not run ({error.problem})"
                found[at] = f"{SCALES[-1]:g} times the magnitude was left out, {why}"
                break
    return found


def run_beyond(
    models: tuple[Model, Model], sessions: tuple[Session, Session], fed: Feeds, left_out: Collection[int] = ()
) -> Verification | None:
    """The verification of a run in which a guarded value of one side leaves 32 bits, and the other side answers; else None.

    Looked for in what is fed, but for the samples ``left_out``; where that was drawn, in the example inputs of a module too,
    which say what it is used with.
    """
    guards = tuple(map(_guards, models))
    if not any(guards):
        return None
    listed = [(pair, fed.said) for at, pair in enumerate(fed.pairs) if at not in left_out]
    for pair, said in [*listed, *(_example(models, sessions) if fed.taken else [])]:
        for at in (0, 1):
            if guards[at] and (guard := _failed(sessions[at], pair[at])) is not None:
                row = _row(models, sessions, pair, at, guards[at].get(guard, guard))
                if row is not None:
                    engines = (sessions[0].engine, sessions[1].engine)
                    names = models[0].name, models[1].name
                    return Verification(
                        *names, (row,), describe([pair[0]], said), engines, guarded=guarded(*models), taken=fed.taken
                    )
    return None


def _example(models: tuple[Model, Model], sessions: tuple[Session, Session]) -> list[tuple[Pair, str]]:
    for at, model in enumerate(models):
        if isinstance(model, TorchModel):
            # a picture that no example is leaves what was drawn
            with suppress(CoreproofError):
                feeds = example_feeds(model, models[1 - at], sessions[1 - at], module_first=at == 0)
                return [(pair, "the example inputs") for pair in feeds.pairs]
    return []


def _failed(running: Session, sample: object) -> str | None:
    """The guard at which a run fails; other errors are told where the models are compared."""
    try:
        running.run(sample)  # type: ignore[arg-type]
    except IntegerRangeError as error:
        return error.value
    except CoreproofError:
        return None
    return None


def _row(
    models: tuple[Model, Model], sessions: tuple[Session, Session], pair: Pair, failing: int, product: str
) -> Row | None:
    """What is told of the value; None where the other side does not answer either."""
    other = 1 - failing
    known = (models[failing].provenance.get(product, product), product)
    tap = next((name for name in known if name in sessions[other].tappable), None)
    try:
        answered = sessions[other].run(pair[other], () if tap is None else (tap,))
    except CoreproofError:
        return None
    tap = tap or next((name for name in known if name in answered), None)
    value = np.zeros(0, np.int64) if tap is None else as_array(answered[tap])
    names = (tap or product, product) if other == 0 else (product, tap or product)
    maker = models[failing].graph.producer(product)
    return Row(
        reference=names[0],
        candidate=names[1],
        operator="?" if maker is None else maker.operator,
        source=None if maker is None else maker.source,
        shape=value.shape,
        dtype=value.dtype.name,
        how="name",
        judgement=disagreement(value, _EXACT, _said(value.reshape(-1), models[failing].name, models[other].name)),
    )


def _said(numbers: np.ndarray, failing: str, other: str) -> str:
    furthest: Sequence[int] = sorted(map(int, numbers), key=abs)[-1:] if numbers.dtype.kind in "iu" else []
    beyond = [n for n in furthest if not _ENDS.min <= n <= _ENDS.max]
    which = f"{beyond[0]:,} in {other} does" if beyond else f"what {other} gives a number for may"
    return f"{which} not fit the 32 bits in which {failing} computes whole numbers: its run fails, without a number"
