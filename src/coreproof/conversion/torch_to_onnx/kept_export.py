"""What PyTorch's exporter made of a model, kept for the next run with the same weights and the same code.

Exporting is what users wait for. A kept export is taken only where everything that it depends on has the digest that it was
made with: weights, settings, the code of the module and of everything that it imports from the user's own files, the example
inputs, the libraries, coreproof's own code. It is read as a file of a stranger, whatever its digest says: the program by the
reader of .pt2 files, which runs nothing; its weights have to be the module's, bit for bit; and what is made of it is verified
against the module like any other conversion.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
import sys
import types
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from coreproof.errors import CoreproofError, UnreadableModelError
from coreproof.model.digest import content_of, module_content
from coreproof.model.files.entries import read_json
from coreproof.model.load import load
from coreproof.model.onnx.data_files import data_file
from coreproof.model.onnx.model import OnnxModel
from coreproof.model.torch.model import TorchModel, import_torch, quiet
from coreproof.model.torch.user_code import is_users_file

if TYPE_CHECKING:
    import torch

FOLDER = "export"
"""Where ``prove`` keeps it, in its output folder."""
_ABOUT, _PROGRAM = "export.json", "program.pt2"
_FORMAT, _VERSION = "coreproof export", 1
_LIBRARIES = ("torch", "torchvision", "onnx", "onnxscript", "onnx-ir", "numpy", "transformers", "timm")


def is_kept(folder: Path) -> bool:
    """Whether a folder is one of these, or nothing stands there: then an export may be kept in it."""
    return not os.path.lexists(folder) or (folder.is_dir() and not folder.is_symlink() and (folder / _ABOUT).is_file())


def keep_export(model: TorchModel, exported: OnnxModel, onnx: Path, folder: Path, digest: str | None) -> bool:
    """Writes the program, and what tells whether it still is the model's, into ``folder``; ``onnx`` is the stored model.

    False, and nothing is written, where that is not possible: of a model that was traced, or that PyTorch cannot store.
    """
    torch = import_torch()
    if digest is None or model.program is None:
        return False
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with quiet():
            torch.export.save(model.program, folder / _PROGRAM)
    except OSError:
        raise
    except Exception:  # what PyTorch cannot serialise has no common class of error
        (folder / _PROGRAM).unlink(missing_ok=True)
        return False
    about = {
        "format": _FORMAT,
        "version": _VERSION,
        "digest": digest,
        "onnx": _file_digest(onnx),
        "provenance": dict(exported.provenance),
    }
    (folder / _ABOUT).write_text(json.dumps(about, indent=1), encoding="utf-8")
    return True


def kept_export(model: TorchModel, folder: Path, onnx: Path, digest: str | None) -> OnnxModel | None:
    """The kept export of ``model``, with its traced program set; None where there is none that is the model's."""
    try:
        provenance = _provenance(folder, onnx, digest)
        if provenance is None or not _take_program(model, folder):
            return None
        stored = load(onnx)
    except CoreproofError:
        return None
    assert isinstance(stored, OnnxModel)
    if [f.name for f in stored.signature.outputs] != list(model.example_outputs):
        return None
    made = OnnxModel(
        stored.ir,
        name=model.name,
        notes=model.notes,
        feeding=model.feeding,
        labels=model.labels,
        provenance=provenance,
        folder=onnx.parent,
    )
    made.untrained = model.untrained
    return made


def kept_program(model: TorchModel, folder: Path, digest: str | None) -> bool:
    """Takes the traced program alone, which is what tells inner values; False where there is none that is the model's."""
    try:
        return _provenance(folder, None, digest) is not None and _take_program(model, folder)
    except CoreproofError:
        return False


def _provenance(folder: Path, onnx: Path | None, digest: str | None) -> Mapping[str, str] | None:
    about = folder / _ABOUT
    if digest is None or folder.is_symlink() or not about.is_file():
        return None

    damaged = UnreadableModelError.of_file("the kept export cannot be read", about)

    read = read_json(about, damaged)
    if read["format"].text() != _FORMAT or read["version"].whole() != _VERSION or read["digest"].text() != digest:
        return None
    if onnx is not None and (not onnx.is_file() or read["onnx"].text() != _file_digest(onnx)):
        return None
    return {name: value.text() for name, value in read["provenance"].table().items()}


