"""VerificationRun: one comparison of two models under way: which values are the same, run in batches, judged one by one."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace

import numpy as np

from coreproof.errors import CoreproofError
from coreproof.feeding.drawn import Sample, is_finite
from coreproof.model.base import Model
from coreproof.model.numbers import dtype_name, rms
from coreproof.model.progress import Progress
from coreproof.pairing.align import Pair, align, value_index
from coreproof.pairing.class_names import (
    handed_out_as_scores,
    holder_of_names,
    label_pairs,
    names_classes,
    other_names,
    renamed,
    translated,
)
from coreproof.pairing.taps import (
    afford_comparing,
    as_array,
    batched,
    engine_shapes,
    floats_before,
    lone_outputs,
    match_outputs,
    narrowest_ranges,
    stored_formats,
    taps_of,
    value_bytes,
)
from coreproof.runtime.session import Session
from coreproof.verification.channels import profiles_of
from coreproof.verification.compressed_weights import Compressed
from coreproof.verification.content import Content, Contents, digest
from coreproof.verification.error_model import ErrorModel
from coreproof.verification.error_state import ErrorState
from coreproof.verification.error_stats import Measured
from coreproof.verification.further_errors import further_errors
from coreproof.verification.identical import all_identical, contents_if_identical
from coreproof.verification.match_by_value import arrange, pair_by_value, sketched
from coreproof.verification.row import Row, most, needs
from coreproof.verification.tolerance import Judgement, Tolerance, disagreement, judge, judge_range, passes
from coreproof.verification.turns import angles, turned_back
from coreproof.verification.whole_range import judge_whole_range

Array = np.ndarray

_NOTHING_KEPT: tuple[int, dict[str, Array]] = (-1, {})
"""The values that a side is remembered with, and of which sample: those of none."""


class VerificationRun:
    """Two models, how they run, what they are fed, and per sample the predicted error of what was seen so far.

    ``inner`` are the pairs of inner values in the candidate's order, ``outputs`` those of outputs; ``alone`` are inner values
    of the candidate without partner; with ``outputs_only`` all of them. ``memory`` bounds the bytes of inner values held at a
    time, on each side. ``compressed`` is what was found of compressed weights. ``remembered`` are the candidate's inputs that
    bring what it remembers, each with the reference's: there the two are fed each its own. ``unanswered`` are the numbers of the
    samples on which the reference failed, or gave an output that is not finite, when they were last run.
    """

    def __init__(
        self,
        reference: Model,
        candidate: Model,
        reference_session: Session,
        candidate_session: Session,
        feeds: list[tuple[Sample, Sample]],
        tolerance: Tolerance | None,
        memory: int,
        *,
        compressed: Compressed | None = None,
        outputs_only: bool = False,
        remembered: Mapping[str, str] | None = None,
    ) -> None:
        self.reference, self.candidate = reference, candidate
        self.reference_session, self.candidate_session = reference_session, candidate_session
        self.feeds, self.memory = feeds, memory
        # a bound of the caller's is a share of the ordinary elements' scale too
        self.tolerance = tolerance and replace(tolerance, filled=(tolerance.relative, tolerance.typical))
        self.remembered = remembered or {}
        self.unanswered: set[int] = set()
        self.agreed_from: int | None = None
        self.reference_index = value_index(reference, reference_session.tappable, engine_shapes(reference_session))
        self.candidate_index = value_index(candidate, candidate_session.tappable, engine_shapes(candidate_session))
        scores = match_outputs(reference_session, candidate_session)
        self.outputs = [*scores, *label_pairs(reference_session, candidate_session, scores)]
        classes = candidate_session.signature
        holder = holder_of_names(reference_session, candidate_session, scores)
        # the numbers of a dictionary are compared as the scores that it is made of
        known = handed_out_as_scores(reference_session, candidate_session) if holder is not None else set()
        lone = lone_outputs(reference_session, candidate_session, self.outputs)
        self.lone = tuple(tuple(name for name in names if name not in known) for names in lone)
        labelled = {p.candidate for p in self.outputs[len(scores) :]}
        self.label = classes.predicted_label if classes.predicted_label in labelled else None
        """The candidate's output that names the winning class: it is looked up behind the network."""
        self._translated = translated(reference_session.signature, classes, self.outputs)
        self._misnamed = {holder or self.label: other_names(reference_session.signature, classes)}
        ends = {p.candidate for p in self.outputs}
        aligned = [] if outputs_only else [p for p in self._aligned() if p.candidate not in ends]
        self.inner = aligned if outputs_only else [*aligned, *self._before_casts(aligned)]
        if renamed(reference_session.signature, classes):
            self.inner = [
                p for p in self.inner if not names_classes(reference.graph.producer(p.reference), p.reference)
            ]
        paired = {p.candidate for p in self.pairs}
        self.order = {name: i for i, name in enumerate(self.candidate_index.inner_values)}
        # in the candidate's order, in which errors are predicted and values brought out
        self.inner.sort(key=lambda p: self.order.get(p.candidate, len(self.order)))
        makers = enumerate(candidate.graph.nodes)
        self.places = {name: place for place, node in makers for name in node.outputs}
        """Where each of the candidate's values is made: an output may stand before inner values that are made from it."""
        self.alone = [name for name in self.order if name not in paired]
        self._angles = angles(self.pairs, reference.graph, candidate.graph)
        self.stored = stored_formats(self.pairs, reference, candidate)
        self.ranges = narrowest_ranges(self.pairs, reference, candidate)
        self.profiles = profiles_of(candidate_session)
        self.compressed = compressed or Compressed()
        narrow = reference_session.sums_as_stored or candidate_session.sums_as_stored
        self._further = further_errors(self.pairs, reference, candidate, self.stored, sums_as_stored=narrow)
        self.size = value_bytes(candidate_session, self.candidate_index, [fed for _, fed in feeds], memory)
        self._kept = [_NOTHING_KEPT, _NOTHING_KEPT]
        self.kinds: list[dict[str, tuple[tuple[int, ...], np.dtype]]] = [{} for _ in feeds]
        """Shape and dtype of the reference's compared values, as they were seen in each sample: lengths may be another's."""
        self.unsure: list[dict[str, float]] = [{} for _ in feeds]
        """Of values that are rounded to steps, by sample, by what share of its scale what was rounded may be off."""
        self._measures: list[dict[str, ErrorState]] = [{} for _ in feeds]
        self._scales: list[dict[str, ErrorState]] = [{} for _ in feeds]
        fed = {tuple(digest(as_array(value)) for value in sample.values()) for sample, _ in feeds}
        self._contents = Contents(moving=len(fed) > 1)

    def _aligned(self) -> list[Pair]:
        """The pairs of inner values; by what is in them where the two sides have few names in common."""
        found = align(self.reference_index, self.candidate_index)
        named = [p for p in found if p.how in ("provenance", "name")]
        # half of the smaller side has names in common: looking at values, which costs a run, is not worth it
        if 2 * len(named) >= min(len(self.reference_index.inner_values), len(self.candidate_index.inner_values)):
            return found
        # this pass also finds the sizes that neither file says: alignment by structure and batches by memory need them
        with self._noting(0):
            reference = sketched(self.reference_session, self.reference_index, self.feeds[0][0], self.memory)
        if not reference.finite:
            self.unanswered.add(0)
        candidate = sketched(self.candidate_session, self.candidate_index, self.feeds[0][1], self.memory)
        self.reference_index = self.reference_index.with_sizes(reference.sizes)
        self.candidate_index = self.candidate_index.with_sizes(candidate.sizes)
        sketches = reference.sketches, candidate.sketches
        alike = pair_by_value(self.reference_index, self.candidate_index, *sketches, [*named, *self.outputs])
        return align(self.reference_index, self.candidate_index, alike)

    def _before_casts(self, aligned: Sequence[Pair]) -> Iterator[Pair]:
        """What an output is cast from, which is that output: a converter notes it of a model in hand, and no file says it."""
        known, taken = {p.candidate for p in aligned}, {p.reference for p in aligned}
        inner = set(self.candidate_index.inner_values)
        for pair in self.outputs:
            source = next(iter(floats_before(self.candidate.graph, pair.candidate)), None)
            if (
                source in inner - known
                and pair.reference not in taken
                and pair.reference in self.reference_index.inner_values
            ):
                known.add(source)
                yield Pair(pair.reference, source, "provenance")

    @property
    def pairs(self) -> list[Pair]:
        """All pairs of values that are compared, inner ones first."""
        return [*self.inner, *self.outputs]

    def error_model(self, sample: int) -> ErrorModel:
        """A fresh prediction of the candidate's errors for the sample of that number, nothing fed yet."""
        graph, known = self.candidate.graph, self._measures[sample]
        others = self._further, self.compressed.allowed
        faint = self.agreed_from is not None and sample >= self.agreed_from
        made = ErrorModel(graph, self.stored, self.profiles, known, *others, faint=faint)
        # of a value without partner the scale was seen, and is no guess from what it is made of
        for name, measured in self._scales[sample].items():
            made.note_scale(name, None, measured)
        return made

    def feed(self, pairs: list[tuple[Sample, Sample]], *, agreed_from: int | None = None) -> None:
        """Other samples from now on; what the values held in those before still counts.

        ``agreed_from``: from this one on they are further draws, zeros among them, of models that agree on the usual one.
        """
        self.agreed_from = agreed_from
        self.feeds = pairs
        self.unsure = [{} for _ in pairs]
        self._measures = [{} for _ in pairs]
        self._scales = [{} for _ in pairs]
        self.kinds = [{} for _ in pairs]
        self._kept = [_NOTHING_KEPT, _NOTHING_KEPT]
        self.unanswered = set()

    def unpair(self, names: Collection[str]) -> None:
        """The candidate's inner values of these names have no partner from now on."""
        self.inner = [pair for pair in self.inner if pair.candidate not in names]
        paired = {pair.candidate for pair in self.pairs}
        self.alone = [name for name in self.order if name not in paired]

    def contents(self) -> Contents:
        """What the values held so far, to be given to ``forget_since``."""
        return self._contents.copied()

    def forget_since(self, remembered: Contents) -> None:
        """What the values held in samples compared since then counts no more."""
        self._contents = remembered.copied()

    @contextmanager
    def _noting(self, sample: int) -> Iterator[None]:
        """Notes a sample on which the reference fails."""
        try:
            yield
        except CoreproofError:
            self.unanswered.add(sample)
            raise

    def compare(self, progress: Progress, before: Sequence[Row] = ()) -> tuple[Row, ...]:
        """Every pair judged, in the candidate's order, the outputs last.

        ``before`` are the rows of earlier draws. Where both sides had the same numbers in all of them, and have them in these
        samples too, they stand as they are, with what was held added.
        """
        if before and (unchanged := self._identical(before, progress)) is not None:
            return unchanged
        what = f"{self.candidate.name} against {self.reference.name}"
        error_models = [self.error_model(i) for i in range(len(self.feeds))]
        self.unsure = [error_model.unsure for error_model in error_models]
        for error_model, (reference_fed, fed) in zip(error_models, self.feeds, strict=True):
            for name, value in fed.items():
                error_model.feed(name, as_array(value), apart=self._apart(name, reference_fed, value))
        rows: list[Row] = []
        groups = list(self._groups())
        reference_walks, candidate_walks = zip(
            *(self._walks(sample, groups) for sample in range(len(self.feeds))), strict=True
        )
        for group, alone in groups:
            rows.extend(self._batch(error_models, group, alone, reference_walks, candidate_walks))
            progress(what, len(rows), len(self.pairs))
        return tuple(rows)

    def _walks(
        self, sample: int, groups: Sequence[tuple[list[Pair], list[str]]]
    ) -> tuple[Iterator[dict[str, Array]], Iterator[dict[str, Array]]]:
        """The values of either side in a sample, group by group."""
        references = [[pair.reference for pair in pairs] for pairs, _ in groups]
        candidates = [[*(pair.candidate for pair in pairs), *alone] for pairs, alone in groups]
        return self.reference_values(sample, references), self.candidate_values(sample, candidates)

    def _identical(self, before: Sequence[Row], progress: Progress) -> tuple[Row, ...] | None:
        """The rows of before, where every number of either side is the other's in these samples too; None where one is not."""
        known = {row.candidate: row for row in before}
        pairs = self.pairs
        if (
            any(self._misnamed.values())
            or any(pair.candidate not in known for pair in pairs)
            or not all_identical(before)
        ):
            return None
        groups = list(self._groups())
        seen: list[tuple[str, Content, Array | None]] = []
        for sample, kinds in enumerate(self.kinds):
            reference_walk, candidate_walk = self._walks(sample, groups)
            for group, _ in groups:
                with self._noting(sample):
                    reference = next(reference_walk)
                self._afford(group, reference)
                candidate = next(candidate_walk)
                expected = {pair.candidate: arrange(reference[pair.reference], pair.axes) for pair in group}
                held = contents_if_identical({name: (value, candidate[name]) for name, value in expected.items()})
                if held is None:
                    return None
                for pair in group:
                    value = expected[pair.candidate] if pair.how == "output" else None
                    seen.append((pair.candidate, held[pair.candidate], value))
                    kinds[pair.reference] = reference[pair.reference].shape, reference[pair.reference].dtype
                del reference, candidate, expected
        for name, content, value in seen:
            self._contents.add_content(name, content, value)
        progress(f"{self.candidate.name} against {self.reference.name}", len(pairs), len(pairs))
        return tuple(replace(known[p.candidate], content=self._contents.content_of(p.candidate)) for p in pairs)

    def _afford(self, group: Sequence[Pair], reference: Mapping[str, Array]) -> None:
        """Raises TooLargeError where one of a group's values is too large for the other side to make (shapes may be unknown)."""
        if group:
            largest = max(group, key=lambda pair: reference[pair.reference].nbytes)
            afford_comparing(largest.reference, reference[largest.reference].nbytes, self.reference_session)

    def _apart(self, name: str, reference_fed: Sample, value: object) -> float:
        """By how much (root mean square) the two sides' memories differ at an input; nothing at one that is fed to both."""
        if name not in self.remembered:
            return 0.0
        own, other = as_array(value), as_array(reference_fed[self.remembered[name]])
        if own.size != other.size or not own.size:
            return 0.0
        # what is not finite on either side shows in the values themselves
        off = own.astype(np.float64).reshape(-1) - other.astype(np.float64).reshape(-1)
        return rms(off[np.isfinite(off)])

    def with_reference_memory(self, sample: int) -> Sample:
        """What the candidate is fed, with what the reference remembers in the place of what it remembers itself."""
        reference, candidate = self.feeds[sample]
        return {**candidate, **{own: reference[other] for own, other in self.remembered.items()}}

    def with_candidate_memory(self, sample: int) -> Sample:
        """What the reference is fed, with what the candidate remembers in the place of what it remembers itself."""
        reference, candidate = self.feeds[sample]
        return {**reference, **{other: candidate[own] for own, other in self.remembered.items()}}

    def _groups(self) -> Iterator[tuple[list[Pair], list[str]]]:
        """As many values of the candidate at a time as the memory holds, in its order: pairs, and values without partner.

        The outputs come last, with the last group: they are brought out anyway.
        """
        pairs = {p.candidate: p for p in self.inner}
        names_in_order = sorted([*pairs, *self.alone], key=lambda n: self.order.get(n, 0))
        groups = list(batched(names_in_order, self.memory, self.size)) or [[]]
        for names in groups:
            last = self.outputs if names is groups[-1] else []
            yield [*(pairs[n] for n in names if n in pairs), *last], [n for n in names if n not in pairs]

    def _batch(
        self,
        error_models: Sequence[ErrorModel],
        group: Sequence[Pair],
        alone: Sequence[str],
        reference_walks: Sequence[Iterator[dict[str, Array]]],
        candidate_walks: Sequence[Iterator[dict[str, Array]]],
    ) -> list[Row]:
        """Takes every sample on to this group's values, one sample at a time; only this sample's are held."""
        worst: dict[Pair, tuple[Judgement, tuple[int, ...], str]] = {}
        needed: dict[Pair, tuple[float, float]] = {}
        each = zip(self.kinds, error_models, reference_walks, candidate_walks, strict=True)
        for sample, (kinds, error_model, reference_walk, candidate_walk) in enumerate(each):
            with self._noting(sample):
                reference = next(reference_walk)
            if not all(is_finite(reference[pair.reference]) for pair in group if pair.how == "output"):
                self.unanswered.add(sample)
            self._afford(group, reference)
            candidate = next(candidate_walk)
            for name in alone:
                self._scales[sample][name] = error_model.note_scale(name, candidate.pop(name))
            for pair in sorted(group, key=lambda pair: self.places.get(pair.candidate, math.inf)):
                kinds[pair.reference] = reference[pair.reference].shape, reference[pair.reference].dtype
                found = self._judge_sample(pair, reference[pair.reference], candidate[pair.candidate], error_model)
                needed[pair] = most(needed.get(pair), needs(found[0]))
                # a row stands for all samples: it tells the worst of them
                if pair not in worst or severity(found[0]) > severity(worst[pair][0]):
                    worst[pair] = found
            del reference, candidate  # before the next sample's are made: two of them may not fit
        return [self._row(pair, needed[pair], *worst[pair]) for pair in group]

    def _judge_sample(
        self, pair: Pair, reference: Array, candidate: Array, error_model: ErrorModel
    ) -> tuple[Judgement, tuple[int, ...], str]:
        """One sample's values of a pair: the judgement, and shape and dtype of the candidate's."""
        expected = arrange(reference, pair.axes)
        tolerance = self.tolerance or error_model.tolerance(pair.candidate, expected)
        judgement = self.judge_within(pair, expected, candidate, tolerance, error_model.measured(pair.candidate))
        self._contents.add(pair.candidate, judgement, expected if pair.how == "output" else None)
        if judgement.agrees:
            if judgement.filled:
                error_model.accept(
                    pair.candidate, judgement.whole_error, judgement.rms_error, judgement.required_relative
                )
            else:
                error_model.accept(pair.candidate, judgement.rms_error, single=judgement.required_relative)
        return judgement, candidate.shape, dtype_name(candidate.dtype)

    def reference_values(self, sample: int, groups: Sequence[Iterable[str]]) -> Iterator[dict[str, Array]]:
        """What the reference has at these values, group by group in one pass; the last ones are kept for who asks again."""
        return self._values(0, sample, groups)

    def candidate_values(self, sample: int, groups: Sequence[Iterable[str]]) -> Iterator[dict[str, Array]]:
        """The same of the candidate, by its own names."""
        return self._values(1, sample, groups)

    def _values(self, side: int, sample: int, groups: Sequence[Iterable[str]]) -> Iterator[dict[str, Array]]:
        running, fed = (self.reference_session, self.candidate_session)[side], self.feeds[sample][side]
        wanted = [list(dict.fromkeys(names)) for names in groups]
        known, kept = self._kept[side]
        if known == sample and all(kept.keys() >= set(names) for names in wanted):
            yield from ({name: kept[name] for name in names} for names in wanted)
            return
        del kept
        self._kept[side] = _NOTHING_KEPT
        walk = running.walk(fed, [taps_of(running, names) for names in wanted])
        for at, names in enumerate(wanted):
            outcome = next(walk)
            if at < len(wanted) - 1 and any(name not in outcome for name in names):  # outputs come with the last group
                outcome = {**running.run(fed), **outcome}
            self._kept[side] = (sample, {name: as_array(outcome.pop(name)) for name in names})
            del outcome
            yield self._kept[side][1]
            self._kept[side] = _NOTHING_KEPT  # before the next ones are computed

    def judge(self, pair: Pair, reference: Array, candidate: Array, error_model: ErrorModel) -> Judgement:
        """The two values of a pair, by the caller's tolerance or by what rounding explains at this value."""
        tolerance = self.tolerance or error_model.tolerance(pair.candidate, reference)
        return self.judge_within(pair, reference, candidate, tolerance)

    def judge_fault(self, pair: Pair, reference: Array, candidate: Array, error_model: ErrorModel) -> Judgement | None:
        """As ``judge``, but None where they agree."""
        tolerance = self.tolerance or error_model.tolerance(pair.candidate, reference)
        if not self._misnamed.get(pair.candidate) and passes(
            reference, candidate, tolerance
        ):  # most do, and nobody asks for their figures
            return None
        judgement = self.judge_within(pair, reference, candidate, tolerance)
        return None if judgement.agrees else judgement

    def _in_the_references_words(self, pair: Pair, candidate: Array) -> Array:
        """Names of classes as the reference has them, where it has others for all of them."""
        words = self._translated.get(pair.candidate) if pair.how == "output" else None
        if words is None:
            return candidate
        named = [words.get(name, name) for name in candidate.reshape(-1).tolist()]
        return np.array(named, candidate.dtype if candidate.dtype.kind in "iu" else object).reshape(candidate.shape)

    def judge_within(
        self, pair: Pair, reference: Array, candidate: Array, tolerance: Tolerance, measured: Measured | None = None
    ) -> Judgement:
        """The two values of a pair, by a tolerance; ``measured`` is what is known of the reference's."""
        profile = self.profiles.get(pair.candidate)
        candidate = self._in_the_references_words(pair, candidate)
        if pair.how == "output" and (problem := self._misnamed.get(pair.candidate)):
            return disagreement(reference, tolerance, problem)
        judgement = judge(reference, candidate, tolerance, profile, self.ranges[pair.candidate], measured)
        if not judgement.agrees and pair.candidate in self._angles and reference.size == candidate.size:
            back, turned = turned_back(reference, candidate)
            again = judge(reference, back, tolerance, profile, self.ranges[pair.candidate]) if turned else judgement
            if again.agrees:
                return replace(again, turned=turned)
        # only what is stored in float16 can have left its range
        half = self.stored.get(pair.candidate) == "float16"
        if half:
            return judge_range(reference, candidate, judgement, profile)
        return judge_whole_range(reference, candidate, judgement)

    def _row(
        self, pair: Pair, needed: tuple[float, float], judgement: Judgement, shape: tuple[int, ...], dtype: str
    ) -> Row:
        makers = self.candidate.graph.producer(pair.candidate), self.reference.graph.producer(pair.reference)
        known = [node for node in makers if node is not None]
        return Row(
            reference=pair.reference,
            candidate=pair.candidate,
            operator=known[0].operator if known else "input",
            # the reference is nearer to where the model was written
            source=next((node.source for node in reversed(known) if node.source), None),
            shape=shape,
            dtype=self.stored.get(pair.candidate) or dtype,
            how=pair.how,
            judgement=judgement,
            content=self._contents.content_of(pair.candidate),
            needed=needed,
        )


def severity(judgement: Judgement) -> tuple[bool, float]:
    """Disagreement first; then how far out, as a share of what was allowed."""
    if math.isnan(judgement.max_error):
        return True, math.inf
    allowed = judgement.tolerance.relative
    return not judgement.agrees, judgement.required_relative / allowed if allowed else judgement.max_error
