"""What an input is for is found backwards through the graph, in every format."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from coreproof.conversion.convert import convert
from coreproof.feeding.drawn import random_feeds, random_sample, roles_for
from coreproof.feeding.roles.find import roles_of
from coreproof.feeding.roles.role import PLAIN, Role, merged
from coreproof.feeding.roles.words import in_words
from coreproof.model.torch.model import TorchModel
from coreproof.verification.verify import verify
from tests.build import graph_model as model
from tests.build import onnx_model

torch = pytest.importorskip("torch", reason="needs the torch extra")


def roles(text: str, **weights: np.ndarray) -> dict[str, Role]:
    return roles_of(model(text, **weights))


TABLE = np.zeros((40_000, 4), np.float32)


@pytest.mark.parametrize(
    ("body", "low", "high"),
    [
        ("y = Gather(table, i)", 0, 39_999),
        ("y = Gather<axis=1>(table, i)", 0, 3),
        ("j = Cast<to=6>(i)  k = Reshape(j, shape)  y = Gather(table, k)", 0, 39_999),
        ("j = Add(i, two)  y = Gather(table, j)", -2, 39_997),
        ("j = Sub(i, two)  y = Gather(table, j)", 2, 40_001),
        ("j = Sub(two, i)  y = Gather(table, j)", -39_997, 2),
        ("j = Mul(i, two)  y = Gather(table, j)", 0, 19_999.5),
        ("j = Div(i, two)  y = Gather(table, j)", 0, 79_999),
        ("j = Neg(i)  y = Gather(table, j)", -39_999, 0),
        (
            'u = Cast<to=13>(i)  s = BitShift<direction="RIGHT">(u, four)  j = Cast<to=7>(s)  y = Gather(table, j)',
            0,
            639_999,
        ),
        (
            'u = Cast<to=13>(i)  s = BitShift<direction="LEFT">(u, four)  j = Cast<to=7>(s)  y = Gather(table, j)',
            0,
            2_499.9375,
        ),
        # a few that lie beyond, where they are held
        ("j = Clip(i, zero, many)  y = Gather(table, j)", -10_000, 39_999),
        ("j = Slice(i, starts, ends)  y = Gather(table, j)", 0, 39_999),
        ("j = Concat<axis=0>(i, starts)  y = Gather(table, j)", 0, 39_999),
        ("c = Less(i, zero)  j = Where(c, two, i)  y = Gather(table, j)", 0, 39_999),
        ("c = Less(i, zero)  w = Add(i, many)  j = Where(c, w, i)  y = Gather(table, j)", 0, 39_999),
        ("j = Unsqueeze(i, last)  y = GatherND(table, j)", 0, 39_999),
        ("j = Reshape(i, column)  y = GatherElements(table, j)", 0, 39_999),
        ("j = Reshape(i, column)  u = CastLike(j, table)  y = ScatterElements(table, j, u)", 0, 39_999),
        ("j = Unsqueeze(i, last)  u = Gather(table, starts)  y = ScatterND(table, j, u)", 0, 39_999),
        ("y = OneHot(i, many, values)", 0, 8),
    ],
)
def test_indices_are_followed_back_to_the_axis_that_they_pick_from(body: str, low: float, high: float) -> None:
    text = f"g (int64[6] i) => (float y) {{ {body} }}"
    if "OneHot" in body:
        constants = {"many": np.array(9), "values": np.array([0.0, 1.0], np.float32)}
    else:
        constants = {
            "table": TABLE,
            "two": np.array(2),
            "four": np.array(4, np.uint64),
            "zero": np.array(0),
            "many": np.array(40_000),
            "shape": np.array([2, 3]),
            "column": np.array([6, 1]),
            "last": np.array([-1]),
            "starts": np.array([0]),
            "ends": np.array([3]),
        }
    found = roles(text, **constants)["i"]
    assert (found.kind, found.low, found.high) == ("index", low, high)


@pytest.mark.parametrize(
    "body",
    [
        "f = Cast<to=1>(m)  r = Sub(one, f)  a = Mul(r, big)  s = Add(x, a)  y = Softmax(s)",
        "f = Cast<to=1>(m)  r = Sub(f, one)  a = Mul(r, plus)  s = Add(x, a)  y = Softmax(s)",
        "f = Cast<to=1>(m)  r = Sub(one, f)  a = Mul(r, plus)  s = Sub(x, a)  y = Softmax(s)",
        "f = Cast<to=1>(m)  r = Sub(one, f)  a = Mul(r, plus)  s = Add(x, a)  n = Neg(s)  y = Softmax(n)",
        "f = Cast<to=1>(m)  u = Unsqueeze(f, first) p = Mul(f, u) r = Sub(one, p) a = Mul(r, big)  s = Add(x, a)  y = Softmax(s)",
        "b = Cast<to=9>(m)  s = Where(b, x, big)  y = Softmax(s)",
        "b = Equal(m, none)  s = Where(b, big, x)  y = Softmax(s)",
        "b = Greater(m, none)  n = Not(b)  s = Where(n, big, x)  y = Softmax(s)",
        "u = Unsqueeze(m, first)  f = Cast<to=1>(u)  r = Sub(one, f)  a = Mul(r, big)  s = Add(x, a)  y = Softmax(s)",
        "f = Cast<to=1>(m)  n = ReduceSum(f)  r = Sub(one, f)  a = Mul(r, big)  t = Add(x, a)  s = Softmax(t)  y = Div(s, n)",
    ],
)
def test_masks_are_masks(body: str) -> None:
    text = f"g (int64[6] m, float[6] x) => (float y) {{ {body} }}"
    found = roles(
        text,
        one=np.array(1, np.float32),
        big=np.array(-1e9, np.float32),
        plus=np.array(1e9, np.float32),
        none=np.array(0),
        first=np.array([0]),
    )
    assert (found["m"].kind, found["m"].low, found["m"].high) == ("mask", 0, 1)
    assert found["x"].kind == "number"


def test_an_additive_mask_is_one_and_what_a_softmax_reads_directly_is_not() -> None:
    found = roles(
        "g (float[2,6] q, float[6,6] m) => (float y) { k = Transpose(q)  s = MatMul(k, q)  h = Mul(m, two)"
        "  t = Add(s, h)  y = Softmax(t) }",
        two=np.array(2, np.float32),
    )
    assert (found["m"].kind, found["q"].kind) == ("additive", "number")
    alone = roles("g (float[6] x, float[6] y) => (float z) { s = Add(x, y)  z = Softmax(s) }")
    assert {role.kind for role in alone.values()} == {"number"}
    biased = roles("g (float[6] x) => (float z) { s = Add(x, c)  z = Softmax(s) }", c=np.ones(6, np.float32))
    assert biased["x"].kind == "number"


def test_what_is_called_a_mask_and_added_before_a_softmax_is_an_additive_one() -> None:
    text = "g (float[1,6,6] x, float[1,1,6] {0}) => (float[1,6,6] y) {{ t = Add(x, {0})  y = Softmax(t) }}"
    assert roles(text.format("attention_mask"))["attention_mask"].kind == "additive"
    assert roles(text.format("bias"))["bias"].kind == "number"


def test_a_number_that_is_compared_as_well_stays_a_number_and_the_comparison_is_drawn() -> None:
    found = roles(
        "g (float[64] x) => (float y) { b = Greater(x, c)  t = Mul(x, d)  y = Where(b, x, t) }",
        c=np.array(0.5, np.float32),
        d=np.array(0.1, np.float32),
    )
    assert found["x"].kind == "number"
    net = model("g (int64[64] i) => (float y) { b = Equal(i, c)  y = Cast<to=1>(b) }", c=np.array(151_643))
    assert 151_643 in random_feeds(net, net)[0]["i"]


@pytest.mark.parametrize(
    ("body", "low", "high", "above", "nonzero"),
    [
        ("y = Log(x)", 0, math.inf, True, False),
        ("a = Add(x, small)  y = Log(a)", -0.5, math.inf, True, False),
        ("a = Neg(x)  y = Log(a)", -math.inf, 0, False, False),
        ("a = Relu(x)  y = Log(a)", 0, math.inf, True, False),
        ("a = Relu(x)  y = Sqrt(a)", -math.inf, math.inf, False, False),
        ("a = Clip(x, small, one)  y = Log(a)", -math.inf, math.inf, False, False),
        ("y = Sqrt(x)", 0, math.inf, False, False),
        ("a = Sqrt(x)  y = Reciprocal(a)", 0, math.inf, True, False),
        ("y = Div(one, x)", -math.inf, math.inf, False, True),
        ("a = Reshape(x, shape)  y = Acos(a)", -1, 1, False, False),
        ("y = Asin(x)", -1, 1, False, False),
        ("a = Mul(x, small)  y = Acosh(a)", 2, math.inf, False, False),
        ("y = Atanh(x)", -1, 1, True, False),
        ("y = Pow(x, small)", 0, math.inf, False, False),
        ("y = Pow(x, minus)", -math.inf, math.inf, False, True),
        ("a = ReduceMean(x)  y = Sqrt(a)", 0, math.inf, False, False),
        ("a = MatMul(x, x)  y = Sqrt(a)", -math.inf, math.inf, False, False),
    ],
)
def test_numbers_stay_within_the_domain_of_what_is_made_of_them(
    body: str, low: float, high: float, above: bool, nonzero: bool
) -> None:
    net = model(
        f"g (float[8] x) => (float y) {{ {body} }}",
        small=np.array(0.5, np.float32),
        one=np.array(1, np.float32),
        minus=np.array(-2, np.float32),
        shape=np.array([2, 4]),
    )
    found = roles_of(net)["x"]
    assert (found.low, found.high, found.above, found.nonzero) == (low, high, above, nonzero)
    if "MatMul" in body:
        return
    for number in range(3):
        value = random_sample(net.signature, net.signature, 1, {"x": found}, number=number)[0]["x"]
        assert (value > low).all() if above else (value >= low).all()
        assert (value <= high).all()
        assert value.all() or not nonzero


@pytest.mark.parametrize("dtype", ["int64", "int32", "int8", "uint8"])
@pytest.mark.parametrize(
    ("body", "low", "high", "said"),
    [
        ("y = Log(c)", 1, 10, "1 to 10"),
        ("a = Add(c, tiny)  y = Log(a)", 0, 9, "0 to 9"),  # a mask, guarded: 1e-45 is no number to tell anybody
        ("a = Add(c, small)  y = Sqrt(a)", 0, 9, "0 to 9"),
        ("a = Sub(small, c)  y = Sqrt(a)", -9, 0, "-9 to 0"),
    ],
)
def test_whole_numbers_within_a_domain_are_few_and_told_as_whole_numbers(
    dtype: str, body: str, low: int, high: int, said: str
) -> None:
    constants = {"tiny": np.array(1e-45, np.float32), "small": np.array(0.5, np.float32)}
    used = {name: value for name, value in constants.items() if name in body}
    if low < 0 and dtype.startswith("uint"):
        low, said = 0, "0 to 0"
    net = model(f"g ({dtype}[64] i) => (float y) {{ c = Cast<to=1>(i)  {body} }}", **used)
    found = roles_of(net)["i"]
    for number in range(3):
        value = random_sample(net.signature, net.signature, 1, {"i": found}, number=number)[0]["i"]
        assert low <= value.min() <= value.max() <= high
    assert said in in_words(net.signature.inputs[0], found)


@pytest.mark.parametrize(("mode", "most"), [("linear", 13), ("circular", 15)])
def test_what_is_written_into_a_cache_lies_within_it(mode: str, most: int) -> None:
    text = f"""<ir_version: 10, opset_import: ["": 24]> g (float[2,16,8] c, float[2,3,8] u, int64[2] w) => (float y)
    {{ y = TensorScatter<mode="{mode}">(c, u, w) }}"""
    net = onnx_model(text)
    found = roles_of(net)["w"]
    assert (found.kind, found.low, found.high) == ("index", 0, most)
    assert verify(net, net)


def test_lengths_lie_within_what_they_size() -> None:
    found = roles(
        "g (float[5,2,3] x, int32[2] n, int64[1] k) => (float y, float z, int64 w)"
        " { y, h = GRU<hidden_size=4>(x, W, R, , n)  z, w = TopK(x, k) }",
        W=np.zeros((1, 12, 3), np.float32),
        R=np.zeros((1, 12, 4), np.float32),
    )
    assert [(found[name].kind, found[name].low, found[name].high) for name in "nk"] == [
        ("length", 1, 5),
        ("length", 1, 3),
    ]
    shaped = roles("g (float[2,6] x, int64[2] s) => (float[3,4] y) { y = Reshape(x, s) }")
    assert shaped["s"].exact == (3, 4)
    counted = roles("g (int64[2] n) => (float y) { u = Unsqueeze(n, a)  b = Less(c, u)  y = Cast<to=1>(b) }",
                    a=np.array([1]), c=np.arange(7)[None])  # fmt: skip
    assert (counted["n"].kind, counted["n"].high) == ("length", 7)


@pytest.mark.parametrize(
    ("operator", "asked", "exact"),
    [("Expand", 3, (2, 3, 4)), ("Expand", 2, (3, 4)), ("Reshape", 2, (4, 1)), ("Reshape", 3, (1, 1, 4))],
)
def test_a_shape_that_is_fed_is_one_that_the_value_can_be_given(operator: str, asked: int, exact: Any) -> None:
    net = model(f"g (int64[{asked}] n, float[1,4] x) => (float y) {{ y = {operator}(x, n) }}")
    assert roles_of(net)["n"].exact == exact
    assert verify(net, net)


@pytest.mark.parametrize(
    ("text", "kind", "low", "high"),
    [
        ("g (int64[3] i, float[50,4] x, float[3,4] u) => (float[50,4] y)"
         " { k = Unsqueeze(i, one)  y = ScatterND(x, k, u) }", "index", 0, 49),
        ("g (int64[2,3] i, float[2,70] x, float[2,3] u) => (float[2,70] y) { y = ScatterElements<axis=1>(x, i, u) }",
         "index", 0, 69),
        ("g (int64[12] i) => (float[12,500] y) { y = OneHot(i, many, values) }", "index", 0, 499),
        ("g (int64[1] i, float[1,20] x) => (float[1,k] y, int64[1,k] z) { y, z = TopK(x, i) }", "length", 1, 20),
    ],
)  # fmt: skip
def test_how_a_conversion_writes_an_operator_narrows_nothing_that_is_drawn(
    text: str, kind: str, low: float, high: float
) -> None:
    """A Core ML program compares indices with lengths, pads what is written to, and slices what TopK brings."""
    constants = {"one": np.array([1]), "many": np.array(500), "values": np.array([0, 1], np.float32)}
    net = model(text, **{name: value for name, value in constants.items() if name in text.split("{")[1]})
    role = roles_for(net, convert(net, "mlprogram", precision="fp32"))["i"]
    assert (role.kind, role.low, role.high) == (kind, low, high)


def test_an_impossible_domain_is_none() -> None:
    found = roles("g (float[6] x) => (float y) { a = Abs(x)  n = Neg(a)  y = Log(n) }")
    assert found["x"].low <= found["x"].high


def test_what_a_body_reads_from_outside_is_followed() -> None:
    found = roles(
        "g (bool c, int64[3] i) => (float y)"
        " { y = If(c) <then_branch = t () => (float a) { a = Gather(table, i) },"
        " else_branch = e () => (float b) { j = Add(i, one)  b = Gather(table, j) }> }",
        table=TABLE,
        one=np.array(1),
    )
    assert (found["i"].kind, found["i"].low, found["i"].high) == ("index", 0, 39_998)


class Attention(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.words = torch.nn.Embedding(40_000, 8)
        self.places = torch.nn.Embedding(50, 8)

    def forward(self, ids: Any, places: Any, mask: Any, bias: Any, scale: Any) -> Any:
        x = self.words(ids) + self.places(places + 2)
        scores = (x @ x.transpose(1, 2))[:, None] + (1 - mask[:, None, None, :].float()) * -1e9 + bias
        scores = scores.masked_fill(ids[:, None, None] == 3, -1e9)
        return torch.softmax(scores, -1) @ x[:, None] / torch.sqrt(scale)


def attention() -> TorchModel:
    torch.manual_seed(0)
    ids = torch.zeros(1, 6, dtype=torch.long)
    examples = (ids, ids, torch.ones(1, 6, dtype=torch.long), torch.zeros(1, 1, 6, 6), torch.ones(8))
    return TorchModel(Attention(), examples, name="attention")


@pytest.mark.thorough
@pytest.mark.parametrize("to", ["torch", "onnx", "mlprogram", "neuralnetwork"])
def test_every_format_tells_the_same(to: Any) -> None:
    source = attention()
    looked_at = source if to == "torch" else convert(source, to)
    names = [f.name for f in looked_at.signature.inputs]
    found = dict(zip(["ids", "places", "mask", "bias", "scale"], map(roles_of(looked_at).get, names), strict=True))
    assert all(found.values())
    ids, places, mask, bias, scale = (role or PLAIN for role in found.values())
    assert (ids.kind, ids.low, ids.high) == ("index", 0, 39_999)
    assert (places.kind, places.low, places.high) == ("index", -2, 47)
    assert (mask.kind, bias.kind) == ("mask", "additive")
    assert (scale.kind, scale.low, scale.above) == ("number", 0, True)


def test_the_report_names_the_table() -> None:
    source = attention()
    said = {f.name: in_words(f, roles_of(source)[f.name]) for f in source.signature.inputs}
    assert said["ids"] == "indices of 40,000 rows of `words.weight`"
    assert said["places"] == "indices of 50 rows of `places.weight`, -2 to 47"
    assert said["mask"] == "a mask: 0 or 1"


def test_what_two_models_ask_for_is_drawn_for_both() -> None:
    small = model("g (int64[6] i) => (float y) { y = Gather(table, i) }", table=TABLE[:30])
    large = model("g (int64[6] i) => (float y) { y = Gather(table, i) }", table=TABLE)
    assert roles_for(large, small)["i"].high == 29
    assert random_feeds(large, small)[0]["i"].max() == 29


def test_merging_keeps_the_stronger_reading_within_what_both_allow() -> None:
    index, mask = Role("index", 0, 9), Role("mask", 0, 1)
    assert merged(PLAIN, mask) == mask
    assert merged(mask, index) == merged(index, mask) == index
    assert merged(Role("number", 0, 5), Role("number", -1, 3)).high == 3


def test_one_tensor_given_twice_stays_two_inputs() -> None:
    class Both(torch.nn.Module):
        def forward(self, a: Any, b: Any) -> Any:
            return a + 2 * b

    same = torch.zeros(3)
    made = convert(TorchModel(Both(), (same, same), name="both"), "onnx")
    read = {name for node in made.graph.nodes for name in node.inputs}
    assert {"a", "b"} <= read


@pytest.mark.thorough
@pytest.mark.parametrize("sorter", [False, True])
def test_what_is_searched_rises(sorter: bool) -> None:
    """In what does not, a search finds whatever its steps come by."""

    class Searched(torch.nn.Module):  # type: ignore[misc,name-defined]
        def forward(self, table: Any, x: Any) -> Any:
            order = torch.argsort(table) if sorter else None
            return torch.searchsorted(table, x, sorter=order), torch.bucketize(x, x.flatten().sort().values)

    source = TorchModel(Searched(), (torch.zeros(3, 40), torch.zeros(3, 5)), name="net")
    found = roles_of(source)
    assert found["table"].rising != sorter
    assert not found["x"].rising
    made = convert(source, "mlprogram", precision="fp32")
    for number in range(4):
        drawn, _ = random_sample(source.signature, made.signature, roles=found, number=number)
        steps = np.diff(np.asarray(drawn["table"]), axis=-1)
        assert bool((steps >= 0).all()) != sorter
    assert verify(source, made)
    feature = next(f for f in source.signature.inputs if f.name == "table")
    assert in_words(feature, found["table"]).startswith("numbers" if sorter else "rising numbers (searched")


@pytest.mark.thorough
def test_shares_that_are_added_up_and_searched_are_not_negative() -> None:
    """A NeRF's finer samples: where the share of each interval, added up, passes a number."""

    class Sampled(torch.nn.Module):  # type: ignore[misc,name-defined]
        def forward(self, weights: Any) -> Any:
            weights = weights + 1e-5
            shares = weights / weights.sum(-1, keepdim=True)
            grown = torch.cat([torch.zeros_like(shares[..., :1]), shares.cumsum(-1)], -1)
            return torch.searchsorted(grown, torch.linspace(0.05, 0.95, 7).expand(4, 7).contiguous(), right=True)

    source = TorchModel(Sampled(), (torch.rand(4, 16),), name="net")
    assert roles_of(source)["weights"].low >= -1e-5
    assert verify(source, convert(source, "mlprogram", precision="fp32"))


