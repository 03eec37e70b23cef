"""Where bounds allow far more than was found, a value is held to what rounding was seen to do."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import coreproof as cp
from coreproof.verification import measured_rounding
from coreproof.verification.verify import verify
from tests.build import graph_model, onnx_model, weights

STEPS, UNITS, READ = 6, 24, 16


def recurrent(w: np.ndarray, r: np.ndarray, operator: str = "GRU", steps: int = STEPS, more: str = "") -> Any:
    both = 'direction="bidirectional"' in more
    sides = 2 if both else 1
    text = (
        f"agraph (float[{steps},1,{READ}] x) => (float[{steps},{sides},1,{UNITS}] y, float[{sides},1,{UNITS}] h) {{"
        f" y, h = {operator}<hidden_size={UNITS}{more}>(x, W, R) }}"
    )
    return graph_model(text, W=w, R=r)


def drawn(gates: int, sides: int = 1) -> list[np.ndarray]:
    return [
        0.3 * weights(sides, gates * UNITS, READ, seed=1),
        0.3 * weights(sides, gates * UNITS, UNITS, seed=2),
    ]


def exchanged(weight: np.ndarray) -> np.ndarray:
    made = weight.copy()
    made[0, [1, 9]] = made[0, [9, 1]]
    return made


def larger(weight: np.ndarray) -> np.ndarray:
    made = weight.copy()
    made[0, 5] *= 1.3
    return made


WRITTEN_OUT = [
    ("GRU", 3, ", linear_before_reset=1"),
    ("GRU", 3, ', linear_before_reset=1, direction="bidirectional"'),
    ("GRU", 3, ', activations=["HardSigmoid", "Tanh"]'),
    ("LSTM", 4, ""),
    ("RNN", 1, ""),
]


@pytest.mark.thorough
@pytest.mark.parametrize(("operator", "gates", "more"), WRITTEN_OUT)
@pytest.mark.parametrize("to", ["mlprogram", "coreai"])
def test_rows_exchanged_within_a_recurrent_layer_are_no_rounding(operator: str, gates: int, more: str, to: Any) -> None:
    if to == "coreai":
        pytest.importorskip("coreai")
    held = drawn(gates, 2 if "bidirectional" in more else 1)
    source = recurrent(*held, operator, more=more)
    assert verify(source, cp.convert(source, to, precision="fp16", check=False)).proves
    for which in (0, 1):
        for fault in (exchanged, larger):
            wrong = [fault(held[0]), held[1]] if which == 0 else [held[0], fault(held[1])]
            made = cp.convert(recurrent(*wrong, operator, more=more), to, precision="fp16", check=False)
            assert not verify(source, made).proves, (which, fault.__name__)


@pytest.mark.thorough
def test_the_bound_says_that_it_was_measured() -> None:
    held = drawn(3)
    more = ", linear_before_reset=1"
    slightly = held[1] * np.where(np.arange(3 * UNITS) == 30, 2.0, 1.0).astype(np.float32)[:, None]
    made = cp.convert(recurrent(held[0], slightly, more=more), "mlprogram", check=False)
    found = verify(recurrent(*held, more=more), made)
    assert not found.agrees
    row = found.first_divergence
    assert row is not None
    assert "was seen to change it by" in row.tolerance.why
    # several roundings of 2^-11, and far from the bound that adds up from step to step
    assert 2**-11 < (row.tolerance.typical or 0.0) < 20 * 2**-11
    assert [s.row.candidate for s in found.stretches] == [row.candidate]
    # the other way round the reference is the one that rounds
    assert not verify(made, recurrent(*held, more=more)).proves


@pytest.mark.thorough
def test_a_long_sequence_that_is_right_stays_right() -> None:
    held = drawn(3)
    source = recurrent(*held, steps=40, more=", linear_before_reset=1")
    found = verify(source, cp.convert(source, "mlprogram", check=False))
    assert found.agrees


def test_nothing_runs_once_more_where_what_was_found_is_small(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> Any:
        raise AssertionError("run in float32 for nothing")

    monkeypatch.setattr(measured_rounding, "session", refuse)
    source = recurrent(*drawn(3), more=", linear_before_reset=1")
    assert verify(source, cp.convert(source, "mlprogram", precision="fp32", check=False)).agrees
    text = "agraph (float[3,16] x) => (float[3,24] y) { s = Relu(x) t = MatMul(s, w) y = Softmax(t) }"
    plain = graph_model(text, w=weights(16, 24))
    assert verify(plain, cp.convert(plain, "mlprogram", check=False)).agrees


def test_what_rounding_does_is_allowed_with_what_it_may_do_to_weights() -> None:
    seen: Callable[..., Any] = measured_rounding._as_seen
    made = np.full(100, 1.0)
    tolerance = seen(1.0, [(made, made + 1e-3)])
    assert tolerance.typical == pytest.approx(2 * np.sqrt(2) * np.hypot(1e-3, 2**-11))
    assert tolerance.relative == pytest.approx(10.6 * np.sqrt(2) * np.hypot(1e-3, 2**-11))
    # a weight that 9 steps read is off in the same direction in each
    assert seen(1.0, [(made, made + 1e-3)], 9).typical == pytest.approx(2 * np.sqrt(10) * np.hypot(1e-3, 2**-11))
    # one rounding at least, and nothing of what is not finite
    assert seen(1.0, [(made, made)]).typical == pytest.approx(2 * np.sqrt(2) * 2**-11)
    assert seen(1.0, [(made, np.full(100, np.inf))]) is None
    assert seen(0.0, [(made, made)]) is None
    assert seen(1.0, [(made, made[:50])]) is None


@pytest.mark.parametrize("agreeing", [(), ("v3",), ("v2", "o7")])
def test_the_readers_of_one_weight_are_those_between_a_row_and_what_agrees(agreeing: tuple[str, ...]) -> None:
    """Counted for all rows in one walk over the graph; beside it, the walk backwards from each."""
    chain = " ".join(f"v{at + 1} = Mul (v{at}, w) o{at} = Add (v{at}, v{at + 1})" for at in range(9))
    model = graph_model(
        f"net (float[4] x) => (float[4] y) {{ v0 = Mul (x, u) {chain} y = Add (o8, w) }}",
        w=np.ones(4, np.float32),
        u=np.ones(4, np.float32),
    )
    graph = model.graph
    wide = {name for node in graph.nodes for name in node.outputs} - set(agreeing)
    run: Any = SimpleNamespace(candidate=model, reference=model, pairs=())
    rows: Any = [SimpleNamespace(candidate=name) for node in graph.nodes for name in node.outputs]
    found = measured_rounding._steps(run, rows, wide)
    for name in wide:
        layers = graph.between({"u", "w", *agreeing}, [name])
        read = Counter(inner for layer in layers for inner in layer.inputs if inner in ("u", "w"))
        assert found[name] == max(read.values(), default=1), name
    assert max(found.values()) > 5


@pytest.mark.parametrize(("off", "agrees"), [(0.0, True), (0.01, False)])
def test_weights_that_cancel_are_rounded_by_more_than_results(off: float, agrees: bool) -> None:
    """Of ones no result is rounded, so that nothing is seen; the weights' own rounding is 0.6% of what is left of their sum."""
    w = np.float32([[0.3333], [-0.3111], [0.2777], [-0.1999], [-0.1234], [0.0567], [-0.0493]])
    text = """<ir_version: 8, opset_import: ["": 17]> net (float[3,7] x) => (float[3,1] y) {
        s = Sigmoid(x)
        c = Ceil(s)
        m = MatMul(c, w)
        y = Mul(m, k)
    }"""
    made = cp.convert(onnx_model(text, w=w, k=np.float32(3)), "mlprogram", check=False)
    wrong = w + np.float32(off) * np.eye(7, 1, dtype=np.float32)
    assert cp.verify(onnx_model(text, w=wrong, k=np.float32(3)), made).agrees == agrees


