"""Healthy .aimodel folders: a convolution in half width, branches, a program that remembers; they take Apple's package."""

from __future__ import annotations

import tempfile
from pathlib import Path

from conformance.fuzz.files import Case, read

_BRANCHES = """
module {
  coreai.graph private noinline @twice(%arg0: tensor<2x3xf32> {coreai.name = "input"}) -> tensor<2x3xf32> {
    %0 = coreai.add %arg0, %arg0 : (tensor<2x3xf32>, tensor<2x3xf32>) -> tensor<2x3xf32>
    coreai.output %0 : tensor<2x3xf32>
  }
  coreai.graph @main(%go: tensor<i1> {coreai.name = "go"}, %x: tensor<2x3xf32> {coreai.name = "x"})
      -> (tensor<2x3xf32> {coreai.name = "y"}) {
    %k = coreai.constant dense<[[1.0, -2.0, 3.0], [4.0, 5.0, -6.0]]> : tensor<2x3xf32>
    %y = coreai.if %go {
      %a = coreai.invoke @twice(%x) : (tensor<2x3xf32>) -> tensor<2x3xf32>
      coreai.yield %a : tensor<2x3xf32>
    } else {
      coreai.yield %k : tensor<2x3xf32>
    } : tensor<i1> -> tensor<2x3xf32>
    coreai.output %y : tensor<2x3xf32>
  }
}
"""


def aimodel_cases() -> list[Case]:
    """The cases, each with its weight among the mutants."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        _convolution(place / "convolution" / "convolution.aimodel")
        from tests.aimodels import STATEFUL, assembled

        for name, text in (("remembers", STATEFUL), ("branches", _BRANCHES)):
            (place / name).mkdir()
            assembled(place / name / f"{name}.aimodel", text)
        return [
            Case(name, read(place / name), f"{name}.aimodel", weight)
            for name, weight in (("convolution", 3), ("remembers", 2), ("branches", 2))
        ]


def _convolution(path: Path) -> None:
    import coreproof as cp

    path.parent.mkdir()
    with tempfile.TemporaryDirectory() as folder:
        from tests.cli.test_replacing import network

        cp.convert(network(Path(folder) / "net.onnx"), "coreai", check=False).save(path)
