"""open_editor: a model opened for edits, by the editor of its format."""

from __future__ import annotations

from collections.abc import Mapping

from coreproof.editing.editor import Editor
from coreproof.editing.editors.network import NetworkEditor
from coreproof.editing.editors.onnx import OnnxEditor
from coreproof.editing.editors.program import ProgramEditor
from coreproof.errors import EditError
from coreproof.model.base import Model

EDITORS: Mapping[str, type[Editor]] = {"onnx": OnnxEditor, "neuralnetwork": NetworkEditor, "mlprogram": ProgramEditor}


def open_editor(model: Model) -> Editor:
    """Opens a model for edits; EditError for a format that cannot be edited."""
    if model.format not in EDITORS:
        raise EditError(
            f"a {model.format} model cannot be edited",
            where=model.name,
            expected="an ONNX, NeuralNetwork or ML Program model",
            fix="convert a PyTorch model first; split a pipeline into its stages",
        )
    return EDITORS[model.format](model)
