"""Which lengths are drawn: 0 is a length like others."""

from __future__ import annotations

from typing import Any

import pytest

import coreproof as cp
from coreproof.errors import ConversionError
from coreproof.feeding.drawn import several
from tests.build import onnx_model


@pytest.mark.parametrize("shape", [(0, 4), (4, 0), (2, 0, 3)])
def test_a_dimension_of_0_is_drawn_with_no_elements(shape: tuple[int, ...]) -> None:
    """As ONNX Runtime takes it: a 0 fixes the length, and a name or nothing frees it."""
    said = ",".join(map(str, shape))
    header = '<ir_version: 8, opset_import: ["": 17]>'
    model = onnx_model(f"{header} net (float[{said}] x) => (float[{said}] y) {{ y = Tanh(x) }}")
    assert {left["x"].shape for left, _ in several(model, model).pairs} == {shape}
    found = cp.verify(model, model)
    assert found.agrees
    assert not found.proves
    assert "output 'y' has no elements" in found.summary().splitlines()[0]
    targets: list[Any] = ["mlprogram", "neuralnetwork"]
    for to in targets:
        with pytest.raises(ConversionError, match="input 'x' has no elements"):
            cp.convert(model, to)
