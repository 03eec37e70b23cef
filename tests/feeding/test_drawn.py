"""What verify draws finds faults that a few small numbers would not show, and healthy models stay healthy on it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from coreproof.conversion.convert import convert
from coreproof.feeding.drawn import several
from coreproof.model.onnx.model import OnnxModel
from coreproof.verification.verify import verify
from tests.build import graph_model as model


def table(fault: int | None = None, rows: int = 40_000) -> OnnxModel:
    weights = np.random.default_rng(0).standard_normal((rows, 4)).astype(np.float32)
    if fault is not None:
        weights[fault] += 1
    return model("g (int64[1,6] ids) => (float[1,6,4] y) { y = Gather(table, ids) }", table=weights)


@pytest.mark.parametrize("row", [0, 39_999])
def test_a_fault_in_the_first_or_last_row_of_a_table_is_found(row: int) -> None:
    assert verify(table(), table())
    found = verify(table(), table(row))
    assert not found
    assert found.taken == {"ids": "indices of 40,000 rows of `table`"}
    assert "ids: indices of 40,000 rows of `table`" in found.summary()
    assert found.to_json()["taken_for"] == found.taken


def test_positions_are_drawn_to_the_end() -> None:
    def places(fault: bool) -> OnnxModel:
        weights = np.random.default_rng(0).standard_normal((514, 4)).astype(np.float32)
        weights[513] += fault
        return model(
            "g (int64[1,6] p) => (float[1,6,4] y) { q = Add(p, two)  y = Gather(table, q) }",
            table=weights,
            two=np.array(2),
        )

    assert verify(places(False), places(False))
    assert not verify(places(False), places(True))


ATTENTION = (
    "g (float[1,6,4] x, int64[1,6] mask) => (float[1,6,4] y)"
    " { t = Transpose<perm=[0,2,1]>(x)  s = MatMul(x, t)  f = Cast<to=1>(mask)  r = Sub(one, f)  a = Mul(r, big)"
    "  u = Unsqueeze(a, axis)  m = Add(s, u)  p = Softmax(m)  y = MatMul(p, x) }"
)


def attention(big: float = -1e9) -> OnnxModel:
    return model(ATTENTION, one=np.array(1, np.float32), big=np.array(big, np.float32), axis=np.array([1]))


def test_a_fault_that_shows_at_masked_places_alone_is_found() -> None:
    assert verify(attention(), attention())
    found = verify(attention(), attention(-3.0))
    assert not found
    assert not found.rows[-1].agrees  # the output, not only the mask itself


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_a_masked_model_agrees_with_its_conversion(precision: Any) -> None:
    made = convert(attention(), "mlprogram", precision=precision)
    found = verify(attention(), made)
    assert found, found.summary()
    assert found.taken["mask"] == "a mask: 0 or 1"


def normalised(epsilon: float) -> OnnxModel:
    return model(
        "g (float[1,8] x) => (float[1,8] y) { n = ReduceL2(x, axis)  c = Max(n, eps)  y = Div(x, c) }",
        axis=np.array([1]),
        eps=np.array(epsilon, np.float32),
    )


def test_a_vector_of_zeros_shows_that_an_epsilon_was_lost() -> None:
    assert verify(normalised(1e-12), normalised(1e-12))
    found = verify(normalised(1e-12), normalised(0.0))
    assert not found
    assert found.outputs[0].judgement.nan == (0, 8)


def test_zeros_on_which_the_reference_has_no_answer_are_not_fed() -> None:
    draws = several(normalised(0.0), normalised(0.0))
    assert all(np.abs(left["x"]).sum() > 0 for left, _ in draws.pairs) or len(draws.pairs) == 4
    found = verify(normalised(0.0), normalised(0.0))
    assert found
    assert found.proves
    assert "left out, for want of a finite answer of the reference: zeros alone" in found.inputs


def test_draws_differ_in_magnitude_and_hold_zeros_and_repeated_values() -> None:
    net = model("g (float[1,16,16] x) => (float[1,16,16] y) { y = Tanh(x) }")
    fed = [left["x"] for left, _ in several(net, net).pairs]
    assert [round(float(np.log10(np.abs(x[x != 0]).mean()))) for x in fed] == [0, -1, 1]
    for x in fed:
        assert (x == 0).all(axis=-1).any()
        assert (x == 0).any()
        rest = x[x != 0]
        assert len(np.unique(rest)) < len(rest)


def test_a_fault_that_shows_far_from_zero_alone_is_found() -> None:
    def clipped(high: float) -> OnnxModel:
        return model(
            "g (float[1,64] x) => (float[1,64] y) { y = Clip(x, low, high) }",
            low=np.array(-100, np.float32),
            high=np.array(high, np.float32),
        )

    assert not verify(clipped(100.0), clipped(8.0))


def test_large_draws_that_leave_the_range_of_float16_do_not_fail_a_model() -> None:
    net = model(
        "g (float[1,64] x) => (float[1,64] y) { s = Mul(x, c)  t = Mul(s, s)  u = Add(t, one)  y = Log(u) }",
        c=np.array(20, np.float32),
        one=np.array(1, np.float32),
    )
    found = verify(net, convert(net, "mlprogram", precision="fp16"))
    assert found, found.summary()
    assert "10 times the magnitude was left out" in found.inputs


def test_declared_ranges_are_drawn_at_both_ends() -> None:
    net = model("g (float[1,n] x) => (float[1,n] y) { y = Tanh(x) }")
    made = convert(net, "mlprogram", shapes={"x": [1, (4, 32)]})
    shapes = {left["x"].shape for left, _ in several(net, made).pairs}
    assert {(1, 4), (1, 32)} <= shapes
    assert verify(net, made)


def test_a_high_end_beyond_the_memory_budget_is_reduced_and_told(monkeypatch: pytest.MonkeyPatch) -> None:
    net = model("g (float[1,n] x) => (float[1,n] y) { y = Tanh(x) }")
    made = convert(net, "mlprogram", shapes={"x": [1, (4, 4_000_000)]})
    monkeypatch.setenv("COREPROOF_MEMORY_BUDGET", "4MB")
    draws = several(net, made)
    longest = max(left["x"].shape[1] for left, _ in draws.pairs)
    assert 4 < longest < 4_000_000
    assert "reduced, for memory" in draws.said


@pytest.mark.parametrize("to", ["mlprogram", "neuralnetwork"])
def test_the_high_end_counts_inner_values_of_which_no_shape_is_declared(
    to: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sixty-four values are made of each that is fed: the inputs alone would fit."""
    net = model(
        "g (float[n,16] x) => (float[n,1] y) { t = Tanh(x) w = MatMul(t, k) a = Abs(w) y = MatMul(a, q) }",
        q=np.ones((1024, 1), np.float32),
        k=np.ones((16, 1024), np.float32),
    )
    made = convert(net, to, shapes={"x": [(1, 100_000), 16]})
    monkeypatch.setenv("COREPROOF_MEMORY_BUDGET", "200MB")
    found = verify(net, made)
    assert found, found.summary()
    assert "reduced, for memory" in found.inputs


def test_of_enumerated_shapes_the_largest_that_memory_allows_is_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    net = model("g (float[1,n] x) => (float[1,n] y) { y = Tanh(x) }")
    lengths = [1_000, 30_000, 90_000, 4_000_000]
    made = convert(net, "mlprogram", shapes={"x": [[1, length] for length in lengths]})
    monkeypatch.setenv("COREPROOF_MEMORY_BUDGET", "4MB")
    drawn = {left["x"].shape[1] for left, _ in several(net, made).pairs}
    assert drawn == {1_000, 90_000}
