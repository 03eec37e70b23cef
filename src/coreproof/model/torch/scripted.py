"""TorchScript programs: files that torch.jit.save wrote, of traced and of scripted modules, and what they are fed.

A file holds code in a language of PyTorch's own, pickled values and no shapes. So it is read where it is trusted, and its example
inputs are said: ``net.pt?x=1x3x224x224&ids=int64:1x16``, or ``load("net.pt", trust=True, example=(x,))``.
"""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl

from coreproof.errors import InputError, MissingDependencyError, UnreadableModelError
from coreproof.model.budget import afford
from coreproof.model.torch.model import import_torch, import_torchvision, quiet
from coreproof.model.torch.script_view import arguments_of
from coreproof.model.torch.user_code import said_by

if TYPE_CHECKING:
    import torch
    from torch import Tensor

SUFFIXES = (".pt", ".pth", ".ts")
_DTYPES = ("float32", "float64", "float16", "int64", "int32", "int16", "int8", "uint8", "bool")
_FORM = (
    "FILE?x=1x3x224x224&ids=int64:1x16: each argument of forward with its shape, and its type where that is not float32"
)


def is_script(path: Path) -> bool:
    """Whether a file is a TorchScript program, which is told without reading what it pickles."""
    try:
        with zipfile.ZipFile(path) as archive:
            return "constants.pkl" in {name.rsplit("/", 1)[-1] for name in archive.namelist()}
    except (OSError, zipfile.BadZipFile, ValueError, NotImplementedError):
        return False


def read_script(path: Path) -> torch.nn.Module:
    """The module of a file that the user trusts. Raises UnreadableModelError for a damaged one, or one of foreign operators."""
    torch = import_torch()
    with suppress(MissingDependencyError):
        import_torchvision()  # its operators may be in the program
    try:
        with quiet():
            module = torch.jit.load(str(path), map_location="cpu")
            _ = module.forward.schema
            return module
    except Exception as error:  # PyTorch's reader has errors of its own for each part
        raise UnreadableModelError(
            "the TorchScript program cannot be read",
            where=str(path),
            found=said_by(error),
            fix="save it again with torch.jit.save; operators of other libraries have to be importable",
        ) from error


def said_example(query: str, module: torch.nn.Module, where: str) -> tuple[Tensor, ...]:
    """The example inputs as the text behind a file's question mark says them, in the order of ``forward``'s arguments.

    Raises InputError for arguments that are not its own, are not said, or cannot be read.
    """
    given = parse_qsl(query, keep_blank_values=True)
    said, known = dict(given), arguments_of(module)
    unknown = [name for name in said if name not in known]
    first = list(known)[: len(said)]
    if unknown or len(said) != len(given) or not said or [n for n in known if n in said] != first:
        raise InputError(
            "the example inputs are not those of this program",
            where=where,
            expected=_FORM,
            found=f"{query or 'none'}; forward takes {_listed(known)}",
        )
    return tuple(_example(name, said[name], where) for name in first)


def _example(name: str, said: str, where: str) -> Tensor:
    torch = import_torch()
    dtype, colon, shape = said.rpartition(":")
    dtype = dtype if colon else "float32"
    sides = [] if shape == "scalar" else shape.lower().split("x")
    if dtype not in _DTYPES or not all(s.isascii() and s.isdecimal() and 0 < int(s) < 2**31 for s in sides):
        raise InputError(
            f"the example of {name!r} cannot be read",
            where=where,
            expected=f"1x3x224x224, int64:1x16 or int64:scalar; types: {', '.join(_DTYPES)}",
            found=said[:100],
        )
    lengths = [int(s) for s in sides]
    kind = getattr(torch, dtype)
    afford(f"the example of {name!r}", lengths, kind.itemsize, where=where)
    drawn = torch.Generator().manual_seed(0)
    if kind.is_floating_point:
        return torch.randn(*lengths, generator=drawn).to(kind) if lengths else torch.tensor(0.5, dtype=kind)
    # ones are within any table, true as a mask, and a count that is not nothing
    return torch.ones(lengths, dtype=kind)


def needs_example(module: torch.nn.Module, where: str) -> InputError:
    """Nobody said what the program is fed."""
    known = arguments_of(module)
    example = "&".join(f"{name}=1x3x224x224" for name in known) or "x=1x3x224x224"
    return InputError(
        "a TorchScript program does not say what it is fed",
        where=where,
        expected=_FORM,
        found=f"forward takes {_listed(known)}",
        fix=f"say it behind the file: '{where}?{example}'; in Python load(FILE, trust=True, example=(x,))",
    )


def _listed(known: Mapping[str, str]) -> str:
    return ", ".join(f"{name}: {kind}" for name, kind in known.items()) or "nothing"
