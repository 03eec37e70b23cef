"""The same for a judge of PyTorch models: the exporter's own list of operators besides, read once and not by each worker."""

from __future__ import annotations

import importlib

import conformance.preloaded  # noqa: F401 - imported for what it imports
from coreproof.conversion.torch_to_onnx.operator_list import add_ours
from coreproof.model.torch.model import quiet
from coreproof.model.torch.operator_list import operators_read_once

with quiet(), operators_read_once(add_ours):
    importlib.import_module("torch.onnx._internal.exporter._registration").ONNXRegistry.from_torchlib()
