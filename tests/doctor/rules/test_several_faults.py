"""Several faults in one model: each is found behind the one that hid it, and all are repaired."""

from __future__ import annotations

from typing import Any

import numpy as np

from coreproof.doctor.diagnose import diagnose
from coreproof.model.coreml.model import CoreMLModel
from tests.build import convolution, named, network, onnx_net, pool, weights
from tests.doctor.rules.cases import assert_healthy, outputs, sample


def classifier(pads: list[int], view: list[int], labels: int) -> CoreMLModel:
    return network(
        [
            named("pad", "constantPad", "x", "p", padAmounts=pads),
            convolution("conv", "p", "c", weights(4, 3, 3, 3)),
            pool("pool", "c", "g"),
            named("view", "reshapeStatic", "g", "v", targetShape=view),
            named(
                "fc", "batchedMatmul", "v", "y", weightMatrixFirstDimension=4, weightMatrixSecondDimension=5,
                weights=weights(4, 5),
            ),
        ],
        {"x": (1, 3, 6, 6)},
        {"y": None},
        exact=True,
        labels=[f"label {i}" for i in range(labels)],
    )  # fmt: skip


def test_three_loud_faults() -> None:
    right = [f"label {i}" for i in range(5)]
    broken = classifier([0, 0, 1, 1, 0, 0, 1, 1], [10, -1], 1000)
    diagnosis = diagnose(broken, labels=right)
    assert {(f.rule, f.layer, f.repaired) for f in diagnosis} == {
        ("constantpad-order", "pad", True),
        ("batch-baked-reshape", "view", True),
        ("class-label-count", "fc", True),
    }
    assert diagnosis.repaired is not None
    assert_healthy(diagnosis.repaired, labels=right)
    assert diagnosis.repaired.graph == classifier([0, 0, 0, 0, 1, 1, 1, 1], [1, -1], 5).graph


def test_what_can_be_repaired_is_repaired_and_the_rest_is_asked_for() -> None:
    diagnosis = diagnose(classifier([0, 0, 0, 0, 1, 1, 1, 1], [10, -1], 4))
    assert {(f.rule, f.repaired) for f in diagnosis} == {("batch-baked-reshape", True), ("class-label-count", False)}


def gated(views: int, lost: bool, mode: str) -> CoreMLModel:
    """A lost constant hides a silent grid behind it."""
    mix: list[Any] = [named("mix", "add", "k c" if lost else "c", "m", **({} if lost else {"alpha": 1.0}))]
    return network(
        [
            convolution("conv", "x", "c", weights(4, 3, 3, 3)),
            *mix,
            named("view", "reshape", "m", "v", targetShape=[views, 4, 6, 5]),
            named("up", "upsample", "v", "y", scalingFactor=[2, 2], mode=mode),
        ],
        {"x": (3, 6, 5)},
        {"y": None},
    )


def test_loud_and_silent_faults_with_the_source() -> None:
    source = onnx_net(
        [
            ("Conv", "x w", "c", {"pads": [1, 1, 1, 1]}),
            ("Add", "k c", "m", {}),
            ("Resize", "m  s", "y", {"mode": "linear", "coordinate_transformation_mode": "half_pixel"}),
        ],
        {"x": [1, 3, 6, 5]},
        {"y": None},
        w=weights(4, 3, 3, 3),
        k=np.array(1, np.float32),
        s=np.array([1, 1, 2, 2], np.float32),
    )
    diagnosis = diagnose(gated(3, True, "BILINEAR"), source)
    assert {(f.rule, f.layer, f.repaired) for f in diagnosis} == {
        ("dangling-input", "mix", True),
        ("batch-baked-reshape", "view", True),
        ("bilinear-grid", "up", True),
    }
    assert diagnosis.repaired is not None
    fed = sample(source)
    np.testing.assert_allclose(
        outputs(diagnosis.repaired, {"x": fed["x"][0]})[0], outputs(source, fed)[0], rtol=1e-4, atol=1e-5
    )


def test_an_error_beside_infinities_is_infinite_and_says_nothing() -> None:
    from coreproof.doctor.case import relative_error

    numbers = np.ones(3)
    for odd in (np.nan, np.inf):
        assert relative_error(np.array([1, odd, 1]), np.array([1, odd, 1])) == np.inf
        assert relative_error(numbers, np.array([1, odd, 1])) == np.inf
    assert relative_error(numbers, numbers) == 0
