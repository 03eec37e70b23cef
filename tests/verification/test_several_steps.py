"""Quantised values that are off by several steps before they are rounded to one: rounding adds to that and hides none of it."""

from __future__ import annotations

import copy
import warnings
from typing import Any

import numpy as np
import pytest

import coreproof as cp
from coreproof.errors import RunError
from coreproof.runtime import subgraph_pool
from tests.build import graph_model

torch = pytest.importorskip("torch", reason="needs the torch extra")


class Quantised(torch.nn.Module):  # type: ignore[misc,name-defined]
    def __init__(self) -> None:
        from torch.ao import quantization

        super().__init__()
        self.quant, self.dequant = quantization.QuantStub(), quantization.DeQuantStub()
        self.conv, self.relu, self.linear = torch.nn.Conv2d(3, 8, 3), torch.nn.ReLU(), torch.nn.Linear(8, 5)

    def forward(self, x: Any) -> Any:
        x = self.relu(self.conv(self.quant(x))).mean((2, 3))
        return self.dequant(self.linear(x))


@pytest.fixture(scope="module")
def nets() -> tuple[Any, Any]:
    """A network that eager mode quantised, and one whose last layer has its classes in another order."""
    from torch.ao import quantization

    torch.manual_seed(0)
    net = Quantised().eval()
    net.qconfig = quantization.get_default_qconfig("x86")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        quantization.prepare(net, inplace=True)
        for _ in range(4):
            net(torch.randn(4, 3, 12, 12))
        other = copy.deepcopy(net)
        with torch.no_grad():
            other.linear.weight.copy_(net.linear.weight.roll(1, 0))
            other.linear.bias.copy_(net.linear.bias.roll(1, 0))
        return tuple(quantization.convert(each) for each in (net, other))  # type: ignore[return-value]


@pytest.mark.thorough
@pytest.mark.parametrize("precision", ["fp32", "fp16"])
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")
def test_a_network_that_eager_mode_quantised_agrees_and_another_does_not(nets: tuple[Any, Any], precision: Any) -> None:
    example = torch.randn(2, 3, 12, 12)
    made = cp.convert(cp.Source(nets[0], (example,)), "mlprogram", precision=precision)
    found = cp.verify(cp.Source(nets[0], (example,)), made)
    assert found, found.summary()
    assert not cp.verify(cp.Source(nets[1], (example,)), made)


def test_a_graph_that_the_engine_fails_to_optimise_runs_as_it_stands(monkeypatch: pytest.MonkeyPatch) -> None:
    """ONNX Runtime folds some dequantised weights twice where they are outputs as well, and then refuses its own graph."""
    import onnxruntime as ort

    opened = subgraph_pool.open_within_budget
    said = "/onnxruntime_src/onnxruntime/core/graph/graph_utils.cc:479 AddInitializerWithOrtValue"

    def fails(message: bytes, options: ort.SessionOptions, weights: int) -> Any:
        if options.graph_optimization_level != ort.GraphOptimizationLevel.ORT_DISABLE_ALL:
            raise RuntimeError(said)
        return opened(message, options, weights)

    monkeypatch.setattr(subgraph_pool, "open_within_budget", fails)
    net = graph_model("net (float[3] x) => (float[3] y) { y = Neg(x) }")
    with cp.session(net) as running:
        np.testing.assert_array_equal(running.run({"x": np.float32([1, 2, 3])})["y"], [-1, -2, -3])
    said = "something else"
    with cp.session(net) as running, pytest.raises(RunError, match="refuses the model"):
        running.run({"x": np.float32([1, 2, 3])})
