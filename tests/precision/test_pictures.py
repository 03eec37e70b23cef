"""``images=True``: the one input that can be a picture, fed as the command line feeds it, and said in Python's words."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

import coreproof as cp
from coreproof.conversion.onnx_to_coreml.convert import ImageInput
from coreproof.errors import InputError
from coreproof.model.coreml.model import CoreMLModel
from coreproof.model.onnx.model import OnnxModel
from tests.build import conv_relu_onnx

FED = cp.Feeding(size=(8, 8), scale=1 / 255, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))


def model() -> OnnxModel:
    return OnnxModel(conv_relu_onnx(), name="net")


def test_a_picture_by_a_word_is_the_picture_by_its_numbers() -> None:
    by_word = cp.convert(model(), "mlprogram", images=True, feeding=FED)
    by_name = cp.convert(model(), "mlprogram", images={"x": ImageInput.from_feeding(FED)})
    assert isinstance(by_word, CoreMLModel)
    assert isinstance(by_name, CoreMLModel)
    assert by_word.signature == by_name.signature
    assert by_word.feeding == FED, "the file notes how it is fed"
    pixels = np.random.default_rng(0).integers(0, 256, (1, 3, 8, 8), dtype=np.uint8)
    answers = []
    for made in (by_word, by_name):
        with cp.session(made) as running:
            answers.append(running.run({"x": pixels})["y"])
    np.testing.assert_array_equal(*answers)


def test_free_sides_get_the_size_of_the_feeding(tmp_path: Path) -> None:
    free = conv_relu_onnx()
    free.graph.inputs[0].shape = ir.Shape([1, 3, "height", "width"])
    free.graph.outputs[0].shape = None
    made = cp.convert(
        OnnxModel(free, name="net"), "mlprogram", images=True, feeding=cp.Feeding(size=(16, 12), scale=1.0)
    )
    image = made.signature.inputs[0].image
    assert image is not None
    assert (image.width, image.height) == (16, 12)


def test_what_is_missing_is_said_in_the_words_of_python() -> None:
    flat = conv_relu_onnx()
    flat.graph.inputs[0].shape = ir.Shape([1, 4, 8, 8])
    with pytest.raises(InputError, match=r"feeding=coreproof\.Feeding\(size=\(224, 224\)") as unsaid:
        cp.convert(model(), "mlprogram", images=True)
    with pytest.raises(InputError, match="it goes with images=True") as alone:
        cp.convert(model(), "mlprogram", feeding=FED)
    with pytest.raises(InputError, match="images=True needs a model with exactly one input") as other:
        cp.convert(OnnxModel(flat, name="net"), "mlprogram", images=True, feeding=FED)
    with pytest.raises(InputError, match="the size is not what the model takes") as wrong:
        cp.convert(model(), "mlprogram", images=True, feeding=cp.Feeding(size=(9, 9), scale=1.0))
    assert not any("--" in str(error.value) for error in (unsaid, alone, other, wrong))
