"""verify: two models value by value, the first value that diverges, and which stretches diverge by themselves."""

from __future__ import annotations

import math
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path

from coreproof.conversion.coreml_to_onnx.convert import lowered_once
from coreproof.conversion.torch_to_onnx.frozen import freeze_either
from coreproof.errors import CoreproofError, RunError
from coreproof.feeding.draw import SCALES
from coreproof.feeding.drawn import SEED, Feeds, Inputs, random_sample, roles_for
from coreproof.feeding.ends import Ends, as_free_as, as_long_as, count_elements
from coreproof.feeding.example_feeds import example_feeds
from coreproof.feeding.inputs import describe, feeds_of
from coreproof.feeding.lengths import ENDS
from coreproof.feeding.matched_inputs import match_inputs
from coreproof.model.arguments import whole
from coreproof.model.base import Model
from coreproof.model.collector import only_what_is_new
from coreproof.model.load import load
from coreproof.model.numbers import FLOAT16_MAX
from coreproof.model.opened import opened
from coreproof.model.progress import Progress, silent
from coreproof.model.public import public
from coreproof.model.recording import Recording
from coreproof.model.torch.model import TorchModel
from coreproof.runtime.open import session
from coreproof.runtime.session import Engine, Session
from coreproof.verification.beyond import guarded, run_beyond, too_far
from coreproof.verification.bisect import behind_clipped, bisect, spare_harmless, suspects
from coreproof.verification.carried import computed_alike, settle_carried
from coreproof.verification.choices import settle_choices
from coreproof.verification.edges import settle_edges
from coreproof.verification.measured_rounding import held_to_what_rounding_does
from coreproof.verification.own_program import held_to_the_module
from coreproof.verification.refused_draws import takes, without_refused
from coreproof.verification.row import Row, Stretch, most, needs
from coreproof.verification.run import VerificationRun, severity
from coreproof.verification.samples import Samples
from coreproof.verification.steady import refuse_unsteady
from coreproof.verification.steps import steps_of
from coreproof.verification.stored_weights import loss_of, with_stored_weights
from coreproof.verification.tolerance import VACUOUS, Tolerance, given_tolerance
from coreproof.verification.verification import Verification


