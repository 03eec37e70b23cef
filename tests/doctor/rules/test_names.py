"""Missing and duplicate values, dead layers, stale preprocessing, wrong declarations, old targets."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from coreproof.doctor.diagnose import diagnose
from coreproof.editing.edit import Edit, edit
from coreproof.errors import EditError
from coreproof.model.coreml.model import CoreMLModel
from coreproof.model.onnx.model import OnnxModel
from tests.build import convolution, named, network, onnx_net, weights
from tests.doctor.rules.cases import assert_healthy, assert_repaired, outputs, sample


def relu(name: str, reads: str, makes: str) -> Any:
    return named(name, "activation", reads, makes, ReLU={})


# missing values


def combined(kind: str, reads: str, stored: np.ndarray | None, exact: bool = False, **fields: Any) -> CoreMLModel:
    """A convolution, and a layer that puts a constant to it: a layer of its own, or nowhere."""
    layers = []
    if stored is not None:
        loader = "loadConstantND" if exact else "loadConstant"
        layers = [named("k", loader, "", "k", shape=stored.shape, data=stored)]
    return network(
        [*layers, convolution("conv", "x", "c", weights(4, 3, 3, 3)), named("mix", kind, reads, "y", **fields)],
        {"x": (1, 3, 6, 6) if exact else (3, 6, 6)},
        {"y": None},
        exact=exact,
    )


def source_of(operator: str, constant: np.ndarray, node: bool) -> OnnxModel:
    """The same with the constant as a node or as an initializer."""
    from onnx import numpy_helper

    held = [("Constant", "", "k", {"value": numpy_helper.from_array(constant)})] if node else []
    nodes = [*held, ("Conv", "x w", "c", {"pads": [1, 1, 1, 1]}), (operator, "k c", "y", {})]
    stored = {} if node else {"k": constant}
    return onnx_net(nodes, {"x": [1, 3, 6, 6]}, {"y": None}, w=weights(4, 3, 3, 3), **stored)


@pytest.mark.sweep(1)
@pytest.mark.parametrize("node", [False, True])
@pytest.mark.parametrize(("kind", "operator"), [("add", "Add"), ("multiply", "Mul")])
@pytest.mark.parametrize("number", [1.0, 2.5])
def test_a_number_that_got_lost(kind: str, operator: str, number: float, node: bool) -> None:
    broken = combined(kind, "k c", None)
    found = diagnose(broken)
    assert [(f.rule, f.layer, f.repaired) for f in found] == [("dangling-input", "mix", False)]
    source = source_of(operator, np.array(number, np.float32), node)
    repaired = assert_repaired(broken, combined(kind, "c", None, alpha=number), "dangling-input", "mix", source=source)
    assert f"alpha = {number:g}" in repaired[0].repair


@pytest.mark.parametrize("exact", [False, True])
def test_a_constant_of_several_numbers_that_got_lost(exact: bool) -> None:
    constant = weights(1, 4, 1, 1)
    stored = constant if exact else constant[0]
    kind = "addBroadcastable" if exact else "add"
    broken, healthy = combined(kind, "k c", None, exact), combined(kind, "k c", stored, exact)
    assert_repaired(broken, healthy, "dangling-input", "mix", source=source_of("Add", constant, True))
    assert_healthy(healthy, source_of("Add", constant, True))


def test_an_input_that_was_renamed_at_one_end() -> None:
    def net(reads: str) -> CoreMLModel:
        return network([relu("first", reads, "a"), relu("second", "a", "y")], {"x": (3, 4, 4)}, {"y": None})

    assert_repaired(net("data"), net("x"), "dangling-input", "first")


def test_a_lost_onnx_initializer() -> None:
    def net(stored: bool) -> OnnxModel:
        more = {"k": np.array(3, np.float32)} if stored else {}
        return onnx_net(
            [("Conv", "x w", "c", {}), ("Sub", "k c", "y", {})],
            {"x": [1, 3, 6, 6]},
            {"y": None},
            w=weights(4, 3, 3, 3),
            **more,
        )

    assert [(f.rule, f.repaired) for f in diagnose(net(False))] == [("dangling-input", False)]
    assert_repaired(net(False), net(True), "dangling-input", "to_y", source=net(True))


# duplicates


def test_two_layers_that_write_one_value() -> None:
    def net(first: str) -> CoreMLModel:
        return network(
            [
                convolution("one", "x", first, weights(3, 3, 3, 3)),
                relu("between", first, "b"),
                convolution("two", "b", "y", weights(3, 3, 3, 3, seed=2)),
            ],
            {"x": (3, 6, 6)},
            {"y": None},
        )

    assert_repaired(net("y"), net("a"), "duplicate-blob", "two")


# declarations


def test_preprocessing_follows_a_renamed_input() -> None:
    def net(owner: str) -> CoreMLModel:
        return network(
            [relu("first", "image", "y")],
            {"image": "RGB 4x4"},
            {"y": None},
            preprocessing=[{"featureName": owner, "scaler": {"channelScale": 0.5, "redBias": 1.0}}],
        )

    diagnosis = diagnose(net("data"))
    assert [(f.rule, f.repaired) for f in diagnosis] == [("stale-preprocessing", True)]
    assert diagnosis.repaired is not None
    fed = sample(net("image"))
    np.testing.assert_array_equal(outputs(diagnosis.repaired, fed)[0], outputs(net("image"), fed)[0])
    assert_healthy(net("image"))
    assert_healthy(net(""))


def test_a_declared_output_shape_is_put_right() -> None:
    def net(shape: tuple[int, ...] | None) -> CoreMLModel:
        return network([convolution("conv", "x", "y", weights(4, 3, 3, 3))], {"x": (3, 6, 6)}, {"y": shape})

    diagnosis = assert_repaired(net((10, 4, 6, 6)), net(None), "declared-shape", "conv")
    assert diagnosis.repaired is not None
    assert diagnosis.repaired.signature.outputs[0].shape == (4, 6, 6)
    assert_healthy(net((4, 6, 6)))
    assert_healthy(net((1, 4, 6, 6)))


def test_a_declared_batch_that_the_layers_contradict() -> None:
    def net(batch: int) -> CoreMLModel:
        view = named("view", "reshapeStatic", "x", "v", targetShape=[1, 108])
        fc = named(
            "fc", "batchedMatmul", "v", "y", weightMatrixFirstDimension=108, weightMatrixSecondDimension=5,
            weights=weights(108, 5),
        )  # fmt: skip
        return network([view, fc], {"x": (batch, 3, 6, 6)}, {"y": None}, exact=True)

    diagnosis = diagnose(net(4))
    assert [(f.rule, f.repaired) for f in diagnosis] == [("declared-batch", True)]
    assert diagnosis.repaired is not None
    assert diagnosis.repaired.signature.inputs[0].shape == (1, 3, 6, 6)
    batched = network([relu("only", "x", "y")], {"x": (4, 3, 6, 6)}, {"y": None}, exact=True)
    assert_healthy(batched)


def test_a_target_too_old_for_its_layers() -> None:
    def net(version: int) -> CoreMLModel:
        model = network([named("gelu", "gelu", "x", "y")], {"x": (1, 6, 6)}, {"y": None}, exact=True)
        model.spec.specificationVersion = version
        return model

    diagnosis = assert_repaired(net(1), net(4), "old-target", "gelu")
    repaired = diagnosis.repaired
    assert isinstance(repaired, CoreMLModel)
    assert repaired.spec.specificationVersion == 4


# dead layers


def test_dead_layers_alone_are_left_alone() -> None:
    model = network([relu("dead", "x", "a"), relu("alive", "x", "y")], {"x": (3, 4, 4)}, {"y": None})
    assert_healthy(model)


def test_dead_layers_beside_a_fault_that_remains_are_named() -> None:
    model = network(
        [relu("dead", "x", "a"), relu("other", "x", "b"), named("mix", "add", "lost x", "y")],
        {"x": (3, 4, 4)},
        {"y": None},
    )
    assert [(f.rule, f.layer, f.repaired) for f in diagnose(model)] == [
        ("dangling-input", "mix", False),
        ("dead-layers", "dead", False),
    ]


def test_edits_on_names_are_checked() -> None:
    model = network([relu("first", "x", "y")], {"x": (3, 4, 4)}, {"y": None})
    for step in (
        Edit("scores", {"value": "y"}),
        Edit("respecify", {"version": 99}),
        Edit("preprocess", {"input": "x", "old": "y"}),
        Edit("divide", {"value": "x", "layer": "first", "new": "z"}),
        Edit("batch", {"input": "nothing"}),
    ):
        with pytest.raises(EditError):
            edit(model, [step])


def test_two_constants_that_got_lost() -> None:
    def net(first: dict[str, Any], second: dict[str, Any], reads: tuple[str, str]) -> CoreMLModel:
        return network(
            [
                convolution("conv", "x", "c", weights(4, 3, 3, 3)),
                named("one", "add", reads[0], "d", **first),
                named("two", "multiply", reads[1], "y", **second),
            ],
            {"x": (3, 6, 6)},
            {"y": None},
        )

    source = onnx_net(
        [("Conv", "x w", "c", {"pads": [1, 1, 1, 1]}), ("Add", "k c", "d", {}), ("Mul", "d m", "y", {})],
        {"x": [1, 3, 6, 6]},
        {"y": None},
        w=weights(4, 3, 3, 3),
        k=np.array(1, np.float32),
        m=np.array(0.25, np.float32),
    )
    diagnosis = diagnose(net({}, {}, ("k c", "d m")), source)
    assert [(f.rule, f.layer, f.repaired) for f in diagnosis] == [
        ("dangling-input", "one", True),
        ("dangling-input", "two", True),
    ]
    assert diagnosis.repaired is not None
    healthy = net({"alpha": 1.0}, {"alpha": 0.25}, ("c", "d"))
    fed = sample(healthy)
    np.testing.assert_allclose(outputs(diagnosis.repaired, fed)[0], outputs(healthy, fed)[0], rtol=1e-5)
