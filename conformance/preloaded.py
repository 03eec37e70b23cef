"""What worker processes of a judge begin with: the libraries, imported once in the server that they fork from."""

from __future__ import annotations

import importlib
from contextlib import suppress

from coreproof.model.torch.model import import_torchvision

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
    """Imports what is installed of them."""
    import_torchvision()  # before timm and transformers import it
    for library in LIBRARIES:
        with suppress(ImportError):
            importlib.import_module(library)


load()
