"""Random inputs stay within what the models declare: lengths, pixels, rows of a table."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from coreproof.conversion.convert import convert
from coreproof.errors import InputError
from coreproof.feeding.draw import draw
from coreproof.feeding.drawn import random_feeds, random_sample
from coreproof.feeding.lengths import lengths
from coreproof.model.features import Feature, ImageLayout, ShapeRange, Signature
from coreproof.model.onnx.model import OnnxModel
from coreproof.verification.verify import verify
from tests.build import Net

ANY = Feature("x")


def feature(*shape: int | str | None, ranges: tuple[tuple[int, int | None], ...] = (), **more: object) -> Feature:
    return Feature("x", dtype="float32", shape=shape, ranges=tuple(ShapeRange(*r) for r in ranges), **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("a", "b", "drawn"),
    [
        (feature(1, 3, 8, 9), ANY, (1, 3, 8, 9)),
        (feature("batch", None, 4), ANY, (1, 8, 4)),
        (feature("batch", None, 4), feature(2, 5, 4), (2, 5, 4)),
        (feature(1, 64, ranges=((1, 1), (16, 128))), ANY, (1, 16)),
        (feature(1, 64, ranges=((1, 1), (1, None))), ANY, (1, 64)),
        (feature(1, 64, ranges=((1, 1), (16, 128))), feature(1, 32), (1, 32)),
        (feature(1, 64, ranges=((1, 1), (16, 128))), feature(1, 64, ranges=((1, 1), (24, None))), (1, 24)),
        (feature(1, 9, enumerated=((1, 9), (1, 4), (2, 4))), ANY, (1, 4)),
        (feature("n", "m"), feature(1, 9, enumerated=((1, 9), (1, 4))), (1, 4)),
        (feature(1, 9, enumerated=((1, 9), (1, 4))), feature(1, 9), (1, 9)),
        (ANY, feature(7), (7,)),
        (Feature("x", "double"), Feature("x", "double"), ()),
        (feature(5, image=ImageLayout(6, 4, "RGB")), ANY, (1, 3, 4, 6)),
        (ANY, feature(5, image=ImageLayout(6, 4, "GRAY")), (1, 1, 4, 6)),
    ],
    ids=str,
)
def test_lengths(a: Feature, b: Feature, drawn: tuple[int, ...]) -> None:
    assert lengths(a, b) == drawn


def test_an_undeclared_shape_is_asked_for() -> None:
    with pytest.raises(InputError, match="not declared"):
        lengths(ANY, ANY)


@pytest.mark.parametrize("dtype", ["float32", "float16", "int32", "int64", "uint8", "bool"])
def test_the_declared_dtype_is_drawn(dtype: str) -> None:
    value = draw(Feature("x", dtype=dtype), (40, 50), np.random.default_rng(1))
    assert value.dtype == dtype
    assert len(np.unique(value)) > 1
    if dtype == "bool":
        return
    assert np.abs(value.astype(np.float64)).max() < 10


def test_pictures_are_whole_numbers_within_0_and_255_and_not_noise() -> None:
    layout = ImageLayout(64, 48, "BGR")
    value = draw(Feature("x", "image", image=layout), (1, 3, 48, 64), np.random.default_rng(1))
    assert value.min() >= 0
    assert value.max() <= 255
    assert np.array_equal(value, np.rint(value))
    assert value.std() > 30
    assert np.abs(np.diff(value)).mean() < value.std() / 2


def test_text_is_not_made_up() -> None:
    with pytest.raises(InputError, match="takes text"):
        draw(Feature("x", dtype="str"), (3,), np.random.default_rng(1))


def embedding_net(rows: int) -> OnnxModel:
    """ids [1, 6] -> Cast -> rows of a table of ``rows`` x 4, and a sum."""
    net = Net()
    ids = ir.Value(name="ids", type=ir.TensorType(ir.DataType.INT32), shape=ir.Shape([1, 6]))
    table = net.constant("table", np.arange(rows * 4, dtype=np.float32).reshape(rows, 4))
    wide = net.add("Cast", "wide", ids, to=int(ir.DataType.INT64))
    picked = net.add("Gather", "picked", table, wide)
    y = net.add("Relu", "y", picked)
    y.shape = ir.Shape([1, 6, 4])
    return net.model(ids, y)


def test_indices_stay_within_the_table_of_both_models() -> None:
    small, large = embedding_net(3), embedding_net(5000)
    left, right = random_feeds(large, small)
    assert left["ids"].max() == 2
    assert left["ids"] is right["ids"]
    assert random_feeds(large, large)[0]["ids"].max() == 4999
    assert verify(large, large)


def test_a_converted_table_bounds_as_well() -> None:
    converted = convert(embedding_net(3), "mlprogram", target="iOS17")
    fed = random_feeds(converted, converted)[0]
    assert set(np.unique(*fed.values())) == {0, 1, 2}


def test_the_seed_decides() -> None:
    signature = Signature((feature(1, 5),), ())
    first, again, other = (random_sample(signature, signature, seed)[0]["x"] for seed in (1, 1, 2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_shapes_that_cannot_meet_are_told() -> None:
    with pytest.raises(InputError, match="another shape") as told:
        random_sample(Signature((feature(4, 3, 8, 8),), ()), Signature((feature(3, 8, 8),), ()))
    assert told.value.fix is not None


@pytest.mark.parametrize(
    ("a", "b", "low", "high"),
    [
        (feature(1, 64, ranges=((1, 1), (16, 128))), ANY, (1, 16), (1, 128)),
        (feature(1, 64, ranges=((1, 1), (16, 128))), feature(1, "n", ranges=((1, 1), (24, 96))), (1, 24), (1, 96)),
        (feature(1, 64, ranges=((1, 1), (16, None))), ANY, (1, 16), (1, 16)),
        (feature(1, 64, ranges=((1, 1), (16, 128))), feature(1, 32), (1, 32), (1, 32)),
        (feature(1, 9, enumerated=((1, 9), (1, 4), (2, 4))), ANY, (1, 4), (1, 9)),
        (
            feature(3, 8, 8),
            feature(1, 1, 3, 8, 8, ranges=((1, 1), (1, 1), (3, 3), (4, 9), (4, 9))),
            (3, 8, 8),
            (3, 8, 8),
        ),
    ],
    ids=str,
)
def test_the_ends_of_what_is_declared(a: Feature, b: Feature, low: tuple[int, ...], high: tuple[int, ...]) -> None:
    assert (lengths(a, b, "low"), lengths(a, b, "high")) == (low, high)
