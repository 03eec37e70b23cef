"""The rules as a whole: every name that a finding can bear leads to one file, and each file keeps the contract."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

import coreproof.doctor.rules
from coreproof.doctor.rules import rules

FOLDER = Path(coreproof.doctor.rules.__file__).parent
ROOM = FOLDER.parent
FILES = sorted(file for file in FOLDER.glob("*.py") if file.stem != "__init__")


def test_the_id_of_a_rule_is_its_files_name_and_no_other_rules() -> None:
    ids = [rule.id for rule in rules()]
    assert [rule_id.replace("-", "_") for rule_id in ids] == [file.stem for file in FILES]
    assert len(set(ids)) == len(ids)


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_searching_for_an_id_finds_its_rule(file: Path) -> None:
    rule_id = file.stem.replace("_", "-")
    first = [f for f in FILES if f.read_text(encoding="utf-8").startswith(f'"""{rule_id}: ')]
    assert first == [file], "the docstring of a rule's file begins with its id"


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_a_rule_says_when_it_applies_and_what_it_supposes(file: Path) -> None:
    tree = ast.parse(file.read_text(encoding="utf-8"))
    named = {n.name for n in tree.body if isinstance(n, ast.FunctionDef)}
    named |= {
        n.id for a in tree.body if isinstance(a, ast.Assign) for n in ast.walk(a.targets[0]) if isinstance(n, ast.Name)
    }
    assert "applies" in named
    assert named & {"hypotheses", "last_resort"}


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_no_rule_tries_its_own_repairs(file: Path) -> None:
    """A rule proposes; the driver carries out on copies, measures and judges, and so in one way for all rules."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    called = {n.func.attr for n in ast.walk(tree) if isinstance(n, ast.Call) and isinstance(n.func, ast.Attribute)}
    called |= {n.func.id for n in ast.walk(tree) if isinstance(n, ast.Call) and isinstance(n.func, ast.Name)}
    assert called.isdisjoint({"after", "edit", "error_with", "makes_progress", "best_repair", "error_in_whole"})


def test_no_rule_names_a_finding_itself() -> None:
    """A literal rule name in a finding would be an id without a file: only the driver gives names, for what no rule explains."""
    given = {
        (file.name, name)
        for file in ROOM.rglob("*.py")
        for name in re.findall(r'Finding\(\s*"([\w-]+)"|\brule="([\w-]+)"', file.read_text(encoding="utf-8"))
    }
    assert given == {("diagnose.py", ("does-not-run", "")), ("diagnose.py", ("diverges", ""))}
