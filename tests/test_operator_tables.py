"""The operator tables in docs list what the registries hold, so they cannot lie."""

from __future__ import annotations

import re
from pathlib import Path

from conformance.onnx_backend import known_failures

from coreproof.convert.coreml_to_onnx.neuralnetwork.network import FAMILIES as LAYER_FAMILIES
from coreproof.convert.coreml_to_onnx.neuralnetwork.registry import LAYERS
from coreproof.convert.onnx_to_coreml import ops
from coreproof.convert.onnx_to_coreml.lowering import registered

DOCS = Path(__file__).parent.parent / "docs"


def listed(page: str) -> set[str]:
    """The first cell of each row of the page's tables."""
    rows = re.findall(r"^\| `?([\w.:]+)`? \|", (DOCS / page).read_text(), re.MULTILINE)
    return {row for row in rows if row not in ("operator", "layer", "operation")}


def test_onnx_operators() -> None:
    assert ops.FAMILIES
    assert listed("operators-onnx.md") == set(registered())


def test_neuralnetwork_layers() -> None:
    assert LAYER_FAMILIES
    assert listed("operators-neuralnetwork.md") == set(LAYERS)


def test_every_known_failure_has_a_reason() -> None:
    assert all(len(reason) > 20 for reason in known_failures().values())
