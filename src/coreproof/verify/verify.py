"""verify: two models value by value, the first value that diverges, and which stretches diverge by themselves."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from coreproof.errors import CoreproofError
from coreproof.model.base import Model
from coreproof.model.load import load
from coreproof.run.session import Engine, Session, session
from coreproof.verify.bisect import bisect, spare_harmless, suspects
from coreproof.verify.carried import settle_carried
from coreproof.verify.comparison import Comparison, Progress
from coreproof.verify.draw import SCALES
from coreproof.verify.inputs import SEED, Inputs, Sample, describe, feeds_of
from coreproof.verify.sides import UNKNOWN_SIZE, as_array, batched, engine_shapes, match_outputs, taps_of
from coreproof.verify.steady import refuse_unsteady
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
    fresh: bool = False,
) -> Verification:
    """Runs both models on the same inputs and compares every value that both have.

    ``reference`` or ``candidate`` may be a saved run (``load("run.npz")``): its values are compared instead.

    ``inputs``: a mapping name -> array, or several; default what a saved run was fed, else several draws from
    ``seed``, within what the models declare and what they make of their inputs: the result's ``taken`` says for what each
    was taken. ``feeds``: what each side is
    fed, where they take the same thing in different form (pixels here, normalised numbers there). ``tolerance``: one for all
    values; default what rounding explains at each value (see ``coreproof.verify.tolerance``). ``memory``: how many bytes
    of inner values are held at a time, on each side (one value at least). ``progress`` hears (what, done, total).

    A PyTorch module is exported once, which is what takes long; where the other model stands in an output folder of
    ``prove``, what that kept of the export is taken, unless ``fresh``.
    A PyTorch module is called twice in a row first: what it answers has to be the same, or frozen state would go unseen.

    Raises InputError, also for a module that answers differently; RunError, and UnsupportedOperatorsError of a model that
    cannot be run here.
    """
    reference, candidate = load(reference), load(candidate)
    for model, other in ((reference, candidate), (candidate, reference)):
        _export(model, other, progress, fresh=fresh)
    with session(reference, reference_engine) as left, session(candidate, candidate_engine) as right:
        fed = feeds_of(reference, candidate, inputs, feeds, seed, (left, right))
        for model, running, at in ((reference, left, 0), (candidate, right, 1)):
            refuse_unsteady(model, running, fed.pairs[0][at])
        sides = _Sides(reference, candidate, left, right, tolerance, memory, progress or _silent)
        work, rows = sides.compared(fed.pairs)
        said = fed.said
        first = next((row for row in rows if not row.agrees), None)
        if fed.large and first is not None and _leaves_range(first):
            # what no usual input does to a float16 model is told, and is no divergence
            usual, agreeing = sides.compared([pair for at, pair in enumerate(fed.pairs) if at not in fed.large])
            if all(row.agrees for row in agreeing):
                work, rows = usual, agreeing
                said += f"; {SCALES[-1]:g} times the magnitude was left out, at which {first.candidate!r} leaves float16's range"
        return sides.finished(work, rows, said, fed.taken)


def _export(model: Model, other: Model, progress: Progress | None, *, fresh: bool) -> None:
    """Has a PyTorch model's program there before anything is compared. One that cannot be exported says so where it is needed."""
    if model.format != "torch":
        return
    from coreproof.convert.kept_export import FOLDER, export_digest, kept_program, waiting
    from coreproof.model.torch import TorchModel

    assert isinstance(model, TorchModel)
    beside = None if other.path is None or fresh else other.path.resolve().parent.parent / FOLDER
    with suppress(CoreproofError):
        if model.program is not None or (
            beside is not None and beside.is_dir() and kept_program(model, beside, export_digest(model))
        ):
            return
        with waiting(progress):
            model.exported()


@dataclass(frozen=True)
class _Sides:
    """Two models ready to run, and how they are compared."""

    reference: Model
    candidate: Model
    left: Session
    right: Session
    tolerance: Tolerance | None
    memory: int
    progress: Progress

    def compared(self, pairs: list[tuple[Sample, Sample]]) -> tuple[Comparison, tuple[Row, ...]]:
        """Every value that both have, judged on these samples."""
        work = Comparison(self.reference, self.candidate, self.left, self.right, pairs, self.tolerance, self.memory)
        rows = settle_carried(work, work.compare(self.progress))
        return work, spare_harmless(self.candidate.graph, rows)

    def finished(self, work: Comparison, rows: tuple[Row, ...], said: str, taken: Mapping[str, str]) -> Verification:
        """The verification, with what is at fault."""
        stretches, dismissed = bisect(work, rows)
        rows = tuple(row for row in rows if row not in dismissed)
        return Verification(
            reference=self.reference.name,
            candidate=self.candidate.name,
            rows=rows,
            inputs=describe([a for a, _ in work.feeds], said),
            engines=(self.left.engine, self.right.engine),
            unpaired=len(work.alone) + len(dismissed),
            dismissed=dismissed,
            stretches=stretches,
            suspects=_first(stretches, rows) or suspects(work, rows),
            samples=len(work.feeds),
            untrained=self.reference.untrained or self.candidate.untrained,
            taken=taken,
        )


def _leaves_range(first: Row) -> bool:
    """Whether a divergence is a value that leaves float16's range, where the reference's stays finite."""
    judgement = first.judgement
    return (
        bool(judgement.clipped) or judgement.infinite[1] > judgement.infinite[0] or judgement.nan[1] > judgement.nan[0]
    )


def _first(stretches: tuple[Stretch, ...], rows: tuple[Row, ...]) -> Stretch | None:
    """The stretch of the first diverging row, when it diverges by itself."""
    first = next((row for row in rows if not row.agrees), None)
    return next((stretch for stretch in stretches if stretch.row is first), None)


def _silent(what: str, done: int, total: int) -> None:
    """Nobody listens."""
