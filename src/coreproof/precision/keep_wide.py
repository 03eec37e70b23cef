"""kept_wide: what of a model has to be computed in float32 in a float16 program, found by running it."""

from __future__ import annotations

from collections.abc import Mapping

from coreproof.conversion.convert import to_onnx
from coreproof.conversion.shapes import with_batches
from coreproof.feeding.drawn import Feeds, Inputs
from coreproof.model.base import Model
from coreproof.model.opened import opened
from coreproof.model.progress import Progress
from coreproof.precision.forecast import forecast


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

    Those are the operators that overflow (or make NaN) in float16 and not in float32, over ``inputs`` or over drawn ones, and the
    fewest others without which an output would not agree. ``shapes``, ``batch`` and ``states`` are those of the conversion.
    Raises what ``forecast`` raises.
    """
    known = opened(source, states if source.is_onnx else None)
    if batch is not None:
        shapes = with_batches(known.signature.inputs, shapes or {}, batch)
    middle = known if known.is_onnx else to_onnx(known, shapes=shapes)
    found = forecast(middle, inputs, measured=0, shapes=shapes, progress=progress)
    overflowing = {row.unit: row for row in found.overflows}
    kept = tuple(dict.fromkeys([*overflowing, *found.must_stay_fp32]))
    if not kept:
        return (), (f"nothing has to stay in float32 (inputs: {found.inputs})",)
    said = [f"{unit} ({overflowing[unit].problem})" if unit in overflowing else unit for unit in kept]
    return kept, (f"in float32, because float16 breaks it: {'; '.join(said)} (inputs: {found.inputs})",)
