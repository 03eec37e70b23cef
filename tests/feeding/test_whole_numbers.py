"""Whole numbers go as far as what reads them asks for, and what nobody asks for fails nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from coreproof.conversion.convert import convert
from coreproof.feeding.drawn import several
from coreproof.model.base import Model
from coreproof.verification.verify import verify
from tests.build import graph_model as model

torch = pytest.importorskip("torch", reason="needs the torch extra")
import coreproof as cp  # noqa: E402 - behind the question whether there is PyTorch

FORMS: dict[str, tuple[str, Callable[[np.ndarray], np.ndarray]]] = {
    "divided": ("y = Div(x, c)", lambda x: np.trunc(x / 3600).astype(np.int64)),
    "remainder": ("y = Mod(x, c)", lambda x: np.mod(x, 3600)),
    "minutes": ("r = Mod(x, c)  y = Div(r, s)", lambda x: np.trunc(np.mod(x, 3600) / 60).astype(np.int64)),
    "more than": ("g = Greater(x, c)  y = Cast<to=7>(g)", lambda x: (x > 3600).astype(np.int64)),
    "held": ("y = Clip(x, s, c)", lambda x: np.clip(x, 60, 3600)),
    "rounded": ("f = Cast<to=1>(x)  d = Div(f, h)  w = Floor(d)  y = Cast<to=7>(w)", lambda x: np.floor(x / 3600)),
    "shifted": ('u = Cast<to=13>(x)  b = BitShift<direction="RIGHT">(u, eight)  y = Cast<to=7>(b)', lambda x: x >> 8),
    "masked": ("y = BitwiseAnd(x, bits)", lambda x: x & 0xF00),
}
CONSTANTS = {
    "c": np.int64(3600),
    "s": np.int64(60),
    "h": np.float32(3600),
    "eight": np.uint64(8),
    "bits": np.int64(0xF00),
}


def net(form: str, dtype: str = "int64", length: int = 64) -> Model:
    used = {
        name: value
        for name, value in CONSTANTS.items()
        if f" {name})" in FORMS[form][0] or f" {name}," in FORMS[form][0]
    }
    return model(f"net ({dtype}[{length}] x) => (int64[{length}] y) {{ {FORMS[form][0]} }}", 18, **used)


@pytest.mark.parametrize("form", FORMS)
def test_what_makes_large_numbers_small_is_fed_large_ones(form: str) -> None:
    made = net(form)
    drawn = [np.asarray(sample["x"]) for sample, _ in several(made, made).pairs]
    # the judge: NumPy, on what was drawn
    answers = {int(n) for x in drawn for n in FORMS[form][1](x[x >= 0]).reshape(-1)}
    assert len(answers) > (1 if form == "more than" else 5)
    assert max(int(np.abs(x).max()) for x in drawn) < 1 << 24


@pytest.mark.parametrize(("to", "precision"), [("mlprogram", "fp32"), ("mlprogram", "fp16"), ("neuralnetwork", None)])
@pytest.mark.parametrize("form", ["divided", "minutes", "more than", "held"])
def test_a_conversion_of_it_is_proved(form: str, to: Any, precision: Any) -> None:
    source = net(form)
    found = verify(source, convert(source, to, precision=precision))
    assert found, found.summary()
    assert found.proves, found.summary()


@pytest.mark.parametrize("index", ["m = Mod(x, n)", "h = Mul(x, k)  m = Mod(h, n)", "d = Div(x, k)  m = Mod(d, n)"])
def test_of_a_hashed_table_more_than_its_beginning_is_fed(index: str) -> None:
    table = np.random.default_rng(0).normal(0, 1, (500, 4)).astype(np.float32)
    other = table.copy()
    other[250:] += 1
    text = f"net (int64[32] x) => (float[32,4] y) {{ {index}  y = Gather(t, m) }}"
    used: dict[str, Any] = {"n": np.int64(500)} | ({"k": np.int64(31)} if " k)" in index else {})
    source = model(text, 17, t=table, **used)
    assert not verify(source, model(text, 17, t=other, **used))
    made = convert(source, "mlprogram", precision="fp32")
    assert verify(source, made)
    for sample, _ in several(source, made).pairs:
        assert np.asarray(sample["x"]).min() >= 0
        assert np.asarray(sample["x"]).max() > 2_000


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int16", "int32"])
def test_narrow_integers_hold_what_is_drawn(dtype: str) -> None:
    text = f"net ({dtype}[64] x) => ({dtype}[64] y) {{ y = Div(x, c) }}"
    made = model(text, 18, c=np.array(100, dtype))
    drawn = [np.asarray(sample["x"]) for sample, _ in several(made, made).pairs]
    assert {x.dtype.name for x in drawn} == {dtype}
    assert max(int(x.max()) for x in drawn) >= 100
    assert (min(int(x.min()) for x in drawn) < 0) == (dtype != "uint8")


def test_products_that_nobody_asks_for_fail_nothing() -> None:
    # 90 at most by what asks, and 900 ten times as far: 900 ** 4 leaves 32 bits
    text = "net (int64[8] x) => (int64[8] y) { d = Div(x, t)  p = Mul(x, x)  q = Mul(p, p)  y = Add(q, d) }"
    source = model(text, 17, t=np.int64(10))
    found = verify(source, convert(source, "mlprogram", precision="fp32"))
    assert found, found.summary()
    assert "10 times the magnitude was left out" in found.inputs
    assert "does not fit the 32 bits" in found.inputs


def test_what_is_fed_by_its_user_is_left_out_by_nobody() -> None:
    source = model("net (int64[8] x) => (int64[8] y) { p = Mul(x, x)  y = Mul(p, p) }", 17)
    made = convert(source, "mlprogram", precision="fp32")
    assert verify(source, made)
    assert not verify(source, made, inputs={"x": np.full(8, 1000, np.int64)})


@pytest.mark.parametrize("operator", ["//", ">>", "%", "&", "^"])
def test_of_a_module_it_is_the_same(operator: str) -> None:
    class Bits(torch.nn.Module):  # type: ignore[misc, name-defined]
        def forward(self, x: Any) -> Any:
            parts = {"//": x // 500, ">>": x >> 9, "%": x % 500, "&": x & 0x300, "^": (x ^ 0x300) // 2}
            return parts[operator]

    source = cp.load(cp.Source(Bits(), (torch.arange(16)[None],)))
    made = convert(source, "mlprogram", precision="fp32")
    found = verify(source, made)
    assert found.proves, found.summary()
    assert "mask" not in found.taken["x"]
    drawn = np.concatenate([np.asarray(sample["x"]).reshape(-1) for sample, _ in several(source, made).pairs])
    assert len(np.unique(Bits()(torch.tensor(drawn)).numpy())) > 2


def test_a_number_that_is_only_multiplied_stays_small() -> None:
    made = model("net (int64[64] x) => (float[64] y) { f = Cast<to=1>(x)  y = Sin(f) }", 17)
    first, second, far = (np.asarray(sample["x"]) for sample, _ in several(made, made).pairs)
    assert max(first.max(), second.max()) <= 9
    assert 9 < far.max() <= 90


def test_a_lone_index_is_not_the_last_one_alone() -> None:
    table = np.random.default_rng(0).normal(0, 1, (50, 4)).astype(np.float32)
    text = "net (int64[1] x) => (float[1,4] y) { y = Gather(t, x) }"
    source = model(text, 17, t=table)
    assert len({int(np.asarray(sample["x"])[0]) for sample, _ in several(source, source).pairs}) == 3
    first = table.copy()
    first[0] += 1
    assert not verify(source, model(text, 17, t=first))
