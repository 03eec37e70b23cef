"""A number that is a step apart has to lie beside an edge between steps: floor and truncation of one number are told apart."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import coreproof as cp
from coreproof.model.onnx.model import OnnxModel
from tests.build import graph_model

WHOLE = np.arange(1, 41, dtype=np.int32).reshape(4, 10)
"""Of which floor and truncation divide alike."""

FLOOR = """
net (int32[4, 10] x) => (int32[4, 10] y)
<float seven = {7}> { f = Cast<to = 1>(x)  q = Div(f, seven)  r = Floor(q)  y = Cast<to = 6>(r) }
"""
TOWARDS_ZERO = """
net (int32[4, 10] x) => (int32[4, 10] y)
<float seven = {7}> {
  f = Cast<to = 1>(x)  q = Div(f, seven)  a = Abs(q)  r = Floor(a)  s = Sign(q)  m = Mul(r, s)  y = Cast<to = 6>(m)
}
"""
CUT_OFF = """
net (int32[4, 10] x) => (int32[4, 10] y)
<float seven = {7}> { f = Cast<to = 1>(x)  q = Div(f, seven)  y = Cast<to = 6>(q) }
"""
BY_A_PRODUCT = """
net (int32[4, 10] x) => (int32[4, 10] y)
<float part = {0.14285715}> { f = Cast<to = 1>(x)  q = Mul(f, part)  r = Floor(q)  y = Cast<to = 6>(r) }
"""

FORMATS = [("mlprogram", "fp32"), ("mlprogram", "fp16"), ("neuralnetwork", "fp32"), ("onnx", None)]


def made(text: str, to: str, precision: Any) -> Any:
    net = graph_model(text)
    return net if to == "onnx" else cp.convert(net, to, precision=precision, check=False)  # type: ignore[arg-type]


@pytest.mark.parametrize("other", [TOWARDS_ZERO, CUT_OFF], ids=["towards-zero", "cut-off"])
@pytest.mark.parametrize(("to", "precision"), FORMATS)
def test_one_element_that_is_rounded_the_other_way_is_a_fault(to: str, precision: Any, other: str) -> None:
    x = WHOLE.copy()
    x[2, 3] = -10
    assert np.count_nonzero(np.floor(x / 7) != np.trunc(x / 7)) == 1
    found = cp.verify(graph_model(FLOOR), made(other, to, precision), {"x": x})
    assert not found


@pytest.mark.parametrize("other", [TOWARDS_ZERO, CUT_OFF], ids=["towards-zero", "cut-off"])
@pytest.mark.parametrize(("to", "precision"), FORMATS)
def test_numbers_that_both_round_alike_agree(to: str, precision: Any, other: str) -> None:
    found = cp.verify(graph_model(FLOOR), made(other, to, precision), {"x": WHOLE})
    assert found, found.summary()


@pytest.mark.parametrize(("to", "precision"), FORMATS)
def test_numbers_that_lie_at_an_edge_may_come_out_on_either_side(to: str, precision: Any) -> None:
    """A product with what 1/7 is rounded to makes a little more or less of multiples of 7 than their quotient."""
    x = np.arange(-20, 20, dtype=np.int32).reshape(4, 10)
    x[0, 0] = 7 * 3000
    found = cp.verify(graph_model(FLOOR), made(BY_A_PRODUCT, to, precision), {"x": x})
    assert found, found.summary()


@pytest.mark.thorough
def test_a_module_that_rounds_otherwise_is_told_apart_by_what_is_drawn() -> None:
    torch = pytest.importorskip("torch", reason="needs the torch extra")

    class Buckets(torch.nn.Module):  # type: ignore[misc,name-defined]
        def __init__(self, mode: str) -> None:
            super().__init__()
            self.mode = mode

        def forward(self, t: Any) -> Any:
            return torch.div(t, 7, rounding_mode=self.mode)

    example = (torch.arange(-20, 20, dtype=torch.int32).reshape(4, 10),)
    floor, trunc = (cp.Source(Buckets(mode), example) for mode in ("floor", "trunc"))
    net = cp.convert(floor, "onnx", check=False)
    assert cp.verify(floor, net)
    assert not cp.verify(trunc, net)


class Rounds:
    """Numbers times one, which float16 rounds, brought to whole numbers; a single one of them one too large."""

    @staticmethod
    def net(operator: str, wrong: bool) -> OnnxModel:
        extra = np.zeros((16, 64), np.float32)
        extra[3, 5] = float(wrong)
        text = f"net (float[16, 64] x) => (float[16, 64] y) {{ m = Mul(x, one)  r = {operator}(m)  y = Add(r, extra) }}"
        return graph_model(text, one=np.float32(1.0), extra=extra)


@pytest.mark.parametrize("operator", ["Floor", "Ceil", "Round"])
@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_one_of_a_thousand_numbers_away_from_every_edge_is_a_fault(operator: str, precision: Any) -> None:
    x = np.random.default_rng(0).uniform(-9, 9, (16, 64)).astype(np.float32)
    x[3, 5] = 0.3
    for wrong in (False, True):
        candidate = cp.convert(Rounds.net(operator, wrong), "mlprogram", precision=precision, check=False)
        found = cp.verify(Rounds.net(operator, False), candidate, {"x": x})
        assert bool(found) is not wrong, found.summary()


@pytest.mark.parametrize("size", [1, 3, 9])
def test_a_step_that_is_added_to_a_number_is_rounded_with_it(size: int) -> None:
    """What the sum, or the smaller of both, is off by in float16 is no step, wherever what was rounded lies."""
    generator = np.random.default_rng(0)
    stored = {name: generator.standard_normal(64).astype(np.float32) for name in ("b", "c")}
    text = "net (float[64] x) => (float[64] y) { n = Min(x, c)  r = Floor(n)  m = Min(b, r)  y = Add(b, m) }"
    net = graph_model(text, **stored)
    fed = {"x": size * generator.standard_normal(64).astype(np.float32)}
    found = cp.verify(net, cp.convert(net, "mlprogram", precision="fp16", check=False), fed)
    assert found.agrees, found
    assert any(row.tolerance.step and row.judgement.max_error for row in found.rows)


@pytest.mark.parametrize("operator", ["Floor", "Round"])
def test_an_output_in_large_steps_of_which_one_moved_over_an_edge_proves_something(operator: str) -> None:
    """``round(x * 2) / 2``: a half is as large as most numbers, and float16 brings one of many over an edge."""

    def stepped(operator: str, factor: float = 0.5) -> Any:
        text = f"t = MatMul(x, w) d = Mul(t, two) r = {operator}(d) y = Mul(r, half)"
        w = (np.eye(16) + np.random.default_rng(1).normal(size=(16, 16)) / 40).astype(np.float32)
        made = f"net (float[256,16] x) => (float[256,16] y) {{ {text} }}"
        return graph_model(made, w=w, two=np.float32(2), half=np.float32(factor))

    x = np.random.default_rng(2).normal(size=(256, 16)).astype(np.float32)
    made_right = cp.convert(stepped(operator), "mlprogram", precision="fp16", check=False)
    found = cp.verify(stepped(operator), made_right, {"x": x})
    last = found.rows[-1]
    assert last.judgement.max_error == pytest.approx(0.5)
    assert found.proves, found.summary()
    for wrong in (stepped("Ceil"), stepped(operator, 0.55)):
        other = cp.convert(wrong, "mlprogram", precision="fp16", check=False)
        assert not cp.verify(stepped(operator), other, {"x": x})
