"""Inputs of which each column picks from a table of its own, indices behind sums and limits, and how many rows were fed."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import coreproof as cp
from coreproof.feeding.drawn import random_feeds
from coreproof.model.base import Model
from coreproof.model.load import load
from tests.build import graph_model

FEW, MANY = np.ones((7, 4), np.float32), np.ones((500, 4), np.float32)

BY_GATHER = "a = Gather<axis=1>(x, zero)  b = Gather<axis=1>(x, one)"
BY_SLICE = "c = Slice(x, zeros, ones, last)  a = Squeeze(c, last)  d = Slice(x, ones, twos, last)  b = Squeeze(d, last)"


def packed(parts: str) -> Model:
    numbers = {"zero": 0, "one": 1}
    lists = {"zeros": [0], "ones": [1], "twos": [2], "last": [1]}
    return graph_model(
        f"net (int64[6, 2] x) => (float[6, 4] y) {{ {parts}  e = Gather(few, a)  f = Gather(many, b)  y = Add(e, f) }}",
        few=FEW,
        many=MANY,
        **{name: np.int64(n) for name, n in numbers.items()},
        **{name: np.array(n, np.int64) for name, n in lists.items()},
    )


@pytest.mark.parametrize("parts", [BY_GATHER, BY_SLICE], ids=["gather", "slice"])
@pytest.mark.parametrize("to", ["onnx", "mlprogram", "neuralnetwork"])
def test_each_column_picks_from_a_table_of_its_own(parts: str, to: Any) -> None:
    net = packed(parts)
    other = net if to == "onnx" else cp.convert(net, to, check=False)
    fed = np.asarray(random_feeds(net, other)[0]["x"])
    assert fed[:, 0].max() == 6
    assert fed[:, 1].max() == 499


def test_tables_shorter_than_the_source_has_them_are_found_in_any_column() -> None:
    short = graph_model(
        "net (int64[6, 2] x) => (float[6, 4] y) { a = Gather<axis=1>(x, zero)  b = Gather<axis=1>(x, one)  "
        "c = Min(b, six)  e = Gather(few, a)  f = Gather(many, c)  y = Add(e, f) }",
        few=FEW,
        many=np.arange(2000, dtype=np.float32).reshape(500, 4),
        zero=np.int64(0),
        one=np.int64(1),
        six=np.int64(6),
    )
    whole = packed(BY_GATHER)
    whole.ir.graph.initializers["many"].const_value = short.ir.graph.initializers["many"].const_value  # type: ignore[attr-defined]
    assert not cp.verify(whole, cp.convert(short, "mlprogram", check=False))
    assert cp.verify(whole, cp.convert(whole, "mlprogram", check=False))


torch = pytest.importorskip("torch", reason="needs the torch extra")


class Called(torch.nn.Module):  # type: ignore[misc,name-defined]
    """A function of a module's own, so that a source and its faulty twin differ in a line."""

    def __init__(self, function: Any) -> None:
        super().__init__()
        self.function = function
        self.register_buffer("table", torch.arange(64.0 * 3).reshape(64, 3) + 1)
        self.few, self.many = torch.nn.Embedding(7, 4), torch.nn.Embedding(500, 4)

    def forward(self, *inputs: Any) -> Any:
        return self.function(self, *inputs)


def source(function: Any, *example: Any) -> Any:
    torch.manual_seed(0)
    return cp.Source(Called(function), example)


CATEGORIES = torch.stack([torch.arange(6), torch.arange(6) + 7], 1)


@pytest.mark.sweep(2)
@pytest.mark.parametrize(
    ("right", "wrong", "example"),
    [
        (
            lambda m, c: m.few(c[:, 0]) + m.many(c[:, 1]),
            lambda m, c: m.few(c[:, 0]) + m.many(c[:, 1].clamp(max=6)),
            (CATEGORIES,),
        ),
        (
            lambda m, c: m.few(c.unbind(1)[0]) + m.many(c.unbind(1)[1]),
            lambda m, c: m.few(c.unbind(1)[0]) + m.many(c.unbind(1)[1].clamp(max=6)),
            (CATEGORIES,),
        ),
        (
            lambda m, c: m.few(c[0]) + m.many(c[1]),
            lambda m, c: m.few(c[0]) + m.many(c[1].clamp(max=6)),
            (CATEGORIES.T.contiguous(),),
        ),
        (
            lambda m, at: m.table[at + torch.arange(5)],
            lambda m, at: m.table[(at + torch.arange(5)).clamp(max=60)],
            (torch.tensor(3),),
        ),
        (
            lambda m, t: m.table[t] - m.table[(t - 1).clamp(min=0)],
            lambda m, t: m.table[t] - m.table[t - 1],
            (torch.tensor([5]),),
        ),
    ],
    ids=["columns", "unbound", "rows", "an-offset", "a-step-before"],
)
def test_ends_of_tables_are_reached_where_a_fault_shows(right: Any, wrong: Any, example: Any) -> None:
    net = source(right, *example)
    assert cp.verify(net, cp.convert(net, "mlprogram", precision="fp32", check=False))
    assert not cp.verify(net, cp.convert(source(wrong, *example), "mlprogram", precision="fp32", check=False))


def test_how_many_rows_were_fed_is_said() -> None:
    net = graph_model("net (int64[1, 8] x) => (float[1, 8, 4] y) { y = Gather(many, x) }", many=MANY)
    found = cp.verify(net, cp.convert(net, "mlprogram", check=False))
    first, second = (np.asarray(random_feeds(net, load(net))[0]["x"]) for _ in range(2))
    assert np.array_equal(first, second)
    assert " of 500 rows of `many` fed" in found.inputs
    # of a table that is fed whole there is nothing to say
    net = graph_model("net (int64[1, 64] x) => (float[1, 64, 4] y) { y = Gather(few, x) }", few=FEW)
    assert "fed" not in cp.verify(net, cp.convert(net, "mlprogram", check=False)).inputs
