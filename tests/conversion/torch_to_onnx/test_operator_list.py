"""The exporter's list of operators: read once, and as it would be read anew."""

from __future__ import annotations

from typing import Any

import pytest

from coreproof.conversion.torch_to_onnx.complex_forms import complex_operators
from coreproof.conversion.torch_to_onnx.operator_list import operators_read_once

torch = pytest.importorskip("torch", reason="needs the torch extra")


def functions(registry: Any) -> dict[Any, list[Any]]:
    """What is written of real numbers; what is written of complex ones is added with each reading."""
    held = {
        name: [meta.onnx_function for meta in metas if not meta.is_complex]
        for name, metas in registry.functions.items()
    }
    return {name: metas for name, metas in held.items() if metas}


def of_complex_numbers(registry: Any, operator: Any) -> int:
    return sum(meta.is_complex for meta in registry.get_decomps(operator))


def test_the_list_is_read_once_and_is_the_one_that_pytorch_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    from torch.onnx._internal.exporter import _registration

    registry = _registration.ONNXRegistry
    anew = registry.from_torchlib()
    with operators_read_once():
        first = registry.from_torchlib()
    monkeypatch.setattr(_registration._torchlib_registry, "get_torchlib_ops", lambda: pytest.fail("read again"))
    with operators_read_once():
        second = registry().from_torchlib()
    assert functions(first) == functions(second) == functions(anew)
    for operator in complex_operators():
        assert of_complex_numbers(first, operator) == of_complex_numbers(anew, operator) + 1
    assert second.opset_version == anew.opset_version


def test_what_one_export_adds_is_not_in_the_next_ones_list() -> None:
    from torch.onnx._internal.exporter import _registration

    with operators_read_once():
        one = _registration.ONNXRegistry.from_torchlib()
        one.register_op(torch.ops.aten.relu.default, lambda x: x)
        other = _registration.ONNXRegistry.from_torchlib()
    assert len(one.functions["aten::relu"]) == len(other.functions["aten::relu"]) + 1


def test_operators_that_pytorch_learns_in_between_are_in_the_list() -> None:
    from torch.onnx._internal.exporter import _registration

    with operators_read_once():
        before = _registration.ONNXRegistry.from_torchlib()
        library = torch.library.Library("coreproof_list", "DEF")
        library.define("twice(Tensor x) -> Tensor")
        after = _registration.ONNXRegistry.from_torchlib()
        library._destroy()
    assert functions(before) == functions(after)
    shared = before.functions["aten::relu"][0]
    assert all(shared is not meta for meta in after.functions["aten::relu"]), "read again"


def test_what_pytorch_takes_apart_itself_is_read_once_an_export_and_is_what_it_reads(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from torch._export import utils

    anew = utils._collect_all_valid_cia_ops()
    readings = []
    read = utils._materialize_cpp_cia_ops
    monkeypatch.setattr(utils, "_materialize_cpp_cia_ops", lambda: readings.append(read()))
    with operators_read_once():
        first, second = utils._collect_all_valid_cia_ops(), utils._collect_all_valid_cia_ops()
    assert first == second == anew
    assert len(readings) == 1
    with operators_read_once():
        utils._collect_all_valid_cia_ops()
    assert len(readings) == 2, "another export may find operators that were registered in between"
