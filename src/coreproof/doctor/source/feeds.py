"""How a source and a model are fed the same thing: the source's own feeding, else the model's own preprocessing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from coreproof.errors import CoreproofError
from coreproof.feeding.drawn import Feeds, Sample, random_feeds, random_sample, several
from coreproof.feeding.inputs import GIVEN, hand_over
from coreproof.feeding.matched_inputs import match_inputs
from coreproof.feeding.own_preprocessing import numbers, own_feedings
from coreproof.feeding.picture_values import at_size_of, in_rank, picture_value
from coreproof.feeding.pictures import open_picture
from coreproof.model.base import Model
from coreproof.model.features import Feature, Signature
from coreproof.model.feeding import Feeding
from coreproof.runtime.images import pixels, resize_and_crop, to_tensor
from coreproof.runtime.open import session


def candidates(
    source: Model,
    model: Model,
    feeding: Feeding | None = None,
    photos: Sequence[Path] = (),
    given: Sequence[Sample] = (),
) -> Iterator[Feeds]:
    """The ways in which both may be meant to be fed, the likeliest first; one only where the formats leave no doubt.

    A model that takes a picture and a source that takes numbers need a feeding. Where none is known, the source is fed what
    the model's own first operations make of the picture, then less and less of them: whichever agrees best was meant.
    ``given`` samples are handed to both as they are.
    """
    if given:
        yield Feeds([hand_over(sample, source.signature, model.signature) for sample in given], GIVEN)
        return
    feeding = feeding or source.feeding
    picture_input = _picture_for_numbers(source, model)
    if picture_input is None:
        yield _plain(source, model, feeding, photos)
        return
    array, picture = picture_input
    assert picture.image is not None
    if feeding is not None:
        # cut out once, so that both see the very same pixels; then no more than squashed to what they are
        shape = at_size_of(picture, feeding)
        pictures = [open_picture(p) for p in photos] or [_random_picture(picture)]
        seen = [resize_and_crop(p, shape) for p in pictures]
        squashed, colour = replace(shape, resize="squash"), picture.image.colour
        pairs = [({array.name: to_tensor(p, squashed)}, {picture.name: pixels(p, colour)}) for p in seen]
        yield Feeds(pairs, GIVEN)
        return
    bare = at_size_of(picture)
    fed = [picture_value(open_picture(p), picture, bare) for p in photos] or [
        np.asarray(random_feeds(model, model)[0][picture.name], np.float32)
    ]
    try:
        with session(model) as running:
            own = own_feedings(running, picture)
    except CoreproofError:
        own = (replace(bare, colour=picture.image.colour),)
    # the last steps may be the network's own, as when a quantisation divides as well: less and less is taken for preprocessing
    for each in own:
        seen_as = [_as(array, numbers(f, picture.image, each, array)) for f in fed]
        yield Feeds([({array.name: a}, {picture.name: f}) for a, f in zip(seen_as, fed, strict=True)], GIVEN)


def _picture_for_numbers(source: Model, model: Model) -> tuple[Feature, Feature] | None:
    """The input where the model takes a picture and the source an array; None where there is no such single input."""
    try:
        pairs = match_inputs(source.signature, model.signature)
    except CoreproofError:
        return None
    if len(pairs) == 1 and pairs[0][0].image is None and pairs[0][1].image is not None:
        return pairs[0]
    return None


def _plain(source: Model, model: Model, feeding: Feeding | None, photos: Sequence[Path]) -> Feeds:
    inputs = source.signature.inputs
    if photos and len(inputs) == 1 and len(model.signature.inputs) == 1:
        if inputs[0].image is not None:
            feeding = at_size_of(inputs[0])
        fed = [] if feeding is None else [picture_value(open_picture(p), inputs[0], feeding) for p in photos]
        if fed:
            own = model.signature.inputs[0]
            return Feeds([({inputs[0].name: f}, {own.name: _as(own, f)}) for f in fed], GIVEN)
    return _drawn(source, model)


def _drawn(source: Model, model: Model) -> Feeds:
    """What ``verify`` draws, but for what is larger than usual: at that a healthy float16 model may leave its range."""
    with suppress(CoreproofError), session(source) as running:
        draws = several(source, model, sessions=(running, None))
        return Feeds([pair for at, pair in enumerate(draws.pairs) if at not in draws.large], GIVEN)
    return Feeds([random_feeds(source, model)], GIVEN)


def all_drawn(source: Model, model: Model) -> Iterator[Feeds]:
    """What ``verify`` draws, what is larger than usual too: the first draw and the large ones, then all of them."""
    with session(source) as running:
        draws = several(source, model, sessions=(running, None))
    some = [pair for at, pair in enumerate(draws.pairs) if at == 0 or at in draws.large]
    for pairs in (some, draws.pairs):
        yield Feeds(pairs, GIVEN)


def _as(feature: Feature, array: np.ndarray) -> np.ndarray:
    return in_rank(array, feature).astype(feature.dtype or "float32")


def _random_picture(feature: Feature) -> Image.Image:
    drawn, _ = random_sample(Signature((feature,), ()), Signature((feature,), ()))
    # a picture's drawn values are whole numbers in the order of its colour; PIL wants red first
    planes = np.asarray(drawn[feature.name])[0].astype(np.uint8)
    if feature.image is not None and feature.image.colour == "BGR":
        planes = planes[::-1]
    if planes.shape[0] == 1:
        return Image.fromarray(planes[0]).convert("RGB")
    return Image.fromarray(np.ascontiguousarray(planes.transpose(1, 2, 0)))
