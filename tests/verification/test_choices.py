"""Index results are judged by the margin of what they choose between: ties may go either way, and nothing else may."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import coreproof as cp
from coreproof.conversion.onnx_to_coreml.convert import onnx_to_coreml
from coreproof.verification.verify import verify
from tests.build import onnx_model

HEAD = '<ir_version: 8, opset_import: ["": 17]> net'


def best(places: str, of: str = "x") -> Any:
    """The place of the largest of six numbers, the last or the first of equals, after three more steps."""
    return onnx_model(
        f"{HEAD} (float[4,6] x) => (int64[4] y, float[4,6] z) {{ t = Tanh(x) z = Relu(t)"
        f" a = ArgMax<axis=1, keepdims=0, select_last_index={places}>({of}) y = Identity(a) }}"
    )


def tied(rows: int = 4) -> np.ndarray[Any, Any]:
    x = np.random.default_rng(1).normal(size=(rows, 6)).astype(np.float32)
    for row in range(rows):
        x[row, 3 + row % 3] = x[row, row % 3] = 3.0
    return x


@pytest.mark.parametrize("of", ["x", "t", "z"])
def test_the_first_or_the_last_of_equals_agree(of: str) -> None:
    found = verify(best("0", of), best("1", of), {"x": tied()})
    assert found, found.summary()
    assert {row.candidate: row.switched for row in found.rows}["y"] == 4
    said = " ".join(found.summary().split())
    assert "differ only between numbers that rounding cannot tell apart (first 'a', ArgMax: 4 indices)" in said
    assert found.proves


def test_another_place_than_that_of_an_equal_is_a_fault() -> None:
    wrong = onnx_model(
        f"{HEAD} (float[4,6] x) => (int64[4] y, float[4,6] z) {{ t = Tanh(x) z = Relu(t)"
        " o = Neg(x) a = ArgMax<axis=1, keepdims=0>(o) y = Identity(a) }"
    )
    assert not verify(best("0"), wrong, {"x": tied()})


def test_a_choice_that_names_one_place_twice_is_a_fault() -> None:
    right = onnx_model(
        f"{HEAD} (float[2,6] x) => (float[2,2] v, int64[2,2] y) {{ v, y = TopK<axis=1>(x, k) }}", k=np.array([2])
    )
    twice = onnx_model(
        f"{HEAD} (float[2,6] x) => (float[2,2] v, int64[2,2] y) {{ v, i = TopK<axis=1>(x, k) m = ArgMax<axis=1>(x)"
        " y = Concat<axis=1>(m, m) }",
        k=np.array([2]),
    )
    assert not verify(right, twice, {"x": tied(2)})


@pytest.mark.sweep(1)
@pytest.mark.parametrize(("to", "precision"), [("mlprogram", "fp32"), ("mlprogram", "fp16"), ("neuralnetwork", "fp32")])
def test_a_sorted_pytorch_model_with_repeated_numbers_converts_and_agrees(to: Any, precision: Any) -> None:
    torch = pytest.importorskip("torch", reason="needs the torch extra")

    class Sorted(torch.nn.Module):  # type: ignore[misc, name-defined]
        def forward(self, x: Any) -> Any:
            return torch.topk(x, 20, dim=-1)

    source = cp.load(cp.Source(Sorted().eval(), (torch.randn(4, 60),)))
    made = cp.convert(source, to, precision=precision)
    assert any(note.startswith("checked") for note in made.notes)
    repeated = np.round(np.random.default_rng(0).normal(size=(4, 60)), 1).astype(np.float32)
    assert verify(source, made, {source.signature.inputs[0].name: repeated})


def test_numbers_that_float16_cannot_tell_apart_may_change_places() -> None:
    x = tied()
    x[:, 3:] += np.float32(2e-4)  # the later of the two is the larger one now
    found = verify(best("0"), onnx_to_coreml(best("0"), "mlprogram", precision="fp16"), {"x": x})
    assert found, found.summary()


@pytest.mark.parametrize(("offset", "agrees"), [(0.0, True), (0.2, False)])
@pytest.mark.parametrize("operator", ["Greater", "LessOrEqual"])
def test_a_comparison_of_all_but_equal_numbers_may_go_either_way(operator: str, offset: float, agrees: bool) -> None:
    """The two sides add a number and take it away again, in another order: what is left differs by roundings."""
    made = f"v = Add(x, c) d = Sub(v, c) e = Add(d, o) y = {operator}(e, x)"
    text = f"(float[4,32] x) => (bool[4,32] y, float[4,32] v) {{ {made} }}"
    x = np.random.default_rng(3).normal(size=(4, 32)).astype(np.float32)
    c = np.float32(1.0)
    right = onnx_model(f"{HEAD} {text}", c=c, o=np.float32(0))
    other = onnx_model(f"{HEAD} {text}", c=c, o=np.float32(offset))
    found = verify(right, onnx_to_coreml(other, "mlprogram", precision="fp16"), {"x": x})
    assert {row.candidate: row.agrees for row in found.rows}["y"] is agrees


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_a_wrong_choice_among_near_numbers_is_a_fault_where_they_are_exact(precision: Any) -> None:
    """Numbers that float16 holds exactly, 0.4% apart: its tolerance would let each be off by as much, and none of them is."""
    largest, smallest = (
        onnx_model(
            f"{HEAD} (float[4,5] x) => (int64[4] y, float[4,5] r) {{ r = Relu(x) y = {operator}<axis=1, keepdims=0>(r) }}"
        )
        for operator in ("ArgMax", "ArgMin")
    )
    x = (1 + np.random.default_rng(5).permuted(np.tile(np.arange(5), (4, 1)), axis=1) / 1024).astype(np.float32)
    assert verify(largest, onnx_to_coreml(largest, "mlprogram", precision=precision), {"x": x})
    assert not verify(largest, onnx_to_coreml(smallest, "mlprogram", precision=precision), {"x": x})


def test_numbers_held_at_the_end_of_float16_are_not_near() -> None:
    """A program that holds -1e9 and its bound of -1e8 at -65504 tells them apart no more; the source does."""

    def net(held: str, low: float) -> Any:
        text = "t = ReduceMax<axes=[1], keepdims=0>(x) " + held + " l = Less(c, low) y = Where(l, zero, t)"
        stored = {"low": np.float32(low), "zero": np.float32(0)} | (
            {"end": np.float32(-65504)} if "end" in held else {}
        )
        return onnx_model(f"{HEAD} (float[2,4] x) => (float[2] y) {{ {text} }}", **stored)

    x = np.float32([[1, 2, 3, 4], [-1e9, -1e9, -1e9, -1e9]])
    found = verify(net("c = Identity(t)", -1e8), net("c = Max(t, end)", -65504), {"x": x})
    assert not found, found.summary()


@pytest.mark.parametrize("to", ["mlprogram", "neuralnetwork"])
@pytest.mark.parametrize(("operator", "limit"), [("GreaterOrEqual", 180), ("Greater", 200), ("Less", 180)])
def test_whole_numbers_are_rounded_nowhere_and_another_comparison_is_a_fault(
    operator: str, limit: int, to: Any
) -> None:
    """``day > 180`` beside ``day >= 180`` and ``day > 200``: at 180 and at 200 the numbers are equal, the answers not."""

    def compared(operator: str, limit: int) -> Any:
        text = f"""<ir_version: 10, opset_import: ["": 21]> net (int64[5] day) => (float[5] y) {{
            c = {operator}(day, k)  late = Cast<to=1>(c)  d = Cast<to=1>(day)  y = Add(late, d) }}"""
        return onnx_model(text, k=np.int64(limit))

    source = compared("Greater", 180)
    for day in ([5, 100, 180, 200, 400], [7, 7, 180, 180, 200]):
        fed = {"day": np.array(day, np.int64)}
        right = verify(source, onnx_to_coreml(source, to), fed)
        assert right, right.summary()
        assert not verify(source, onnx_to_coreml(compared(operator, limit), to), fed)


@pytest.mark.parametrize(("to", "precision"), [("mlprogram", "fp16"), ("mlprogram", "fp32"), ("neuralnetwork", "fp32")])
@pytest.mark.parametrize("made", ["h = Relu(m)", "h = Neg(x)"])
def test_numbers_that_are_equal_on_both_sides_leave_a_comparison_no_choice(to: Any, precision: Any, made: str) -> None:
    """``>=`` for ``>`` behind an activation and on what was fed: zeros are equal on both sides, whatever is rounded elsewhere."""

    def compared(operator: str) -> Any:
        text = f"(float[4,6] x) => (float[4,6] y) {{ m = MatMul(x, w) {made} c = {operator}(h, zero)"
        text += " f = Cast<to=1>(c) y = Add(f, m) }"
        w = np.random.default_rng(2).normal(size=(6, 6)).astype(np.float32)
        return onnx_model(f"{HEAD} {text}", w=w, zero=np.float32(0))

    x = np.random.default_rng(3).normal(size=(4, 6)).astype(np.float32)
    x[1, 2:4] = 0
    right, wrong = (
        onnx_to_coreml(compared(operator), to, precision=precision) for operator in ("Greater", "GreaterOrEqual")
    )
    assert verify(compared("Greater"), right, {"x": x})
    found = verify(compared("Greater"), wrong, {"x": x})
    assert not found
    assert found.first_divergence is not None
    assert found.first_divergence.candidate in ("c", "f")


@pytest.mark.sweep(1)
@pytest.mark.parametrize(("to", "precision"), [("mlprogram", "fp16"), ("neuralnetwork", "fp32")])
@pytest.mark.parametrize("wrong", [False, True])
def test_a_mask_of_lengths_that_is_one_place_too_long_is_a_fault(to: Any, precision: Any, wrong: bool) -> None:
    torch = pytest.importorskip("torch", reason="needs the torch extra")

    class Masked(torch.nn.Module):  # type: ignore[misc, name-defined]
        def __init__(self, wrong: bool) -> None:
            super().__init__()
            self.wrong = wrong

        def forward(self, x: Any, lengths: Any) -> Any:
            places = torch.arange(12)[None]
            mask = places <= lengths[:, None] if self.wrong else places < lengths[:, None]
            return (x * mask[..., None]).sum(1) + (x > 0).sum(1)

    def source(wrong: bool) -> Any:
        return cp.Source(Masked(wrong).eval(), (torch.randn(2, 12, 6), torch.tensor([5, 12])))

    made = cp.convert(source(wrong), to, precision=precision)
    assert bool(verify(source(False), made)) is not wrong
