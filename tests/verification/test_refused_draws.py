"""A module whose own checks refuse what is drawn is verified and proved at what it takes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import coreproof as cp
from coreproof.errors import RunError

torch = pytest.importorskip("torch", reason="needs the torch extra")
from tests.verification.reading import Reads, tight, within_limits  # noqa: E402 - it needs PyTorch


def _source(then: Any) -> tuple[Any, Any]:
    return Reads(then).eval(), (torch.rand(2, 4, generator=torch.Generator().manual_seed(3)),)


@pytest.mark.thorough
@pytest.mark.parametrize("then", [tight, within_limits])
def test_it_is_verified_and_proved(then: Any, tmp_path: Path) -> None:
    source = _source(then)
    cp.convert(source, "mlprogram", precision="fp32").save(tmp_path / "net.mlpackage")
    found = cp.verify(source, tmp_path / "net.mlpackage")
    assert found, found.summary()
    assert ("the example inputs, and random" if then is tight else "left out") in found.inputs
    proof = cp.prove(source, None, tmp_path / "proof", witness=False)
    assert proof, [(step.name, step.text) for step in proof.steps]
    other = Reads(then).eval()
    torch.nn.init.zeros_(other.linear.bias)
    assert not cp.verify((other, source[1]), tmp_path / "net.mlpackage")


def test_what_is_given_and_refused_stays_refused(tmp_path: Path) -> None:
    source = _source(tight)
    cp.convert(source, "mlprogram", precision="fp32").save(tmp_path / "net.mlpackage")
    given = {"x": torch.full((2, 4), 2.0).numpy()}
    with pytest.raises(RunError, match="too large"):
        cp.verify(source, tmp_path / "net.mlpackage", given)
    with pytest.raises(RunError, match="too large"):
        cp.prove(source, None, tmp_path / "proof", inputs=given, witness=False)
