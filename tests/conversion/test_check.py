"""check says before converting what a conversion would say, all at once, and which target would do."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

import coreproof as cp
from coreproof.errors import ConversionError, InputError, UnreadableModelError
from coreproof.model.coreml.model import CoreMLModel
from coreproof.model.onnx.model import OnnxModel
from tests.build import conv_relu_onnx, mil, onnx_net


def unknown() -> OnnxModel:
    """Two operators that nobody knows, and one in a form that Core ML does not have."""
    nodes = [
        onnx.helper.make_node("Frobnicate", ["x"], ["a"], name="first", domain="strange"),
        onnx.helper.make_node("Frobnicate", ["x"], ["b"], name="second", domain="strange"),
        onnx.helper.make_node("Relu", ["x"], ["c"], name="known"),
        onnx.helper.make_node("LeakyRelu", ["c"], ["d"], name="wrong", alpha="steep"),
        onnx.helper.make_node("Sum", ["a", "b", "d"], ["y"], name="sum"),
    ]
    net = onnx_net(nodes, {"x": [2, 3]}, {"y": [2, 3]})
    net.ir.opset_imports["strange"] = 1
    return net


def powers() -> OnnxModel:
    """An exponent of its own for each element, which a NeuralNetwork's layer does not take."""
    return onnx_net([("Pow", "x k", "y", {})], {"x": [3]}, {"y": [3]}, k=np.float32([1, 2, 3]))


@pytest.mark.parametrize(("to", "target"), [(None, "iOS17"), ("mlprogram", "iOS16"), ("neuralnetwork", "iOS13")])
def test_what_converts_is_said_to_for_the_target_that_was_asked(to: str | None, target: str) -> None:
    found = cp.check(conv_relu_onnx(), to, target=target)
    assert found
    assert (found.to, found.target) == (to or "mlprogram", target)
    assert found.obstacles == ()
    assert found.would_do == ((found.to, target),)
    assert "converts" in found.text


def test_all_that_stands_in_the_way_is_found_at_once() -> None:
    found = cp.check(unknown())
    assert not found
    assert [o.problem for o in found.obstacles if "not lowered" in o.problem] == ["strange:Frobnicate is not lowered"]
    assert "'first'" in str(found.obstacles[0].where)
    assert "'second'" in str(found.obstacles[0].where)
    assert any("wrong" in str(o.where) for o in found.obstacles[1:])
    assert found.would_do == ()
    assert "2 things stand in the way" in found.text
    assert "none of the targets" in found.text


def test_the_targets_that_would_do_are_named() -> None:
    found = cp.check(powers(), "neuralnetwork", target="iOS13")
    assert not found
    assert [o.where for o in found.obstacles] == ["node 'to_y'"]
    assert found.would_do == tuple(("mlprogram", f"iOS{version}") for version in (15, 16, 17, 18, 26))
    assert "what would do: an ML Program for iOS15" in found.text
    assert cp.check(powers(), *found.would_do[0][:1], target=found.would_do[0][1])


def test_a_core_ml_model_is_checked_for_onnx(tmp_path: Path) -> None:
    model = mil(tmp_path, lambda mb, a: mb.exp(x=mb.relu(x=mb.sin(x=a))), (2,))
    found = cp.check(model)
    assert found
    assert (found.to, found.target, found.would_do) == ("onnx", None, ())
    for operation in model.spec.mlProgram.functions["main"].block_specializations["CoreML7"].operations:
        operation.type = {"sin": "sine", "exp": "exponential"}.get(operation.type, operation.type)
    found = cp.check(CoreMLModel(model.spec, name="damaged", folder=model.folder))
    assert [o.problem for o in found.obstacles] == ["sine is not lowered", "exponential is not lowered"]


def test_a_module_that_cannot_be_exported_is_no_success() -> None:
    torch = pytest.importorskip("torch", reason="needs the torch extra")

    class Branching(torch.nn.Module):
        def forward(self, x: object) -> object:
            return x + 1 if x.sum() > 0 else x - 1  # type: ignore[attr-defined,operator]

    found = cp.check((Branching().eval(), (torch.ones(2),)))
    assert not found
    assert found.obstacles
    assert found.would_do == ()


def test_arguments_that_make_no_sense_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="to does not know"):
        cp.check(conv_relu_onnx(), "coreml")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="target does not know"):
        cp.check(conv_relu_onnx(), "mlprogram", target="iOS99")
    with pytest.raises(UnreadableModelError):
        cp.check(tmp_path / "none.onnx")
    with pytest.raises(ConversionError, match="no way"):
        cp.check(mil(tmp_path, lambda mb, a: mb.relu(x=a), (2,)), "mlprogram")


def test_the_result_is_a_document() -> None:
    document = cp.check(unknown(), target="iOS18").to_json()
    assert document["converts"] is False
    assert document["target"] == "iOS18"
    assert {"problem", "where", "expected", "found", "fix"} == set(document["obstacles"][0])  # type: ignore[index]
