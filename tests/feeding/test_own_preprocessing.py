"""A picture on one side, numbers on the other: both see the same thing, in the default too."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnx_ir as ir
import pytest

from coreproof.conversion.convert import convert
from coreproof.conversion.onnx_to_coreml.convert import ImageInput
from coreproof.errors import InputError
from coreproof.feeding.inputs import feeds_of
from coreproof.feeding.own_preprocessing import in_words, numbers, own_feedings, pixels_of
from coreproof.model.base import Model
from coreproof.model.features import Feature, ImageLayout
from coreproof.model.feeding import Feeding
from coreproof.model.load import load
from coreproof.model.onnx.model import OnnxModel
from coreproof.runtime.open import session
from coreproof.verification.recording import record
from coreproof.verification.verify import verify
from tests.build import conv_relu_onnx

Target = Literal["mlprogram", "neuralnetwork"]
FEEDING = Feeding(size=(8, 8), scale=1 / 255, mean=(0.5, 0.4, 0.3), std=(0.25, 0.25, 0.25), colour="BGR")


def source(*, scaled: bool = False) -> OnnxModel:
    """The little network; ``scaled``: it divides its pixels by 255 itself."""
    net = conv_relu_onnx()
    if scaled:
        graph = net.graph
        x = graph.inputs[0]
        tensor = ir.Tensor(np.array(1 / 255, np.float32), name="factor")
        factor = ir.Value(name="factor", const_value=tensor, type=ir.TensorType(tensor.dtype), shape=tensor.shape)
        graph.initializers["factor"] = factor
        node = ir.Node("", "Mul", [x, factor], name="scale")
        node.outputs[0].name = "small"
        first = graph[0]
        first.replace_input_with(0, node.outputs[0])
        graph.insert_before(first, node)
    return OnnxModel(net, name="source")


def picture_model(target: Target, feeding: Feeding = FEEDING, *, scaled: bool = False) -> Model:
    image = ImageInput(colour=feeding.colour, mean=feeding.mean, std=feeding.std, scale=feeding.scale)
    return convert(source(scaled=scaled), target, images={"x": image}, precision="fp32")


@pytest.mark.parametrize("target", ["mlprogram", "neuralnetwork"])
def test_random_pictures_reach_both_as_the_picture_model_feeds_itself(target: Target) -> None:
    model = picture_model(target)
    for a, b in ((source(), model), (model, source())):
        found = verify(a, b)
        assert found, found.summary()
        assert "is fed (BGR pixel - (127.5, 102, 76.5)) / 63.75" in found.inputs


def test_what_the_source_carries_outranks_what_the_model_does() -> None:
    """So a wrong preprocessing in the model is a divergence, where the right one is known."""
    right, wrong = source(), picture_model("neuralnetwork", Feeding(**{**vars(FEEDING), "mean": (0.5, 0.5, 0.5)}))
    assert verify(right, wrong), "on trust"
    right.feeding = FEEDING
    assert not verify(right, wrong)
    assert verify(right, picture_model("neuralnetwork"))


@pytest.mark.parametrize("target", ["mlprogram", "neuralnetwork"])
def test_a_step_of_the_source_itself_is_not_taken_twice(target: Target) -> None:
    """The source scales its pixels too: the model's first operations are then its own, not the feeding."""
    bare = Feeding(size=(8, 8))
    found = verify(source(scaled=True), picture_model(target, bare, scaled=True))
    assert found, found.summary()
    assert "RGB pixels 0-255" in found.inputs


def test_the_steps_of_a_model_from_all_to_none() -> None:
    model = picture_model("neuralnetwork")
    with session(model) as running:
        full, *rest = own_feedings(running, model.signature.inputs[0])
    assert full.mean == pytest.approx((127.5, 102, 76.5), rel=1e-5)
    assert full.std == pytest.approx((63.75,), rel=1e-5)
    assert full.colour == "BGR"
    assert in_words(rest[-1]) == "BGR pixels 0-255"


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("colour", ["RGB", "BGR"])
@pytest.mark.parametrize("rank", [3, 4])
def test_numbers_and_back(layout: Any, colour: Any, rank: int) -> None:
    rng = np.random.default_rng(2)
    planes = rng.integers(0, 256, (1, 3, 4, 5)).astype(np.float32)
    image = ImageLayout(5, 4, colour)
    feeding = Feeding(**{**vars(FEEDING), "layout": layout})
    shape = ((1, 3, 4, 5) if layout == "NCHW" else (1, 4, 5, 3))[4 - rank :]
    feature = Feature("x", dtype="float32", shape=shape)
    values = numbers(planes, image, feeding, feature)
    assert values.shape == shape
    assert np.array_equal(pixels_of(values, image, feeding, feature), planes)
    first = (
        values.reshape((1, *shape[-3:])).transpose(0, 3, 1, 2)[0, 0]
        if layout == "NHWC"
        else values.reshape(-1, 4, 5)[0]
    )
    blue = planes[0, 0 if colour == "BGR" else 2]
    assert np.allclose(first, (blue / 255 - 0.5) / 0.25, atol=1e-5), "the feeding's first channel is blue"


def test_a_saved_run_of_pictures_feeds_numbers_to_the_other(tmp_path: Path) -> None:
    saved = record(picture_model("neuralnetwork"), tmp_path / "run.npz")
    assert saved.feedings["x"][0].mean == pytest.approx((127.5, 102, 76.5), rel=1e-5)
    found = verify(saved, source())
    assert found, found.summary()
    assert "saved run" in found.inputs
    assert verify(load(tmp_path / "run.npz"), picture_model("mlprogram"))


def test_a_saved_run_of_numbers_becomes_a_picture_again(tmp_path: Path) -> None:
    model = picture_model("neuralnetwork")
    fed = feeds_of(source(), model).pairs
    saved = record(source(), tmp_path / "run.npz", [a for a, _ in fed])
    assert verify(saved, model)
    noise = record(source(), tmp_path / "noise.npz")
    with pytest.raises(InputError, match="no picture fed as") as told:
        verify(noise, model)
    assert "--photos" in str(told.value)


@pytest.mark.thorough
def test_pictures_of_another_size_are_told(shared_data: Path) -> None:
    with pytest.raises(InputError, match="another size") as told:
        verify(
            load(shared_data / "onnx" / "MS_SqueezeNet_fp16.onnx"),
            load(shared_data / "coreml" / "Apple_SqueezeNetInt8LUT.mlmodel"),
        )
    assert "--photos" in str(told.value)


@pytest.mark.parametrize("channel", range(4))
def test_a_fault_in_the_network_does_not_change_what_was_meant(channel: int) -> None:
    """The feeding is told by the values before the fault, not by outputs that are wrong anyway."""
    wrong = source()
    weights = next(v for v in wrong.ir.graph.initializers.values() if v.name == "w")
    assert weights.const_value is not None
    array = weights.const_value.numpy().copy()
    array[channel] *= -3
    weights.const_value = ir.Tensor(array, name="w")
    found = verify(wrong, picture_model("neuralnetwork"))
    assert not found
    assert "(BGR pixel - (127.5, 102, 76.5)) / 63.75" in found.inputs
