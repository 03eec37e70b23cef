"""The operator tables in docs list what the registries hold, so they cannot lie."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from conformance.onnx_backend import known_failures

from coreproof.conversion.coreml_to_onnx.classic.refused import REASONS
from coreproof.conversion.coreml_to_onnx.kinds import LOWERERS
from coreproof.conversion.operators import COREAI, LAYERS, MIL, ONNX, TO_COREAI
from coreproof.conversion.registry import Registry

DOCS = Path(__file__).parent.parent / "docs"


def listed(page: str) -> set[str]:
    """The first cell of each row of the page's tables."""
    rows = re.findall(r"^\| `?([\w.:]+)`? \|", (DOCS / page).read_text(), re.MULTILINE)
    return {row for row in rows if row not in ("operator", "layer", "operation", "kind")}


@pytest.mark.parametrize(
    ("registry", "page"),
    [
        (ONNX, "operators-onnx.md"),
        (MIL, "operators-mlprogram.md"),
        (LAYERS, "operators-neuralnetwork.md"),
        (COREAI, "operators-coreai.md"),
        (TO_COREAI, "operators-to-coreai.md"),
    ],
    ids=lambda given: given.name if isinstance(given, Registry) else given,
)
def test_every_registered_operator_has_its_row_and_every_row_an_operator(registry: Registry, page: str) -> None:
    assert len(list(registry)) > 100
    assert listed(page) == set(registry)


def test_every_kind_of_model_has_its_row_and_the_row_says_where_it_is_lowered() -> None:
    assert listed("model-kinds.md") == {*LOWERERS, *REASONS}
    rows = re.findall(r"^\| `(\w+)` \| (\w+) \|", (DOCS / "model-kinds.md").read_text(), re.MULTILINE)
    for kind, where in rows:
        assert where == "refused" if kind in REASONS else where in LOWERERS[kind], kind


def test_every_known_failure_has_a_reason() -> None:
    assert all(len(reason) > 20 for reason in known_failures().values())