@only_what_is_new()
@lowered_once()
@public
def verify(
    reference: Model | str | Path | object,
    candidate: Model | str | Path | object,
    inputs: Inputs | None = None,
    tolerance: Tolerance | float | None = None,
    *,
    feeds: tuple[Inputs, Inputs] | Feeds | None = None,
    reference_engine: Engine = "auto",
    candidate_engine: Engine = "auto",
    seed: int = SEED,
    memory: int = 1 << 28,
    progress: Progress | None = None,
    fresh: bool = False,
    freeze_state: bool = False,
    freeze_branches: bool = False,
    states: Mapping[str, str] | None = None,
) -> Verification:
    """Runs both models on the same inputs and compares every value that both have.

    ``reference`` or ``candidate`` may be a saved run (``load("run.npz")``): its values are compared instead.

    ``inputs``: a mapping name -> array, or several; default what a saved run was fed, else several draws from
    ``seed``, within what the models declare and what they make of their inputs: the result's ``taken`` says for what each
    was taken. ``feeds``: what each side is
    fed, where they take the same thing in different form (pixels here, normalised numbers there). ``tolerance``: one for all
    values; default what rounding explains at each value (see ``coreproof.verification.tolerance``). ``memory``: how many bytes
    of inner values are held at a time, on each side (one value at least). ``progress`` hears (what, done, total).

    Where the candidate's weights are compressed, and their bits explain how far they are from the reference's, the reference is
    run with the numbers that are stored: all else is judged by rounding alone, and ``loss`` is what the compression costs.

    A PyTorch module is exported once, which is what takes long; where the other model stands in an output folder of
    ``prove``, what that kept of the export is taken, unless ``fresh``.
    A PyTorch module is called twice in a row first: what it answers has to be the same, or frozen state would go unseen.

    ``freeze_state`` and ``freeze_branches`` are those of ``convert``: a PyTorch module is held with its buffers as they are, and,
    where nothing is given, at its example inputs, whose branches its conversions keep.

    Models that remember (Core ML states, buffers that a module changes, past and present of an ONNX model, which ``states``
    names as in ``convert``) are run token by token: the same sequence for both, which ``inputs`` gives in its order, each with
    what it remembers itself. The first token that diverges is named with its first value.

    Raises InputError, also for a module that answers differently; RunError, and UnsupportedOperatorsError of a model that
    cannot be run here.

    Example:
        >>> bool(cp.verify("net.onnx", "net.mlpackage"))
        True

    """
    seed, memory, tolerance = whole(seed, "seed"), whole(memory, "memory"), given_tolerance(tolerance)
    reference, candidate = load(reference), load(candidate)
    freeze_either(reference, candidate, freeze_state=freeze_state, freeze_branches=freeze_branches)
    saved = Recording in (type(reference), type(candidate))
    if saved:  # which holds what was remembered before each step
        reference, candidate = opened(reference), opened(candidate)
    steps = None if saved else steps_of(reference, candidate, states)
    if steps is not None:
        reference, candidate = steps.reference, steps.candidate
    elif feeds is None:  # a module is held at the fixed lengths that were asked for
        reference, candidate = as_long_as(reference, candidate), as_long_as(candidate, reference)
    # each export may lie in the other's output folder
    for model, other in ((reference, candidate), (candidate, reference)):
        _export(model, other, progress, fresh=fresh)
    plain, (reference, compressed) = reference, with_stored_weights(reference, candidate)
    with (
        session(reference, reference_engine) as reference_session,
        session(candidate, candidate_engine) as candidate_session,
    ):
        if steps is not None:
            inputs, feeds = None, steps.sequence(reference_session, candidate_session, inputs, feeds, seed)
        elif inputs is None and feeds is None:
            feeds = _examples(reference, candidate, reference_session, candidate_session)
        fed = feeds_of(reference, candidate, inputs, feeds, seed, (reference_session, candidate_session), tried=False)
        both = (reference, candidate), (reference_session, candidate_session)
        unfit = {} if steps is not None else too_far(*both, fed)
        if (beyond := run_beyond(*both, fed, unfit)) is not None:
            return beyond

        def prepared(samples: Samples) -> VerificationRun:
            for model, running, at in ((reference, reference_session, 0), (candidate, candidate_session, 1)):
                refuse_unsteady(model, running, samples.pairs[0][at])
            remembered = None if steps is None else steps.matched
            outer = steps is not None and not steps.at_one_length(samples.pairs)
            return VerificationRun(
                reference,
                candidate,
                reference_session,
                candidate_session,
                samples.pairs,
                tolerance,
                memory,
                compressed=compressed,
                outputs_only=outer,
                remembered=remembered,
            )

        def compared(fed: Feeds) -> tuple[VerificationRun, Samples, Verification]:
            samples = Samples(fed, unfit if fed.far else None)
            run = samples.first(partial(prepared, samples))
            if steps is not None:
                found = _step_by_step(run, samples, progress or silent)
            else:
                found = _in_stages(run, samples, progress or silent)
                if fed.taken and found.agrees:
                    found = _at_other_lengths(run, found, seed, progress or silent)
                samples.feed_all(run, fed.large, agree=found.agrees)
                found = held_to_what_rounding_does(run, found, (reference_engine, candidate_engine))
            return run, samples, held_to_the_module(run, found)

        try:
            run, samples, found = compared(fed)
        except RunError:
            taken = without_refused(*both, fed)
            if taken is None:
                raise
            run, samples, found = compared(taken)
        found = replace(found, guarded=guarded(reference, candidate))
        if reference is plain:
            return found
        with session(plain, reference_engine) as uncompressed:
            seen = [pair for at, pair in enumerate(samples.pairs) if at not in samples.left_out]
            return replace(found, loss=loss_of(uncompressed, candidate_session, run.outputs, seen))


def _examples(
    reference: Model, candidate: Model, reference_session: Session, candidate_session: Session
) -> Feeds | None:
    """What both are fed where one is a module whose branches are frozen; None elsewhere."""
    if isinstance(reference, TorchModel) and reference.frozen_branches:
        return example_feeds(reference, candidate, candidate_session)
    if isinstance(candidate, TorchModel) and candidate.frozen_branches:
        return example_feeds(candidate, reference, reference_session, module_first=False)
    return None


