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


def squeezed(folder: Path, levels: int, fault: float = 1.0) -> CoreMLModel:
    """A weight looked up in a table, as files before iOS18 hold it: in the operation's attributes, packed."""
    low, high = float(WEIGHT.min()), float(WEIGHT.max())
    table = np.linspace(low, high, levels).astype(np.float32)
    indices = np.abs(WEIGHT[..., None] - table).argmin(-1).astype(np.uint8)
    table[levels // 2] *= fault

    def build(mb: Any, x: Any) -> Any:
        bits = (indices.reshape(-1, 1) >> np.arange(levels.bit_length() - 1)) & 1
        packed = np.packbits(bits.astype(np.uint8).reshape(-1), bitorder="little")
        weight = mb.constexpr_lut_to_dense(indices=packed, lut=table, shape=np.array(WEIGHT.shape, np.uint32))
        return mb.linear(x=mb.relu(x=x), weight=weight, name="y")

    return mil(folder, build, (4, 48), target="iOS16")


def scaled_down(folder: Path, fault: float = 1.0) -> CoreMLModel:
    scale = np.float32(np.abs(WEIGHT).max() / 127)

    def build(mb: Any, x: Any) -> Any:
        data = np.clip(np.rint(WEIGHT / scale), -127, 127).astype(np.int8)
        kept = {
            "quantized_data": data,
            "zero_point": np.int8(0),
            "scale": np.float32(scale * fault),
            "axis": np.int32(0),
        }
        return mb.linear(x=mb.relu(x=x), weight=mb.constexpr_affine_dequantize(**kept), name="y")

    return mil(folder, build, (4, 48), target="iOS16")


@pytest.mark.parametrize("levels", [256, 64, 16, 0])
def test_a_weight_compressed_as_before_ios18_errs_as_its_bits_explain(levels: int, tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    candidate = squeezed(tmp_path, levels) if levels else scaled_down(tmp_path)
    found = verify(dense(tmp_path / "a"), candidate)
    assert found, found.summary()
    assert found.proves


@pytest.mark.parametrize("levels", [256, 0])
def test_a_scale_or_a_table_that_is_off_is_a_fault_all_the_same(levels: int, tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    candidate = squeezed(tmp_path, levels, 500.0) if levels else scaled_down(tmp_path, 1.1)
    assert not verify(dense(tmp_path / "a"), candidate)
