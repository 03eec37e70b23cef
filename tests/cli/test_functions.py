"""Packages of several functions on the command line: each in turn, one that is named, and packages made of programs."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.build import two_functions
from tests.cli.conftest import Ran


@pytest.fixture
def both(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(tmp_path)
    two_functions(Path("both.mlpackage"))
    return "both.mlpackage"


def test_every_verb_looks_at_each_function_or_at_the_one_that_is_named(
    coreproof: Callable[..., Ran], both: str
) -> None:
    shown = coreproof("show", both)
    assert "functions  once, thrice (the first is the default one)" in shown.out
    assert "both#thrice  (mlprogram)" in shown.out
    assert list(json.loads(coreproof("show", both, "--json").out)["functions"]) == ["once", "thrice"]
    assert "both#thrice" not in coreproof("show", f"{both}#once").out

    ran = coreproof("verify", both, both)
    assert ran.code == 0, ran.err
    assert ran.out.count("values agree") == 2
    assert coreproof("verify", f"{both}#once", f"{both}#thrice").code == 1
    assert coreproof("diff", both, both).code == 0
    assert list(json.loads(coreproof("diff", both, both, "--json").out)["functions"]) == ["once", "thrice"]
    ran = coreproof("doctor", both, "--json")
    assert ran.code == 0
    assert [d["healthy"] for d in json.loads(ran.out)["functions"].values()] == [True, True]


def test_one_function_is_converted_and_held_against_what_was_made(coreproof: Callable[..., Ran], both: str) -> None:
    ran = coreproof("convert", f"{both}#thrice", "thrice.onnx")
    assert ran.code == 0, ran.err
    assert coreproof("verify", f"{both}#thrice", "thrice.onnx").code == 0
    ran = coreproof("verify", both, "thrice.onnx")
    assert ran.code == 2
    assert "name it: both.mlpackage#once" in ran.err


def test_what_is_written_of_one_comparison_is_asked_of_one_function(coreproof: Callable[..., Ran], both: str) -> None:
    for ran in (
        coreproof("verify", both, both, "--plot", "errors.png"),
        coreproof("doctor", both, "--fix", "out.mlpackage"),
    ):
        assert ran.code == 2
        assert "functions once, thrice" in ran.err


def test_functions_are_joined_by_name(coreproof: Callable[..., Ran], both: str) -> None:
    assert both
    ran = coreproof("join", "a=once.mlpackage", "b=thrice.mlpackage", "joined.mlpackage")
    assert ran.code == 0, ran.err
    assert "functions  a, b" in coreproof("show", "joined.mlpackage").out
    assert coreproof("verify", "joined.mlpackage#b", "thrice.mlpackage").code == 0


def test_every_function_is_converted_and_edited_where_none_is_named(coreproof: Callable[..., Ran], both: str) -> None:
    assert coreproof("convert", both, "out.onnx").code == 0
    assert coreproof("verify", f"{both}#once", "out.onnx").code == 0
    assert coreproof("verify", f"{both}#thrice", "out.thrice.onnx").code == 0
    ran = coreproof("edit", both, "new.mlpackage", "--do", "rename y z")
    assert ran.code == 0, ran.err
    shown = coreproof("show", "new.mlpackage").out
    assert shown.count("output  z: float32[2]") == 2
    assert "functions  once, thrice" in shown
    assert coreproof("edit", f"{both}#thrice", "one.mlpackage", "--do", "rename y z").code == 0
    assert coreproof("show", "one.mlpackage").out.count("output  z: float32[2]") == 1
    ran = coreproof("edit", both, "none.mlpackage", "--do", "delete nothing")
    assert ran.code == 2
    assert "function once" in ran.err