def _export(model: Model, other: Model, progress: Progress | None, *, fresh: bool) -> None:
    """Has a PyTorch model's program there before it is compared. Raises ConversionError for one that decides by its data."""
    if not getattr(model, "has_program", False):
        return
    from coreproof.conversion.torch_to_onnx.branches import take_program
    from coreproof.conversion.torch_to_onnx.kept_export import FOLDER, export_digest, kept_program, waiting
    from coreproof.model.torch.model import TorchModel

    assert isinstance(model, TorchModel)
    beside = None if other.path is None or fresh else other.path.resolve().parent.parent / FOLDER
    with suppress(CoreproofError):
        if model.program is not None or (
            beside is not None and beside.is_dir() and kept_program(model, beside, export_digest(model))
        ):
            return
    with waiting(progress):
        take_program(model)


def _in_stages(run: VerificationRun, samples: Samples, progress: Progress) -> Verification:
    """One draw after another, as long as they agree; what is given, all at once.

    A divergence that the first draw shows is located on it alone. At the large draws a float16 model may leave its range, which
    no usual input does to it: that is told, and is no divergence.
    """
    fed = samples.fed
    numbers = range(len(fed.pairs))
    usual = [at for at in numbers if at and at not in fed.large]
    # the usual draw first: what it shows is located on it alone
    stages = [[0], usual, list(fed.large)] if fed.taken else [list(numbers)]
    found: Verification | None = None
    told, used = "", list[int]()
    for stage in [*filter(None, stages), None]:
        if stage is None and found is not None:
            break
        before = run.contents()
        answered, now = _compared(run, samples, stage, found, progress)
        first = None if now is None else now.first_divergence
        # a source that answers zeros with what no float16 holds is asked without them
        beyond = first is not None and _is_out_of_range(first) and stage is not None and stage != list(fed.large)
        if stage is not None and first is not None and beyond and samples.redrawn(stage):
            run.forget_since(before)
            told += f"; without zeros, of which the source makes {first.reference!r} larger than float16 holds"
            answered, now = _compared(run, samples, stage, found, progress)
            first = None if now is None else now.first_divergence
        if now is None:
            continue
        # only at the large draws: at usual ones a value that leaves the range is a fault
        if found is not None and stage == list(fed.large) and first is not None and _leaves_range(first):
            told += f"; {SCALES[-1]:g} times the magnitude was left out, at which {first.candidate!r} leaves float16's range"
            continue
        found, used = now if found is None else _together(found, now), used + answered
        if not found.agrees:
            rest = [at for at in numbers if at not in used and at not in samples.left_out]
            found = _measured_on(run, found, samples, rest, progress)
            break
    assert found is not None
    seen = [samples.pairs[at][0] for at in used]
    told += "".join(f"; {few}" for few in fed.draft.rows_fed(seen)) if fed.draft is not None else ""
    inputs = describe(seen, samples.said + told)
    return replace(found, inputs=inputs, samples=len(used), taken=fed.taken)


def _compared(
    run: VerificationRun, samples: Samples, stage: list[int] | None, earlier: Verification | None, progress: Progress
) -> tuple[list[int], Verification | None]:
    """The samples of a stage that the reference answers, and the comparison on them; without a stage the first as it was drawn.

    ``earlier`` is that on the samples of the stages before, which agreed.

    What follows a pair that proves to be none was predicted from the partner's scale. Where that predicted more than any value
    may be off by, which excuses all that follows, the samples are judged once more with that value unpaired.
    """
    before = run.contents()
    dismissed, rows = ((), ()) if earlier is None else (earlier.dismissed, earlier.rows)
    answered, judged = _judged(run, samples, stage, progress, rows)
    if not answered:
        return [], None
    now = _conclude(run, judged, dismissed)
    found = now.dismissed[len(dismissed) :]
    run.unpair({row.candidate for row in found})
    if any((row.tolerance.typical or 0.0) >= VACUOUS for row in found):
        run.forget_since(before)
        answered, judged = _judged(run, samples, stage, progress)
        now = _conclude(run, judged, now.dismissed)
    return answered, now


