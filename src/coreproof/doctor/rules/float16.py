"""float16: values that overflow, become NaN or vanish: the first operation, its range, and the fewest that compute in float32.

An ML Program in float16 cannot hold numbers beyond 65504, and loses those below 6e-8. Unscaled pixels, squares, masks of -1e9
and epsilons of 1e-12 meet these limits, and the converter says nothing. The rule runs the program in its own precision
and in float32; where the outputs part, it tries which operations have to be wider.

What rounding took from the stored weights, only the source can give back.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from coreproof.conversion.coreml_to_onnx.mlprogram.switches import SMALLEST_SUBNORMAL
from coreproof.difference.settings import set_edit
from coreproof.doctor.case import Case
from coreproof.doctor.finding import Finite, Hypothesis, Repair
from coreproof.doctor.source.source_weights import is_extreme, stored_halves, weights_before
from coreproof.doctor.trial import holding
from coreproof.editing.edit import Edit
from coreproof.errors import CoreproofError, RunError
from coreproof.model.coreml.model import CoreMLModel
from coreproof.model.numbers import FLOAT16_MAX
from coreproof.precision.float16_report import Float16Report
from coreproof.precision.forecast import forecast
from coreproof.precision.mixed import computes_in_float16

Array = npt.NDArray[np.generic]
Weights = Mapping[tuple[str, str], Array]

_CAUSE = (
    "float16 holds numbers from 6e-8 to 65504; the program was converted without asking whether its values stay within"
)


_A_MASK = FLOAT16_MAX / 2
"""So large that a softmax takes it for infinity, and small enough that two masks, added up, stay finite in float16."""
_AN_EPSILON = 1e-3
"""One that float16 holds in full, tried in the place of those that vanished."""


def applies(case: Case) -> bool:
    return computes_in_float16(case.model) and case.evidence.runs


def hypotheses(case: Case) -> Iterator[Hypothesis]:
    """An ML Program whose outputs float16 ruins."""
    model = case.evidence.model
    assert isinstance(model, CoreMLModel)
    found = case.evidence.verification
    if found is not None and found.agrees:
        return  # whatever float16 does to inner values, the outputs bear it
    constants = stored_halves(model)
    if not case.evidence.lost and not _unlike_the_source(case, constants):
        return
    weights = weights_before(constants, case.evidence.reference) if case.evidence.reference is not None else {}
    if masks := list(_infinite_masks(constants, weights)):
        yield from masks  # what else there is shows when they are numbers
        return
    try:
        # how much each operation adds to the error is not asked: only which of them have to be wider
        report = forecast(model, case.evidence.own_feeds, measured=0, weights=weights)
    except RunError:
        # not even float32 gives numbers, so that no width of an operation helps
        yield from _stored_weights(case, constants)
        return
    except CoreproofError:
        return
    if report.agrees or not report.must_stay_fp32:
        return
    yield _hypothesis(report, weights, constants if case.evidence.reference is None else {})


def _infinite_masks(constants: Weights, weights: Weights) -> Iterator[Hypothesis]:
    """Constants stored as infinity that the source has as finite numbers beyond float16, as the -3.4e38 of a mask.

    Times zero, infinity is NaN, which the finite number was not. Of weights it is not enough to be finite.
    """
    broken = {
        place: array
        for place, array in constants.items()
        if place in weights and np.isfinite(weights[place]).all() and _is_infinite_mask(array)
    }
    if not broken:
        return
    layers = list(dict.fromkeys(op for op, _ in broken))
    (op, key), array = next(iter(broken.items()))
    ended = {place: np.clip(stored, -_A_MASK, _A_MASK) for place, stored in broken.items()}
    yield Hypothesis(
        layer=op,
        evidence=(
            f"{int(np.isinf(array).sum())} of {array.size} numbers of its {key} are infinite, "
            f"and {np.abs(weights[op, key]).max():.3g} in the source"
        ),
        cause="the constant did not fit float16 when the model was converted, and infinity times zero is no number",
        repairs=(
            Repair(
                f"write {_A_MASK:g} for infinity in {', '.join(layers)}, with its sign",
                tuple(set_edit(layer, name, stored) for (layer, name), stored in ended.items()),
            ),
        ),
        weight=70,
    )


def _is_infinite_mask(array: Array) -> bool:
    """Whether a constant holds infinity, and nothing else but zeros."""
    infinite = np.isinf(array)
    return bool(infinite.any() and (infinite | (array == 0)).all())


def is_to_blame(case: Case) -> bool:
    """Whether something is known to be wrong with how this program computes or stores in float16."""
    return next(holding(case, hypotheses(case)), None) is not None


def _unlike_the_source(case: Case, constants: Weights) -> bool:
    """Whether constants that look as if they had not fitted float16 are others in the source."""
    if case.evidence.reference is None:
        return False
    return bool(weights_before({place: a for place, a in constants.items() if is_extreme(a)}, case.evidence.reference))


def _hypothesis(report: Float16Report, weights: Weights, constants: Weights) -> Hypothesis:
    first = report.first
    assert first is not None
    kept = list(report.must_stay_fp32)
    restored = {place: array for place, array in weights.items() if place[0] in kept}
    wrong = [o for o in report.outputs if not o.agrees]
    # widen takes the weights as they are stored; what rounding took from them the source gives back
    edits = [Edit("widen", {"layers": kept})]
    edits += [set_edit(op, key, array) for (op, key), array in restored.items()]
    words = f"compute {', '.join(kept)} in float32"
    if restored:
        words += f", with {len(restored)} weights of the source"
    left = max((o.error for o in report.mended), default=0.0)
    return Hypothesis(
        layer=first.layer,
        evidence=(
            f"{first.problem or 'rounding to float16 is too coarse'} (in float32 it makes {first.smallest:.2g} to "
            f"{first.largest:.2g}); the output {wrong[0].name!r} {_said(wrong[0].error)}, "
            f"with {len(kept)} operations in float32 by {left:.2g}"
        ),
        cause=_CAUSE,
        repairs=(Repair(words, tuple(edits)),),
        needs=_needs(kept, constants, weights),
        weight=70,
    )


def _said(error: float) -> str:
    return "holds NaN or infinity" if math.isinf(error) else f"is off by {error:.2g} of its scale"


def _needs(kept: Sequence[str], constants: Weights, weights: Weights) -> str | None:
    """What is missing where a weight of these operations did not fit float16 and the source is not at hand."""
    ends = [
        op
        for (op, key), array in constants.items()
        if op in kept and (op, key) not in weights and _did_not_fit(key, array)
    ]
    if not ends:
        return None
    return f"give the source (--against): constants of {', '.join(dict.fromkeys(ends))} did not fit float16 and are lost here"


def _did_not_fit(key: str, array: Array) -> bool:
    """Whether a constant looks like one that float16 clipped, or took to zero."""
    size = np.abs(array)
    ended = bool((size >= FLOAT16_MAX).any())
    # a bias of zero is nothing unusual; a factor or an epsilon of zero is
    return ended or (array.size == 1 and key not in ("bias", "beta") and bool(size.max() <= SMALLEST_SUBNORMAL))


def _stored_weights(case: Case, constants: Weights) -> Iterator[Hypothesis]:
    """NaN in float32 as well: constants that were stored as infinity or zero."""
    broken = [(op, key, a) for (op, key), a in constants.items() if not np.isfinite(a).all()]
    # an epsilon below 6e-8 is stored as zero
    vanished = [(op, key, a) for (op, key), a in constants.items() if key == "epsilon" and not np.any(a)]
    for op, key, array in (broken or vanished)[:1]:
        count = int((~np.isfinite(array)).sum())
        yield Hypothesis(
            layer=op,
            evidence=(
                f"{count} of {array.size} numbers of its {key} are infinite or NaN"
                if count
                else f"its {key} is zero, and it divides by zero"
            ),
            cause="the constant did not fit float16 when the model was converted",
            needs="give the source (--against), from which the constant can be taken, or convert again with this in float32",
            weight=70,
            # the logarithm of what is negative has no number, whatever is added to it: some epsilon has to help
            about=None if broken else Finite(),
            trial=() if broken else tuple(set_edit(o, k, np.full_like(a, _AN_EPSILON)) for o, k, a in vanished),
        )
