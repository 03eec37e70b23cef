"""Pad amounts in the order of another format."""

from __future__ import annotations

import numpy as np
import pytest

from coreproof.doctor.diagnose import diagnose
from coreproof.model.coreml.model import CoreMLModel
from coreproof.model.onnx.model import OnnxModel
from tests.build import convolution, named, network, onnx_net, weights
from tests.doctor.rules.cases import assert_healthy, assert_repaired

RULE = "constantpad-order"


def padded(*amounts: int, channels: int = 3) -> CoreMLModel:
    return network(
        [
            named("first pad", "constantPad", "x", "p", padAmounts=amounts, padToGivenOutputSizeMode=False),
            convolution("conv", "p", "c", weights(4, channels, 3, 3)),
            named("second pad", "constantPad", "c", "q", padAmounts=amounts),
            convolution("out", "q", "y", weights(2, 4, 3, 3)),
        ],
        {"x": (1, 3, 8, 8)},
        {"y": None},
        exact=True,
    )


@pytest.mark.parametrize(
    ("wrong", "right"),
    [((0, 0, 1, 1, 0, 0, 1, 1), (0, 0, 0, 0, 1, 1, 1, 1)), ((0, 0, 2, 1, 0, 0, 3, 4), (0, 0, 0, 0, 2, 3, 1, 4))],
)
def test_both_pads_are_put_right(wrong: tuple[int, ...], right: tuple[int, ...]) -> None:
    found = assert_repaired(padded(*wrong), padded(*right), RULE, "first pad")
    assert "'second pad'" in found[0].evidence
    assert_healthy(padded(*right))


def quiet(*amounts: int) -> CoreMLModel:
    return network(
        [
            named("pad", "constantPad", "x", "p", padAmounts=amounts),
            convolution("out", "p", "y", weights(2, 3, 3, 3)),
        ],
        {"x": (1, 3, 8, 8)},
        {"y": None},
        exact=True,
    )


def quiet_source(*pads: int) -> OnnxModel:
    return onnx_net(
        [("Pad", "x n", "p", {}), ("Conv", "p w", "y", {"pads": [1, 1, 1, 1]})],
        {"x": [1, 3, 8, 8]},
        {"y": None},
        n=np.array(pads),
        w=weights(2, 3, 3, 3),
    )


def test_a_silent_one_is_seen_with_the_source() -> None:
    # begins and ends exchanged: the same sizes, another place
    broken, right = quiet(0, 0, 0, 0, 1, 3, 1, 3), quiet(0, 0, 0, 0, 3, 1, 3, 1)
    source = quiet_source(0, 0, 3, 3, 0, 0, 1, 1)
    assert diagnose(broken).healthy
    assert_repaired(broken, right, RULE, "pad", source=source)
    assert_healthy(right, source)


def test_a_silent_one_of_other_sizes() -> None:
    """ONNX's [0, 0, 0, 0, 0, 0, 1, 2], read as pairs: both amounts fall on the width."""
    source = quiet_source(0, 0, 0, 0, 0, 0, 1, 2)
    broken, right = quiet(0, 0, 0, 0, 0, 0, 1, 2), quiet(0, 0, 0, 0, 0, 1, 0, 2)
    assert_repaired(broken, right, RULE, "pad", source=source)
    assert_healthy(right, source)


def test_amounts_that_follow_no_order_are_taken_from_the_source() -> None:
    source = quiet_source(0, 0, 1, 2, 0, 0, 3, 4)
    assert_repaired(quiet(0, 0, 0, 0, 5, 0, 0, 1), quiet(0, 0, 0, 0, 1, 3, 2, 4), RULE, "pad", source=source)
