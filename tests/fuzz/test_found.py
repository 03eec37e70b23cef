"""Every file that ever broke a verb, with all verbs of its kind: success or a CoreproofError, in bounds of time and memory.

None of them is among the tests of ``make test``: before the first the fuzzer's worker imports all that it may need and makes its
healthy files, which takes as long as all of them.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import pytest
from conformance.fuzz.files import Case, Link, Pipe, write
from conformance.fuzz.found import ABOUT, LARGEST, keep, restore
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


KEPT = sorted(path.parent for path in FOUND.glob(f"*/{ABOUT}"))
INDEX = json.loads((HOSTILE / "found" / "INDEX.json").read_text(encoding="utf-8")) if HOSTILE.is_dir() else []


@pytest.mark.thorough
@pytest.mark.parametrize("path", KEPT, ids=lambda path: path.name)
def test_what_broke_once_is_answered(path: Path, server: Server, tmp_path: Path) -> None:
    kind = json.loads((path / ABOUT).read_text(encoding="utf-8"))["kind"]
    cases = {case.name: case for case in KINDS[kind].cases}
    about, files = restore(path, cases)
    write(files, tmp_path / "mutant")
    assert_ends_well(outcomes(server, kind, about["case"], tmp_path / "mutant", cases[about["case"]].main))


def test_what_is_kept_is_small() -> None:
    sizes = {p.relative_to(FOUND).as_posix(): p.stat().st_size for p in FOUND.rglob("*") if p.is_file()}
    assert {name: size for name, size in sizes.items() if size >= LARGEST} == {}


@pytest.mark.thorough
@pytest.mark.skipif(
    not INDEX, reason=f"no hostile files at {HOSTILE}: set COREPROOF_TEST_HOSTILE to the folder that holds them"
)
@pytest.mark.parametrize("entry", INDEX, ids=lambda entry: entry["file"])
def test_hostile_files_of_others_are_answered(entry: dict[str, Any], server: Server, tmp_path: Path) -> None:
    kind = kind_of(entry["file"])
    case = SCRIPTED[entry["model"].rpartition(".")[2]] if kind == "edits" else CASES[kind]
    main = lay(HOSTILE / "found" / entry["file"], tmp_path, kind, case)
    assert_ends_well(outcomes(server, kind, case, tmp_path, main))


MISPLACED = {
    "pipe": Pipe(),
    "folder link": Link("/"),
    "endless": Link("/dev/zero"),
    "circle": Link("main"),
    "dangling": Link("nowhere"),
    "empty": b"",
    "nested": b"[" * 20_000 + b"]" * 20_000,
}


@pytest.mark.thorough
@pytest.mark.parametrize("what", MISPLACED)
@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in ("store", "mlpackage")])
def test_something_else_in_the_place_of_a_file_is_refused_at_once(
    kind: str, what: str, server: Server, tmp_path: Path
) -> None:
    case = KINDS[kind].cases[0]
    main = f"main{case.main[case.main.rfind('.') :]}"
    content = Link(main) if what == "circle" else MISPLACED[what]
    write({**case.files, main: content}, tmp_path / "mutant")
    found = outcomes(server, kind, case.name, tmp_path / "mutant", main)
    assert_ends_well(found)
    assert all(
        outcome["end"] == "refused" for outcome in found if outcome["verb"] in ("load", "show", "edit", "predict")
    )


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("kind", "what"), [*(("mlpackage", what) for what in MISPLACED), ("store", "pipe"), ("store", "circle")]
)
def test_something_else_in_a_folder_is_refused_at_once(kind: str, what: str, server: Server, tmp_path: Path) -> None:
    case = KINDS[kind].cases[0]
    for number, name in enumerate(sorted(case.files)):
        content = Link(name.rpartition("/")[2]) if what == "circle" else MISPLACED[what]
        write({**case.files, name: content}, tmp_path / str(number))
        assert_ends_well(outcomes(server, kind, case.name, tmp_path / str(number), case.main))


def test_a_kept_mutant_is_restored_from_what_differs(tmp_path: Path) -> None:
    healthy = {"large.bin": Random(0).randbytes(10_000), "small.txt": b"one", "same.txt": b"same"}
    case = Case("case", healthy, "large.bin")
    damaged = healthy["large.bin"][:5000] + b"new" + healthy["large.bin"][5010:]
    assert keep(
        tmp_path / "it", "photo", case, {"large.bin": damaged, "same.txt": b"same", "more.txt": b"two"}, key="x"
    )
    assert sorted(p.name for p in (tmp_path / "it").iterdir()) == [ABOUT, "more.txt"]
    about, files = restore(tmp_path / "it", {"case": case})
    assert files == {"large.bin": damaged, "same.txt": b"same", "more.txt": b"two"}
    assert (about["kind"], about["key"]) == ("photo", "x")
    with pytest.raises(ValueError, match="another now"):
        restore(tmp_path / "it", {"case": Case("case", {**healthy, "large.bin": b"other"}, "large.bin")})


def test_what_is_too_large_or_no_plain_file_is_not_kept(tmp_path: Path) -> None:
    case = Case("case", {"a": b"one"}, "a")
    assert not keep(tmp_path / "large", "photo", case, {"b": bytes(LARGEST)})
    assert not keep(tmp_path / "pipe", "photo", case, {"a": Pipe()})
    assert not any(tmp_path.iterdir())
