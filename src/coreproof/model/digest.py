"""A digest of a model's content: changes with any byte of its files that matters, and not with where they lie."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir

from coreproof.model.base import Model
from coreproof.model.coreml import CoreMLModel
from coreproof.model.onnx import OnnxModel
from coreproof.model.torch import TorchModel


def model_digest(model: Model) -> str:
    """Changes with any byte of the model that matters to its predictions."""
    digest = hashlib.blake2b(digest_size=16)
    digest.update(repr(getattr(model, "feeding", None)).encode())
    if model.path is not None and Path(model.path).exists():
        path = Path(model.path)
        files = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
        for file in files:
            if file.name != "Manifest.json":  # holds random identifiers
                _update(digest, file)
        if isinstance(model, OnnxModel):
            tensors = [v.const_value for v in model.ir.graph.initializers.values()]
            for file in sorted({Path(t.path) for t in tensors if isinstance(t, ir.ExternalTensor)}):
                _update(digest, file)
        return digest.hexdigest()
    if isinstance(model, OnnxModel):
        digest.update(ir.to_proto(model.ir).SerializeToString(deterministic=True))
    elif isinstance(model, CoreMLModel):
        digest.update(model.spec.SerializeToString(deterministic=True))
        for file in sorted(p for p in model.folder.rglob("*.bin") if p.is_file()) if model.folder is not None else ():
            _update(digest, file)
    elif isinstance(model, TorchModel):
        digest.update(repr(model.module).encode())
        for name, tensor in model.module.state_dict().items():
            digest.update(name.encode())
            digest.update(np.ascontiguousarray(tensor.detach().cpu().numpy()).tobytes())
    return digest.hexdigest()


def _update(digest: Any, file: Path) -> None:
    with file.open("rb") as stream:
        digest.update(hashlib.file_digest(stream, hashlib.blake2b).digest())
