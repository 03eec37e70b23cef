"""PyTorch -> ONNX: what the exporter must not simplify away."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import coreproof as cp
from coreproof.conversion.torch_to_onnx.export import torch_to_onnx
from coreproof.errors import ConversionError
from coreproof.model.torch.model import TorchModel

torch = pytest.importorskip("torch", reason="needs the torch extra")


@pytest.mark.parametrize("fold", [True, False])
def test_a_small_epsilon_stays(fold: bool) -> None:
    from coreproof.runtime.open import session

    class Normalised(torch.nn.Module):  # type: ignore[misc, name-defined]
        def forward(self, x: Any) -> Any:
            return x * torch.rsqrt((x * x).mean(-1, keepdim=True) + 1e-12) + 0.0

    x = torch.zeros(2, 4)
    x[1] = 1e-6
    net = Normalised()
    exported = torch_to_onnx(TorchModel(net, (x,), name="norm"), fold_batchnorm=fold)
    with session(exported) as running:
        (got,) = running.run({exported.signature.inputs[0].name: x.numpy()}).values()
    assert np.allclose(got, net(x).numpy(), rtol=1e-5)
    assert got[0].tolist() == [0, 0, 0, 0]
    assert got[1][0] == pytest.approx(np.sqrt(0.5), rel=1e-4)
    # what adds nothing is still dropped
    assert [n.operator for n in exported.graph.nodes].count("Add") == 1


class Counter(torch.nn.Module):  # type: ignore[misc,name-defined]
    """Adds what it is fed to a buffer; the other buffer stays."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("total", torch.zeros(1, 4), persistent=False)
        self.register_buffer("factor", torch.full((1, 4), 2.0))

    def forward(self, x: Any) -> Any:
        self.total.add_(x)
        return self.total * self.factor


class Cache(torch.nn.Module):  # type: ignore[misc,name-defined]
    """Writes the same into the same place, however often it runs on the same input."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("kept", torch.zeros(2, 4))

    def forward(self, x: Any) -> Any:
        self.kept[1:2] = x
        return self.kept.sum(0, keepdim=True)


@pytest.mark.parametrize(("module", "buffer"), [(Counter, "total"), (Cache, "kept")])
def test_buffers_that_change_are_refused_by_name(module: Any, buffer: str) -> None:
    with pytest.raises(ConversionError, match="changes 1 buffer") as caught:
        torch_to_onnx(TorchModel(module().eval(), (torch.ones(1, 4),), name="net"))
    assert caught.value.found == buffer
    assert "--freeze-state" in str(caught.value.fix)


def test_a_frozen_buffer_is_what_it_was_before_the_export() -> None:
    net = Counter().eval()
    exported = torch_to_onnx(TorchModel(net, (torch.ones(1, 4),), name="net"), freeze_state=True)
    assert any("frozen at what they held: total" in note for note in exported.notes)


def test_buffers_that_stay_are_no_state() -> None:
    net = torch.nn.Sequential(torch.nn.BatchNorm1d(4)).eval()
    exported = torch_to_onnx(TorchModel(net, (torch.ones(1, 4),), name="net"))
    assert not any("frozen" in note for note in exported.notes)


class Mean(torch.nn.Module):  # type: ignore[misc,name-defined]
    """Divides by a length that it asks its input for."""

    def forward(self, x: Any) -> Any:
        return x.sum(1) / x.shape[1]


@pytest.mark.sweep(1)
@pytest.mark.parametrize("asked", [[1, (4, 32), 16], ["1..4", "4..32", 16], [(1, 4, 16), (1, 32, 16)]])
def test_every_dimension_that_is_asked_for_is_traced_as_free(asked: Any) -> None:
    import coreproof as cp

    net = Mean().eval()
    made = cp.convert((net, (torch.ones(1, 12, 16),)), "mlprogram", precision="fp32", shapes={"x": asked})
    assert made.notes[-1].startswith("checked")
    with cp.session(made) as running:
        for length in (4, 32):
            x = np.random.default_rng(length).normal(size=(1, length, 16)).astype(np.float32)
            (got,) = running.run({"x": x}).values()
            np.testing.assert_allclose(got, net(torch.from_numpy(x)).numpy(), rtol=1e-5, atol=1e-6)


def test_a_model_that_no_exporter_takes_is_refused_and_nothing_is_printed(capfd: pytest.CaptureFixture[str]) -> None:
    class Singular(torch.nn.Module):  # type: ignore[misc, name-defined]
        def forward(self, x: Any) -> Any:
            return torch.linalg.svdvals(x)

    source = TorchModel(Singular().eval(), (torch.ones(2, 3),), name="singular")
    with pytest.raises(ConversionError, match="PyTorch cannot export"):
        torch_to_onnx(source)
    assert "".join(capfd.readouterr()) == ""


@pytest.mark.thorough
def test_bounds_that_the_exporter_forgets_are_in_the_graph() -> None:
    """Its rewrites merge clips that follow each other, twice in one graph."""

    class Inverse(torch.nn.Module):  # type: ignore[misc, name-defined]
        def forward(self, x: Any) -> Any:
            return torch.log(x.clamp(0, 1).clamp(min=1e-3) / (1 - x.clamp(0, 1)).clamp(min=1e-3))

    net = Inverse()
    x = torch.tensor([[-1.0, 0.25, 0.5, 2.0]])
    exported = torch_to_onnx(TorchModel(net, (x,), name="inverse"))
    graph = exported.ir.graph
    held = {*graph.inputs, *graph.initializers.values(), *(v for node in graph for v in node.outputs)}
    assert all(v in held for node in graph for v in node.inputs if v is not None)
    assert cp.verify((net, (x,)), cp.convert((net, (x,)), "mlprogram"))
