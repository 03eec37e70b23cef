"""docs/reference/json.md names every field that a document has, and no other."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.conftest import Ran
from tests.cli.conftest import coreproof as coreproof
from tests.report.test_checks import lineup as lineup
from tests.report.test_checks import two

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "reference" / "json.md").read_text(encoding="utf-8")
OPTIONAL = {"written"}
"""Fields that stand in a document only where an option asked for them."""


def documented(section: str) -> set[str]:
    """The fields in the first column of a section's table."""
    text = PAGE.split(f"\n## {section}\n")[1].split("\n## ")[0]
    return {name for row in re.findall(r"^\| (`.*?) \|", text, re.M) for name in re.findall(r"`(\w+)`", row)}


@pytest.mark.sweep(2)
@pytest.mark.parametrize("verb", ["verify", "doctor", "compare", "prove"])
def test_the_fields_of_a_document_are_those_of_the_page(verb: str, coreproof: Callable[..., Ran], lineup: Path) -> None:
    one, other = two(lineup, factor=1.5)
    asked: dict[str, tuple[str, tuple[object, ...]]] = {
        "verify": ("verification", (one, other)),
        "doctor": ("diagnosis", (other, "--against", one)),
        "compare": ("comparison", (lineup / "lineup.toml", "--photos", lineup / "photos", "--out", lineup / "out")),
        "prove": ("proof", (one, "--out", lineup / "proof")),
    }
    kind, arguments = asked[verb]
    document = json.loads(coreproof(verb, *arguments, "--json").out)
    assert (document["format"], document["version"]) == (f"coreproof {kind}", 1)
    assert set(document) | OPTIONAL == documented(kind.capitalize()) | OPTIONAL
