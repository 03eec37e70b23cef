"""A mutant is known by its number: the same everywhere, different from its neighbours, and made of files that were healthy."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from conformance.fuzz.damage import mutant
from conformance.fuzz.damage_document import toml
from conformance.fuzz.files import Files, Link
from conformance.fuzz.kinds import KINDS, schedule

REPOSITORY = Path(__file__).resolve().parent.parent.parent
QUICK = [kind for kind in KINDS if kind not in ("pt2", "script", "store", "recording")]
"""Kinds whose healthy files are made at once, and hold nothing of the process that made them."""


def digest(files: Files) -> str:
    return hashlib.sha256(repr(sorted(files.items())).encode()).hexdigest()


@pytest.fixture(scope="module")
def elsewhere() -> dict[str, list[str]]:
    """What another process, with another order of hashing, makes of the first numbers of each kind."""
    code = (
        "import json; from tests.fuzz.test_mutants import QUICK, first_digests\n"
        "print(json.dumps({kind: first_digests(kind) for kind in QUICK}))"
    )
    environment = {**os.environ, "PYTHONHASHSEED": "5", "PYTHONPATH": os.pathsep.join([str(REPOSITORY), *sys.path])}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, env=environment, timeout=300
    )
    assert done.returncode == 0, done.stderr
    made: dict[str, list[str]] = json.loads(done.stdout)
    return made


def first_digests(kind: str) -> list[str]:
    return [digest(mutant(7, kind, number, KINDS[kind].cases)[1]) for number in range(30)]


@pytest.mark.thorough
@pytest.mark.parametrize("kind", QUICK)
def test_a_number_is_the_same_mutant_in_another_process(kind: str, elsewhere: dict[str, list[str]]) -> None:
    here = first_digests(kind)
    assert elsewhere[kind] == here
    assert len(set(here)) > 25


@pytest.mark.thorough
@pytest.mark.parametrize("kind", QUICK)
def test_nearly_every_mutant_differs_from_the_healthy_file(kind: str) -> None:
    changed = 0
    for number in range(40):
        case, files, what = mutant(3, kind, number, KINDS[kind].cases)
        changed += files != dict(case.files)
        assert what.startswith(case.name)
    assert changed >= 36


@pytest.mark.thorough
def test_no_mutant_is_written_outside_its_folder() -> None:
    for kind in QUICK:
        for number in range(200):
            _, files, _ = mutant(1, kind, number, KINDS[kind].cases)
            for name, content in files.items():
                assert not name.startswith("/")
                assert ".." not in name.split("/")
                assert not isinstance(content, Link) or content.target in (
                    "/etc/hostname", "/dev/zero", "/", ".", "nowhere", name.rsplit("/", 1)[-1],
                )  # fmt: skip


def test_a_run_takes_up_its_schedule_where_it_stopped() -> None:
    names = list(KINDS)
    whole = schedule(names, 300)
    assert whole[120:] == schedule(names, 300, first=120)
    assert len(set(whole)) == 300
    assert {kind for kind, _ in whole} == set(names)


@pytest.mark.parametrize(
    ("document", "read"),
    [
        ({"a": [1, 2.5, "x\n\"'\\"], "b": {"c": {"d": True}}}, None),
        ({"edit": [{"verb": "delete", "x y": {"npz": "a", "key": "b"}}], "ü": "\x00\x7f\x1b"}, None),
    ],
)
def test_what_is_written_as_toml_is_read_back(document: dict[str, object], read: object) -> None:
    import tomllib

    assert tomllib.loads(toml(document)) == document
