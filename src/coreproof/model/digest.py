"""A digest of a model's content: changes with any byte of its files that matters, and not with where they lie."""

from __future__ import annotations

import hashlib
import inspect
import io
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import onnx_ir as ir

from coreproof.model.base import SIGN, Model
from coreproof.model.coreml.model import CoreMLModel
from coreproof.model.onnx.model import OnnxModel
from coreproof.model.onnx.read import stored_tensors
from coreproof.model.torch.model import TorchModel, import_torch
from coreproof.model.torch.script_view import is_scripted

if TYPE_CHECKING:
    import torch


def model_digest(model: Model) -> str:
    """Changes with any byte of the model that matters to its predictions."""
    digest = hashlib.blake2b(digest_size=16)
    # the same file that is fed otherwise answers otherwise
    digest.update(repr(model.feeding).encode())
    # and so does another function of the same package
    if model.at_a_function:
        digest.update(model.name.rpartition(SIGN)[2].encode())
    if isinstance(model, OnnxModel):
        tensors = stored_tensors(model.ir)
        for file in sorted({Path(t.path) for t in tensors if isinstance(t, ir.ExternalTensor)}):
            _update(digest, file)
    if model.path is not None and Path(model.path).exists():
        path = Path(model.path)
        # sorted: file systems list in any order
        files = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
        for file in files:
            # the manifest holds random identifiers; hidden files are the Finder's
            if path.is_file() or (file.name != "Manifest.json" and not file.name.startswith(".")):
                _update(digest, file)
    elif isinstance(model, OnnxModel):
        digest.update(ir.to_proto(model.ir).SerializeToString(deterministic=True))
    elif isinstance(model, CoreMLModel):
        digest.update(model.spec.SerializeToString(deterministic=True))
        for file in sorted(p for p in model.folder.rglob("*.bin") if p.is_file()) if model.folder is not None else ():
            _update(digest, file)
    elif isinstance(model, TorchModel):
        with model.evaluation():
            for piece in module_content(model.module):
                digest.update(piece + b"\0")
    return digest.hexdigest()


def _update(digest: hashlib.blake2b, file: Path) -> None:
    with file.open("rb") as stream:
        # of each file its own digest, so that bytes that move from one file to the next are seen
        digest.update(hashlib.file_digest(stream, hashlib.blake2b).digest())


def module_content(module: torch.nn.Module) -> Iterator[bytes]:
    """What a module computes with: its layers and weights, the settings and tensors it keeps otherwise, its own code."""
    yield repr(module).encode()
    if is_scripted(module):  # its code is its graph
        yield str(module.inlined_graph).encode()
    for name, value in module.state_dict().items():
        yield name.encode()
        yield content_of(value)
    classes: dict[type, None] = {}
    for name, part in module.named_modules():
        classes.update(dict.fromkeys(type(part).__mro__))
        for key, value in sorted((*vars(part).items(), *part.named_buffers(recurse=False)), key=lambda item: item[0]):
            if _is_plain(value) or _is_tensor(value):
                yield f"{name}.{key}".encode()
                yield content_of(value)
    # what a forward computes stands in its source, not in its weights
    yield from (_code(kind) for kind in classes if kind.__module__.split(".")[0] not in ("torch", "builtins"))


def _is_tensor(value: object) -> bool:
    return isinstance(value, import_torch().Tensor)


def _is_plain(value: object) -> bool:
    if isinstance(value, tuple | list):
        return all(map(_is_plain, value))
    return value is None or isinstance(value, bool | int | float | str)


def content_of(value: object) -> bytes:
    """A tensor's dtype, shape and bytes; of a plain value its text."""
    torch = import_torch()
    if not isinstance(value, torch.Tensor):
        return repr(value).encode()
    plain = value.detach().cpu()
    try:  # as bytes: numpy does not know every dtype
        whole = bytes(plain.contiguous().reshape(-1).view(torch.uint8).numpy())
        return f"{plain.dtype} {tuple(plain.shape)}".encode() + whole
    except RuntimeError:  # quantised and sparse ones
        stored = io.BytesIO()
        torch.save(plain, stored)
        return stored.getvalue()


def _code(kind: type) -> bytes:
    """The file that a class stands in: what its methods call stands there, too."""
    try:
        return Path(inspect.getfile(kind)).read_bytes()
    except (OSError, TypeError):  # of a notebook or the prompt
        pass
    try:
        return inspect.getsource(kind).encode()
    except (OSError, TypeError):
        return b""
