"""A PyTorch module against its own ONNX export, value by value."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import coreproof as cp
from coreproof.errors import ConversionError
from coreproof.verification.verify import verify

torch = pytest.importorskip("torch", reason="needs the torch extra")


def _resnet_like() -> Any:
    class Block(torch.nn.Module):  # type: ignore[misc, name-defined]
        def __init__(self, channels: int) -> None:
            super().__init__()
            self.conv1 = torch.nn.Conv2d(channels, channels, 3, padding=1, bias=False)
            self.bn1 = torch.nn.BatchNorm2d(channels)
            self.conv2 = torch.nn.Conv2d(channels, channels, 3, padding=1, bias=False)
            self.bn2 = torch.nn.BatchNorm2d(channels)

        def forward(self, x: Any) -> Any:
            return torch.relu(self.bn2(self.conv2(torch.relu(self.bn1(self.conv1(x))))) + x)

    torch.manual_seed(1)
    net = torch.nn.Sequential(
        torch.nn.Conv2d(3, 8, 5, stride=2), Block(8), torch.nn.MaxPool2d(2), Block(8),
        torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(), torch.nn.Linear(8, 5),
    )  # fmt: skip
    for module in net.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.running_var, 0.5, 2.0)
            torch.nn.init.normal_(module.running_mean)
            torch.nn.init.uniform_(module.weight, 0.5, 1.5)
    return net.eval()


def test_a_module_agrees_with_its_export_and_a_changed_one_does_not() -> None:
    from coreproof.conversion.torch_to_onnx.export import torch_to_onnx
    from coreproof.model.torch.model import TorchModel

    net = _resnet_like()
    model = TorchModel(net, (torch.zeros(1, 3, 33, 33),), name="small")
    exported = torch_to_onnx(model)
    found = verify(model, exported)
    assert found, found.summary()
    assert found.engines[0].startswith("PyTorch")
    assert len(found.rows) >= 10
    assert {r.how for r in found.rows} <= {"provenance", "name", "output"}
    assert any(r.source for r in found.rows)

    with torch.no_grad():
        net[3].bn2.weight[2] *= 1.01
    changed = TorchModel(net, model.example_inputs, name="changed")
    first = verify(changed, exported).first_divergence
    assert first is not None
    # traced anew, and so numbered apart: the values before the change must not be taken for other ones
    assert first.source is not None
    assert first.source.startswith("3.")


def test_a_guessed_pair_of_which_no_output_is_made_accuses_nobody(tmp_path: Any) -> None:
    """The zeroth power of a matrix depends on no input; what a NeuralNetwork does with the input is paired with the answer."""
    import coreproof as cp

    class Power(torch.nn.Module):  # type: ignore[misc, name-defined]
        def forward(self, x: Any) -> Any:
            return torch.linalg.matrix_power(x, 0)

    source = cp.load(cp.Source(Power().eval(), (torch.tensor([[-8.5]]),)))
    cp.convert(source, "neuralnetwork").save(tmp_path / "net.mlmodel")
    found = verify(source, cp.load(tmp_path / "net.mlmodel"))
    assert [row.how for row in found.rows] == ["output"]
    assert len(found.dismissed) == 1
    assert found.agrees


class Replaced(torch.nn.Module):
    """Writes into a buffer by a way that an export drops without a word."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("total", torch.zeros(2, 4))

    def forward(self, x: Any) -> Any:
        self.total.data = self.total.data + x
        return self.total * 1.0


def test_what_a_module_was_traced_without_is_no_effect_of_what_arrived() -> None:
    torch.manual_seed(0)
    given = (Replaced(), (torch.randn(2, 4),))
    made = cp.convert(given, "onnx", check=False)
    fed = {"x": np.ones((2, 4), np.float32), "total": np.full((2, 4), 3, np.float32)}
    with cp.session(made) as running:
        assert (running.run(fed)["output"] == 3).all()  # and the module says 4
    assert not cp.verify(given, made)
    with pytest.raises(ConversionError, match="does not answer as its source does"):
        cp.convert(given, "onnx")
