"""The GitHub Action: its steps are run as the runner runs them, with stand-ins for what only GitHub has."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from coreproof.cli.options import Reporting
from tests.docs.test_docs import check_words

ACTION = Path(__file__).resolve().parents[2] / "action.yml"
BASH = shutil.which("bash")
pytestmark = pytest.mark.skipif(BASH is None or os.name == "nt", reason="the action's steps are of bash")

COREPROOF = """#!/usr/bin/env bash
printf '%s\\n' "$@" > "$TOLD"
for word in "$@"; do
  [ "${last:-}" = --markdown ] && printf '%s\\n### verdict\\n' '<!-- coreproof summary -->' > "$word"
  last=$word
done
exit "${CODE:-0}"
"""
REFUSES = '#!/usr/bin/env bash\necho "error: there is no such file" >&2\nexit 2\n'
GH = """#!/usr/bin/env bash
printf '%s\\n' "$*" >> "$GH_TOLD"
case "$*" in *--jq*) echo "$KNOWN";; *) [ -z "$REFUSED" ];; esac
"""


@pytest.fixture(scope="module")
def action() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load(ACTION.read_text(encoding="utf-8"))
    return loaded


def step(action: dict[str, Any], name: str) -> dict[str, Any]:
    found: dict[str, Any] = next(each for each in action["runs"]["steps"] if each.get("name") == name)
    return found


def run(script: str, folder: Path, stand_ins: dict[str, str], **environment: str) -> subprocess.CompletedProcess[str]:
    """Runs a step with what it finds on the path replaced."""
    tools = folder / "bin"
    tools.mkdir(exist_ok=True)
    for name, text in stand_ins.items():
        (tools / name).write_text(text)
        (tools / name).chmod(0o755)
    files = {name: str(folder / name) for name in ("GITHUB_OUTPUT", "GITHUB_STEP_SUMMARY", "TOLD", "GH_TOLD")}
    path = f"{tools}{os.pathsep}{os.environ['PATH']}"
    return subprocess.run(
        [str(BASH), "--noprofile", "--norc", "-eo", "pipefail", "-c", script],
        env={"PATH": path, "RUNNER_TEMP": str(folder), "GITHUB_REPOSITORY": "own/repo", **files, **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def check(action: dict[str, Any], folder: Path, coreproof: str, **given: str) -> subprocess.CompletedProcess[str]:
    inputs = {"NAME": "same model", "REQUIRE": "", "REQUIRE_LOWER": "", **given}
    return run(step(action, "Check")["run"], folder, {"coreproof": coreproof}, **inputs)


def test_every_input_is_used_and_every_environment_is_an_input(action: dict[str, Any]) -> None:
    text = ACTION.read_text(encoding="utf-8")
    assert [name for name in action["inputs"] if f"inputs.{name}" not in text] == []
    # nothing of a caller is pasted into a script, where it would be code
    assert [each for each in action["runs"]["steps"] if "${{" in each.get("run", "")] == []
    assert {"require", "require_lower", "junit", "markdown"} == set(Reporting.__dataclass_fields__)


def test_a_verb_runs_with_its_arguments_and_the_requirement(action: dict[str, Any], tmp_path: Path) -> None:
    ran = check(action, tmp_path, COREPROOF, COMMAND="verify 'my net.onnx' b.mlpackage", REQUIRE="0.99", CODE="1")
    assert ran.returncode == 0, ran.stderr  # the last step ends with the code, after the comment
    told = (tmp_path / "TOLD").read_text().splitlines()
    reports = tmp_path / "coreproof-same_model"
    assert told[:3] == ["verify", "my net.onnx", "b.mlpackage"]
    assert told[3:] == ["--junit", f"{reports}/results.xml", "--markdown", f"{reports}/summary.md", "--require", "0.99"]
    assert "exit-code=1" in (tmp_path / "GITHUB_OUTPUT").read_text().splitlines()
    assert "### verdict" in (tmp_path / "GITHUB_STEP_SUMMARY").read_text()
    assert run(step(action, "Verdict")["run"], tmp_path, {}, CODE="1").returncode == 1


def test_bad_input_is_shown_in_place_of_a_summary(action: dict[str, Any], tmp_path: Path) -> None:
    ran = check(action, tmp_path, REFUSES, COMMAND="verify a b")
    assert ran.returncode == 0, ran.stderr
    summary = (tmp_path / "GITHUB_STEP_SUMMARY").read_text()
    assert "### ❌ same model" in summary
    assert "error: there is no such file" in summary


@pytest.mark.parametrize(
    ("known", "call"), [("", "--method POST repos/own/repo/issues/7/comments"), ("42", "--method PATCH")]
)
def test_a_check_has_one_comment(action: dict[str, Any], tmp_path: Path, known: str, call: str) -> None:
    summary = tmp_path / "summary.md"
    summary.write_text("### verdict\n")
    asked = {"NAME": "a", "NUMBER": "7", "SUMMARY": str(summary), "KNOWN": known, "REFUSED": ""}
    ran = run(step(action, "Comment")["run"], tmp_path, {"gh": GH}, **asked)
    assert ran.returncode == 0, ran.stderr
    assert call in (tmp_path / "GH_TOLD").read_text().splitlines()[-1]
    written = (tmp_path / "coreproof-comment.md").read_text()
    assert written == "<!-- coreproof action: a -->\n### verdict\n"


def test_a_comment_that_may_not_be_written_fails_nothing(action: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "summary.md").write_text("### verdict\n")
    asked = {"NAME": "a", "NUMBER": "7", "SUMMARY": str(tmp_path / "summary.md"), "KNOWN": "", "REFUSED": "1"}
    ran = run(step(action, "Comment")["run"], tmp_path, {"gh": GH}, **asked)
    assert ran.returncode == 0
    assert "::warning::" in ran.stdout


def test_the_documentation_uses_inputs_that_there_are(action: dict[str, Any]) -> None:
    page = (ACTION.parent / "docs" / "ci-on-linux.md").read_text(encoding="utf-8")
    workflows = [yaml.safe_load(text) for text in page.split("```yaml\n")[1:] for text in [text.split("```")[0]]]
    uses = [
        step["with"]
        for workflow in workflows
        for job in workflow["jobs"].values()
        for step in job["steps"]
        if step.get("uses", "").startswith("coreproof/")
    ]
    assert len(uses) >= 2
    for given in uses:
        assert set(given) <= set(action["inputs"])
        check_words(["coreproof", *shlex.split(given["command"])])
