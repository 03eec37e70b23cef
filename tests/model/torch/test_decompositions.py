"""PyTorch's tables of what it takes apart: made once, and as it would make them anew."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from coreproof.model.torch.decompositions import tables_made_once

torch = pytest.importorskip("torch", reason="needs the torch extra")


def made(written: set[Any]) -> tuple[Any, tuple[Any, ...]]:
    """The table for an exporter that writes these operators itself, and its halves."""
    from torch.export import exported_program
    from torch.onnx._internal.exporter import _decomp

    table = _decomp.create_onnx_friendly_decomposition_table(written)
    return table, exported_program._split_decomp_table_to_cia_and_python_decomp(dict(table))


def functions(table: Any) -> dict[Any, Any]:
    """Each operator with its function: PyTorch makes a new one each time for what its dispatcher takes apart, of one code."""
    return {operator: getattr(function, "func", function).__code__ for operator, function in table.items()}


@pytest.fixture
def makings(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the steps that PyTorch carried out, as they are carried out."""
    from torch.export import exported_program
    from torch.onnx._internal.exporter import _decomp

    found: list[str] = []

    def noted(name: str, step: Callable[[Any], Any]) -> Callable[[Any], Any]:
        return lambda asked: (found.append(name), step(asked))[1]

    for place, name in (
        (_decomp, "create_onnx_friendly_decomposition_table"),
        (exported_program, "_split_decomp_table_to_cia_and_python_decomp"),
    ):
        monkeypatch.setattr(place, name, noted(name.partition("_")[0] or "split", getattr(place, name)))
    return found


WRITTEN = {torch.ops.aten.relu.default, torch.ops.aten.linear.default, torch.ops.aten.gelu.default}


def test_the_tables_are_those_that_pytorch_makes(makings: list[str]) -> None:
    anew, halves_anew = made(WRITTEN)
    makings.clear()
    with tables_made_once():
        first, halves = made(WRITTEN)
        assert set(makings) <= {"create", "split"}
        makings.clear()
        again, halves_again = made(WRITTEN)
    with tables_made_once():
        later, halves_later = made(WRITTEN)
    assert makings == []
    assert len(anew) > 1000
    assert WRITTEN.isdisjoint(anew)
    for table in (first, again, later):
        assert functions(table) == functions(anew)
    for pair in (halves, halves_again, halves_later):
        assert [functions(half) for half in pair] == [functions(half) for half in halves_anew]


def test_what_one_export_takes_out_is_in_the_next_ones_tables() -> None:
    relu = torch.ops.aten.relu.default
    with tables_made_once():
        table, halves = made(set())
        sizes = [len(half) for half in halves]
        assert relu in table
        table.clear()
        for half in halves:
            half.clear()
        table, halves = made(set())
    assert relu in table
    assert [len(half) for half in halves] == sizes


def test_an_exporter_that_writes_other_operators_gets_another_table(makings: list[str]) -> None:
    with tables_made_once():
        assert torch.ops.aten.gelu.default not in made(WRITTEN)[0]
        makings.clear()
        assert torch.ops.aten.gelu.default in made(set())[0]
        assert makings == ["create", "split"]


def test_an_operator_that_is_registered_in_between_is_in_the_tables() -> None:
    with tables_made_once():
        made(WRITTEN)
        library = torch.library.Library("coreproof_apart", "DEF")
        library.define("twice(Tensor x) -> Tensor")
        library.impl("twice", lambda x: x + x, "CompositeImplicitAutograd")
        twice = torch.ops.coreproof_apart.twice.default
        table, halves = made(WRITTEN)
        library._destroy()
    assert twice in table
    assert twice in halves[0]
    with tables_made_once():
        assert twice not in made(WRITTEN)[0]


def test_a_function_that_is_registered_in_between_takes_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    from torch._decomp import decomposition_table

    operator = torch.ops.aten.topk.default
    assert operator not in decomposition_table

    def own(x: Any) -> Any:
        return x

    with tables_made_once():
        assert operator not in made(WRITTEN)[0]
        monkeypatch.setitem(decomposition_table, operator, own)
        assert made(WRITTEN)[0][operator] is own
        monkeypatch.undo()
        assert operator not in made(WRITTEN)[0]


def test_a_key_of_the_dispatcher_gets_one_function_and_no_second() -> None:
    library = torch.library.Library("coreproof_keys", "DEF")
    library.define("once(Tensor x) -> Tensor")
    operator = torch.ops.coreproof_keys.once.default
    with tables_made_once():
        registered = operator.py_impl(torch._C.DispatchKey.CPU)(torch.neg)
        assert registered is torch.neg
        assert operator.py_kernels == {torch._C.DispatchKey.CPU: torch.neg}
        with pytest.raises(RuntimeError, match="Trying to override a python impl"):
            operator.py_impl(torch._C.DispatchKey.CPU)(torch.abs)
        with pytest.raises(AssertionError, match="register a mode"):
            operator.py_impl(torch._C.DispatchKey.Python)(torch.abs)
    library._destroy()
