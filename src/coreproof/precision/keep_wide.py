"""kept_wide: what of a model has to be computed in float32 in a float16 program, found by running it."""

from __future__ import annotations

from collections.abc import Mapping

from coreproof.conversion.convert import to_onnx
from coreproof.conversion.shapes import with_batches
from coreproof.feeding.drawn import Feeds, Inputs, random_feeds
from coreproof.feeding.inputs import hand_over, samples
from coreproof.model.base import Model
from coreproof.model.opened import opened
from coreproof.model.progress import Progress
from coreproof.precision.forecast import forecast, programs_of
from coreproof.precision.inner_sums import inner_sums


def kept_wide(
    source: Model,
    inputs: Inputs | Feeds | None = None,
    *,
    shapes: Mapping[str, object] | None = None,
    batch: int | str | None = None,
    states: Mapping[str, str] | None = None,
    progress: Progress | None = None,
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The ONNX values whose operators stay in float32, and notes that name them.

    Those are the operators that overflow (or make NaN) in float16 and not in float32, over ``inputs`` or over drawn ones, those
    that form a sum inside themselves which float16 does not hold, and the fewest others without which an output would not agree.
    ``shapes``, ``batch`` and ``states`` are those of the conversion.
    Raises what ``forecast`` raises.
    """
    known = opened(source, states if source.is_onnx else None)
    if batch is not None:
        shapes = with_batches(known.signature.inputs, shapes or {}, batch)
    middle = known if known.is_onnx else to_onnx(known, shapes=shapes)
    found = forecast(middle, inputs, measured=0, shapes=shapes, progress=progress)
    broken = {row.unit: row.problem for row in found.overflows}
    for unit, largest in _inner(middle, inputs, shapes).items():
        broken.setdefault(unit, f"it forms a sum of squares of up to {largest:.2g}")
    kept = tuple(dict.fromkeys([*broken, *found.must_stay_fp32]))
    if not kept:
        return (), (f"nothing has to stay in float32 (inputs: {found.inputs})",)
    said = [f"{unit} ({broken[unit]})" if unit in broken else unit for unit in kept]
    return kept, (f"in float32, because float16 breaks it: {'; '.join(said)} (inputs: {found.inputs})",)


def _inner(model: Model, inputs: Inputs | Feeds | None, shapes: Mapping[str, object] | None) -> dict[str, float]:
    """ONNX value -> the largest sum of squares inside the operator that makes it, where float16 does not hold that."""
    _, program = programs_of(model, shapes)
    given = inputs.reference if isinstance(inputs, Feeds) else inputs
    feeds = [random_feeds(model, program)[0]] if given is None else samples(given)
    fed = [hand_over(sample, model.signature, program.signature)[1] for sample in feeds]
    sums = inner_sums(program, fed)
    return {program.provenance[name]: largest for name, largest in sums.items() if name in program.provenance}
