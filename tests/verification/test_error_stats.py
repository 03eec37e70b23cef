"""figures: block by block, the same numbers as the plain formulas give."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from coreproof.verification import error_stats as module
from coreproof.verification.channels import Profile
from coreproof.verification.error_stats import Measured, error_stats, exceedance
from coreproof.verification.tolerance import Tolerance, judge, passes


@pytest.fixture(params=[1 << 17, 64], ids=["one block", "many blocks"])
def block(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(module, "BLOCK", request.param)
    monkeypatch.setattr(module, "_ROW", 16)
    return request.param


def plain(a: np.ndarray, b: np.ndarray, relative: float, absolute: float, factors: np.ndarray) -> tuple[Any, ...]:
    x, y = a.astype(np.float64), b.astype(np.float64)
    error, scale = np.abs(x - y), np.sqrt(np.mean(x * x))
    size = np.maximum(np.abs(x), scale) * factors
    left = error - (absolute + relative * size)
    required = np.where(error > absolute, (error - absolute) / size, 0.0).max()
    return int((left > 0).sum()), max(0.0, float((error - relative * size).max())), float(required), float(left.max())


@pytest.mark.parametrize("seed", range(12))
def test_the_figures_are_those_of_the_plain_formulas(seed: int, block: int) -> None:
    rng = np.random.default_rng(seed)
    shape = (2, 5, int(rng.integers(3, 30)), 7)
    a = (rng.normal(size=shape) * rng.uniform(0.1, 3, (1, 5, 1, 1))).astype(np.float32)
    b = (a + 0.01 * rng.normal(size=shape) * (rng.random(shape) < 0.3)).astype(np.float32)
    relative, absolute = float(rng.choice([0.0, 0.005, 0.05])), float(rng.choice([0.0, 0.003]))
    profile = Profile(rng.uniform(0.5, 2, 5), 1)
    share = profile.over(shape)
    assert share is not None
    factors = np.maximum(profile.shares, 1.0).reshape(1, 5, 1, 1)
    over, absolute_needed, relative_needed, furthest = plain(a, b, relative, absolute, factors)
    known = error_stats(a.reshape(-1), b.reshape(-1))
    assert known is not None
    found = exceedance(a.reshape(-1), b.reshape(-1), known, relative, absolute, share)
    assert found.over == over
    assert found.required_absolute == pytest.approx(absolute_needed, rel=1e-5, abs=1e-15)
    assert found.required_relative == pytest.approx(relative_needed, rel=1e-5)
    x, y = a.astype(np.float64).reshape(-1), b.astype(np.float64).reshape(-1)
    size = np.maximum(np.abs(x), known.scale) * np.broadcast_to(factors, shape).reshape(-1)
    assert abs(x - y)[found.worst] - absolute - relative * size[found.worst] == pytest.approx(furthest, rel=1e-6)
    assert known.error == pytest.approx(np.abs(x - y).max(), rel=1e-6)
    assert known.mean_error == pytest.approx(np.abs(x - y).mean(), rel=1e-5)
    assert known.rms_error == pytest.approx(np.sqrt(np.mean((x - y) ** 2)), rel=1e-5)
    assert known.cosine == pytest.approx(x @ y / np.sqrt((x @ x) * (y @ y)))
    assert (known.low, known.high) == (x.min(), x.max())


@pytest.mark.parametrize("size", [1e-30, 1e-12, 1.0, 1e15, 1e30])
def test_float32_of_any_size_keeps_its_figures(size: float, block: int) -> None:
    rng = np.random.default_rng(4)
    a = (size * rng.normal(size=500)).astype(np.float32)
    b = (a * (1 + 1e-5 * rng.normal(size=500))).astype(np.float32)
    x, y = a.astype(np.float64), b.astype(np.float64)
    for known in (error_stats(a, b), error_stats(x, y)):
        assert known is not None
        assert known.rms_error == pytest.approx(np.sqrt(np.mean((x - y) ** 2)), rel=1e-4)
        assert known.scale == pytest.approx(np.sqrt(np.mean(x * x)), rel=1e-5)
        assert known.cosine == pytest.approx(1, abs=1e-6)


def test_what_is_not_finite_or_too_large_has_no_quick_figures(block: int) -> None:
    ones = np.ones(100)
    for strange in (np.nan, np.inf, 1e200):
        other = ones.copy()
        other[70] = strange
        assert error_stats(ones, other) is None
        assert error_stats(other, ones) is None
        assert not passes(ones, other, Tolerance(1e3))
    assert error_stats(np.ones(0), np.ones(0)) is None
    assert judge(np.full(3, 1e200), np.full(3, 1e200), Tolerance()).agrees


def test_passing_for_certain_is_never_more_than_agreeing(block: int) -> None:
    rng = np.random.default_rng(1)
    a = rng.normal(size=(3, 50)).astype(np.float32)
    answers = []
    for step in np.geomspace(1e-4, 1, 30):
        b = (a + step * rng.normal(size=a.shape)).astype(np.float32)
        tolerance = Tolerance(0.1, 0.0, 0.03)
        quick, full = passes(a, b, tolerance), judge(a, b, tolerance).agrees
        assert full or not quick
        answers.append(quick)
    assert answers[0]
    assert not answers[-1]


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("kind", ["far", "at the edge", "equal errors", "close", "fine"])
def test_float32_decides_as_float64_does(seed: int, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where float32 cannot tell (elements at the edge of what is allowed), the figures come from float64: bit for bit."""
    monkeypatch.setattr(module, "BLOCK", 1 << 9)
    monkeypatch.setattr(module, "_PART", 1 << 7)
    monkeypatch.setattr(module, "_FEW", 0)  # of few elements float64 is asked at once
    rng = np.random.default_rng(seed)
    relative = float(10.0 ** rng.uniform(-6, -1))
    a = rng.normal(size=(2, 6, 200)).astype(np.float32)
    spread = {"far": 100 * relative, "close": 0.5 * relative, "fine": 1e-7}.get(kind, relative)
    factors = np.maximum(rng.uniform(0.5, 2, 6), 1.0) if seed % 2 else np.ones(6)
    size = np.maximum(np.abs(a), np.sqrt(np.mean(a.astype(np.float64) ** 2))) * factors[:, None]
    signs = rng.choice([-1, 1], a.shape)
    off = {
        "at the edge": spread * size * (1 + 1e-7 * rng.normal(size=a.shape)),
        "equal errors": np.full(a.shape, spread),
    }
    b = (a + signs * off.get(kind, spread * np.abs(rng.normal(size=a.shape)))).astype(np.float32)
    share = Profile(factors, 1).over(a.shape)
    x, y = a.reshape(-1), b.reshape(-1)
    known = error_stats(x, y)
    assert known is not None
    found = exceedance(x, y, known, relative, 0.0, share)
    # the same numbers as float64 arrays are held against the tolerance in float64 throughout
    wide = exceedance(x.astype(np.float64), y.astype(np.float64), known, relative, 0.0, share)
    assert found == wide
    error = np.abs(x.astype(np.float64) - y)
    allowed = np.maximum(np.abs(x.astype(np.float64)), known.scale) * np.repeat(np.tile(factors, 2), 200)
    assert found.over == np.count_nonzero(error > relative * allowed)
    assert found.required_relative == pytest.approx((error / allowed).max(), rel=1e-15)


