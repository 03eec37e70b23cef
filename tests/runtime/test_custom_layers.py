"""Custom layers and models computed by registered functions: in every shape of graph, and in every verb."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from coreproof.conversion.coreml_to_onnx import custom
from coreproof.conversion.coreml_to_onnx.custom import CustomLayer, register_custom_layer
from coreproof.errors import ConversionError, InputError, RunError, UnsupportedOperatorsError
from coreproof.model.load import load
from coreproof.precision.converted import convert
from coreproof.runtime.open import session
from coreproof.runtime.subgraph import run_subgraph
from coreproof.verification.verify import verify
from tests.build import classic, inner_product, named, network, pipeline, weights


@pytest.fixture(autouse=True)
def _own_functions() -> Iterator[None]:
    before = dict(custom._FUNCTIONS)
    yield
    custom._FUNCTIONS.clear()
    custom._FUNCTIONS.update(before)


def scale_and_shift(inputs: list[np.ndarray], layer: CustomLayer) -> np.ndarray:
    return inputs[0] * np.float32(layer.parameters["factor"]) + layer.weights[0]


def custom_network(**fields: Any) -> Any:
    own = named("mine", "custom", "h", "c", className="Scale", weights=[{"floatValue": [1.0, 2.0, 3.0]}], **fields)
    own.custom.parameters["factor"].doubleValue = 0.1
    layers = [
        inner_product("first", "x", "h", weights(3, 3)), own,
        named("act", "activation", "c", "a", ReLU={}), inner_product("last", "a", "y", weights(2, 3, seed=1)),
    ]  # fmt: skip
    return network(layers, {"x": [3]}, {"y": [2]}, exact=True)


def wanted(x: np.ndarray) -> np.ndarray:
    inner = np.maximum((weights(3, 3) @ x) * np.float32(0.1) + np.array([1, 2, 3], np.float32), 0)
    return weights(2, 3, seed=1) @ inner


X = np.array([1.0, -2.0, 0.5], np.float32)


def test_without_a_function_the_class_is_named_and_how_to_register_it() -> None:
    with pytest.raises(
        UnsupportedOperatorsError, match=r"custom:Scale[\s\S]*register_custom_layer\('Scale', function\)"
    ):
        session(custom_network())


def test_a_layer_in_the_middle_of_a_network_is_computed_by_the_function() -> None:
    register_custom_layer("Scale", scale_and_shift)
    with session(custom_network()) as running:
        got = running.run({"x": X}, taps=["c", "a"])
    np.testing.assert_allclose(got["y"], wanted(X), rtol=1e-5)
    np.testing.assert_allclose(got["a"], np.maximum(got["c"], 0))


def test_parts_of_the_network_run_by_themselves() -> None:
    register_custom_layer("Scale", scale_and_shift)
    got = run_subgraph(custom_network(), {"h": X}, ["c"])
    np.testing.assert_allclose(got["c"], X * np.float32(0.1) + np.array([1, 2, 3], np.float32), rtol=1e-6)


def test_it_converts_to_onnx_and_is_verified_value_by_value(tmp_path: Path) -> None:
    register_custom_layer("Scale", scale_and_shift)
    path = convert(custom_network(), to="onnx").save(tmp_path / "net.onnx")
    with session(load(path)) as running:
        np.testing.assert_allclose(running.run({"x": X})["y"], wanted(X), rtol=1e-5)
    result = verify(custom_network(), load(path))
    assert result.agrees
    assert {row.candidate for row in result.rows} >= {"c", "a", "y"}


def test_several_layers_of_several_outputs_after_each_other() -> None:
    register_custom_layer("Split", lambda inputs, layer: [inputs[0][:1], inputs[0][1:]])
    register_custom_layer("Join", lambda inputs, layer: np.concatenate(inputs[::-1]))
    layers = [
        named("split", "custom", "x", "p q", className="Split"), named("join", "custom", "p q", "j", className="Join"),
        named("act", "activation", "j", "y", ReLU={}),
    ]  # fmt: skip
    with session(network(layers, {"x": [3]}, {"y": [3]}, exact=True)) as running:
        assert running.run({"x": X})["y"].tolist() == [0.0, 0.5, 1.0]


def test_a_custom_model_takes_and_gives_its_features_and_is_a_stage_as_any_other() -> None:
    register_custom_layer("Mean", lambda inputs, model: np.array(inputs[0].mean() * model.parameters["times"]))
    mean = classic("customModel", {"x": [4]}, {"m": "double"}, className="Mean")
    mean.spec.customModel.parameters["times"].intValue = 2
    double = classic("scaler", {"m": "double"}, {"y": "double"}, scaleValue=[10.0])
    with session(mean) as running:
        assert running.run({"x": [1, 2, 3, 6]}) == {"m": 6.0}
    with session(pipeline("pipeline", [mean, double], {"x": [4]}, {"y": "double"})) as running:
        assert running.run({"x": [1, 2, 3, 6]}) == {"y": 60.0}


def test_a_custom_model_without_a_function_says_how_to_register_one() -> None:
    with pytest.raises(ConversionError, match="register_custom_layer"):
        session(classic("customModel", {"x": [4]}, {"m": "double"}, className="Mean"))


@pytest.mark.parametrize(
    ("function", "said"),
    [
        (lambda inputs, layer: [inputs[0], inputs[0]], "another number of outputs"),
        (lambda inputs, layer: 1 / 0, "ZeroDivisionError"),
    ],
)
def test_a_function_that_fails_is_named(function: Any, said: str) -> None:
    register_custom_layer("Fails", function)
    model = network([named("mine", "custom", "x", "y", className="Fails")], {"x": [3]}, {"y": [3]}, exact=True)
    with session(model) as running, pytest.raises(RunError, match=r"'mine' \(Fails\)") as raised:
        running.run({"x": X})
    assert said in str(raised.value)


@pytest.mark.parametrize("arguments", [("", print), (3, print), ("Name", "no function")])
def test_what_is_no_name_and_no_function_is_refused(arguments: Any) -> None:
    with pytest.raises(InputError):
        register_custom_layer(*arguments)
