"""A PyTorch program as a graph: each layer under the field's name for it."""

from __future__ import annotations

from pathlib import Path

import pytest

from coreproof.model.load import load

torch = pytest.importorskip("torch", reason="PyTorch is not installed")


def test_pythons_own_functions_are_named_too(tmp_path: Path) -> None:
    class Halves(torch.nn.Module):  # type: ignore[misc,name-defined]
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            first, second = torch.split(x, 2, 1)
            return torch.relu(first) + second

    torch.export.save(torch.export.export(Halves(), (torch.randn(1, 4, 3),)), tmp_path / "halves.pt2")
    operators = [node.operator for node in load(tmp_path / "halves.pt2").graph.nodes]
    assert operators == ["split.Tensor", "getitem", "getitem", "relu.default", "add.Tensor"]
