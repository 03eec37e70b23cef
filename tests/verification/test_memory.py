"""Comparing takes no more memory than the budget allows, however small the file that asks for it."""

from __future__ import annotations

import tracemalloc
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

import coreproof as cp
from coreproof.errors import TooLargeError
from coreproof.model.budget import set_memory_budget
from coreproof.verification.channels import profiles
from coreproof.verification.error_state import ErrorState, measure
from tests.build import onnx_model


def doubled(times: int) -> Any:
    """A value joined with itself, again and again: ``times`` lines ask for 4 * 2^times numbers."""
    names = ["x", *(f"v{i}" for i in range(1, times + 1))]
    steps = "\n".join(f"{after} = Concat <axis = 0> ({v}, {v})" for v, after in pairwise(names))
    text = f"{steps}\ny = ReduceMax <keepdims = 0> (v{times})"
    return onnx_model(f'<ir_version: 8, opset_import: ["": 17]> net (float[1,4] x) => (float y) {{ {text} }}')


@pytest.fixture
def budget(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COREPROOF_MEMORY_BUDGET", "1")  # put back afterwards
    set_memory_budget("16MB")


@pytest.mark.usefixtures("budget")
def test_a_value_that_is_doubled_again_and_again_is_refused_by_name() -> None:
    model = cp.load(doubled(19))  # 8 MB, held on both sides and in both engines
    with pytest.raises(TooLargeError, match="comparing 'v"):
        cp.verify(model, model)
    assert cp.verify(cp.load(doubled(16)), cp.load(doubled(16)))


def test_no_profile_of_channels_grows_with_what_is_joined() -> None:
    found = profiles(cp.load(doubled(40)).ir.graph)  # type: ignore[attr-defined]
    assert max(profile.shares.size for profile in found.values()) <= 1 << 22


@pytest.mark.parametrize(
    "shape", [(4_000_000,), (2, 2_000_000), (4, 1000, 1000), (1, 4, 1000, 1000), (1, 2_000_000, 2, 1)]
)
@pytest.mark.parametrize("dtype", ["uint8", "float32", "float64"])
def test_measuring_a_value_takes_a_fraction_of_it(shape: tuple[int, ...], dtype: str) -> None:
    values = np.zeros(shape, dtype)
    values[..., :1] = 3
    tracemalloc.start()
    try:
        measure(values)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 0.8 * 4 * values.size + 8_000_000


@pytest.mark.parametrize(
    "shape",
    [
        (1,),
        (7,),
        (3, 5),
        (2, 3, 4),
        (2, 3, 4, 5),
        (1, 2, 3, 4, 5),
        (2, 150_000, 2),
        (1, 3, 600, 70),
        (1, 200_000, 3, 2),
    ],
)
@pytest.mark.parametrize("scale", [1.0, 1e300])
@pytest.mark.parametrize("whole", [True, False])
def test_what_is_measured_in_blocks_is_what_the_definition_says(
    shape: tuple[int, ...], scale: float, whole: bool
) -> None:
    values = np.random.default_rng(1).standard_normal(shape)
    if not whole and values.size > 2:
        values.reshape(-1)[:2] = np.nan, np.inf
    finite = np.isfinite(values)
    zeroed = np.where(finite, values, 0.0)
    size = np.sqrt(np.mean(zeroed[finite] ** 2))
    shares = (zeroed / size) ** 2
    places = shares.mean(axis=1 if values.ndim == 4 else -1) if values.ndim > 2 else shares.mean()
    expected = ErrorState(
        0.0,
        size * scale,
        zeroed.std() * scale,
        values.size,
        max(1, np.sqrt(places.max())),
        max(1, np.sqrt(shares.max())),
    )
    found = measure(values * scale)
    for name in ("scale", "deviation", "elements", "loudest", "peak"):
        assert getattr(found, name) == pytest.approx(getattr(expected, name), rel=1e-9)
