"""What worker processes of a judge of PyTorch models begin with: the libraries, imported once in the server they fork from."""

from __future__ import annotations

import importlib
from contextlib import suppress

from coreproof.conversion.torch_to_onnx.operator_list import add_ours
from coreproof.model.torch.model import import_torchvision, quiet
from coreproof.model.torch.operator_list import operators_read_once

LIBRARIES = (
    "torch",
    "onnxruntime",
    "coremltools",
    "onnxscript",
    "onnxscript.optimizer",
    "transformers",
    "transformers.integrations.moe",
    "timm",
    "coreproof.verification.converted",
    "coreproof.verification.verify",
    "coreproof.conversion.onnx_to_coreml.program",
    "coreproof.conversion.torch_to_onnx.export",
    "coreproof.runtime.open",
)


def load() -> None:
    """Imports what is installed of them, and lets PyTorch's exporter read its own operators once, not for each export."""
    import_torchvision()  # before timm and transformers import it
    for library in LIBRARIES:
        with suppress(ImportError):
            importlib.import_module(library)
    with quiet(), operators_read_once(add_ours):
        importlib.import_module("torch.onnx._internal.exporter._registration").ONNXRegistry.from_torchlib()


load()
