"""Core AI models for tests, written in MLIR's own words; the tests that need Apple's package are skipped without it."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import pytest

from coreproof.errors import RunError
from coreproof.model.coreai.child import Child

needs_coreai = pytest.mark.skipif(find_spec("coreai") is None, reason="needs pip install 'coreproof[coreai]'")

SMALL = """
module {
  coreai.graph private noinline @twice(%arg0: tensor<2x3xf32> {coreai.name = "input"}) -> tensor<2x3xf32> {
    %0 = coreai.add %arg0, %arg0 : (tensor<2x3xf32>, tensor<2x3xf32>) -> tensor<2x3xf32>
    coreai.output %0 : tensor<2x3xf32>
  }
  coreai.graph @main(%arg0: tensor<2x3xf32> {coreai.name = "x"}) -> (tensor<2x1xf32> {coreai.name = "y"}) {
    %0 = coreai.constant dense<[[1.0, -2.0, 3.0], [4.0, 5.0, -6.0]]> : tensor<2x3xf32>
    %1 = coreai.constant dense<[1]> : tensor<1xsi32>
    %2 = coreai.invoke @twice(%arg0) : (tensor<2x3xf32>) -> tensor<2x3xf32>
    %3 = coreai.mul %2, %0 : (tensor<2x3xf32>, tensor<2x3xf32>) -> tensor<2x3xf32>
    %4 = coreai.reduce_sum %3, %1 : (tensor<2x3xf32>, tensor<1xsi32>) -> tensor<2x1xf32>
    coreai.output %4 : tensor<2x1xf32>
  }
  coreai.graph @other(%arg0: tensor<?xf16> {coreai.name = "a"}) -> (tensor<?xf16> {coreai.name = "b"}) {
    %0 = coreai.relu %arg0 : (tensor<?xf16>) -> tensor<?xf16>
    coreai.output %0 : tensor<?xf16>
  }
}
"""

STATEFUL = """
module {
  coreai.graph @main(%s: !coreai.handle<tensor<2xf32>> {coreai.name = "s"}, %x: tensor<2xf32> {coreai.name = "x"})
      -> (tensor<2xf32> {coreai.name = "y"}, !coreai.token) {
    %t0 = coreai.create_token : !coreai.token
    %old, %t1 = coreai.read_handle %s, %t0 : (!coreai.handle<tensor<2xf32>>, !coreai.token) -> (tensor<2xf32>, !coreai.token)
    %new = coreai.add %old, %x : (tensor<2xf32>, tensor<2xf32>) -> tensor<2xf32>
    %t2 = coreai.write_handle %s, %new, %t1 : (!coreai.handle<tensor<2xf32>>, tensor<2xf32>, !coreai.token) -> !coreai.token
    coreai.output %new, %t2 : tensor<2xf32>, !coreai.token
  }
}
"""
"""A program that adds what it is fed to what it remembers."""


def assembled(path: Path, text: str) -> Path:
    """The asset of a program that is written in MLIR, at this path."""
    with Child(lambda found: RunError("the test's program does not assemble", found=found), 0) as child:
        written = child.folder / "program.mlir"
        written.write_text(text, encoding="utf-8")
        child.ask({"do": "assemble", "text": str(written), "path": str(path)}, 60)
    return path
