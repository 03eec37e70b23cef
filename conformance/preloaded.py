"""What worker processes of a judge of PyTorch models begin with: the libraries, imported once in the server they fork from."""

from __future__ import annotations

import importlib
from contextlib import suppress
from functools import cache

from coreproof.model.torch.model import import_torchvision

LIBRARIES = (
    "torch",
    "onnxruntime",
    "coremltools",
    "onnxscript",
    "onnxscript.optimizer",
    "transformers",
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
    with suppress(ImportError, AttributeError):
        registration = importlib.import_module("torch.onnx._internal.exporter._registration")
        apis = registration.onnxscript_apis
        apis.get_torchlib_ops = cache(apis.get_torchlib_ops)
        apis.get_torchlib_ops()


load()
