"""The exporter's list of operators: read once, and as it would be read anew."""

from __future__ import annotations

from typing import Any

import pytest

from coreproof.model.torch import operator_list
from coreproof.model.torch.model import quiet
from coreproof.model.torch.operator_list import operators_read_once

torch = pytest.importorskip("torch", reason="needs the torch extra")


def functions(registry: Any) -> dict[Any, list[Any]]:
    return {name: [meta.onnx_function for meta in metas] for name, metas in registry.functions.items()}


@pytest.mark.thorough
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
    assert second.opset_version == anew.opset_version


@pytest.mark.thorough
def test_no_source_is_parsed_for_what_a_function_says_without(monkeypatch: pytest.MonkeyPatch) -> None:
    from onnxscript._internal import values
    from torch.onnx._internal.exporter import _registration

    traced = values.TracedOnnxFunction
    before = vars(traced)["function_ir"]
    anew = _registration.ONNXRegistry.from_torchlib()
    monkeypatch.setattr(operator_list, "_READ", {})
    monkeypatch.setattr(
        traced, "function_ir", property(lambda self: pytest.fail(f"the source of {self.name} is parsed"))
    )
    with operators_read_once():
        read = _registration.ONNXRegistry.from_torchlib()
    monkeypatch.setattr(traced, "function_ir", before)
    assert functions(read) == functions(anew)
    signatures = {
        name: [(meta.signature, meta.is_complex, meta.opset_introduced) for meta in metas]
        for name, metas in anew.functions.items()
    }
    for name, metas in read.functions.items():
        assert [(meta.signature, meta.is_complex, meta.opset_introduced) for meta in metas] == signatures[name], name
    function = next(
        meta.onnx_function
        for metas in read.functions.values()
        for meta in metas
        if isinstance(meta.onnx_function, traced)
    )
    with operator_list._domains_known():
        short = function.function_ir
    whole = function.function_ir
    assert short.domain == whole.domain
    assert short.name == whole.name, "what is not known is asked of the source"


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


def test_what_is_added_stands_before_what_pytorch_knows_and_is_read_once() -> None:
    from torch.onnx._internal.exporter import _registration

    asked = []

    def add(known: Any) -> None:
        asked.append("once")
        known.register_op(torch.ops.aten.relu.default, lambda x: x)

    with operators_read_once(add):
        first = _registration.ONNXRegistry.from_torchlib()
    with operators_read_once():
        without = _registration.ONNXRegistry.from_torchlib()
    with operators_read_once(add):
        second = _registration.ONNXRegistry.from_torchlib()
    assert asked == ["once"]
    assert functions(first) == functions(second) != functions(without)
    assert functions(first)["aten::relu"][1:] == functions(without)["aten::relu"]


class Taken(torch.nn.Module):  # type: ignore[misc,name-defined]
    """Operators that PyTorch takes apart itself, with weights, and one whose form hangs on the device."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(4, 4)
        self.register_buffer("mask", torch.ones(3, 3).tril().bool())

    def forward(self, x: Any) -> Any:
        heads = torch.stack((x, self.layer(x)), dim=1)
        seen = torch.nn.functional.scaled_dot_product_attention(heads, heads, heads, self.mask)
        return torch.einsum("bhik,bhjk->bij", seen, heads).movedim(0, -1).softmax(-1), x.flatten(1).type_as(self.mask)


@pytest.mark.thorough
@pytest.mark.parametrize("free", [False, True])
def test_what_is_answered_only_where_tensors_can_lie_is_traced_as_it_would_be(free: bool) -> None:
    def traced() -> list[str]:
        length = {0: torch.export.Dim("batch", min=1)} if free else None
        program = torch.export.export(Taken().eval(), (torch.ones(2, 3, 4),), dynamic_shapes=(length,))
        return [program.graph_module.code, program.run_decompositions().graph_module.code]

    with quiet():
        whole = traced()
        with operators_read_once():
            short = traced()
    assert short == whole
    assert "linear" in whole[0]
    assert "linear" not in whole[1], "it is taken apart"


@pytest.mark.parametrize(
    ("accelerator", "here"),
    [(None, {"CPU", "Meta"}), ("mps", {"CPU", "Meta", "MPS"}), ("privateuseone", {"CPU", "Meta", "PrivateUse1"})],
)
def test_operators_are_answered_on_the_devices_that_are_here(
    monkeypatch: pytest.MonkeyPatch, accelerator: str | None, here: set[str]
) -> None:
    from torch.export import exported_program

    device = None if accelerator is None else torch.device(accelerator)
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda: device)
    before = list(exported_program._AUTOGRAD_ALIAS_BACKEND_KEYS_TO_OVERRIDE)
    with operators_read_once():
        autograd = {key.name for key in exported_program._AUTOGRAD_ALIAS_BACKEND_KEYS_TO_OVERRIDE}
        backends = {key.name for key in exported_program._BACKEND_KEYS_TO_OVERRIDE}
    assert autograd == {f"Autograd{name}" for name in here}
    assert backends == here - {"PrivateUse1"}, "PyTorch lists no such backend"
    assert before == exported_program._AUTOGRAD_ALIAS_BACKEND_KEYS_TO_OVERRIDE
