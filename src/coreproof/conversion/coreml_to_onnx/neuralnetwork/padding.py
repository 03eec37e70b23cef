"""What the fields of convolutions and poolings say of padding: the border amounts of ``valid``, the side of ``same``."""

from __future__ import annotations

from coreproof.conversion.coreml_to_onnx.neuralnetwork.blobs import Layer
from coreproof.conversion.windows import Pads
from coreproof.model.coreml.proto import NeuralNetwork_pb2


def borders(layer: Layer, message: NeuralNetwork_pb2.BorderAmounts | None) -> Pads:
    """BorderAmounts as [(top, bottom), (left, right)]; zeros when nothing is set."""
    edges = list(message.borderAmounts) if message is not None else []
    if len(edges) not in (0, 2):
        raise layer.refuse("its border amounts are incomplete", expected="2 (height, width)", found=len(edges))
    return [(int(edge.startEdgeSize), int(edge.endEdgeSize)) for edge in edges] or [(0, 0), (0, 0)]


def is_lower(same: NeuralNetwork_pb2.SamePadding | None) -> bool:
    """Whether ``same`` puts the odd element before and not behind (TOP_LEFT_HEAVY)."""
    return same is not None and same.asymmetryMode == NeuralNetwork_pb2.SamePadding.TOP_LEFT_HEAVY
