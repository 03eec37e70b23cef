"""Each handler of each MIL operator is tried by the test file of its family, in a program of a version in which it holds."""

from __future__ import annotations

import importlib
import pkgutil

import pytest

from coreproof.conversion.coreml_to_onnx.mlprogram import ops
from coreproof.conversion.operators import MIL
from tests.conversion.coreml_to_onnx.mlprogram.family import Family

FAMILIES = [module.name for module in pkgutil.iter_modules(ops.__path__)]


def tried_by(name: str) -> Family:
    family = importlib.import_module(f"tests.conversion.coreml_to_onnx.mlprogram.ops.test_{name}").family
    assert isinstance(family, Family)
    return family


@pytest.mark.parametrize("name", FAMILIES)
def test_a_family_tries_every_handler_of_its_file(name: str) -> None:
    handlers = {
        (operator, handler)
        for operator in MIL
        for version in MIL.versions(operator)
        if (handler := MIL.find(operator, version)) is not None and handler.__module__ == f"{ops.__name__}.{name}"
    }
    untried = handlers - tried_by(name).handlers()
    assert handlers
    assert not untried, sorted(operator for operator, _ in untried)


def test_each_operator_belongs_to_one_family() -> None:
    assert len(FAMILIES) > 20
    assert {operator for name in FAMILIES for operator in tried_by(name).covered} == set(MIL)
    assert all(tried_by(name).name == name for name in FAMILIES)
