"""open_body: a model opened for surgery, by the body of its format."""

from __future__ import annotations

from coreproof.editing.editor import Body
from coreproof.errors import EditError
from coreproof.model.base import Model


def open_body(model: Model) -> Body:
    """Opens a model for surgery; EditError for a format that cannot be operated on."""
    if model.format == "onnx":
        from coreproof.editing.editors.onnx import OnnxBody

        return OnnxBody(model)
    if model.format == "neuralnetwork":
        from coreproof.editing.editors.network import NetworkBody

        return NetworkBody(model)
    if model.format == "mlprogram":
        from coreproof.editing.editors.program import ProgramBody

        return ProgramBody(model)
    raise EditError(
        f"surgery on a {model.format} model is not possible",
        where=model.name,
        expected="an ONNX, NeuralNetwork or ML Program model",
        fix="convert a PyTorch model first; split a pipeline into its stages",
    )