@pytest.mark.parametrize("kind", ["equal", "last differs", "noise", "small"])
def test_what_was_measured_before_changes_no_figure(kind: str, block: int) -> None:
    rng = np.random.default_rng(5)
    size = 1e-12 if kind == "small" else 1.0
    a = (size * rng.normal(size=700)).astype(np.float32)
    b = a.copy()
    if kind == "last differs":
        b[-1] *= np.float32(1.5)
    elif kind != "equal":
        b = (a * (1 + 1e-3 * rng.normal(size=a.shape))).astype(np.float32)
    scale = float(np.sqrt(np.mean(a.astype(np.float64) ** 2)))
    plain_figures, found = error_stats(a, b), error_stats(a, b, Measured(scale, float(a.min()), float(a.max())))
    assert plain_figures is not None
    assert found is not None
    assert (found.error, found.low, found.high) == (plain_figures.error, plain_figures.low, plain_figures.high)
    assert found.peaks == plain_figures.peaks
    for name in ("mean_error", "rms_error", "scale", "cosine"):
        assert getattr(found, name) == pytest.approx(getattr(plain_figures, name), rel=1e-6), name


def test_a_candidate_that_is_not_finite_is_seen_beside_a_measured_reference(block: int) -> None:
    a = np.linspace(1, 2, 300, dtype=np.float32)
    for strange in (np.nan, np.inf, -np.inf):
        b = a.copy()
        b[250] = strange
        assert error_stats(a, b, Measured(1.5, 1.0, 2.0)) is None


def test_half_numbers_are_judged_as_the_same_numbers_in_float32() -> None:
    """Each number of float16 is one of float32; subnormal ones and the largest too."""
    rng = np.random.default_rng(6)
    a = (rng.normal(size=9000) * np.geomspace(1e-7, 1e4, 9000)).astype(np.float32)
    half = a.astype(np.float16)
    tolerance = Tolerance(1e-3, 0.0, 1e-3)
    found = judge(a, half, tolerance)
    assert found == judge(a, half.astype(np.float32), tolerance)
    assert found.agrees
    for loose in (1e-3, 1e-2):
        bound = replace(tolerance, relative=loose)
        assert passes(a, half, bound) == passes(a, half.astype(np.float32), bound) == (loose > 1e-3)
    assert found.rms_error == pytest.approx(np.sqrt(np.mean((a.astype(np.float64) - half) ** 2)), rel=1e-4)
    assert judge(half, half, Tolerance()).agrees
