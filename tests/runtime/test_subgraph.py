"""part: a stretch computes what the whole model computes there, in every format, and says what it lacks."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir
import pytest

import coreproof as cp
from coreproof.errors import InputError
from coreproof.model.onnx.model import OnnxModel
from coreproof.runtime.open import session
from coreproof.runtime.subgraph import Subgraph, run_subgraph
from tests.build import FLOAT, Net, onnx_model, residual_net

FORMATS = {
    "onnx": {},
    "mlprogram": {"precision": "fp16"},
    "neuralnetwork": {"precision": "fp32"},
}


@pytest.fixture(scope="module", params=FORMATS)
def model(request: pytest.FixtureRequest) -> Any:
    net = residual_net()
    return net if request.param == "onnx" else cp.convert(net, request.param, **FORMATS[request.param])


@pytest.fixture(scope="module")
def x() -> np.ndarray:
    return np.random.default_rng(5).normal(size=(1, 16, 12, 12)).astype(np.float32)


def test_a_stretch_computes_what_the_whole_model_computes(model: Any, x: np.ndarray) -> None:
    with session(model) as whole:
        inner = [n for n in ("sum0", "relu1", "sum1", "sum2") if n in whole.tappable]
        assert {"sum0", "sum1", "sum2"} <= set(inner)
        values = whole.run({"x": x}, inner)
        for of in (model, whole):
            made = run_subgraph(of, {"sum0": values["sum0"]}, ["sum1", "sum2", "y"])
            assert set(made) == {"sum1", "sum2", "y"}
            for name, value in made.items():
                np.testing.assert_allclose(value, values[name], rtol=2e-3, atol=2e-3 * np.abs(values[name]).max())


def test_what_makes_a_given_value_is_not_run(model: Any, x: np.ndarray) -> None:
    zero = np.zeros((1, 16, 12, 12), np.float32)
    changed = run_subgraph(model, {"sum1": zero}, ["sum2"])["sum2"]
    with session(model) as whole:
        ordinary = whole.run({"x": x}, ["sum2"])["sum2"]
    assert np.abs(changed - ordinary).max() > 0.1
    assert np.array_equal(run_subgraph(model, {"sum1": zero, "x": x}, ["sum1"])["sum1"], zero)


def test_one_part_runs_with_many_inputs_of_any_length(model: Any) -> None:
    with session(model) as whole, Subgraph(whole, ["sum0", "x"], ["sum1"]) as stretch:
        assert stretch.inputs == ("sum0",)
        one, two = (stretch.run({"sum0": np.full((1, 16, 12, 12), v, np.float64)})["sum1"] for v in (0.0, 1.0))
    assert one.dtype == np.float32
    assert not np.array_equal(one, two)


def test_what_is_neither_given_nor_computable_is_named(model: Any) -> None:
    with pytest.raises(InputError, match="nothing is given for 'x', from which 'sum2'"):
        Subgraph(model, [], ["sum2"])
    with pytest.raises(InputError, match="no value 'sum9', 'nowhere'"):
        Subgraph(model, ["sum9"], ["nowhere"])
    with Subgraph(model, ["sum0"], ["sum1"]) as stretch, pytest.raises(InputError, match="'sum0'"):
        stretch.run({})


def test_pytorch_models_are_refused_with_a_way_out() -> None:
    torch = pytest.importorskip("torch", reason="needs the torch extra")
    with pytest.raises(InputError, match="convert a PyTorch model to ONNX first"):
        Subgraph(cp.load((torch.nn.Linear(2, 2), (torch.zeros(1, 2),))), ["x"], ["y"])


def test_a_float16_value_that_others_read_before_rounding_is_given_to_all() -> None:
    """ReLU is done before its input's rounding, where the engine fuses it: what is given has to reach it there too."""
    net = cp.convert(residual_net(), "mlprogram", precision="fp16")
    norm = next(n for n in net.graph.nodes if n.operator == "relu").inputs[0]
    relu = next(n for n in net.graph.nodes if n.operator == "relu").outputs[0]
    given = np.linspace(-2, 2, 16 * 144, dtype=np.float32).reshape(1, 16, 12, 12)
    expected = np.maximum(given.astype(np.float16).astype(np.float32), 0)
    np.testing.assert_array_equal(run_subgraph(net, {norm: given}, [relu])[relu], expected)


def test_a_branch_reads_the_given_value_from_outside() -> None:
    net = Net()
    x = ir.Value(name="x", type=ir.TensorType(FLOAT), shape=ir.Shape([2]))
    h = net.add("Neg", "h", x)
    big = net.add(
        "Greater", "big", net.add("ReduceMax", "largest", h, keepdims=0), net.constant("nought", np.float32(0))
    )
    big.type = ir.TensorType(ir.DataType.BOOL)
    branches = []
    for operator in ("Exp", "Abs"):
        inner = ir.Value(name=f"inner_{operator}", type=ir.TensorType(FLOAT))
        node = ir.Node("", operator, [h], outputs=[inner])
        branches.append(ir.Graph([], [inner], nodes=[node], opset_imports={"": 20}, name=operator))
    y = net.add("If", "y", big, then_branch=branches[0], else_branch=branches[1])
    model: OnnxModel = net.model(x, y)
    given = np.array([1.0, -2.0], np.float32)
    np.testing.assert_allclose(run_subgraph(model, {"h": given}, ["y"])["y"], np.exp(given), rtol=1e-6)
    np.testing.assert_allclose(run_subgraph(model, {"h": given, "big": np.array(False)}, ["y"])["y"], np.abs(given))
    with pytest.raises(InputError, match="nothing is given for 'x'"):
        Subgraph(model, ["big"], ["y"])


def test_a_classifier_is_cut_at_its_scores() -> None:
    model = cp.convert(residual_net(), "mlprogram", labels=[f"class{i}" for i in range(10)])
    with session(model) as whole:
        scores = whole.signature.scores
    assert scores is not None
    made = run_subgraph(model, {"sum3": np.ones((1, 16, 12, 12), np.float32)}, [scores])[scores]
    assert made.size == 10


def test_what_is_made_again_is_rounded_only_where_it_is_the_rounded_value_that_is_asked_for() -> None:
    """A wide value and its half are made by one layer: asked for together, each is what the model has there."""
    source = onnx_model(
        """<ir_version: 8, opset_import: ["": 17]>
        net (float[4,8] x) => (float[4,8] y, float[4,8] z) {
        m = Mul(x, k) h = Cast<to = 10>(m) a = Neg(h) y = Cast<to = 1>(a) z = Exp(m) }""",
        k=np.float32(1.1),
    )
    net = cp.convert(source, "mlprogram", precision="fp32")
    x = np.random.default_rng(0).normal(size=(4, 8)).astype(np.float32)
    with session(net) as whole:
        expected = whole.run({"x": x}, ["m", "h"])
        assert np.asarray(expected["h"]).dtype == np.float16 or not np.array_equal(expected["m"], expected["h"])
        for asked in (["m", "h"], ["h", "m"], ["m"], ["h"]):
            with Subgraph(whole, ["x", "m", "h"], asked, remake=True) as part:
                made = part.run({"x": x, **{name: np.asarray(value) for name, value in expected.items()}})
            for name in asked:
                assert np.array_equal(made[name], expected[name]), (asked, name)
