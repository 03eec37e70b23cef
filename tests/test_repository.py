"""What stands around the code says what is true of it: versions, make targets, modules, names and extras that files name."""

from __future__ import annotations

import ast
import importlib
import re
import tomllib
from importlib.util import find_spec
from pathlib import Path

import pytest
import yaml

import coreproof

REPOSITORY = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))
WORKFLOWS = sorted((REPOSITORY / ".github" / "workflows").glob("*.yml"))
FORMS = sorted((REPOSITORY / ".github" / "ISSUE_TEMPLATE").glob("*.yml"))
RUN = [*WORKFLOWS, REPOSITORY / ".ci" / "run", REPOSITORY / "Makefile"]

SCRIPTS = sorted(p for folder in ("conformance", "benchmarks", "examples") for p in (REPOSITORY / folder).rglob("*.py"))


def _name(path: Path) -> str:
    return path.relative_to(REPOSITORY).as_posix()


def test_the_citation_names_this_version_and_licence() -> None:
    citation = yaml.safe_load((REPOSITORY / "CITATION.cff").read_text(encoding="utf-8"))
    assert str(citation["version"]) == coreproof.__version__
    assert citation["license"] == PROJECT["project"]["license"]
    assert citation["abstract"] == PROJECT["project"]["description"]


def test_the_version_stands_in_one_place() -> None:
    assert "version" in PROJECT["project"]["dynamic"]
    place = REPOSITORY / PROJECT["tool"]["hatch"]["version"]["path"]
    assert f'__version__ = "{coreproof.__version__}"' in place.read_text(encoding="utf-8").splitlines()
    assert place.relative_to(REPOSITORY).as_posix() in (REPOSITORY / ".github/workflows/release.yml").read_text(
        encoding="utf-8"
    )


def test_each_development_package_is_pinned() -> None:
    pinned = {
        line.partition("==")[0].lower().replace("_", "-")
        for line in (REPOSITORY / "constraints.txt").read_text(encoding="utf-8").splitlines()
        if "==" in line
    }
    asked = PROJECT["project"]["optional-dependencies"]["dev"]
    assert {re.split(r"[<>=\[]", name)[0].lower().replace("_", "-") for name in asked} <= pinned


def test_the_places_that_newcomers_are_sent_to_are_there() -> None:
    text = (REPOSITORY / "CONTRIBUTING.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`((?:[a-z][\w-]*/)+(?:\w+\.py)?)`", text))
    package = REPOSITORY / "src" / "coreproof"
    roots = (REPOSITORY, package, package / "model", package / "conversion" / "coreml_to_onnx")
    assert len(named) > 40
    assert not [place for place in sorted(named) if not any((root / place).exists() for root in roots)]


@pytest.mark.parametrize("path", WORKFLOWS, ids=_name)
def test_a_workflow_may_do_no_more_than_it_needs(path: Path) -> None:
    workflow = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert workflow["permissions"] == {"contents": "read"}
    for name, job in workflow["jobs"].items():
        assert "uses" in job or job["timeout-minutes"], name


@pytest.mark.parametrize("path", RUN, ids=_name)
def test_what_runs_names_targets_modules_and_extras_that_exist(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    targets = set(re.findall(r"^([\w-]+):", (REPOSITORY / "Makefile").read_text(encoding="utf-8"), re.M))
    named = set(re.findall(r"\b(?:make|part) ([a-z][\w-]*)", re.sub(r"^\s*#.*|##.*", "", text, flags=re.M)))
    assert named <= targets, sorted(named - targets)
    for module in re.findall(r"-m ((?:conformance|benchmarks)[\w.]*)", text):
        assert find_spec(module) is not None, module
    for extras in re.findall(r"'\.\[([\w,]+)\]'", text):
        assert set(extras.split(",")) <= PROJECT["project"]["optional-dependencies"].keys(), extras


@pytest.mark.parametrize("path", [p for p in FORMS if p.name != "config.yml"], ids=_name)
def test_an_issue_form_asks_for_something(path: Path) -> None:
    form = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert {"name", "description", "labels", "body"} <= form.keys()
    asked = [part for part in form["body"] if part["type"] != "markdown"]
    assert any(part.get("validations", {}).get("required") for part in asked)
    assert len({part["id"] for part in asked}) == len(asked)


@pytest.mark.parametrize("path", SCRIPTS, ids=_name)
def test_a_script_takes_from_the_package_what_is_there(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    taken = [n for n in ast.walk(tree) if isinstance(n, ast.ImportFrom) and (n.module or "").startswith("coreproof")]
    lacking = [
        f"{node.module}.{alias.name}"
        for node in taken
        for alias in node.names
        if not hasattr(importlib.import_module(node.module or ""), alias.name)
        and find_spec(f"{node.module}.{alias.name}") is None
    ]
    assert not lacking
