"""Further draws that both sides answer alike to the last bit: judged by no tolerance, and told as any other."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from coreproof.verification import run
from coreproof.verification.identical import all_identical, contents_if_identical
from coreproof.verification.verify import verify
from tests.build import graph_model, residual_net


def pair(*values: float, other: list[float] | None = None) -> tuple[np.ndarray, np.ndarray]:
    return np.array(values, np.float32), np.array(values if other is None else other, np.float32)


LARGE = np.linspace(-3, 5, 300_000, dtype=np.float32)


def test_what_equal_values_held_is_told_of_small_and_large_ones() -> None:
    found = contents_if_identical(
        {
            "small": pair(1, -2, 3),
            "zeros": pair(0, 0),
            "one": pair(0),
            "large": (LARGE, LARGE.copy()),
            "last": pair(7, 8),
        }
    )
    assert found is not None
    assert {name: (c.elements, c.low, c.high, c.blank) for name, c in found.items()} == {
        "small": (3, -2, 3, 0),
        "zeros": (2, 0, 0, 1),
        "one": (1, 0, 0, 0),
        "large": (300_000, -3, 5, 0),
        "last": (2, 7, 8, 0),
    }


@pytest.mark.parametrize("size", [3, 5000, 300_000])
@pytest.mark.parametrize("at", [0, -1])
def test_one_number_that_differs_is_seen_wherever_it_stands(size: int, at: int) -> None:
    a = np.linspace(1, 2, size, dtype=np.float32)
    b = a.copy()
    b[at] = np.nextafter(b[at], np.float32(9))
    assert contents_if_identical({"before": pair(1, 2), "value": (a, a.copy())}) is not None
    assert contents_if_identical({"before": pair(1, 2), "value": (a, b), "behind": pair(1)}) is None


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("size", [3, 5000])
def test_what_is_not_finite_is_judged_as_ever(bad: float, size: int) -> None:
    a = np.ones(size, np.float32)
    a[1] = bad
    assert contents_if_identical({"value": (a, a.copy())}) is None


def test_other_kinds_and_sizes_are_judged_as_ever() -> None:
    a = np.ones(4, np.float32)
    for b in (a.astype(np.float16), a[:3], a.astype(np.int32)):
        assert contents_if_identical({"value": (a, b)}) is None
    texts = np.array(["a", "b"], object)
    assert contents_if_identical({"value": (texts, texts)}) is None
    empty = np.zeros((0, 3), np.float32)
    assert contents_if_identical({"value": (empty, empty)}) is None


def test_a_verdict_is_the_same_with_and_without_the_short_way(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = list[bool]()
    monkeypatch.setattr(run, "all_identical", lambda rows: asked.append(all_identical(rows)) or asked[-1])
    short = verify(residual_net(), residual_net())
    assert asked, "the short way was not asked for"
    assert all(asked), "the short way was not taken"
    monkeypatch.setattr(run, "all_identical", lambda rows: False)
    long = verify(residual_net(), residual_net())
    assert short.samples == long.samples > 1
    assert short.inputs == long.inputs
    assert short.rows == long.rows


def test_a_fault_that_shows_at_large_magnitudes_alone_is_found_behind_equal_draws() -> None:
    net = "net (float[8, 16] x) => (float[8, 16] y) {{ a = Abs (x) {clip} b = Sqrt ({read}) y = Neg (b) }}"
    whole = graph_model(net.format(clip="", read="a"))
    cut = graph_model(net.format(clip="seven = Constant <value_float = 7.0> () c = Min (a, seven)", read="c"))
    found = verify(whole, cut)
    assert not found
    assert found.first_divergence is not None
    assert found.first_divergence.candidate == "b"


def test_rows_that_rounding_excuses_by_half_or_that_differ_take_the_long_way() -> None:
    rows = verify(residual_net(), residual_net()).rows
    assert all_identical(rows)
    first = rows[0]
    loose = replace(first.judgement, tolerance=replace(first.tolerance, typical=0.5))
    for judgement in (loose, replace(first.judgement, max_error=1e-7), replace(first.judgement, nan=(1, 1))):
        assert not all_identical((replace(first, judgement=judgement), *rows[1:]))
