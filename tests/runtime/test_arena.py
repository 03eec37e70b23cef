"""A kilobyte of ONNX that makes gigabytes ends in an error that says so, wherever it makes them."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

import coreproof as cp
from coreproof.errors import ConversionError, TooLargeError
from tests.build import onnx_proto

HUGE = 3 * 10**9


def model(*nodes: onnx.NodeProto, shape: list[int] | None = None, **constants: np.ndarray) -> cp.Model:
    """A model of ``x``: its nodes make ``big``, and ``y`` is the sum of it and of ``x``."""
    ending = [
        helper.make_node("Add", ["big", "x"], ["together"], name="together"),
        helper.make_node("ReduceSum", ["together"], ["y"], name="sum", keepdims=1),
    ]
    return cp.load(onnx_proto([*nodes, *ending], {"x": shape or [1]}, {"y": None}, constants))


ONE, LENGTH = np.float32([1.0]), np.array([HUGE], np.int64)
CASES = {
    "ConstantOfShape": model(helper.make_node("ConstantOfShape", ["n"], ["big"], name="grow"), n=LENGTH),
    "Expand": model(helper.make_node("Expand", ["one", "n"], ["big"], name="grow"), one=ONE, n=LENGTH),
    "Expand of the input": model(helper.make_node("Expand", ["x", "n"], ["big"], name="grow"), n=LENGTH),
    "Tile": model(helper.make_node("Tile", ["one", "n"], ["big"], name="grow"), one=ONE, n=LENGTH),
    "Pad": model(helper.make_node("Pad", ["one", "n"], ["big"], name="grow"), one=ONE, n=np.array([HUGE, 0], np.int64)),
    "an outer product": model(
        helper.make_node("Mul", ["row", "column"], ["big"], name="grow"),
        row=np.ones((1, 60_000), np.float32),
        column=np.ones((60_000, 1), np.float32),
    ),
    "Resize": model(
        helper.make_node("Resize", ["x", "", "scales"], ["big"], name="grow", mode="nearest"),
        shape=[1, 1, 1, 1],
        scales=np.float32([1, 1, 30_000, 30_000]),
    ),
}
COMPUTED = model(
    helper.make_node("Cast", ["x"], ["whole"], name="whole", to=TensorProto.INT64),
    helper.make_node("Pow", ["whole", "four"], ["n"], name="n"),
    helper.make_node("ConstantOfShape", ["n"], ["big"], name="grow"),
    four=np.array(4, np.int64),
)


@pytest.mark.parametrize("case", CASES)
def test_running_it_stops_at_the_budget(case: str) -> None:
    with cp.session(CASES[case]) as running, pytest.raises(TooLargeError, match=r"node 'grow'[\s\S]*memory-budget"):
        running.run({"x": np.ones(CASES[case].signature.inputs[0].shape, np.float32)})


@pytest.mark.parametrize("case", CASES)
def test_converting_it_names_the_value_before_anything_is_computed(case: str) -> None:
    with pytest.raises(TooLargeError, match=r"'big'[\s\S]*shape \["):
        cp.convert(CASES[case], "mlprogram")


def test_a_length_that_is_known_only_while_it_runs() -> None:
    with cp.session(COMPUTED) as running:
        assert running.run({"x": np.float32([2.0])})["y"].item() == pytest.approx(32.0)
        with pytest.raises(TooLargeError, match="node 'grow'"):
            running.run({"x": np.float32([250.0])})


def test_a_tapped_value_counts_as_well() -> None:
    with cp.session(CASES["Expand"]) as running, pytest.raises(TooLargeError):
        running.run({"x": np.ones(1, np.float32)}, ["together"])


def test_a_larger_budget_lets_it_through(monkeypatch: pytest.MonkeyPatch) -> None:
    grown = model(
        helper.make_node("Expand", ["x", "n"], ["big"], name="grow"),
        helper.make_node("ReduceMax", ["big"], ["most"], name="most"),
        n=np.array([5_000_000], np.int64),
    )
    monkeypatch.setenv("COREPROOF_MEMORY_BUDGET", "10MB")
    with cp.session(grown) as running, pytest.raises(TooLargeError):
        running.run({"x": np.ones(1, np.float32)})
    monkeypatch.setenv("COREPROOF_MEMORY_BUDGET", "100MB")
    with cp.session(grown) as running:
        assert running.run({"x": np.ones(1, np.float32)})["y"].item() == 10_000_000


def test_weights_whose_bytes_are_there_do_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COREPROOF_MEMORY_BUDGET", "1MB")
    weights = np.ones((1000, 2000), np.float32)
    multiplied = model(
        helper.make_node("MatMul", ["x", "w"], ["product"], name="product"),
        helper.make_node("ReduceMean", ["product"], ["big"], name="big", keepdims=1),
        shape=[1, 1000],
        w=weights,
    )
    with cp.session(multiplied) as running:
        assert running.run({"x": np.ones((1, 1000), np.float32)})["y"].item() == 1_001_000


def test_an_input_that_is_declared_too_large_is_not_drawn() -> None:
    large = model(helper.make_node("Identity", ["x"], ["big"], name="same"), shape=[2**31, 3, 32, 32])
    with pytest.raises(TooLargeError, match=r"input 'x'[\s\S]*2147483648"):
        cp.verify(large, large)
    with pytest.raises((ConversionError, TooLargeError), match="2147483648"):
        cp.convert(large, "mlprogram")


def test_the_matrix_of_a_resize_is_ours_and_counts() -> None:
    stretched = model(
        helper.make_node("Resize", ["x", "", "scales"], ["big"], name="grow", mode="cubic"),
        shape=[1, 1, 1, 40_000],
        scales=np.float32([1, 1, 1, 0.7]),
    )
    with pytest.raises(TooLargeError, match="matrix of a Resize"):
        cp.convert(stretched, "mlprogram")
