"""What is added to the exporter's list of operators: before what PyTorch knows, of real and of complex numbers."""

from __future__ import annotations

from typing import Any

import pytest

from coreproof.conversion.torch_to_onnx.complex_forms import complex_operators
from coreproof.conversion.torch_to_onnx.forms import keeping_forms
from coreproof.conversion.torch_to_onnx.operator_list import add_ours
from coreproof.model.torch.operator_list import operators_read_once

pytest.importorskip("torch", reason="needs the torch extra")


def listed() -> Any:
    from torch.onnx._internal.exporter import _registration

    return _registration.ONNXRegistry.from_torchlib()


def test_ours_are_tried_before_those_that_pytorch_knows() -> None:
    with operators_read_once():
        plain = listed()
    with operators_read_once(add_ours):
        whole = listed()
    for operator, written in keeping_forms().items():
        real = [meta.onnx_function for meta in whole.get_decomps(operator) if not meta.is_complex]
        assert real[0] is written
        assert real[1:] == [m.onnx_function for m in plain.get_decomps(operator) if not m.is_complex]
    for operator in complex_operators():
        ours, theirs = (sum(m.is_complex for m in known.get_decomps(operator)) for known in (whole, plain))
        assert ours == theirs + 1
