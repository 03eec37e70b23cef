"""LSTM layers against PyTorch."""

from __future__ import annotations

from typing import Any

import pytest

from tests.conversion.coreml_to_onnx.lowered import close, run_layer
from tests.drawn import normal, t

torch = pytest.importorskip("torch", reason="PyTorch is not installed")


def lstm_weights(module: Any, suffix: str) -> dict[str, Any]:
    """PyTorch's gates i, f, g, o as Core ML names them."""
    found: dict[str, Any] = {}
    bias = module.get_parameter(f"bias_ih_l0{suffix}") + module.get_parameter(f"bias_hh_l0{suffix}")
    for what, tensor in (
        ("WeightMatrix", module.get_parameter(f"weight_ih_l0{suffix}")),
        ("RecursionMatrix", module.get_parameter(f"weight_hh_l0{suffix}")),
        ("BiasVector", bias),
    ):
        for gate, part in zip(
            ("inputGate", "forgetGate", "blockInput", "outputGate"), tensor.detach().chunk(4), strict=True
        ):
            found[gate + what] = part.numpy()
    return found


STANDARD = [{"sigmoid": {}}, {"tanh": {}}, {"tanh": {}}]


@pytest.mark.parametrize("clip", [500.0, 3.0])
def test_lstm_of_pytorch_by_either_way(clip: float) -> None:
    torch.manual_seed(0)
    module = torch.nn.LSTM(4, 3)
    x, h, c = normal(6, 2, 4), normal(1, 2, 3), normal(1, 2, 3)
    with torch.no_grad():
        expected, (last_h, last_c) = module(t(x), (t(h), t(c)))
    found = run_layer(
        "uniDirectionalLSTM", x[..., None, None], h[..., None, None], c[..., None, None], outputs=3,
        inputVectorSize=4, outputVectorSize=3, activations=STANDARD,
        params={"sequenceOutput": True, "hasBiasVectors": True, "cellClipThreshold": clip},
        weightParams=lstm_weights(module, ""),
    )  # fmt: skip
    for value, wanted in zip(found, (expected, last_h, last_c), strict=True):
        close(value[..., 0, 0], wanted)


def test_bidirectional_lstm_of_pytorch() -> None:
    torch.manual_seed(1)
    module = torch.nn.LSTM(4, 3, bidirectional=True)
    x = normal(6, 2, 4)
    with torch.no_grad():
        expected, (last_h, _) = module(t(x))
    fields: dict[str, Any] = {
        "inputVectorSize": 4,
        "outputVectorSize": 3,
        "activationsForwardLSTM": STANDARD,
        "activationsBackwardLSTM": STANDARD,
        "weightParams": [lstm_weights(module, ""), lstm_weights(module, "_reverse")],
    }
    whole = {"sequenceOutput": True, "hasBiasVectors": True, "cellClipThreshold": 500.0}
    close(run_layer("biDirectionalLSTM", x[..., None, None], params=whole, **fields)[..., 0, 0], expected)
    ends = run_layer("biDirectionalLSTM", x[..., None, None], params={**whole, "sequenceOutput": False}, **fields)
    close(ends[..., 0, 0], torch.cat([last_h[0], last_h[1]], 1)[None])
