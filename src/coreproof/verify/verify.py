"""verify: two models value by value, the first value that diverges, and which stretches diverge by themselves."""

from __future__ import annotations

from pathlib import Path

from coreproof.model.base import Model
from coreproof.model.load import load
from coreproof.run.session import Engine, session
from coreproof.verify.bisect import bisect, spare_harmless, suspects
from coreproof.verify.carried import settle_carried
from coreproof.verify.comparison import Comparison, Progress
from coreproof.verify.inputs import SEED, Inputs, describe, feeds_of
from coreproof.verify.sides import UNKNOWN_SIZE, as_array, batched, engine_shapes, match_outputs, taps_of
from coreproof.verify.tolerance import Tolerance
from coreproof.verify.verification import Row, Stretch, Verification

__all__ = [
    "UNKNOWN_SIZE",
    "Row",
    "Stretch",
    "Verification",
    "as_array",
    "batched",
    "engine_shapes",
    "match_outputs",
    "taps_of",
    "verify",
]


def verify(
    reference: Model | str | Path,
    candidate: Model | str | Path,
    inputs: Inputs | None = None,
    tolerance: Tolerance | None = None,
    *,
    feeds: tuple[Inputs, Inputs] | None = None,
    reference_engine: Engine = "auto",
    candidate_engine: Engine = "auto",
    seed: int = SEED,
    memory: int = 1 << 28,
    progress: Progress | None = None,
) -> Verification:
    """Runs both models on the same inputs and compares every value that both have.

    ``reference`` or ``candidate`` may be a saved run (``load("run.npz")``): its values are compared instead.

    ``inputs``: a mapping name -> array, or several; default what a saved run was fed, else random values, drawn from
    ``seed`` within what the models declare. ``feeds``: what each side is
    fed, where they take the same thing in different form (pixels here, normalised numbers there). ``tolerance``: one for all
    values; default what rounding explains at each value (see ``coreproof.verify.tolerance``). ``memory``: how many bytes
    of inner values are held at a time, on each side (one value at least). ``progress`` hears (what, done, total).

    Raises InputError, RunError, and UnsupportedOperatorsError of a model that cannot be run here.
    """
    reference, candidate = load(reference), load(candidate)
    with session(reference, reference_engine) as left, session(candidate, candidate_engine) as right:
        fed, said = feeds_of(reference, candidate, inputs, feeds, seed, (left, right))
        work = Comparison(reference, candidate, left, right, fed, tolerance, memory)
        rows = settle_carried(work, work.compare(progress or _silent))
        rows = spare_harmless(candidate.graph, rows)
        stretches, dismissed = bisect(work, rows)
        rows = tuple(row for row in rows if row not in dismissed)
        return Verification(
            reference=reference.name,
            candidate=candidate.name,
            rows=rows,
            inputs=describe([a for a, _ in fed], said),
            engines=(left.engine, right.engine),
            unpaired=len(work.alone) + len(dismissed),
            dismissed=dismissed,
            stretches=stretches,
            suspects=_first(stretches, rows) or suspects(work, rows),
            samples=len(fed),
            untrained=reference.untrained or candidate.untrained,
        )


def _first(stretches: tuple[Stretch, ...], rows: tuple[Row, ...]) -> Stretch | None:
    """The stretch of the first diverging row, when it diverges by itself."""
    first = next((row for row in rows if not row.agrees), None)
    return next((stretch for stretch in stretches if stretch.row is first), None)


def _silent(what: str, done: int, total: int) -> None:
    """Nobody listens."""
