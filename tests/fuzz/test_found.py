"""Every file that ever broke a verb, with all verbs of its kind: success or a CoreproofError, in bounds of time and memory."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conformance.fuzz.kinds import KINDS
from conformance.fuzz.run import Server, servers

HERE = Path(__file__).resolve().parent
FOUND = HERE / "found"
NAMED = os.environ.get("COREPROOF_TEST_HOSTILE")
HOSTILE = Path(NAMED) if NAMED else HERE.parent.parent.parent / "shared" / "hostile"
"""A folder of damaged files that others found, with an INDEX.json in ``found`` that says of what kind each is."""
SLOWEST = 8
"""Verbs that a run tries on fewer mutants than one in so many are left out here as well."""

pytestmark = pytest.mark.skipif(
    not Path("/proc/self/statm").exists(), reason="the worker watches its children through /proc"
)

CASES = {
    "onnx": "net",
    "mlmodel": "network",
    "mlpackage": "half",
    "pt2": "static",
    "recording": "net",
    "inputs": "one",
    "lineup": "plain",
    "device": "device",
    "store": "store",
}
SCRIPTED = {"onnx": "net 0: delete", "mlmodel": "network 0: delete", "mlpackage": "half 0: delete"}
"""The case of edits whose model a script is tried on, by the kind of that model."""


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with servers(1) as free:
        yield free.get()


def kind_of(file: str, verbs: Any = ()) -> str:
    """What a file is by its name: ``onnx76.onnx``, ``store12`` (a folder), ``lineup3.toml``."""
    ending = file[file.rfind(".") + 1 :] if "." in file else ""
    if ending == "toml":
        return "lineup" if "lineup" in file.rpartition("__")[2] else "edits"
    return {"npz": "recording", "json": "device", "": "store"}.get(ending, ending if ending in KINDS else "store")


def outcomes(server: Server, kind: str, case: str, files: Path, main: str) -> list[dict[str, Any]]:
    """How all verbs of a kind end on a file, the slowest left out."""
    verbs = [verb.name for verb in KINDS[kind].verbs if verb.one_in <= SLOWEST]
    task = {"kind": kind, "number": 0, "verbs": verbs, "files": str(files), "case": case, "main": main}
    (answer,) = server.ask(0, [task])
    found: list[dict[str, Any]] = answer["outcomes"]
    assert len(found) == len(verbs)
    return found


def assert_ends_well(found: list[dict[str, Any]]) -> None:
    wrong = [o for o in found if o["end"] not in ("fine", "refused")]
    lines = [
        f"{o['verb']}: {o['end']}, {o['error']} at {o['place']}: {o['message']}\n{o['trace'][-1500:]}"
        for o in wrong[:3]
    ]
    assert not wrong, "\n".join(lines)


def lay(source: Path, folder: Path, kind: str, case: str) -> str:
    """Puts a file into a folder, for edits beside the model of the case; says what it is called there."""
    if kind == "edits":
        for name, content in next(c for c in KINDS[kind].cases if c.name == case).files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(content)
        beside = source.with_suffix(".npz")
        if beside.is_file():
            shutil.copyfile(beside, folder / beside.name)
    if kind == "lineup":
        for name in ("tiny.onnx", "tiny2.onnx"):
            (folder / name).write_bytes(
                next(c for c in KINDS["onnx"].cases if c.name == "classifier").files["classifier.onnx"]
            )
    target = folder / source.name
    if source.is_dir():
        shutil.copytree(source, target)
    else:
        shutil.copyfile(source, target)
    return source.name


KEPT = sorted(path for path in FOUND.iterdir() if not path.name.startswith(".")) if FOUND.is_dir() else []
INDEX = json.loads((HOSTILE / "found" / "INDEX.json").read_text(encoding="utf-8")) if HOSTILE.is_dir() else []


@pytest.mark.parametrize("path", KEPT, ids=lambda path: path.name)
def test_what_broke_once_is_answered(path: Path, server: Server, tmp_path: Path) -> None:
    kind = kind_of(path.name)
    cases = list(SCRIPTED.values()) if kind == "edits" else [CASES[kind]]
    for number, case in enumerate(cases):
        folder = tmp_path / str(number)
        folder.mkdir()
        assert_ends_well(outcomes(server, kind, case, folder, lay(path, folder, kind, case)))


def test_what_is_kept_is_small() -> None:
    sizes = {p.relative_to(FOUND).as_posix(): p.stat().st_size for p in FOUND.rglob("*") if p.is_file()}
    assert {name: size for name, size in sizes.items() if size >= 2048} == {}


@pytest.mark.skipif(
    not INDEX, reason=f"no hostile files at {HOSTILE}: set COREPROOF_TEST_HOSTILE to the folder that holds them"
)
@pytest.mark.parametrize("entry", INDEX, ids=lambda entry: entry["file"])
def test_hostile_files_of_others_are_answered(entry: dict[str, Any], server: Server, tmp_path: Path) -> None:
    kind = kind_of(entry["file"])
    case = SCRIPTED[entry["model"].rpartition(".")[2]] if kind == "edits" else CASES[kind]
    main = lay(HOSTILE / "found" / entry["file"], tmp_path, kind, case)
    assert_ends_well(outcomes(server, kind, case, tmp_path, main))
