"""Programs (.pt2) for the tests, and archives made wrong on purpose."""

from __future__ import annotations

import io
import json
import os
import re
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import coreproof as cp
from coreproof.errors import CoreproofError, UnsafeModelError

torch = pytest.importorskip("torch", reason="needs the torch extra")


class Small(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.linear = torch.nn.Linear(4, 3)
        self.tied = self.linear
        self.register_buffer("shift", torch.ones(3))
        self.register_buffer("hidden", torch.ones(3), persistent=False)
        self.constant = torch.arange(3.0)

    def forward(self, x: Any) -> Any:
        return torch.relu(self.linear(x)) + self.shift + self.constant + self.tied(x) + self.hidden


class Sizes(torch.nn.Module):
    """Every way in which a size is computed from a size."""

    def __init__(self, form: Callable[[Any], Any]) -> None:
        super().__init__()
        self.form = form

    def forward(self, x: Any) -> Any:
        return x.sum() + torch.zeros(self.form(x.shape[0])), x * 2


SIZES: dict[str, Callable[[Any], Any]] = {
    "itself": lambda n: n,
    "squared": lambda n: n * n,
    "to the fifth": lambda n: n**5,
    "divided": lambda n: n // 2 + 1,
    "modulo": lambda n: n % 3 + 1,
    "the smaller": lambda n: min(n, 5),
    "the larger": lambda n: max(n, 7),
    "of several": lambda n: (n + 1) * n // 2 + min(n, 5) - n % 4 + max(n, 9) - (n * n - 1) // 3,
    "scaled": lambda n: int(n * 1.5),
}


def exported(module: Any, *inputs: Any, free: bool = False) -> Any:
    dynamic = tuple({0: torch.export.Dim.AUTO} for _ in inputs) if free else None
    return torch.export.export(module.eval(), inputs, dynamic_shapes=dynamic)


def saved(thing: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(thing, buffer)
    return buffer.getvalue()


class Writes:
    """A pickle of it creates a file when it is read carelessly."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


def rewritten(
    good: Path, path: Path, change: dict[str, Callable[[bytes], bytes]], add: dict[str, bytes] | None = None
) -> Path:
    """A copy of an archive with some members changed and some added."""
    with zipfile.ZipFile(good) as old, zipfile.ZipFile(path, "w") as new:
        for info in old.infolist():
            top, _, inner = info.filename.partition("/")
            content = old.read(info)
            new.writestr(info.filename, change.get(inner, lambda same: same)(content))
        for name, content in (add or {}).items():
            new.writestr(f"{top}/{name}", content)
    return path


def program(change: Callable[[dict[str, Any]], None]) -> dict[str, Callable[[bytes], bytes]]:
    """A change of the program's JSON."""

    def changed(content: bytes) -> bytes:
        document = json.loads(content)
        change(document)
        return json.dumps(document).encode()

    return {"models/model.json": changed}


def replaced(old: str, new: str) -> dict[str, Callable[[bytes], bytes]]:
    """A change of the program's text, everywhere; ``old`` is a pattern."""

    def changed(content: bytes) -> bytes:
        text, count = re.subn(old, lambda _: new, content.decode())
        assert count
        return text.encode()

    return {"models/model.json": changed}


def weights(kind: str, change: Callable[[dict[str, Any]], None]) -> dict[str, Callable[[bytes], bytes]]:
    def changed(content: bytes) -> bytes:
        document = json.loads(content)
        change(document["config"])
        return json.dumps(document).encode()

    return {f"data/{kind}/model_{kind}_config.json": changed}


def refused(path: Path, executed: Path, match: str = "", error: type[CoreproofError] = UnsafeModelError) -> None:
    """The file is refused, even when it is run, and nothing was executed."""

    def opened() -> None:
        model = cp.load(path)
        model.signature  # noqa: B018 - it runs the program once
        model.graph  # noqa: B018

    with pytest.raises(error, match=match) as raised:
        opened()
    assert not executed.exists()
    if error is UnsafeModelError:
        assert "--trust" in str(raised.value)
        assert raised.value.found
        assert raised.value.where is not None
        assert str(path) in raised.value.where


def older(path: Path, **changes: bytes) -> Path:
    """An archive as PyTorch 2.1 to 2.6 wrote it: flat, with three pickles."""
    from torch._export.serde.serialize import serialize

    artifact = serialize(exported(Small(), torch.ones(2, 4)))
    members = {
        "serialized_exported_program.json": artifact.exported_program,
        "serialized_state_dict.pt": artifact.state_dict,
        "serialized_constants.pt": artifact.constants,
        "serialized_example_inputs.pt": artifact.example_inputs,
        "version": b"8.20",
    }
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, changes.get(name.partition(".")[0], content))
    return path
