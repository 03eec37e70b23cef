"""Custom layers: refused by their classes. What registered functions compute of them: tests/runtime/test_custom_layers.py."""

from __future__ import annotations

import pytest

from coreproof.conversion.coreml_to_onnx.neuralnetwork.network import lower_network
from coreproof.errors import UnsupportedOperatorsError
from tests.build import layer, network


def test_all_custom_layers_are_refused_at_once() -> None:
    layers = [
        layer("custom", "x", "a", className="Swirl"),
        layer("activation", "a", "b", ReLU={}),
        layer("custom", "b", "y", className="Twist"),
    ]
    with pytest.raises(UnsupportedOperatorsError) as refusal:
        lower_network(network(layers, {"x": (3,)}, {"y": None}), "fp32")
    assert refusal.value.operators == {"custom:Swirl": ("the custom",), "custom:Twist": ("the custom",)}