def _judged(
    run: VerificationRun, samples: Samples, stage: list[int] | None, progress: Progress, earlier: tuple[Row, ...] = ()
) -> tuple[list[int], tuple[Row, ...]]:
    # nothing that was drawn has a finite answer: the verdict says what that is worth
    return samples.judged(run, stage, progress, earlier) if stage else samples.judged_as_it_is(run, progress)


def _step_by_step(run: VerificationRun, samples: Samples, progress: Progress) -> Verification:
    """All steps at once, and where they do not agree, one after the other up to the first that does not."""
    numbers = list(range(len(samples.pairs)))
    inputs = describe([sample for sample, _ in samples.pairs], samples.said)

    def judged(steps: list[int]) -> Verification:
        before = run.contents()
        _, compared = _compared(run, samples, steps, None, progress)
        assert compared is not None  # what a sequence of tokens holds is never left out
        found = replace(compared, inputs=inputs, samples=len(numbers), steps=len(numbers))
        if not found.agrees:
            run.forget_since(before)  # what these steps held is looked at again
        return found

    found = judged(numbers)
    if found.agrees or len(numbers) == 1:
        return found if found.agrees else replace(found, first_step=1)
    # each step begins with what each side remembers itself: the first that fails alone is where it began
    for number in numbers:
        now = judged([number])
        if not now.agrees:
            return replace(now, first_step=number + 1)
    return found


def _at_other_lengths(run: VerificationRun, found: Verification, seed: int, progress: Progress) -> Verification:
    """With the outputs between the ends of the lengths that both declare; of a module, at the ends too.

    A module's traced program, which has the inner values, takes the example's lengths alone; the module itself is not bound to
    them. Of other models the ends are among what was drawn.
    """
    reference, candidate = run.reference, run.candidate
    signature = as_free_as(reference, candidate)
    program = reference.path is not None and reference.path.suffix == ".pt2"
    traced = reference.is_torch and not program and signature != reference.signature
    ends = Ends(
        match_inputs(signature, candidate.signature),
        [reference.graph, candidate.graph],
        lambda _: count_elements([(run.candidate_session, run.feeds[0][1])]),
    )
    example = {f.name: f.shape for f in reference.signature.inputs}
    asked = [shapes for end in ENDS if (shapes := ends.shapes(end)) != example] if traced else []
    wanted = [*asked, *ends.between(), *ends.corners()]
    if not wanted:
        return found
    roles = roles_for(reference, candidate, (run.reference_session, run.candidate_session))
    graphs = [reference.graph, candidate.graph]
    pairs = [
        random_sample(signature, candidate.signature, seed, roles, number=number, shapes=shapes, graphs=graphs)
        for number, shapes in enumerate(wanted)
    ]
    if traced:
        run.reference_session.signature = signature
    # a model need not take each length between the ends: one that halves its picture takes no odd one
    taken = [number < len(asked) or takes(run.reference_session, pair[0]) for number, pair in enumerate(pairs)]
    pairs = [pair for pair, does in zip(pairs, taken, strict=True) if does]
    asked = [shapes for shapes, does in zip(wanted, taken, strict=True) if does]
    if not pairs:
        return found
    fed = partial(
        VerificationRun,
        reference,
        candidate,
        run.reference_session,
        run.candidate_session,
        pairs,
        run.tolerance,
        run.memory,
        compressed=run.compressed,
    )
    rows = fed(outputs_only=True).compare(progress)
    if not traced and not all(row.agrees for row in rows):
        # what rounding makes of an output is known from the values before it
        closer = fed()
        rows = _conclude(closer, closer.compare(progress), found.dismissed).outputs
    now = {row.candidate: row for row in rows}
    rows = tuple(_worse(row, now[row.candidate]) if row.candidate in now else row for row in found.rows)
    lengths = " and ".join(", ".join(f"{n} {'x'.join(map(str, s))}" for n, s in shapes.items()) for shapes in asked)
    notes = ends.notes if traced else ()  # of what is drawn from the ends, the draws tell
    said = "".join(f"; {note}" for note in (f"outputs also at {lengths}", *notes))
    return replace(found, rows=rows, inputs=found.inputs + said, samples=found.samples + len(pairs))