def _take_program(model: TorchModel, folder: Path) -> bool:
    """Reads the program as a stranger's; its weights have to be the module's, whose own tensors then take their place."""
    from coreproof.model.torch.archive import damaged, read_program

    path = folder / _PROGRAM
    if not path.is_file() or path.is_symlink():
        return False
    try:
        with quiet():
            program = read_program(path)
    except CoreproofError:
        raise
    except Exception as error:  # PyTorch asserts as it puts the program together
        raise damaged(path, error) from None
    own = dict(model.module.state_dict(keep_vars=True))
    # the module may have more, which this program does not read
    if set(program.state_dict) - set(own):
        return False
    for name, value in program.state_dict.items():
        if value.dtype != own[name].dtype or value.shape != own[name].shape or not _same(value, own[name]):
            return False
    # the same numbers once: two copies of the weights would fill the memory
    for name in program.state_dict:
        program.state_dict[name] = own[name]
    users = [s for s in program.graph_signature.input_specs if s.kind.name == "USER_INPUT"]
    if len(users) != len(model.example_inputs):
        return False
    model.program = program
    return True


def _same(a: torch.Tensor, b: torch.Tensor) -> bool:
    """Bit for bit: a NaN is the same NaN."""
    torch = import_torch()
    # as bytes, since torch.equal takes no NaN for equal to itself
    a, b = (x.detach().contiguous().reshape(-1) for x in (a, b))
    return bool(torch.equal(a.view(torch.uint8), b.view(torch.uint8)))


def _file_digest(file: Path) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for part in (file, data_file(file)):
        if part.is_file():
            with part.open("rb") as stream:
                digest.update(hashlib.file_digest(stream, hashlib.blake2b).digest())
    return digest.hexdigest()


@contextmanager
def waiting(progress: Callable[[str, int, int], None] | None) -> Iterator[None]:
    """Says, while it takes, what is waited for."""
    what = "waiting for PyTorch's exporter"
    if progress is not None:
        progress(what, 0, 0)
    try:
        yield
    finally:
        if progress is not None:
            progress(what, 1, 1)


# the digest


def export_digest(model: TorchModel, **settings: object) -> str | None:
    """Changes with everything that an export depends on; None where that cannot be told (an object without a known content).

    To be asked after the module ran once: what it imports as it runs is then there.
    """
    digest = hashlib.blake2b(digest_size=16)
    try:
        with model.evaluation():
            for piece in _pieces(model, settings):
                # with its length, so that two pieces cut elsewhere are not the same bytes
                digest.update(len(piece).to_bytes(8, "little") + piece)
    except _Unknown:
        return None
    return digest.hexdigest()


class _Plain:
    """An object that holds what stands in its __dict__, and nothing else."""


_PLAIN_SIZE = _Plain.__basicsize__


class _Unknown(Exception):
    """A value whose content cannot be told."""


def _pieces(model: TorchModel, settings: Mapping[str, object]) -> Iterator[bytes]:
    torch = import_torch()
    yield repr(sorted(settings.items())).encode()
    if model.path is not None and model.path.is_file():
        yield model.path.read_bytes()
    yield repr(
        (model.name, model.input_names, list(model.example_outputs), model.labels, model.feeding, sys.version)
    ).encode()
    yield repr([(name, _version(name)) for name in _LIBRARIES]).encode()
    yield _own_code().encode()
    yield from module_content(model.module)
    seen: set[int] = set()
    for tensor in model.example_inputs:
        yield from _content_of(tensor, seen)
    for name, part in model.module.named_modules():
        yield name.encode()
        yield repr((type(part).__module__, type(part).__qualname__)).encode()
        yield from _origin(type(part))
        if isinstance(part, torch.fx.GraphModule):
            yield part.code.encode()
        for key, value in sorted(vars(part).items(), key=lambda item: item[0]):
            # these are told with the module's content, and as modules of their own
            if key not in ("_parameters", "_buffers", "_modules", "_graph"):
                yield key.encode()
                yield from _content_of(value, seen)
    for name, module in sorted(sys.modules.items()):
        file = getattr(module, "__file__", None)
        if isinstance(file, str) and is_users_file(file) and Path(file).is_file():
            yield name.encode()
            yield Path(file).read_bytes()
            yield repr(
                sorted((k, v) for k, v in vars(module).items() if _is_plain(v) and not k.startswith("__"))
            ).encode()