def test_what_is_left_of_terms_that_cancel_is_rounding_and_proves_nothing() -> None:
    """float16 makes 0 of what float32 makes 1.5e-8 of: neither is wrong, and nothing is proved."""
    text = """<ir_version: 8, opset_import: ["": 17]> net (float[1,2] x) => (float[1,1] y) {
        r = Round(x)
        y = MatMul(r, w)
    }"""
    source = onnx_model(text, w=np.float32([[0.3], [-0.3 + 3e-8]]))
    made = cp.convert(source, "mlprogram", check=False)
    found = cp.verify(source, made, {"x": np.float32([[1, 1]])})
    assert found.agrees, found.summary()
    assert any(weakness.kind == "rounding" and weakness.fails for weakness in found.weaknesses)
    other = onnx_model(text, w=np.float32([[0.3], [-0.29]]))
    assert not cp.verify(other, made, {"x": np.float32([[1, 1]])})


@pytest.mark.sweep(1)
@pytest.mark.parametrize(("operator", "gates", "more"), [("LSTM", 4, ""), ("GRU", 3, ", linear_before_reset=1")])
def test_what_compression_explains_is_not_held_to_rounding(operator: str, gates: int, more: str) -> None:
    """The weights of two directions stand in one constant of the source."""
    source = recurrent(*drawn(gates, 2), operator, more=f'{more}, direction="bidirectional"')
    found = verify(source, cp.convert(source, "mlprogram", compress="linear:8", check=False))
    assert found.agrees, found.summary()