def _conclude(run: VerificationRun, judged: tuple[Row, ...], dismissed: tuple[Row, ...]) -> Verification:
    """Every value that both have, as judged on the samples that the comparison is fed, and what is at fault.

    ``dismissed`` are pairs that earlier draws showed to be none.
    """
    # the winning class is named behind the graph: there is no layer to feed, or to blame
    classes = tuple(row for row in settle_choices(run, judged) if row.candidate == run.label)
    judged = settle_edges(run, tuple(row for row in judged if row.candidate != run.label))
    rows = settle_choices(run, settle_carried(run, judged))
    # a switched index is right, so what is made from it may be judged on the same indices
    if any(row.switched for row in rows):
        rows = settle_carried(run, rows)  # what is made from those follows from them
    rows = _spared(run, rows)
    stretches, contradicted, spared = bisect(run, rows)
    if contradicted:
        rows = tuple(row for row in rows if row not in contradicted)
        # what is made from a pair that is none did not follow from accepted ones, and may now, or no more from a step there
        settled = settle_carried(run, settle_edges(run, rows))
        if any(now.agrees != row.agrees for now, row in zip(settled, rows, strict=True)):
            rows = _spared(run, settled)
            stretches, more, spared = bisect(run, rows)
            contradicted = (*contradicted, *more)
    rows = tuple(
        replace(row, harmless=True) if row.candidate in spared else row for row in rows if row not in contradicted
    )
    return Verification(
        reference=run.reference.name,
        candidate=run.candidate.name,
        rows=(*rows, *classes),
        inputs="",
        engines=(run.reference_session.engine, run.candidate_session.engine),
        unpaired=len(run.alone) + len(contradicted),
        dismissed=(*dismissed, *contradicted),
        stretches=stretches,
        suspects=_first(stretches, rows) or suspects(run, rows),
        samples=len(run.feeds),
        untrained=run.reference.untrained or run.candidate.untrained,
        lone=tuple(dict.fromkeys(name for names in run.lone for name in names)),
        unmatched=all(run.lone),
        compressed=run.compressed,
    )


def _spared(run: VerificationRun, rows: tuple[Row, ...]) -> tuple[Row, ...]:
    """The rows, those marked as harmless that leave float16's range, or are computed alike from what does."""
    graph = run.candidate.graph
    spared = spare_harmless(graph, rows)
    if behind := behind_clipped(graph, spared):
        spared = spare_harmless(graph, rows, computed_alike(run, rows, behind, from_any=True))
    return spared


def _together(before: Verification, now: Verification) -> Verification:
    """The verification of further samples, with the rows that stood worse in those before."""
    known = {row.candidate: row for row in before.rows}
    return replace(now, rows=tuple(_worse(known[row.candidate], row) for row in now.rows))


def _measured_on(
    run: VerificationRun, found: Verification, samples: Samples, numbers: list[int], progress: Progress
) -> Verification:
    """A divergence with its size on further samples as well: a tolerance that would have passed has to pass on them."""
    answered, judged = samples.judged(run, numbers, progress)
    if not answered:
        return found
    seen = {row.candidate: row for row in judged}
    rows = {
        row.candidate: row
        if row.agrees or math.isinf(seen[row.candidate].passing.relative)
        else _worse(row, seen[row.candidate])
        for row in found.rows
    }

    def placed(stretch: Stretch) -> Stretch:
        return replace(stretch, row=rows.get(stretch.row.candidate, stretch.row))

    stretches = tuple(map(placed, found.stretches))
    suspected = found.suspects
    if suspected is not None:
        suspected = next((s for s in stretches if s.row.candidate == suspected.row.candidate), placed(suspected))
    return replace(found, rows=tuple(rows.values()), stretches=stretches, suspects=suspected)


def _worse(before: Row, now: Row) -> Row:
    """The row of the sample that stands worse; what it held, and the tolerance that lets it pass, of all samples."""
    if now.judgement is before.judgement:  # as it stood before
        return now
    worse = (
        now if (not now.agrees, severity(now.judgement)) > (not before.agrees, severity(before.judgement)) else before
    )
    return replace(worse, content=now.content, needed=most(before.needed, now.needed or needs(now.judgement)))


def _is_out_of_range(first: Row) -> bool:
    """Whether a divergence is nothing but float16's range, which the reference's own numbers leave."""
    judgement = first.judgement
    return judgement.clipped > 0 and max(abs(judgement.low), abs(judgement.high)) > FLOAT16_MAX


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
