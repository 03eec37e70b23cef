"""convert refuses a module that decides by its data, with the line and the option to type."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.conftest import Ran

pytest.importorskip("torch", reason="needs the torch extra")


def test_the_command_line_says_where_and_how_to_go_on(
    coreproof: Callable[..., Ran], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("net.py").write_text(
        "import torch\n\nclass Net(torch.nn.Module):\n    def forward(self, x):\n        if x.sum() > 0:\n"
        "            return x + 1\n        return x - 1\n\ndef model():\n    return Net(), torch.ones(1, 4)\n"
    )
    ran = coreproof("convert", "net.py:model", "out.mlpackage")
    assert ran.code == 2
    assert "net.py:5, in forward: if x.sum() > 0:" in ran.err
    assert "--freeze-branches" in ran.err
    assert not Path("out.mlpackage").exists()
    ran = coreproof("convert", "net.py:model", "out.mlpackage", "--freeze-branches")
    assert ran.code == 0, ran.err
    assert "frozen as the example took it (True): net.py:5" in ran.out
