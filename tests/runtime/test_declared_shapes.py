"""What a Core ML model declares of its shapes holds here as it holds on the device, in Core ML's own words."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from PIL import Image

import coreproof as cp
from coreproof import testing
from coreproof.errors import InputError
from coreproof.runtime.patch import _Proxy
from tests.build import onnx_model

TEXT = '<ir_version: 8, opset_import: ["": 17]> net (float[n,c,h,w] x) => (float[n,c,h,w] y) { y = Relu(x) }'


def session(asked: Any, to: Any) -> Any:
    return cp.session(cp.convert(onnx_model(TEXT), to, shapes={"x": asked}))


@pytest.mark.parametrize("to", ["mlprogram", "neuralnetwork"])
@pytest.mark.parametrize(
    ("asked", "fed", "said"),
    [
        (["3..5", 2, 4, 4], (99, 2, 4, 4), r"Size (99) of dimension (0) is not in allowed range (3..5)"),
        ([1, 2, (4, 8), (4, 8)], (1, 2, 9, 3),
         r"Size (9) of dimension (2) is not in allowed range (4..8); Size (3) of dimension (3)"),
        ([1, 2, "4..", 4], (1, 2, 3, 4), r"Size (3) of dimension (2) is not in allowed range (4..)"),
        ([(1, 3, 8, 8), (1, 3, 16, 16)], (1, 3, 29, 29),
         r"MultiArray Shape (1 x 3 x 29 x 29) was not in enumerated set of allowed shapes"),
        ([1, 2, (4, 8), 4], (2, 4, 4), r"MultiArray Shape (2 x 4 x 4) does not have 4 dimensions"),
    ],
)  # fmt: skip
def test_a_shape_that_is_not_declared_is_refused(to: Any, asked: Any, fed: tuple[int, ...], said: str) -> None:
    with session(asked, to) as running, pytest.raises(InputError) as caught:
        running.run({"x": np.zeros(fed, np.float32)})
    assert said in caught.value.problem
    assert "'x'" in caught.value.problem


@pytest.mark.parametrize("to", ["mlprogram", "neuralnetwork"])
@pytest.mark.parametrize(
    ("asked", "fed"),
    [
        (["3..5", 2, 4, 4], [(3, 2, 4, 4), (5, 2, 4, 4)]),
        ([1, 2, "4..", 4], [(1, 2, 4, 4), (1, 2, 1000, 4)]),
        ([(1, 3, 8, 8), (1, 3, 16, 16)], [(1, 3, 8, 8), (1, 3, 16, 16)]),
    ],
)
def test_each_declared_shape_runs(to: Any, asked: Any, fed: list[tuple[int, ...]]) -> None:
    with session(asked, to) as running:
        for shape in fed:
            assert running.run({"x": np.ones(shape, np.float32)})["y"].shape == shape


def test_the_default_shape_runs_although_the_list_lacks_it() -> None:
    model: Any = cp.convert(onnx_model(TEXT), "mlprogram", shapes={"x": [(1, 3, 8, 8), (1, 3, 16, 16)]})
    del model.spec.description.input[0].type.multiArrayType.enumeratedShapes.shapes[0]
    with cp.session(model.with_spec(model.spec)) as running:
        assert running.run({"x": np.ones((1, 3, 8, 8), np.float32)})["y"].shape == (1, 3, 8, 8)


def test_a_length_of_minus_one_is_free_as_some_exporters_mean_it() -> None:
    free = onnx.parser.parse_model(TEXT)
    for value in (free.graph.input[0], free.graph.output[0]):
        value.type.tensor_type.shape.dim[0].dim_value = -1
    with cp.session(cp.load(free)) as running:
        for batch in (1, 3):
            assert running.run({"x": np.ones((batch, 2, 4, 4), np.float32)})["y"].shape == (batch, 2, 4, 4)
    assert cp.verify(free, onnx_model(TEXT))


def picture_net(to: Any, flexible: Any) -> Any:
    """The picture itself; its sizes are what ``flexible`` declares on the image type."""
    model: Any = cp.convert(onnx_model(TEXT), to, shapes={"x": [1, 3, (4, 32), (4, 32)]})
    spec = model.spec
    spec.description.input[0].type.ClearField("multiArrayType")
    image = spec.description.input[0].type.imageType
    image.width, image.height, image.colorSpace = 10, 8, image.RGB
    flexible(image)
    return model.with_spec(spec)


def enumerated(image: Any) -> None:
    for width, height in ((10, 8), (20, 16)):
        image.enumeratedSizes.sizes.add(width=width, height=height)


def ranging(image: Any) -> None:
    image.imageSizeRange.widthRange.lowerBound, image.imageSizeRange.widthRange.upperBound = 6, 20
    image.imageSizeRange.heightRange.lowerBound, image.imageSizeRange.heightRange.upperBound = 4, -1


SIZES = [
    (enumerated, (20, 16), (20, 16)),
    (enumerated, (16, 20), (10, 8)),
    (enumerated, (10, 8), (10, 8)),
    (ranging, (6, 32), (6, 32)),
    (ranging, (20, 4), (20, 4)),
    (ranging, (21, 8), (10, 8)),
    (ranging, (5, 8), (10, 8)),
    (lambda image: None, (20, 16), (10, 8)),
]
"""What is declared, the size of a picture, and the size at which a session takes it."""


@pytest.mark.parametrize("to", ["mlprogram", "neuralnetwork"])
@pytest.mark.parametrize(("flexible", "size", "enters"), SIZES)
def test_a_picture_of_a_declared_size_enters_as_it_is_and_another_is_stretched(
    to: Any, flexible: Any, size: tuple[int, int], enters: tuple[int, int]
) -> None:
    shown = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), np.uint8)
    with cp.session(picture_net(to, flexible)) as running:
        made = running.run({"x": Image.fromarray(shown)})["y"]
    assert made.shape == (1, 3, enters[1], enters[0])
    if enters == size:
        np.testing.assert_array_equal(made[0], shown.transpose(2, 0, 1))


@pytest.mark.parametrize(("flexible", "size", "enters"), SIZES)
def test_scripts_written_for_core_ml_are_refused_a_picture_that_it_would_not_take(
    flexible: Any, size: tuple[int, int], enters: tuple[int, int], tmp_path: Path
) -> None:
    model, shown = picture_net("mlprogram", flexible), Image.new("RGB", size)
    path = str(model.save(tmp_path / "net.mlpackage"))
    with cp.session(model) as running:
        for predict in (_Proxy(running).predict, partial(testing.predict, path, "")):
            if enters == size:
                assert predict({"x": shown})["y"].shape == (1, 3, enters[1], enters[0])
                continue
            with pytest.raises(
                RuntimeError, match=f"Image size {size[0]} x {size[1]} not in allowed set of image sizes"
            ):
                predict({"x": shown})
    testing.release(path)


@pytest.mark.parametrize("to", ["mlprogram", "neuralnetwork"])
@pytest.mark.parametrize(
    ("flexible", "fed", "said"),
    [
        (lambda image: None, (1, 3, 16, 20), "Image size 20 x 16 is not the allowed 10 x 8"),
        (lambda image: None, (3, 16, 20), "Image size 20 x 16 is not the allowed 10 x 8"),
        (lambda image: None, (1, 1, 8, 10), "is a picture, and what is given is none"),
        (lambda image: None, (8, 10), "is a picture, and what is given is none"),
        (lambda image: None, (2, 3, 8, 10), "is a picture, and what is given is none"),
        (enumerated, (1, 3, 10, 8), "was not in enumerated set of allowed shapes"),
        (ranging, (1, 3, 8, 21), "is not in allowed range (6..20)"),
        (ranging, (1, 4, 8, 10), "is a picture, and what is given is none"),
    ],
)
def test_an_array_that_is_no_declared_picture_is_refused_before_the_engine_sees_it(
    to: Any, flexible: Any, fed: tuple[int, ...], said: str
) -> None:
    with cp.session(picture_net(to, flexible)) as running, pytest.raises(InputError) as caught:
        running.run({"x": np.zeros(fed, np.float32)})
    assert said in str(caught.value)


@pytest.mark.parametrize("to", ["mlprogram", "neuralnetwork"])
def test_an_array_of_the_declared_size_is_a_picture(to: Any) -> None:
    with cp.session(picture_net(to, lambda image: None)) as running:
        for fed in ((1, 3, 8, 10), (3, 8, 10)):
            assert running.run({"x": np.full(fed, 7, np.float32)})["y"].shape == (1, 3, 8, 10)
