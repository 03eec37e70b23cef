"""One mutant from a healthy case: which of its files is damaged, how often, and by what that file is."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from random import Random
from typing import Any

from conformance.fuzz.damage_archive import damage_archive, damage_array
from conformance.fuzz.damage_bytes import damage_bytes
from conformance.fuzz.damage_document import damage_json, damage_toml
from conformance.fuzz.damage_picture import damage_picture
from conformance.fuzz.damage_protobuf import Damager
from conformance.fuzz.damage_table import damage_table
from conformance.fuzz.damage_text import damage_lines
from conformance.fuzz.files import Case, Files, Link, Pipe

_PICTURES = (".png", ".jpg", ".bmp", ".gif", ".tif", ".webp", ".ppm")
_BY_ENDING: dict[str, Callable[[Random, bytes], tuple[bytes, str]]] = {
    ".json": damage_json,
    ".toml": damage_toml,
    ".npz": damage_archive,
    ".pt2": damage_archive,
    ".ts": damage_archive,
    ".npy": damage_array,
    ".parquet": damage_table,
    ".txt": damage_lines,
    ".csv": damage_lines,
    **dict.fromkeys(_PICTURES, damage_picture),
}


def mutant(seed: int, kind: str, number: int, cases: Sequence[Case]) -> tuple[Case, Files, str]:
    """The mutant of that number: the case it is made from, its files, and what was done to them."""
    rng = Random(f"{seed}/{kind}/{number}")
    case = rng.choices(cases, [c.weight for c in cases])[0]
    files: Files = dict(case.files)
    done = [damage(rng, files, case, cases) for _ in range(rng.choice((1, 1, 1, 2, 2, 3, 5)))]
    return case, files, f"{case.name}: {'; '.join(done)}"


def damage(rng: Random, files: Files, case: Case, cases: Sequence[Case]) -> str:
    """One act of damage to one of the files."""
    name = _choose(rng, files, case)
    if name is None:
        return "nothing left"
    content = files[name]
    if len(files) > 1 and rng.random() < 0.04:
        return _misplace(rng, files, name)
    if not isinstance(content, bytes):
        return "nothing"
    ending = name[name.rfind(".") :] if "." in name else ""
    damaged, done = None, ""
    if ending in (".onnx", ".mlmodel") and rng.random() < 0.9:
        damaged, done = _message(rng, content, ending, [c for c in cases if c is not case])
    if damaged is None:
        damaged, done = _BY_ENDING.get(ending, damage_bytes)(rng, content)
    files[name] = damaged
    return f"{name}: {done}" if len(case.files) > 1 else done


def _choose(rng: Random, files: Files, case: Case) -> str | None:
    """A file; what the case is given for more often than what lies beside it."""
    names = sorted(files)
    if not names:
        return None
    own = [n for n in names if n == case.main or n.endswith(".mlmodel")]
    return rng.choice(own) if own and rng.random() < 0.65 else rng.choice(names)


def _misplace(rng: Random, files: Files, name: str) -> str:
    """Something is wrong with a file as a whole."""
    way = rng.choice(("gone", "empty", "pipe", "link", "dangling", "other", "folder"))
    if way == "gone":
        del files[name]
    elif way == "empty":
        files[name] = b""
    elif way == "pipe":
        files[name] = Pipe()
    elif way == "link":
        files[name] = Link(rng.choice(("/etc/hostname", "/dev/zero", "/", ".", name.rsplit("/", 1)[-1])))
    elif way == "dangling":
        files[name] = Link("nowhere")
    elif way == "other":
        files[name] = files[rng.choice(sorted(files))]
    else:
        del files[name]
        files[f"{name}/inside"] = b""
    return f"{name} {way}"


def _message(rng: Random, data: bytes, ending: str, others: Sequence[Case]) -> tuple[bytes | None, str]:
    """The file as a protobuf, damaged; None where it is none any more."""
    from google.protobuf.message import DecodeError, EncodeError

    message = _parsed(data, ending)
    if message is None:
        return None, ""
    donor = None
    if others and rng.random() < 0.3:
        found = _spelled(rng.choice(others).files, ending)
        donor = None if found is None else _parsed(found, ending)
    done = Damager(rng, message, donor).damage()
    try:
        return message.SerializeToString(deterministic=True), done
    except (EncodeError, DecodeError, ValueError):
        return None, ""


def _spelled(files: Mapping[str, bytes], ending: str) -> bytes | None:
    return next((files[name] for name in sorted(files) if name.endswith(ending)), None)


def _parsed(data: bytes, ending: str) -> Any:
    from google.protobuf.message import DecodeError

    if ending == ".onnx":
        import onnx

        message: Any = onnx.ModelProto()
    else:
        from coreproof.model.coreml.proto import Model_pb2

        message = Model_pb2.Model()
    try:
        message.ParseFromString(data)
    except (DecodeError, RecursionError):
        return None
    return message
