"""A compressed weight is a weight: the bits of its mask excuse nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from coreproof.model.coreml.model import CoreMLModel
from coreproof.verification.verify import verify
from tests.build import mil

WEIGHT = np.random.default_rng(0).standard_normal((32, 48)).astype(np.float32)
MASK = (np.arange(WEIGHT.size).reshape(WEIGHT.shape) % 2).astype(np.uint8)


def dense(folder: Path, weight: np.ndarray = WEIGHT) -> CoreMLModel:
    return mil(folder, lambda mb, x: mb.linear(x=mb.relu(x=x), weight=weight, name="y"), (4, 48), target="iOS18")


def bits(mb: Any, mask: np.ndarray) -> Any:
    from coremltools.converters.mil.mil import types

    return mask.astype(types.nptype_from_builtin(types.string_to_builtin("uint1")))


def sparse(folder: Path) -> CoreMLModel:
    def build(mb: Any, x: Any) -> Any:
        weight = mb.constexpr_sparse_to_dense(nonzero_data=WEIGHT[MASK != 0], mask=bits(mb, MASK))
        return mb.linear(x=mb.relu(x=x), weight=weight, name="y")

    return mil(folder, build, (4, 48), target="iOS18")


def quantised_and_sparse(folder: Path, scale: float) -> CoreMLModel:
    def build(mb: Any, x: Any) -> Any:
        data = np.clip(np.rint(WEIGHT[MASK != 0] / scale), -127, 127).astype(np.int8)
        scales = np.full((1, 1), scale, np.float32)
        made = mb.constexpr_sparse_blockwise_shift_scale(data_mask=bits(mb, MASK), nonzero_data=data, scale=scales)
        weight = mb.constexpr_sparse_to_dense(nonzero_data=made[1], mask=made[0])
        return mb.linear(x=mb.relu(x=x), weight=weight, name="y")

    return mil(folder, build, (4, 48), target="iOS18")


@pytest.mark.parametrize("joint", [False, True])
def test_half_of_the_weights_taken_away_is_a_divergence(joint: bool, tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    candidate = quantised_and_sparse(tmp_path, 0.03) if joint else sparse(tmp_path)
    found = verify(dense(tmp_path / "a"), candidate)
    assert not found
    row = found.outputs[0]
    assert (row.tolerance.typical or 1.0) < 0.1
