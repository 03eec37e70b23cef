"""Checks as JUnit XML: what CI systems read as test results."""

from __future__ import annotations

import re
from pathlib import Path
from xml.etree import ElementTree

from coreproof.model.files.atomic import replacing
from coreproof.model.files.outputs import JUNIT
from coreproof.report.checks import Check, Checks
from coreproof.visible import visible

_NO_XML = re.compile(r"[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""What XML 1.0 cannot hold in any form (section 2.2)."""


def junit(checks: Checks) -> str:
    """One test suite, a test case a check: ``failure`` is what failed or proves nothing, ``skipped`` what was not done.

    The elements are those of Jenkins' JUnit schema, which GitHub, GitLab, Azure and Buildkite read.
    """
    # JUnit has no word for a weak agreement, and what proves nothing must not pass
    failed, skipped = checks.count("failed") + checks.count("weak"), checks.count("skipped")
    numbers = {"tests": str(len(checks.checks)), "failures": str(failed), "errors": "0", "skipped": str(skipped)}
    seconds = f"{sum(check.seconds for check in checks.checks):.3f}"
    whole = ElementTree.Element("testsuites", {"name": "coreproof", "time": seconds, **numbers})
    suite = ElementTree.SubElement(whole, "testsuite", {"name": _told(checks.title), "time": seconds, **numbers})
    for check in checks.checks:
        _add(suite, check)
    said = ElementTree.SubElement(suite, "system-out")
    said.text = "\n".join(_told(line) for line in (checks.verdict, *map(str, checks.shares)))
    ElementTree.indent(whole)
    return '<?xml version="1.0" encoding="utf-8"?>\n' + ElementTree.tostring(whole, encoding="unicode") + "\n"


def save_junit(checks: Checks, path: str | Path, *, replace: bool = False) -> Path:
    """Writes the XML; OutputExistsError where something else stands there."""
    with replacing(Path(path), JUNIT, replace=replace) as fresh:
        fresh.write_text(junit(checks), encoding="utf-8")
    return Path(path)


def _add(suite: ElementTree.Element, check: Check) -> None:
    case = ElementTree.SubElement(
        suite, "testcase", classname=_told(check.group), name=_told(check.name), time=f"{check.seconds:.3f}"
    )
    text = _told(check.text)
    if check.outcome in ("failed", "weak"):
        kind = "disagreement" if check.outcome == "failed" else "weak"
        # as attribute and as text: some readers show the one, some the other
        ElementTree.SubElement(case, "failure", message=text, type=kind).text = text
    elif check.outcome == "skipped":
        ElementTree.SubElement(case, "skipped", message=text)
    elif text:
        ElementTree.SubElement(case, "system-out").text = text


def _told(text: str) -> str:
    return _NO_XML.sub("\ufffd", visible(text))
