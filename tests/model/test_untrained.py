"""That weights are random ones goes where the file goes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import coreproof as cp

torch = pytest.importorskip("torch", reason="needs the torch extra")
pytestmark = pytest.mark.filterwarnings("ignore")  # PyTorch's own, as it exports


def source(*, untrained: bool) -> Any:
    torch.manual_seed(0)
    return cp.Source(torch.nn.Linear(4, 3).eval(), (torch.randn(1, 4),), untrained=untrained)


@pytest.mark.sweep(1)
@pytest.mark.parametrize("untrained", [True, False])
def test_files_say_that_their_weights_are_random_ones(tmp_path: Path, untrained: bool) -> None:
    exported = cp.convert(source(untrained=untrained), "onnx")
    exported.save(tmp_path / "net.onnx")
    stored = cp.load(tmp_path / "net.onnx")
    for to, file in (("mlprogram", "net.mlpackage"), ("neuralnetwork", "net.mlmodel")):
        cp.convert(stored, to).save(tmp_path / file)
        again = cp.load(tmp_path / file)
        assert (stored.untrained, again.untrained) == (untrained, untrained)
        first = cp.verify(tmp_path / "net.onnx", tmp_path / file).summary().splitlines()[0]
        assert ("untrained weights" in first) == untrained
        assert cp.convert(again, "onnx").untrained == untrained
