"""A source that was exported for a batch, made to take one sample at a time, as the model beside it does."""

from __future__ import annotations

from coreproof.editing.edit import Edit, edit
from coreproof.errors import CoreproofError
from coreproof.model.base import Model
from coreproof.model.features import Feature


def one_at_a_time(source: Model, model: Model) -> Model:
    """The source with a batch of 1 where it declares a larger one and the model takes one sample.

    The source as it is where nothing of that kind is declared, or where it does not run on a single sample.
    """
    if not source.is_onnx:
        return source
    steps = [
        Edit("batch", {"input": declared.name, "length": 1})
        for declared, taken in zip(source.signature.inputs, model.signature.inputs, strict=False)
        if _batch(declared) > 1 and not _batch(taken) > 1
    ]
    if not steps or len(source.signature.inputs) != len(model.signature.inputs):
        return source
    # a batch that is folded into the layers as well cannot be declared away: the source stays as it is then
    try:
        single = edit(source, steps, check=False).model
        _run_once(single)
    except CoreproofError:
        return source
    return single


def _batch(feature: Feature) -> int:
    """The declared batch; 1 where none is declared: for pictures, and for the [C, H, W] of the older networks."""
    shape = feature.shape
    if feature.image is not None or shape is None or len(shape) not in (2, 4, 5):
        return 1
    return shape[0] if isinstance(shape[0], int) else 1


def _run_once(model: Model) -> None:
    from coreproof.feeding.drawn import random_feeds
    from coreproof.runtime.open import session

    with session(model) as running:
        running.run(random_feeds(model, model)[0])
