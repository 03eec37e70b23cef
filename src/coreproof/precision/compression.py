"""Compressed weights: what they cost against the source, and the fewest that have to stay as they are for a given loss."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence

import numpy as np

from coreproof.errors import ConversionError, InputError
from coreproof.feeding.drawn import Feeds
from coreproof.feeding.inputs import feeds_of
from coreproof.model.base import Model
from coreproof.model.coreml.compression_report import CompressedOutput, CompressedWeight, CompressionReport
from coreproof.model.coreml.model import CoreMLModel
from coreproof.model.layer_weights import WeightRef, all_weights
from coreproof.model.numbers import relative_rms
from coreproof.model.opened import opened
from coreproof.model.progress import Progress, silent
from coreproof.pairing.align import Pair
from coreproof.pairing.taps import as_array, match_outputs, taps_of
from coreproof.precision.exchanged import ExchangedWeights
from coreproof.precision.minimal_set import Trials, minimal_set
from coreproof.runtime.open import session

Compress = Callable[[Collection[str]], CoreMLModel]
"""Converts once more, with the weights compressed save those of these names."""


def compressed_within(
    source: Model,
    plain: CoreMLModel,
    compress: Compress,
    *,
    scheme: str,
    keep: Collection[str] = (),
    feeds: Feeds | None = None,
    at_most: float | None = None,
    progress: Progress | None = None,
) -> tuple[CoreMLModel, CompressionReport]:
    """The model with its weights compressed, and what that costs against ``source`` over ``feeds`` (drawn where None).

    ``plain`` is the same conversion uncompressed. With ``at_most`` the fewest weights are left as they are with which no output
    differs from the source's by more than this share of its scale, each trial a run of the model as it would be stored.
    Raises InputError for a loss below 0, and ConversionError where even the uncompressed model differs by more.
    """
    if at_most is not None and not at_most >= 0:
        raise InputError("the loss is a share of an output's scale", expected="0 or more", found=str(at_most))
    work = _Measured(source, plain, feeds)
    made = compress(keep)
    left: tuple[str, ...] = ()
    minimal, tried = True, 0
    # often all weights can be compressed, and nothing has to be searched
    if at_most is not None and work.loss(made) > at_most:
        # then the loss is the conversion's own, and no weight's
        if max(work.before.values(), default=0.0) > at_most:
            raise ConversionError(
                f"no set of weights that stay as they are keeps the loss within {at_most:g}",
                where=plain.name,
                found=f"the uncompressed model differs from its source by {max(work.before.values()):.2g} of an output's scale",
                fix='a larger loss, or precision "fp32"',
            )
        found, minimal, tried = _fewest(work, plain, made, at_most, progress or silent)
        left = tuple(sorted(found))
        made = compress([*keep, *left])
    return made, work.report(made, scheme, at_most, left, minimal=minimal, trials=tried)


class _Measured:
    """What the source answers, once, and how far models are from it."""

    def __init__(self, source: Model, plain: CoreMLModel, feeds: Feeds | None) -> None:
        self.plain = plain
        reference_model = opened(source)
        with session(reference_model) as reference, session(opened(plain)) as candidate:
            sides = (reference_model, opened(plain))
            fed = feeds if feeds is not None else feeds_of(*sides, sessions=(reference, candidate))
            self.said, self.samples = fed.said, fed.candidate
            self.pairs: Sequence[Pair] = match_outputs(reference, candidate)
            names = taps_of(reference, [pair.reference for pair in self.pairs])
            self.wanted = [self._numbers(reference.run(sample, names), "reference") for sample in fed.reference]
        self.before, _ = self.errors(plain)

    def _numbers(self, run: Mapping[str, object], side: str) -> list[np.ndarray]:
        return [as_array(run[getattr(pair, side)]) for pair in self.pairs]

    def errors(self, model: CoreMLModel) -> tuple[dict[str, float], int | None]:
        """output -> the error of its worst sample, and for how many samples the first output's largest element is the same."""
        worst: dict[str, float] = {}
        same: int | None = 0
        with session(opened(model)) as running:
            names = taps_of(running, [pair.candidate for pair in self.pairs])
            for wanted, sample in zip(self.wanted, self.samples, strict=True):
                got = self._numbers(running.run(sample, names), "candidate")
                for pair, a, b in zip(self.pairs, wanted, got, strict=True):
                    worst[pair.candidate] = max(worst.get(pair.candidate, 0.0), _error(a, b))
                first = _same_first(wanted[0], got[0])
                same = None if first is None or same is None else same + first
        return worst, same

    def loss(self, model: CoreMLModel) -> float:
        return max(self.errors(model)[0].values(), default=0.0)

    def report(
        self,
        made: CoreMLModel,
        scheme: str,
        at_most: float | None,
        left: tuple[str, ...],
        *,
        minimal: bool,
        trials: int,
    ) -> CompressionReport:
        errors, same = self.errors(made)
        weights = tuple(_weights(self.plain, made))
        return CompressionReport(
            model=made.name,
            scheme=scheme,
            weights=weights,
            outputs=tuple(CompressedOutput(name, self.before[name], errors[name]) for name in errors),
            inputs=self.said,
            samples=len(self.samples),
            same_first=same,
            bytes_before=sum(weight.bytes_before for weight in weights),
            bytes=sum(weight.bytes for weight in weights),
            at_most=at_most,
            left=left,
            minimal=minimal,
            trials=trials,
        )


