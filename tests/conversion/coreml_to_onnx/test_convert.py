"""Which lowerer a Core ML model gets: by its kind, as its file calls it."""

from __future__ import annotations

from importlib import import_module

import pytest

from coreproof.conversion.coreml_to_onnx.convert import LOWERERS, coreml_to_onnx
from coreproof.errors import UnsupportedModelError
from coreproof.model.coreml.model import CoreMLModel
from coreproof.model.coreml.proto import Model_pb2

KINDS = [field.name for field in Model_pb2.Model.DESCRIPTOR.oneofs_by_name["Type"].fields]


@pytest.mark.parametrize("kind", LOWERERS)
def test_each_lowerer_is_where_the_table_says_and_of_a_kind_that_there_is(kind: str) -> None:
    assert kind in KINDS
    module, name = LOWERERS[kind].split(":")
    assert callable(getattr(import_module(f"coreproof.conversion.coreml_to_onnx.{module}"), name))


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in LOWERERS])
def test_a_kind_without_a_lowerer_is_refused_with_the_reason(kind: str) -> None:
    spec = Model_pb2.Model(specificationVersion=4)
    getattr(spec, kind).SetInParent()
    with pytest.raises(UnsupportedModelError, match=f"only Apple's frameworks compute {kind}: "):
        coreml_to_onnx(CoreMLModel(spec, name="net"))
