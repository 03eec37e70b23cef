"""The numbers of docs/trust.md are those of the code."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from coreproof.comparison.agreement import wilson
from coreproof.comparison.weakness import FEW
from coreproof.verification.tolerance import TYPICAL, VACUOUS, WORST

DOCS = Path(__file__).resolve().parents[2] / "docs"
TRUST = " ".join((DOCS / "trust.md").read_text(encoding="utf-8").split())
MATRIX = " ".join((DOCS / "matrix.md").read_text(encoding="utf-8").split())


@pytest.mark.parametrize(
    ("text", "pattern", "number"),
    [
        (TRUST, r"root mean square of its difference stays within ([0-9.]+) times that prediction", TYPICAL),
        (TRUST, r"no element is off by more than ([0-9.]+) times", WORST),
        (TRUST, r"never allowed more than ([0-9.]+) of a value's scale", VACUOUS),
        (TRUST, r"fewer than ([0-9]+) pictures are called few", FEW),
        (MATRIX, r"there are fewer than ([0-9]+) pictures", FEW),
        (MATRIX, r"56 crops of 8 pictures that all agree mean at least ([0-9.]+)%", round(100 * wilson(8, 8)[0], 1)),
    ],
)
def test_a_number_in_the_docs_is_the_number_in_the_code(text: str, pattern: str, number: float) -> None:
    found = re.findall(pattern, text)
    assert [float(n) for n in found] == [pytest.approx(number)]
