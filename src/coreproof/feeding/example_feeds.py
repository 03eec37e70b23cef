"""What two models are fed where one is a PyTorch module whose branches are frozen as its example inputs take them."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from coreproof.conversion.torch_to_onnx.branches import branches_of
from coreproof.errors import InputError
from coreproof.feeding.drawn import Feeds, Pair, random_sample
from coreproof.feeding.inputs import hand_over
from coreproof.feeding.matched_inputs import match_inputs
from coreproof.feeding.own_preprocessing import numbers, own_feedings, pixels_of
from coreproof.model.base import Model
from coreproof.model.features import Feature
from coreproof.model.feeding import Feeding
from coreproof.model.torch.model import TorchModel
from coreproof.runtime.session import Session

SAID = "the example inputs, which the frozen branches follow"
_DRAWS = 8
"""Pictures that are drawn in search of one that takes the branches as the example inputs do."""


def example_feeds(
    module: TorchModel,
    other: Model,
    running: Session | None = None,
    feedings: Mapping[str, Feeding] | None = None,
    *,
    module_first: bool = True,
) -> Feeds:
    """The module's example inputs for both; where the other takes a picture, the nearest one, or another with the same branches.

    ``running``: the other model ready to run, which tells how it feeds its own network, where neither ``feedings`` (by the
    module's inputs) nor the module says it. Raises InputError where no picture was found that takes the same branches.
    """
    matched = match_inputs(module.signature, other.signature)
    pictures = [(a, b) for a, b in matched if a.image is None and b.image is not None]
    if not pictures:
        return Feeds([_ordered(hand_over(module.examples, module.signature, other.signature), module_first)], SAID)
    told = {a.name: _feeding(module, a, b, running, feedings or {}) for a, b in pictures}
    wanted = branches_of(module).places
    for number in range(1 + _DRAWS):
        left = dict(module.examples)
        drawn = random_sample(module.signature, other.signature, number=number)[1] if number else {}
        right = dict(hand_over(module.examples, module.signature, other.signature)[1])
        for a, b in pictures:
            assert b.image is not None
            nearest = pixels_of(left[a.name], b.image, told[a.name], a)
            right[b.name] = np.asarray(drawn[b.name], np.float32) if number else nearest
            left[a.name] = numbers(np.asarray(right[b.name]), b.image, told[a.name], a)
        if branches_of(module, left).places == wanted:
            said = "a picture that takes the branches as the example inputs do"
            return Feeds([_ordered((left, right), module_first)], said)
    raise InputError(
        "no picture takes the frozen branches as the example inputs do",
        where=module.name,
        expected="example inputs that a picture can be",
        found=f"neither the picture nearest to them nor {_DRAWS} that were drawn go the same way",
        fix="give example inputs that are made of a picture",
    )


def _ordered(pair: Pair, module_first: bool) -> Pair:
    return pair if module_first else (pair[1], pair[0])


def _feeding(
    module: TorchModel, taken: Feature, picture: Feature, running: Session | None, feedings: Mapping[str, Feeding]
) -> Feeding:
    if taken.name in feedings:
        return feedings[taken.name]
    if module.feeding is not None:
        return module.feeding
    if running is None:
        raise InputError("how pictures become this module's numbers is not known", where=module.name)
    return own_feedings(running, picture)[0]
