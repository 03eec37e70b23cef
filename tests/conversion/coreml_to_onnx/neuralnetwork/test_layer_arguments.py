"""Every handler's keywords are its layer's own fields: the signature is the specification."""

from __future__ import annotations

import inspect

import pytest

from coreproof.conversion.operators import LAYERS
from coreproof.model.coreml.proto import NeuralNetwork_pb2

LAYER_FIELDS = NeuralNetwork_pb2.NeuralNetworkLayer.DESCRIPTOR.oneofs_by_name["layer"].fields


def test_all_layers_are_lowered() -> None:
    assert {f.name for f in LAYER_FIELDS} == set(LAYERS)


@pytest.mark.parametrize("field", [f for f in LAYER_FIELDS if f.name in LAYERS], ids=lambda f: str(f.name))
def test_keywords_are_fields(field: object) -> None:
    parameters = inspect.signature(LAYERS[field.name]).parameters.values()  # type: ignore[attr-defined]
    keywords = {p.name for p in parameters if p.kind is p.KEYWORD_ONLY}
    names = {f.name for f in field.message_type.fields}  # type: ignore[attr-defined]
    takes_all = any(p.kind is p.VAR_KEYWORD for p in parameters)
    assert keywords <= names
    assert takes_all or names == keywords


def test_a_layer_is_lowered_once() -> None:
    with pytest.raises(ValueError, match="softmax is lowered twice"):
        LAYERS.lowers("softmax")(lambda layer: layer)
