"""What may be written over: nothing, or what the same verb would have written. Anything else needs the user's word.

Each kind of output is recognised by its content, never by its name: a folder of somebody's files may be called
"model.mlpackage" too. Recognising reads little, runs nothing, and answers no for what cannot be read.
"""

from __future__ import annotations

import json
import mmap
import os
import stat
import tomllib
import zipfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from google.protobuf.message import DecodeError

from coreproof.errors import InputError, OutputExistsError
from coreproof.model.files.wire import records

_HEAD = 1 << 16
_LARGEST_JSON = 1 << 28
_MOST_FIELDS = 1 << 15
"""A model has few fields at its top: imports, functions, metadata."""
_ONNX_FIELDS = frozenset((1, 7))
"""ir_version and graph of a ModelProto."""
_BEYOND_ONNX = 100
"""ModelProto counts to 26 so far; Core ML says from 200 on what a model is."""


@dataclass(frozen=True)
class Kind:
    """A kind of output: what a person calls it, and whether such a one stands at a path."""

    name: str
    _test: Callable[[Path], bool]

    def recognises(self, path: Path) -> bool:
        """No for whatever cannot be read as one."""
        try:
            return self._test(path)
        except (OSError, ValueError, RecursionError):
            return False


def check_output(
    target: str | Path,
    kind: Kind,
    *,
    replace: bool = False,
    inputs: Iterable[str | Path | None] = (),
    in_place: bool = False,
) -> None:
    """Raises OutputExistsError unless ``target`` is free, empty or a ``kind``, or ``replace`` allows what stands there.

    One of the ``inputs`` is not replaced without being asked for, whatever its kind, unless the verb works ``in_place``.
    Never replaced are devices and pipes, and folders of something else in which this run stands or that hold its ``inputs``.
    """
    target, read = Path(target), [Path(given) for given in inputs if given is not None]
    try:
        status = os.lstat(target)
    except (OSError, ValueError):  # what cannot be reached fails when it is written, with the system's own words
        return
    if not (stat.S_ISREG(status.st_mode) or stat.S_ISDIR(status.st_mode) or stat.S_ISLNK(status.st_mode)):
        raise _refusal(target, kind, "a device, a pipe or a socket", "write to another name; nothing was changed")
    if not (replace or in_place) and any(_is_same(target, given) for given in read):
        raise _refusal(
            target, kind, "what this run reads, which would be lost", "write to another name, or allow it: --replace"
        )
    if kind.recognises(target) or _is_empty(target):
        return
    found = _described(target)
    if not replace:
        raise _refusal(target, kind, found, "write to another name, or allow it: --replace (in Python: replace=True)")
    if target.is_dir() and not target.is_symlink():
        folder = target.resolve()
        held = [Path(p).resolve() for p in (Path.cwd(), Path.home(), *read)]
        within = next((path for path in held if path.is_relative_to(folder)), None)
        if within is not None:
            raise _refusal(target, kind, f"{found}, and {within} in it", "write to another name; nothing was changed")


def _refusal(target: Path, kind: Kind, found: str, fix: str) -> OutputExistsError:
    return OutputExistsError(
        "something else stands where the output goes",
        where=str(target),
        expected=f"nothing, or {kind.name}",
        found=found,
        fix=fix,
    )


def _is_same(target: Path, given: Path) -> bool:
    try:
        return target.samefile(given)
    except (OSError, ValueError):  # an address, a name of a model: no file of this machine
        return False


def refuse_photos_folder(out: str | Path, photos: object) -> None:
    """Raises InputError where a report would be written among the photos that it is of."""
    if isinstance(photos, str | Path) and Path(out).is_dir() and _is_same(Path(out), Path(photos)):
        raise InputError(
            "page, models and predictions would be written among the photos",
            where=str(out),
            found="--out and --photos name one folder",
            fix="write to a folder of their own: --out proof",
        )


def _is_empty(target: Path) -> bool:
    try:
        return not any(target.iterdir()) if target.is_dir() else target.is_file() and target.stat().st_size == 0
    except OSError:
        return False


def _described(target: Path) -> str:
    if target.is_symlink() and not target.exists():
        return "a link that leads nowhere"
    if not target.is_dir():
        return f"a file of {target.stat().st_size} bytes that is none"
    names = sorted(entry.name for entry in target.iterdir())
    return f"a folder with {', '.join(map(repr, names[:3]))}{f' and {len(names) - 3} more' if len(names) > 3 else ''}"


# models


def _fields(path: Path) -> set[int]:
    """The numbers of the fields of a protobuf message that is whole; none for anything else."""
    if not path.is_file():
        return set()
    with path.open("rb") as file:
        # mapped, because a model may be larger than memory
        held = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))  # closed with the last view of it
    found: set[int] = set()
    try:
        for count, record in enumerate(records(held)):
            if count > _MOST_FIELDS:
                return set()
            found.add(record.number)
    except DecodeError:
        return set()
    return found


