"""The operator tables in docs list what the registries hold, so they cannot lie."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from conformance.onnx_backend import known_failures

from coreproof.conversion.operators import LAYERS, MIL, ONNX
from coreproof.conversion.registry import Registry

DOCS = Path(__file__).parent.parent / "docs"


def listed(page: str) -> set[str]:
    """The first cell of each row of the page's tables."""
    rows = re.findall(r"^\| `?([\w.:]+)`? \|", (DOCS / page).read_text(), re.MULTILINE)
    return {row for row in rows if row not in ("operator", "layer", "operation")}


@pytest.mark.parametrize(
    ("registry", "page"),
    [(ONNX, "operators-onnx.md"), (MIL, "operators-mlprogram.md"), (LAYERS, "operators-neuralnetwork.md")],
    ids=lambda given: given.name if isinstance(given, Registry) else given,
)
def test_every_registered_operator_has_its_row_and_every_row_an_operator(registry: Registry, page: str) -> None:
    assert len(list(registry)) > 100
    assert listed(page) == set(registry)


def test_every_known_failure_has_a_reason() -> None:
    assert all(len(reason) > 20 for reason in known_failures().values())