def _origin(kind: type) -> Iterator[bytes]:
    """Where a class comes from: of an installed package its version; its file is told with the module's content."""
    module = sys.modules.get(kind.__module__)
    file = getattr(module, "__file__", None)
    if file is None:  # a notebook, the prompt: what its functions call stands in no file
        raise _Unknown
    top = kind.__module__.split(".")[0]
    if not is_users_file(file) and top not in ("torch", "torchvision"):
        yield f"{top} {getattr(sys.modules.get(top), '__version__', '') or _version(top)}".encode()


def _is_plain(value: object) -> bool:
    return value is None or isinstance(value, bool | int | float | str | bytes)


def _content_of(value: object, seen: set[int]) -> Iterator[bytes]:
    """The content of a value, whatever it holds. Raises _Unknown for what has none that can be told."""
    torch = import_torch()
    if _is_plain(value):
        yield repr(value).encode()
        return
    if id(value) in seen:
        yield b"again"
        return
    # objects may hold each other
    seen.add(id(value))
    yield f"{type(value).__module__}.{type(value).__qualname__}".encode()
    if isinstance(value, torch.nn.Module):
        return  # told among the modules
    if isinstance(value, torch.Tensor):
        yield content_of(value)
    elif isinstance(value, type):
        yield f"{value.__module__}.{value.__qualname__}".encode()
    elif isinstance(value, dict):
        for key, held in value.items():
            yield from _content_of(key, seen)
            yield from _content_of(held, seen)
    elif isinstance(value, tuple | list):
        for held in value:
            yield from _content_of(held, seen)
    elif isinstance(value, set | frozenset):
        # a set has no order, and hashes of texts differ in each process
        yield from sorted(b"".join(_content_of(held, seen)) for held in value)
    elif isinstance(value, functools.partial):
        yield from _content_of((value.func, value.args, value.keywords), seen)
    elif isinstance(value, types.MethodType):
        yield from _content_of((value.__func__, value.__self__), seen)
    elif isinstance(value, types.FunctionType):
        # its constants follow without those that are code, whose text holds an address
        yield value.__code__.co_code + repr((value.__code__.co_names, value.__qualname__)).encode()
        yield from _content_of([c for c in value.__code__.co_consts if not isinstance(c, types.CodeType)], seen)
        yield from _content_of((value.__defaults__, value.__kwdefaults__), seen)
        for cell in value.__closure__ or ():
            yield from _content_of(cell.cell_contents, seen)
    elif isinstance(value, types.BuiltinFunctionType | torch.dtype | torch.device | torch.layout):
        # an address is another one in each run
        yield str(value).encode() if " at 0x" not in str(value) else value.__qualname__.encode()
    elif isinstance(value, np.ndarray | np.generic):
        yield repr((str(value.dtype), value.shape)).encode() + value.tobytes()
    elif hasattr(value, "__dict__") and type(value).__basicsize__ <= _PLAIN_SIZE:  # nothing is held beside its __dict__
        yield from _content_of(dict(vars(value)), seen)
    else:
        raise _Unknown


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return ""


@functools.cache
def _own_code() -> str:
    """Changes with coreproof's own code that exports and reads."""
    root = Path(__file__).resolve().parents[2]
    digest = hashlib.blake2b(digest_size=12)
    for file in sorted(p for room in ("conversion", "model") for p in (root / room).rglob("*.py")):
        digest.update(file.read_bytes())
    return digest.hexdigest()
