"""Tolerances: how far two honest computations of the same value may lie apart, and the judge that applies it.

Two engines that compute the same network never give the same bits: they add in another order, and one of them may
store every result in half precision. How far apart that can bring them follows from arithmetic, and is written down
here and nowhere else.

1. Rounding. Storing a number in a format with p significant bits changes it by at most u = 2^-p of itself: float32
   2^-24, float16 2^-11, bfloat16 2^-8. Weights stored in b bits change by about q = 8 / sqrt(12) / (2^b - 1) of their
   standard deviation (a range of eight deviations cut into 2^b - 1 even steps).
2. One operator. A sum of K terms rounded K times in random directions is off by about u * sqrt(K / 2) of its size; two
   engines that add in different orders differ by sqrt(2) times that: own = u32 * sqrt(K). A result that is then stored
   adds u once, and so do weights that were stored with u: own^2 = (u32 * sqrt(K))^2 + u^2 + w^2.
   Operators that only move values (reshape, relu, max pooling) add nothing; one that chooses among values errs like
   what it chose, which max pooling takes from where values and errors are large. A loop rounds its state in each of T rounds,
   which is sqrt(T) times u; a softmax along another axis than the last adds up one by one; ONNX Runtime's Fourier transforms
   round their angles; Apple's interpreter of Core AI rounds each partial sum of a product of matrices to the width of its
   result (further_errors.py).
3. Depth. What arrives at an operator is passed on: sums add the absolute errors of their operands (so a small
   difference of large numbers gets the error of the large ones); products add the relative ones; normalisation
   divides by the deviation of what it centres; exp and softmax turn an absolute error into a relative one, log a
   relative one into an absolute one. A softmax leaves behind what a mask makes small, and its rounding with it.
   Errors of different origin are independent and add as squares:
   e(v)^2 = sum of e(inputs)^2 + own^2. The scales needed for this are those of the reference's own values, measured
   while it runs.
   Known weights say more (those of a sum over axes are ones): white noise grows by their root sum of squares, and what arrives
   passes like the signal or like noise, whichever is larger. Where a value was compared and accepted, the error found there
   takes the place of the predicted one, so that every operator answers for what it adds itself and nothing is excused by depth.
4. Channels. A channel whose weights are large amplifies what arrives more than its neighbours: channel o of W x errs in
   proportion to sqrt(sum_i W[o, i]^2 p[i]^2), where p says the same of the input's channels (channels.py). The error of
   a single element is held against its channel's share of e(v), where that is larger than the whole's.
   A value that is rounded to steps (floor, round, quantisation) is off by a whole step where what arrived lies within its error
   e of an edge: a share 2 e of the elements, so that the root mean square is sqrt(2 e) steps, and no element more than one.
   How many these are is a count of rare events, and scatters like one (Poisson). A product with a known number scales steps.
   Errors of a sum also follow the sizes of its terms: a place in a picture that is louder than the rest errs more, by
   as much as it is louder.
5. The verdict. e(v) predicts the root-mean-square error as a share of the scale of the value (the root mean square of
   the reference tensor; not its single elements, which may lie near zero by chance while the error of the sum that
   made them does not). A value agrees when its root-mean-square error is within TYPICAL * e(v), which catches small
   faults that touch everything, and every single element is within WORST * e(v) times the larger of its own size and
   the scale (times its channel's and its place's share), which catches faults that touch little. Integers, booleans
   and strings have to be equal. NaN and infinity have to stand at the same places; an infinity is allowed on one side alone where
   the other's number lies within its tolerance of the size from which on the format rounds to infinity (65520 in float16):
   either engine may have come out on either side of it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace

import numpy as np

from coreproof.errors import InputError
from coreproof.model.budget import afford
from coreproof.model.numbers import FLOAT16_MAX, OVERFLOW, UNIT_ROUNDOFF, json_ready, share_of
from coreproof.pairing.structured import unlike
from coreproof.verification.channels import Profile
from coreproof.verification.error_stats import (
    ChannelScale,
    ErrorStats,
    Exceedance,
    Measured,
    PickedScale,
    any_size_stats,
    block_exceedance,
    error_stats,
    errors,
    exceedance,
    in_float32,
)
from coreproof.verification.fills import Ordinary, largest_finite, ordinary_part

Array = np.ndarray

_FILLED_BYTES = 32
"""Bytes that an element takes while the ordinary elements of a value are taken out: both sides, places, and their shares."""

_SPARSE_BYTES = 80
"""Bytes that an element takes while two values are compared that are not finite everywhere: ten doubles."""

SMALLEST: Mapping[str, float] = {"float16": 2.0**-24, "float32": 2.0**-126, "bfloat16": 2.0**-126, "float64": 2.0**-126}
"""Below this, a format stores numbers with an absolute error, not a relative one."""

LOST = 16 * SMALLEST["float16"]
"""Numbers of float16 below this have four binary digits at most, and what is made of them may have none."""

TYPICAL = 2.0
"""How many predicted errors the root-mean-square error may reach: what the prediction leaves out (how strongly a
particular layer amplifies what comes in) stays within a small factor. Measured on EfficientNet-Lite0 with trained
weights: at most 1.1 of the prediction at each of 94 values, against PyTorch and in float16."""

WORST = 5.3 * TYPICAL
"""How many predicted errors a single element may reach: the largest of 10^7 normally distributed errors is 5.3 of
them, and each of them may be TYPICAL times the predicted one."""

VACUOUS = 0.5
"""The most that rounding may excuse, as a share of a value's scale: what is off by half of it is not the same value, even where
the arithmetic alone could have done that. A value of which so much would have to be allowed proves nothing."""

U32 = UNIT_ROUNDOFF["float32"]


@dataclass(frozen=True)
class Tolerance:
    """``relative`` to the larger of an element's size and the tensor's scale, plus ``absolute``, bounds each element.

    ``typical`` bounds the root-mean-square error relative to the scale; None leaves it unjudged. ``step``: the value is rounded
    to multiples of it, and an element at the edge between two may come out as either; ``typical`` says how many may. ``why``
    says in words where the numbers come from. ``filled`` is (relative, typical) for all of a value that holds fills; the other
    bounds are then for its ordinary elements, by their own scale. None: it is judged once. ``coarse``: what one step of a value
    before it is here, where known factors alone lie between: an element that is so far off is one step off.
    """

    relative: float = 0.0
    absolute: float = 0.0
    typical: float | None = None
    why: str = "given by the caller"
    step: float = 0.0
    filled: tuple[float, float | None] | None = None
    coarse: float = 0.0

    @property
    def of_whole(self) -> Tolerance:
        """What all elements together are judged by, where some are fills."""
        relative, typical = self.filled or (self.relative, self.typical)
        return replace(self, relative=relative, typical=typical, filled=None)

    @property
    def single(self) -> float:
        """What a single element may be off by, whatever its size."""
        return self.absolute + self.step

    def __str__(self) -> str:
        if self == EXACT:
            return "equal"
        parts = [f"{self.relative:.1e} of scale" if not self.step else f"one step of {self.step:g}"]
        if self.typical is not None:
            parts.append(f"{self.typical:.1e} typical")
        return ", ".join(parts)


def given_tolerance(given: Tolerance | float | None) -> Tolerance | None:
    """A tolerance as a caller gives it: whole, or the share of a value's scale that single elements may be off by.

    Raises InputError for anything else.
    """
    if given is None or isinstance(given, Tolerance):
        return given
    if isinstance(given, bool) or not isinstance(given, int | float) or not given >= 0:
        raise InputError(
            "tolerance is a share of a value's scale, or a Tolerance", expected="a number from 0 on", found=repr(given)
        )
    return Tolerance(relative=float(given))


EXACT = Tolerance(why="integers, booleans and strings have to be equal")


@dataclass(frozen=True)
class Judgement:
    """Two tensors compared. Truthy when they agree within ``tolerance``.

    Errors are taken over the elements that are finite on both sides. ``max_relative_error``, ``rms_relative_error`` are
    shares of ``scale``, the root mean square of the reference. ``required_absolute`` and ``required_relative`` are the least
    values of that part of the tolerance, the other part as it is, with which every element would have passed. ``worst``
    is the index of the element that is furthest off. ``misplaced`` counts elements that are NaN or infinite on one side only (or
    infinities of another sign); not those ``at_limit``, infinite on one side where the other lies within its tolerance of the
    size from which on the format overflows. ``problem`` says in words why the two do not agree; empty when they do. ``clipped``
    counts elements beyond float16's range that the candidate holds at its end or as infinite, where nothing else is wrong.
    ``low`` and ``high`` are the ends of the reference's finite elements; NaN where there are none, and of texts.
    ``filled`` counts elements that are far larger than all others: errors and scale are then those of the others, and
    ``whole_error`` is the root mean square over all of them. ``astray`` counts those on another step, clear of any edge,
    ``turned`` angles that are pi on one side and -pi on the other, which is the same.
    """

    agrees: bool
    tolerance: Tolerance
    max_error: float
    mean_error: float
    rms_error: float
    max_relative_error: float
    rms_relative_error: float
    cosine: float
    psnr: float
    scale: float
    required_absolute: float
    required_relative: float
    worst: tuple[int, ...]
    nan: tuple[int, int]
    infinite: tuple[int, int]
    misplaced: int
    elements: int
    problem: str
    clipped: int = 0
    at_limit: int = 0
    low: float = math.nan
    high: float = math.nan
    filled: int = 0
    whole_error: float = math.nan
    astray: int = 0
    turned: int = 0

    def __bool__(self) -> bool:
        return self.agrees

    @property
    def used(self) -> float:
        """The error as a share of what is allowed, by the stricter of the two rules: above 1 it disagrees."""
        if self.misplaced or math.isnan(self.max_error):
            return math.inf
        relative, absolute, typical = self.tolerance.relative, self.tolerance.absolute, self.tolerance.typical
        # where nothing relative is allowed, the largest error counts as it is
        single = (
            share_of(self.required_relative, relative) if relative else share_of(self.max_error, self.tolerance.single)
        )
        if typical is None:
            return single
        return max(single, share_of(self.rms_error, typical * self.scale + absolute))

    def to_json(self) -> dict[str, object]:
        """The figures as JSON can hold them: what is not finite becomes a word."""
        figures: dict[str, object] = json_ready(asdict(self))
        return figures


def judge(
    reference: object,
    candidate: object,
    tolerance: Tolerance,
    profile: Profile | None = None,
    stored: str | None = None,
    measured: Measured | None = None,
) -> Judgement:
    """Compares two tensors element by element, after bringing ``candidate`` to the reference's shape.

    ``profile`` says how unevenly errors spread over the channels; None: evenly. ``stored``: the coarser of the two formats in
    which they are stored, which says from which size on a number is infinite; None: from no size on. Shapes may differ where the
    number of elements is the same (a squeezed batch, a NeuralNetwork's rank 5).
    """
    a, b = np.asarray(reference), np.asarray(candidate)
    if built := unlike(reference, candidate):
        return disagreement(a, tolerance, built)
    # dimensions of length 1 come and go with the format; the number of elements does not
    if a.size != b.size:
        return disagreement(a, tolerance, f"shapes differ: {_shape(a)} and {_shape(b)}")
    if _is_text(a) or _is_text(b):
        different = int(np.sum(a.astype(str).ravel() != b.astype(str).ravel()))
        return disagreement(a, tolerance, f"{different} of {a.size} differ") if different else _equal(a, tolerance)
    # integers that are equal need no figures in float64
    b = b.reshape(a.shape)
    if a.dtype.kind in "iub" and b.dtype.kind in "iub" and np.array_equal(a, b):
        return _equal(a, tolerance)
    a, b = in_float32(a), in_float32(b)
    b = b if tolerance.filled is None else _masked_alike(a, b)
    channel_scale = None if profile is None else profile.over(a.shape)
    limit = OVERFLOW.get(stored or "", math.inf)
    part = None if tolerance.filled is None else ordinary_part(a, largest_finite(a))
    if part is None:
        return _judge_numbers(a, b, tolerance, channel_scale, limit, measured)
    return _judge_beside_fills(a, b, tolerance, channel_scale, limit, part)


def judge_range(reference: Array, candidate: Array, judgement: Judgement, profile: Profile | None = None) -> Judgement:
    """A disagreement of a value that is stored in float16, with ``clipped`` noted where its range alone is to blame.

    What lies beyond the range counts as clipped also where something small was added to the end of it since: a score to a mask.
    So does what is infinite on the candidate's side alone: the logarithm of what left the range before it; and what is so small
    on both sides that float16 holds next to nothing of it.
    """
    if judgement.agrees or reference.dtype.kind != "f" or reference.size != candidate.size:
        return judgement
    b = candidate.reshape(reference.shape)
    with np.errstate(invalid="ignore"):
        # a mask ends at the range or, to be added to another one, at half of it; what was added may bring it down by half of that
        beyond = (
            (np.abs(reference) > FLOAT16_MAX)
            & (np.abs(b) >= FLOAT16_MAX / 4)
            & (np.signbit(reference) == np.signbit(b))
        )
        # so small, no digit of it is left
        lost = (reference != b) & (np.abs(reference) < LOST) & (np.abs(b) < LOST)
        clipped = np.isfinite(reference) & (beyond | np.isinf(b) | lost)
    if (
        not clipped.any()
        or not judge(reference, np.where(clipped, reference, b), judgement.tolerance, profile, "float16").agrees
    ):
        return judgement
    return replace(judgement, clipped=int(clipped.sum()))


def passes(reference: Array, candidate: Array, tolerance: Tolerance) -> bool:
    """Whether the two agree for certain, by their largest and their typical error alone; cheaper than ``judge``."""
    if unlike(reference, candidate) or reference.size != candidate.size or _is_text(reference) or _is_text(candidate):
        return False
    # fills make the largest and the typical error say nothing of the rest
    if tolerance.filled is not None:
        return False
    known = errors(*(in_float32(side.reshape(-1)) for side in (reference, candidate)))
    if known is None:
        return False
    largest, typical, scale = known
    beyond = largest > tolerance.relative * scale + tolerance.single
    return not _problem(0, int(beyond), reference.size, typical, tolerance, scale)


def _judge_numbers(
    a: Array,
    b: Array,
    tolerance: Tolerance,
    channel_scale: ChannelScale | None = None,
    limit: float = math.inf,
    measured: Measured | None = None,
) -> Judgement:
    known = error_stats(a.reshape(-1), b.reshape(-1), measured)
    if known is None and (masked := _masked_alike(a, b)) is not b:
        b, known = masked, error_stats(a.reshape(-1), masked.reshape(-1))
    # NaN, infinities, or numbers whose squares overflow: the fast way says nothing of them
    if known is None:
        afford("comparing a value that is not finite everywhere", a.shape, _SPARSE_BYTES)
        return _judge_sparse(a.astype(np.float64), b.astype(np.float64), tolerance, channel_scale, limit)
    beyond = exceedance(a.reshape(-1), b.reshape(-1), known, tolerance.relative, tolerance.single, channel_scale)
    return _judgement(a, tolerance, known, beyond, beyond.worst)


def _judge_beside_fills(
    a: Array,
    b: Array,
    tolerance: Tolerance,
    channel_scale: ChannelScale | None,
    limit: float,
    part: Ordinary,
) -> Judgement:
    """The ordinary elements by their own scale, and all by the whole one's: the figures are those of the ordinary ones."""
    afford("comparing a value that holds fills", a.shape, _FILLED_BYTES)
    filled = int(a.size - part.elements)
    whole = _judge_numbers(a, b, tolerance.of_whole, channel_scale, limit)
    whole = replace(whole, filled=filled, whole_error=whole.rms_error)
    flat, other = a.reshape(-1), b.reshape(-1)
    places = np.flatnonzero((np.abs(flat) <= part.limit) & np.isfinite(other))
    if whole.misplaced or part.scale == 0:
        return whole
    among = None if channel_scale is None else PickedScale(channel_scale.per_channel, channel_scale.run, places)
    judged = _judge_numbers(flat[places], other[places], replace(tolerance, filled=None), among)
    # the ordinary elements are as they should be, so that what fails is among the fills
    if judged and not whole:
        return whole
    beside = f"{judged.problem} (beside {filled} that are far larger)" if judged.problem else ""
    return replace(
        judged,
        tolerance=tolerance,
        worst=_index(int(places[judged.worst[0]]), a.shape) if judged.worst else (),
        nan=whole.nan,
        infinite=whole.infinite,
        at_limit=whole.at_limit,
        elements=whole.elements,
        low=whole.low,
        high=whole.high,
        problem=beside,
        filled=filled,
        whole_error=whole.rms_error,
    )


def _judgement(
    a: Array,
    tolerance: Tolerance,
    known: ErrorStats,
    beyond: Exceedance,
    worst: int | None,
    *,
    misplaced: int = 0,
    nan: tuple[int, int] = (0, 0),
    infinite: tuple[int, int] = (0, 0),
) -> Judgement:
    """The verdict over a tensor from what was counted and measured; ``worst`` is a place in the flattened reference."""
    problem = _problem(misplaced, beyond.over, a.size, known.rms_error, tolerance, known.scale)
    return Judgement(
        agrees=not problem,
        tolerance=tolerance,
        max_error=known.error,
        mean_error=known.mean_error,
        rms_error=known.rms_error,
        max_relative_error=share_of(known.error, known.scale),
        rms_relative_error=share_of(known.rms_error, known.scale),
        cosine=known.cosine,
        psnr=_psnr(known.high - known.low, known.rms_error),
        scale=known.scale,
        required_absolute=max(0.0, beyond.required_absolute),
        required_relative=beyond.required_relative,
        worst=() if worst is None else _index(worst, a.shape),
        nan=nan,
        infinite=infinite,
        misplaced=misplaced,
        elements=int(a.size),
        problem=problem,
        low=known.low,
        high=known.high,
    )


def _index(place: int, shape: tuple[int, ...]) -> tuple[int, ...]:
    """The index of an element in stored order; numpy's own takes ten times as long for one."""
    found = []
    for length in reversed(shape):
        place, at = divmod(place, length)
        found.append(at)
    return tuple(reversed(found))


def _problem(misplaced: int, over: int, elements: int, rms_error: float, tolerance: Tolerance, scale: float) -> str:
    if misplaced:
        return f"{misplaced} of {elements} elements are NaN or infinite on one side only"
    if over:
        return f"{over} of {elements} elements are out of tolerance"
    # a tolerance of the caller's bounds single elements alone
    allowed = math.inf if tolerance.typical is None else tolerance.typical * scale + tolerance.absolute
    if rms_error <= allowed:
        return ""
    if not allowed:
        return "some elements are a step off, and rounding explains none of that"
    return f"the typical error is {rms_error / allowed:.3g} times what rounding explains"


def _judge_sparse(
    a: Array, b: Array, tolerance: Tolerance, channel_scale: ChannelScale | None, limit: float
) -> Judgement:
    """Tensors of which some elements are not finite, or so large that their squares are not."""
    both = np.isfinite(a) & np.isfinite(b)
    alike = (np.isnan(a) & np.isnan(b)) | (np.isinf(a) & (a == b))
    x, y = a[both], b[both]
    known = any_size_stats(x, y)
    share = np.ones(a.shape) if channel_scale is None else channel_scale.factors(0, a.size).reshape(a.shape)
    at_limit = np.zeros(a.shape, bool)
    if math.isfinite(limit) and not tolerance.step:
        finite = np.where(np.isfinite(a), a, b)
        one_side = (np.isinf(a) ^ np.isinf(b)) & np.isfinite(finite) & (np.signbit(a) == np.signbit(b))
        allowed = np.minimum(tolerance.relative * share, VACUOUS) * max(limit, known.scale) + tolerance.absolute
        at_limit = one_side & (np.abs(np.abs(np.where(one_side, finite, 0.0)) - limit) <= allowed)
    wrong = np.flatnonzero(~both & ~alike & ~at_limit)
    beyond, worst = Exceedance(0, 0, 0.0, 0.0), None
    if x.size:
        # an element near zero in a tensor of large ones errs like the sum that made it
        size = np.maximum(np.abs(x), known.scale) * share[both]
        beyond = block_exceedance(np.abs(x - y), size, tolerance.relative, tolerance.single)
        worst = int(np.flatnonzero(both)[beyond.worst])
    # a NaN on one side alone is worse than any number
    if wrong.size:
        worst = int(wrong[0])
    nan, infinite = ((int(found(a).sum()), int(found(b).sum())) for found in (np.isnan, np.isinf))
    judged = _judgement(a, tolerance, known, beyond, worst, misplaced=wrong.size, nan=nan, infinite=infinite)
    problem = judged.problem
    if wrong.size and (np.isinf(a) & np.isinf(b) & (a != b)).any():
        problem += ", or infinite with another sign"
    own = a[np.isfinite(a)]
    low, high = (float(own.min()), float(own.max())) if own.size else (math.nan, math.nan)
    return replace(judged, at_limit=int(np.count_nonzero(at_limit)), problem=problem, low=low, high=high)


_LOWEST = np.float64(np.finfo(np.float32).min)


def _masked_alike(a: Array, b: Array) -> Array:
    """``b`` with a place masked as ``a`` masks it: engines take the lowest number of float32 for ONNX's minus infinity."""
    if a.dtype.kind != "f" or b.dtype.kind != "f" or not a.size or min(float(a.min()), float(b.min())) > _LOWEST:
        return b
    both = (a <= _LOWEST) & (b <= _LOWEST) & (np.isinf(a) != np.isinf(b))
    return np.where(both, a, b) if both.any() else b


def _psnr(peak: float, rms_error: float) -> float:
    """Peak signal (the reference's range) to noise ratio in decibels; infinite where there is no error."""
    if rms_error == 0:
        return math.inf  # also where there are no elements, and ``peak`` is NaN
    # a constant reference has no range: any error is infinitely loud beside it
    return 20 * math.log10(peak / rms_error) if peak > 0 else -math.inf


def _equal(a: Array, tolerance: Tolerance) -> Judgement:
    if _is_text(a):
        alike = np.zeros(a.shape)  # equal texts are judged as equal numbers are, but have no range
        return replace(_judge_numbers(alike, alike, tolerance), low=math.nan, high=math.nan)
    return _judge_numbers(a, a, tolerance)


def disagreement(a: Array, tolerance: Tolerance, problem: str) -> Judgement:
    """Of values that no tolerance makes equal: shapes, keys or names of classes differ."""
    nan = math.nan
    return Judgement(
        False, tolerance, nan, nan, nan, nan, nan, nan, nan, nan, nan, nan, (), (0, 0), (0, 0), 0, int(a.size), problem
    )


def _is_text(a: Array) -> bool:
    return a.dtype.kind in "OSU"


def _shape(a: Array) -> str:
    return "[" + "x".join(map(str, a.shape)) + "]"
