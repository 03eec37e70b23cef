"""Layers that a conversion adds have names of their own: none of the source's, and the same in each conversion."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import coreproof as cp

torch = pytest.importorskip("torch", reason="needs the torch extra")


class Arcs(torch.nn.Module):  # type: ignore[misc,name-defined]
    """Core ML has no asinh that keeps its digits: it is made of an atanh, as long as the one beside it."""

    def forward(self, x: Any) -> Any:
        return torch.asinh(3 * x), torch.atanh(x)


def _made(tmp_path: Path) -> tuple[Any, Any]:
    source = cp.load(cp.Source(Arcs().eval(), (torch.linspace(-0.9, 0.9, 9),)))
    cp.convert(cp.convert(source, "onnx"), "mlprogram", precision="fp32").save(tmp_path / "arcs.mlpackage")
    return source, cp.load(tmp_path / "arcs.mlpackage")


def test_a_stored_program_is_compared_by_no_name_that_means_another_value(tmp_path: Path) -> None:
    source, stored = _made(tmp_path)
    found = cp.verify(source, stored)
    assert found.agrees
    assert not found.weaknesses
    helped = [name for node in stored.graph.nodes for name in node.outputs if name.startswith("output_0_atanh")]
    assert helped, "asinh is made without an atanh: choose another function"


def test_two_conversions_of_a_process_name_their_layers_alike(tmp_path: Path) -> None:
    first, second = (_made(tmp_path)[1].graph for _ in range(2))
    assert [node.outputs for node in first.nodes] == [node.outputs for node in second.nodes]
