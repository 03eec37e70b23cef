"""open_editor: a model opened for edits, by the editor of its format."""

from __future__ import annotations

from coreproof.editing.editor import Editor
from coreproof.errors import EditError
from coreproof.model.base import Model


def open_editor(model: Model) -> Editor:
    """Opens a model for edits; EditError for a format that cannot be edited."""
    if model.is_onnx:
        from coreproof.editing.editors.onnx import OnnxEditor

        return OnnxEditor(model)
    if model.is_network:
        from coreproof.editing.editors.network import NetworkEditor

        return NetworkEditor(model)
    if model.is_program:
        from coreproof.editing.editors.program import ProgramEditor

        return ProgramEditor(model)
    raise EditError(
        f"surgery on a {model.format} model is not possible",
        where=model.name,
        expected="an ONNX, NeuralNetwork or ML Program model",
        fix="convert a PyTorch model first; split a pipeline into its stages",
    )