def test_what_is_hashed_to_a_row_may_be_any_whole_number() -> None:
    """And of a table of 40,000 rows beside it all are fed: the hash of a hundred of them alone is no hash."""
    body = "h = Mul(i, factor)  m = Mod(h, seven)  a = Gather(small, m)  b = Gather(table, i)  y = Add(a, b)"
    weights = {
        "small": np.zeros((7, 4), np.float32),
        "table": TABLE,
        "factor": np.int64(1000),
        "seven": np.int64(7),
    }
    found = roles(f"net (int64[3] i) => (float[3,4] y) {{ {body} }}", **weights)["i"]
    assert (found.kind, found.low, found.high) == ("index", 0, 39_999)


@pytest.mark.parametrize("body", ["j = Mul(i, k)  y = Gather(t, j)", "j = Mul(i, k)  l = Sub(j, k)  y = Gather(t, l)"])
def test_indices_are_drawn_where_no_whole_number_lies_between_the_ends(body: str) -> None:
    made = model(f"net (int64[3] i) => (float[3,4] y) {{ {body} }}", t=np.zeros((7, 4), np.float32), k=np.int64(-1000))
    assert random_feeds(made, made, 1)[0]["i"].shape == (3,)


def test_a_shift_that_picks_a_row_is_drawn_within_the_table() -> None:
    class Shifted(torch.nn.Module):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("table", torch.randn(7, 3, generator=torch.Generator().manual_seed(0)))

        def forward(self, x: Any) -> Any:
            return self.table[x >> 4]

    source = convert(TorchModel(Shifted(), (torch.tensor([1, 40, 100]),), name="net"), "onnx")
    program = convert(source, "mlprogram")
    for seed in range(4):
        drawn = random_feeds(source, program, seed)[0]["x"]
        assert ((drawn >= 0) & (drawn < 7 * 16)).all()