def _fewest(
    work: _Measured, plain: CoreMLModel, made: CoreMLModel, at_most: float, progress: Progress
) -> tuple[frozenset[str], bool, int]:
    """The fewest weights that stay as they are, whether that is shown, and after how many trials."""
    dense = {name: after for name, before, after in _both(plain, made) if _differs(before, after)}
    exchanged = ExchangedWeights(plain, {name: after.read for name, after in dense.items()})
    try:

        def loss(kept: frozenset[str]) -> float:
            progress("weights that stay as they are: trials", 1, 0)
            return work.loss(exchanged.with_all_but(kept))

        trials = Trials(list(dense), lambda kept: loss(kept) <= at_most)

        def ranked() -> list[str]:
            # what one weight costs when it alone is compressed
            costs = {name: loss(frozenset(dense) - {name}) for name in dense}
            return sorted(dense, key=lambda name: -costs[name])

        found, minimal = minimal_set(trials, ranked)
        return found, minimal, trials.done
    finally:
        exchanged.close()


def _both(plain: CoreMLModel, made: CoreMLModel) -> list[tuple[str, WeightRef, WeightRef]]:
    """Weights of rank 2 and more by "layer:parameter", before and after; the layers are the same in both."""
    after = all_weights(made)
    return [
        (f"{layer}:{parameter}", reference, after[layer][parameter])
        for layer, weights in all_weights(plain).items()
        for parameter, reference in weights.items()
        # biases and scales have one dimension, and are never compressed
        if len(reference.shape) >= 2 and "float" in reference.dtype and parameter in after.get(layer, {})
    ]


def _differs(before: WeightRef, after: WeightRef) -> bool:
    return after.stored != before.stored or after.dtype != before.dtype


def _weights(plain: CoreMLModel, made: CoreMLModel) -> list[CompressedWeight]:
    operators = {node.name: node.operator for node in plain.graph.nodes}
    rows = []
    for name, before, after in _both(plain, made):
        layer, _, parameter = name.rpartition(":")
        kept = not _differs(before, after)
        rows.append(
            CompressedWeight(
                layer=layer,
                parameter=parameter,
                operator=operators.get(layer, ""),
                shape=before.shape,
                stored_before=before.dtype,
                stored=after.dtype,
                bytes_before=before.stored or 0,
                bytes=after.stored or 0,
                error=0.0 if kept else _error(before.read(), after.read()),
                kept=kept,
            )
        )
    return rows


def _error(wanted: np.ndarray, got: np.ndarray) -> float:
    """The rms difference as a share of the scale of what is wanted; infinite where what is not finite differs."""
    if wanted.dtype.kind in "OSU" or not wanted.size or wanted.size != got.size:
        return 0.0 if wanted.size == got.size else float("inf")
    a, b = wanted.reshape(-1).astype(np.float64), got.reshape(-1).astype(np.float64)
    # infinities have to stand at the same places; a share of them is no number
    whole = np.isfinite(a)
    if not np.array_equal(whole, np.isfinite(b)):
        return float("inf")
    a, b = a[whole], b[whole]
    return 0.0 if np.array_equal(a, b) else relative_rms(a, b)


def _same_first(wanted: np.ndarray, got: np.ndarray) -> int | None:
    """Whether the largest of a vector of scores is the same one; None where it is no such vector."""
    # a batch of 1 and planes of 1x1 around the classes do not count
    longer = [length for length in wanted.shape if length > 1]
    if len(longer) != 1 or wanted.size != got.size or wanted.dtype.kind != "f":
        return None
    return int(np.argmax(wanted.reshape(-1)) == np.argmax(got.reshape(-1)))
