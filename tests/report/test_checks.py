"""What CI is told: test results, a summary for a pull request, and whether as much agrees as was required."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import onnx
import pytest
from onnx import helper
from PIL import Image

import coreproof as cp
from coreproof.report.checks import Check, Checks, Requirement, Share
from coreproof.report.junit import junit, save_junit
from coreproof.report.summary import markdown
from tests.cli.conftest import Ran
from tests.cli.conftest import coreproof as coreproof
from tests.cli.test_show_and_predict import classifier
from tests.verification.test_weakness import net

Run = Callable[..., Ran]
LINEUP = """
[feed]
size = [8, 8]
scale = 0.00392156862745098

[models.right]
source = "colours.onnx"

[models.blind]
source = "blind.onnx"
"""


def two(folder: Path, *, factor: float) -> tuple[Path, Path]:
    """Two networks of three values; the last of the second is off by ``factor``."""
    made = []
    for name, last in (("one", 1.0), ("other", factor)):
        nodes = [helper.make_node("Sin", ["x"], ["a"]), helper.make_node("Exp", ["a"], ["b"])]
        nodes.append(helper.make_node("Mul", ["b", "w"], ["y"]))
        onnx.save(net(nodes, ["y"], w=np.float32(last)), folder / f"{name}.onnx")
        made.append(folder / f"{name}.onnx")
    return made[0], made[1]


def outcomes(path: Path) -> dict[str, str]:
    """The test cases of a file, and how each ended."""
    cases = ElementTree.parse(path).getroot().iter("testcase")
    return {str(case.get("name")): next((child.tag for child in case), "passed") for case in cases}


def test_each_value_is_a_test_case_and_what_diverges_fails(coreproof: Run, tmp_path: Path) -> None:
    one, other = two(tmp_path, factor=1.5)
    results = tmp_path / "results.xml"
    ran = coreproof("verify", one, other, "--junit", results)
    assert ran.code == 1
    found = outcomes(results)
    assert found["y"] == "failure"
    assert [found[name] for name in ("a", "b")] == ["system-out", "system-out"]
    suites = ElementTree.parse(results).getroot()
    assert (suites.get("tests"), suites.get("failures"), suites.get("errors")) == ("3", "1", "0")


@pytest.mark.parametrize(("share", "code"), [(0.6, 0), (2 / 3, 0), (0.7, 1), (1, 1)])
def test_a_requirement_lets_single_values_diverge(coreproof: Run, tmp_path: Path, share: float, code: int) -> None:
    one, other = two(tmp_path, factor=1.5)
    ran = coreproof("verify", one, other, "--require", share)
    assert ran.code == code
    assert ("not enough agrees: other against one: 2 of 3 values agree (66.67%)" in ran.err) == bool(code)


def test_files_and_exit_code_say_one_thing(coreproof: Run, tmp_path: Path) -> None:
    one, other = two(tmp_path, factor=1.5)
    written = ("--junit", tmp_path / "results.xml", "--markdown", tmp_path / "summary.md")
    assert coreproof("verify", one, other, "--require", 0.6, *written).code == 0
    assert "failure" not in outcomes(tmp_path / "results.xml").values()
    text = (tmp_path / "summary.md").read_text()
    assert "### ✅" in text
    assert "What was let pass" in text
    assert coreproof("verify", one, other, "--require", 0.9, *written).code == 1
    assert outcomes(tmp_path / "results.xml")["y"] == "failure"
    model = tmp_path / "zero.onnx"
    onnx.save(net([helper.make_node("Mul", ["x", "w"], ["y"])], ["y"], w=np.float32(0)), model)
    assert coreproof("verify", model, model, "--allow-weak", *written).code == 0
    assert "failure" not in outcomes(tmp_path / "results.xml").values()


def test_one_model_has_nothing_to_report(coreproof: Run, tmp_path: Path) -> None:
    one, _ = two(tmp_path, factor=1.5)
    ran = coreproof("verify", one, "--half", "--require", 0.9)
    assert (ran.code, "two models that are compared" in ran.err) == (2, True)


def test_the_lower_end_of_the_interval_asks_for_more_values(coreproof: Run, tmp_path: Path) -> None:
    one, other = two(tmp_path, factor=1)
    assert coreproof("verify", one, other, "--require", 1).code == 0
    ran = coreproof("verify", one, other, "--require-lower", 0.99)
    assert ran.code == 1
    # Wilson's interval of 3 of 3: from 1 / (1 + z^2 / 3)
    assert f"95% interval from {1 / (1 + 1.959964**2 / 3):.2%}, required: 99.00%" in ran.err


def test_a_summary_says_the_verdict_the_shares_and_what_fails(coreproof: Run, tmp_path: Path) -> None:
    one, other = two(tmp_path, factor=1.5)
    assert coreproof("verify", one, other, "--markdown", tmp_path / "summary.md").code == 1
    text = (tmp_path / "summary.md").read_text()
    assert text.startswith("<!-- coreproof summary -->\n### ❌ other against one\n")
    assert "| other against one | 2 of 3 values | 66.67% |" in text
    assert "| ❌ y | other against one | Mul: furthest apart" in text
    # the next run writes over its own summary, and over nothing else
    assert coreproof("verify", one, one, "--markdown", tmp_path / "summary.md").code == 0
    assert "### ✅" in (tmp_path / "summary.md").read_text()
    (tmp_path / "mine.md").write_text("my notes")
    refused = coreproof("verify", one, other, "--markdown", tmp_path / "mine.md")
    assert refused.code == 2
    assert (tmp_path / "mine.md").read_text() == "my notes"


def test_an_output_of_other_lengths_says_which(coreproof: Run, tmp_path: Path) -> None:
    """Its error is no number: the summary said "furthest apart nan", and the table nothing."""
    for name, classes in (("two", 2), ("ten", 10)):
        nodes = [helper.make_node("Sin", ["x"], ["a"]), helper.make_node("MatMul", ["a", "w"], ["y"])]
        onnx.save(net(nodes, ["y"], w=np.ones((6, classes), np.float32) * classes), tmp_path / f"{name}.onnx")
    ran = coreproof("verify", tmp_path / "ten.onnx", tmp_path / "two.onnx", "--markdown", tmp_path / "s.md")
    assert ran.code == 1
    assert "nan" not in (tmp_path / "s.md").read_text()
    for told in (ran.out, (tmp_path / "s.md").read_text().replace("\\", "")):
        assert re.search(r"shapes differ: \[.*10\] and \[.*2\]", told)


def test_an_output_that_proves_nothing_is_a_failure_of_its_own_kind(coreproof: Run, tmp_path: Path) -> None:
    model = tmp_path / "zero.onnx"
    onnx.save(net([helper.make_node("Mul", ["x", "w"], ["y"])], ["y"], w=np.float32(0)), model)
    ran = coreproof("verify", model, model, "--junit", tmp_path / "results.xml", "--require", 1)
    assert ran.code == 1  # a requirement is about what agrees, and this proves nothing
    failures = ElementTree.parse(tmp_path / "results.xml").getroot().iter("failure")
    assert {failure.get("type") for failure in failures} == {"weak"}


@pytest.fixture
def lineup(tmp_path: Path) -> Path:
    """Two classifiers that agree on one of two photos: one of them sees red everywhere."""
    classifier(tmp_path)
    model = onnx.load(tmp_path / "colours.onnx")
    blind = onnx.ModelProto()
    blind.CopyFrom(model)
    output = blind.graph.output[0].name
    last = next(node for node in blind.graph.node if output in node.output)
    last.output[list(last.output).index(output)] = "seen"
    blind.graph.node.append(helper.make_node("Mul", ["seen", "only_red"], [output]))
    blind.graph.initializer.append(
        onnx.numpy_helper.from_array(
            np.eye(1, model.graph.output[0].type.tensor_type.shape.dim[1].dim_value, dtype=np.float32), "only_red"
        )
    )
    onnx.save(blind, tmp_path / "blind.onnx")
    (tmp_path / "photos").mkdir()
    for name, colour in (("red", (220, 10, 10)), ("blue", (10, 10, 220))):
        Image.new("RGB", (12, 12), colour).save(tmp_path / "photos" / f"{name}.png")
    (tmp_path / "lineup.toml").write_text(LINEUP)
    return tmp_path


def test_compare_measures_until_something_is_required(coreproof: Run, lineup: Path) -> None:
    ask = ("compare", lineup / "lineup.toml", "--photos", lineup / "photos", "--out", lineup / "out")
    assert coreproof(*ask).code == 0
    ran = coreproof(*ask, "--require", 0.9, "--junit", lineup / "results.xml", "--markdown", lineup / "summary.md")
    assert ran.code == 1
    assert "not enough agrees: ONNX (right) and ONNX (blind): 1 of 2 photos agree (50.00%); required: 90.00%" in ran.err
    assert outcomes(lineup / "results.xml")["required: 90.00%"] == "failure"
    assert r"- ONNX \(right\) and ONNX \(blind\): blue.png" in (lineup / "summary.md").read_text()
    assert coreproof(*ask, "--require", 0.5).code == 0
    assert coreproof(*ask, "--require-lower", 0.5).code == 1


def test_compare_prints_its_document_alone(coreproof: Run, lineup: Path) -> None:
    ran = coreproof("compare", lineup / "lineup.toml", "--photos", lineup / "photos", "--out", lineup / "out", "--json")
    document = json.loads(ran.out)
    assert document["agreement"]["right"]["blind"] == 1
    assert document == json.loads((lineup / "out" / "comparison.json").read_text())


def test_a_proof_is_told_step_by_step(coreproof: Run, lineup: Path) -> None:
    ran = coreproof(
        *("prove", lineup / "colours.onnx", "--photos", lineup / "photos", "--out", lineup / "out", "--json"),
        *("--size", "8", "--scale", "1/255", "--junit", lineup / "results.xml", "--require", 1),
    )
    assert ran.code == 0, ran.err
    assert json.loads(ran.out)["verdict"]["proves"]
    found = outcomes(lineup / "results.xml")
    assert found["Sanity"] == "system-out"
    assert found["ONNX (onnxm) and Core ML float16 (o2c16)"] == "system-out"
    assert "failure" not in found.values()


def test_the_doctor_tells_each_finding(coreproof: Run, tmp_path: Path) -> None:
    one, other = two(tmp_path, factor=1.5)
    package = tmp_path / "other.mlpackage"
    cp.convert(other, "mlprogram", precision="fp32").save(package)
    ran = coreproof(
        "doctor", package, "--against", one, "--junit", tmp_path / "results.xml", "--markdown", tmp_path / "s.md"
    )
    assert ran.code == 1
    assert "failure" in outcomes(tmp_path / "results.xml").values()
    # what agrees after the repairs is not what was given
    shares = [line for line in (tmp_path / "s.md").read_text().splitlines() if " values |" in line]
    assert shares
    assert all(", repaired |" in line for line in shares)
    refused = coreproof("doctor", package, "--require", 0.9)
    assert (refused.code, "--against SOURCE" in refused.err) == (2, True)


def test_names_of_strangers_stay_text() -> None:
    nasty = "<a href='x'>|# \x1b[31m\u202e\ufffe@all"
    checks = Checks(nasty, nasty, (Check(nasty, "failed", nasty, nasty),), (Share(nasty, 0, 1, "values", 0.0),))
    case = next(ElementTree.fromstring(junit(checks).split("\n", 1)[1]).iter("testcase"))
    assert case.get("name") == "<a href='x'>|# \\x1b[31m\\u202e\ufffd@all"
    shown = markdown(checks)
    assert "<a" not in shown.replace("\\<a", "")
    assert "\x1b" not in shown
    assert all(line.count("|") - line.count("\\|") in (0, 4, 5) for line in shown.splitlines())


def test_what_was_not_measured_does_not_meet_a_requirement() -> None:
    assert Requirement(share=0.5).misses(()) != ()
    assert Requirement().misses(()) == ()
    assert Requirement(lower=0.5).misses((Share("a", 0, 0, "values", 0.0),)) != ()


def test_other_files_are_not_written_over(tmp_path: Path) -> None:
    place = tmp_path / "results.xml"
    place.write_text("<?xml version='1.0'?><testsuites name='pytest'/>")
    with pytest.raises(cp.CoreproofError, match="something else stands"):
        save_junit(Checks("a", "b", ()), place)
    save_junit(Checks("a", "b", ()), place, replace=True)
    save_junit(Checks("a", "b", ()), place)
    assert 'name="coreproof"' in place.read_text()