def _core_ml_types() -> set[int]:
    """The fields of a Core ML Model that say what it is: pipeline (202), mlProgram (502), ..."""
    from coreproof.model.coreml.proto import Model_pb2

    return {field.number for field in Model_pb2.Model.DESCRIPTOR.oneofs_by_name["Type"].fields}


def _is_onnx(path: Path) -> bool:
    found = _fields(path)
    return found >= _ONNX_FIELDS and max(found) < _BEYOND_ONNX


def _is_mlmodel(path: Path) -> bool:
    found = _fields(path)
    return 1 in found and bool(found & _core_ml_types())


def _is_package(path: Path) -> bool:
    """A manifest with items, and beside it only the folder that they are in."""
    manifest = path / "Manifest.json"
    if not manifest.is_file() or manifest.stat().st_size > _LARGEST_JSON:
        return False
    document = json.loads(manifest.read_text(encoding="utf-8"))
    # hidden files are the Finder's and the system's
    others = {entry.name for entry in path.iterdir() if not entry.name.startswith(".")} - {"Manifest.json", "Data"}
    return isinstance(document, dict) and "itemInfoEntries" in document and not others


def _is_aimodel(path: Path) -> bool:
    """Its program and what is said of it, and nothing else."""
    names = {entry.name for entry in path.iterdir() if not entry.name.startswith(".")}
    known = {"main.mlirb", "main.hash", "metadata.json"}
    return {"main.mlirb", "metadata.json"} <= names <= known


def _members(path: Path) -> list[str]:
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.namelist()
    except (zipfile.BadZipFile, NotImplementedError):
        return []


def _is_program(path: Path) -> bool:
    names = [name.rsplit("/", 1)[-1] for name in _members(path)]
    return "archive_format" in names or "serialized_exported_program.json" in names


def _is_arrays(path: Path) -> bool:
    names = _members(path)
    return bool(names) and all(name.endswith(".npy") for name in names)


ONNX = Kind("an ONNX model", _is_onnx)
MLMODEL = Kind("a Core ML model in one file", _is_mlmodel)
PACKAGE = Kind("an .mlpackage", _is_package)
AIMODEL = Kind("an .aimodel", _is_aimodel)
PROGRAM = Kind("a .pt2 program", _is_program)
RUN = Kind("a saved run of coreproof", lambda path: "coreproof.json" in _members(path))
ARRAYS = Kind("an .npz of arrays", _is_arrays)


def model_kind(path: str | Path) -> Kind:
    """What is stored under a name with this suffix."""
    kinds = {".onnx": ONNX, ".mlmodel": MLMODEL, ".pt2": PROGRAM, ".npz": RUN, ".aimodel": AIMODEL}
    return kinds.get(Path(path).suffix.lower(), PACKAGE)


# what else is written


def _head(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(_HEAD)


def _is_page(path: Path) -> bool:
    return path.is_file() and b'<meta name="generator" content="coreproof">' in _head(path)


def _is_script(path: Path) -> bool:
    if not path.is_file() or path.stat().st_size > _LARGEST_JSON:
        return False
    text = path.read_text(encoding="utf-8")
    return isinstance(tomllib.loads(text).get("edit"), list) or not text.strip()


def _is_plot(path: Path) -> bool:
    head = _head(path) if path.is_file() else b""
    # by their first bytes (PNG, PDF); of SVG, text in which comments may stand first, by its root
    drawn = {".png": b"\x89PNG\r\n", ".pdf": b"%PDF-", ".svg": b"<svg"}.get(path.suffix.lower())
    return drawn is not None and (drawn in head if drawn == b"<svg" else head.startswith(drawn))


def _is_junit(path: Path) -> bool:
    return path.is_file() and _head(path).startswith(b"<?xml") and b'<testsuites name="coreproof"' in _head(path)


def _is_summary(path: Path) -> bool:
    return path.is_file() and _head(path).startswith(SUMMARY_MARK.encode())


def document_kind(name: str, *keys: str) -> Kind:
    """A JSON document of coreproof, told by keys at its top."""

    def recognises(path: Path) -> bool:
        if not path.is_file() or path.stat().st_size > _LARGEST_JSON:
            return False
        document = json.loads(path.read_text(encoding="utf-8"))
        return isinstance(document, dict) and all(key in document for key in keys)

    return Kind(name, recognises)


PAGE = Kind("a page of coreproof", _is_page)
SCRIPT = Kind("a script of edits", _is_script)
PLOT = Kind("a picture of that format", _is_plot)
JUNIT = Kind("test results of coreproof", _is_junit)
SUMMARY_MARK = "<!-- coreproof summary -->"
"""The first line of a summary, not seen where Markdown is shown: by it the next run finds its comment."""
SUMMARY = Kind("a summary of coreproof", _is_summary)
PROOF = document_kind("a proof.json of coreproof", "verdict", "steps")
COMPRESSION = document_kind("a proof of a compression", "scheme", "weights", "outputs")
COMPARISON = document_kind("a comparison.json of coreproof", "agreement", "models", "details")
NODE_DATA = document_kind("node data for Model Explorer", "results")
