"""Core AI's interpolation against its definition, element by element, and against PyTorch's in the two usual ways."""

import itertools

import numpy as np
import pytest

from coreproof.errors import ConversionError
from tests.conversion.coreai_to_onnx.cases import Case, Fed, case, check
from tests.conversion.coreai_to_onnx.functions import function, model, op, run

X = np.random.default_rng(4).standard_normal((1, 2, 4, 5)).astype(np.float32)
GRID = np.random.default_rng(5).standard_normal((4, 6)).astype(np.float32)
PLACES = np.array([[0, 0], [3, 5], [1.25, 2.5], [-1, 9], [2.5, 0.75]], np.float32)


def _sampled(grid: np.ndarray, at: np.ndarray, mode: str) -> float:
    """The value at one place: the sum over the corners around it, by their nearness."""
    held = np.clip(at, 0, np.array(grid.shape) - 1)
    if mode == "nearest_neighbor":
        return float(grid[tuple(np.rint(held).astype(int))])
    left, total = np.floor(held).astype(int), 0.0
    for corner in itertools.product((0, 1), repeat=grid.ndim):
        place = np.minimum(left + corner, np.array(grid.shape) - 1)
        total += float(grid[tuple(place)]) * float(np.prod(np.where(corner, held - left, 1 - (held - left))))
    return total


def _resized(shape: tuple[int, ...], scale: np.ndarray, offset: np.ndarray, mode: str) -> np.ndarray:
    made = np.zeros(shape)
    for place in np.ndindex(*shape):
        made[place] = _sampled(X, (np.array(place) + 0.5 - offset) / scale - 0.5, mode)
    return made.astype(np.float32)


CASES = []
for _mode in ("linear", "nearest_neighbor"):
    _said = f"#coreai.interpolation_mode<{_mode}>"
    for _name, _scale, _offset in (
        ("half_pixel", np.array([1, 1, 2, 1.6], np.float32), np.zeros(4, np.float32)),
        ("corners", np.array([1, 1, 7 / 3, 7 / 4], np.float32), 0.5 * (1 - np.array([1, 1, 7 / 3, 7 / 4], np.float32))),
    ):
        _told = (np.array([1, 2, 8, 8], np.int32), _scale, _offset)
        _made = _resized((1, 2, 8, 8), _scale.astype(float), _offset.astype(float), _mode)
        CASES += [
            case("interpolate", Fed(X), *told, makes=_made, name=f"{_mode}_{_name}{when}", interpolation_mode=_said)
            for when, told in (("", _told), ("_at_run_time", tuple(Fed(vector) for vector in _told)))
        ]
    CASES.append(
        case(
            "interpolate_coordinates",
            Fed(GRID),
            Fed(PLACES),
            makes=np.array([_sampled(GRID, at.astype(float), _mode) for at in PLACES], np.float32),
            name=_mode,
            interpolation_mode=_said,
        )
    )


@pytest.mark.parametrize("each", CASES, ids=lambda c: c.name)
def test_it_makes_what_the_definition_says(each: Case) -> None:
    check(each)


@pytest.mark.parametrize("length", [1, 2, 5])
def test_a_free_batch_and_free_lengths_pass_through_whole_and_keep_infinity_where_it_is(length: int) -> None:
    """The scales of the first two axes are 1 by constants, as coreai-torch puts them, those of the others are computed."""
    four, one = "tensor<4xf32>", "tensor<2xf32>"
    types = {
        "x": "tensor<?x2x?x3xf32>",
        "to": "tensor<4xsi32>",
        "by": one,
        "axis": "tensor<si32>",
        "y": "tensor<?x2x?x3xf32>",
    }
    body = [
        op("constant", [], ["axis"], constant=np.array(0, np.int32)),
        op("constant", [], ["ones"], constant=np.ones(2, np.float32)),
        op("constant", [], ["offsets"], constant=np.zeros(4, np.float32)),
        op("concat", ["axis", "ones", "by"], ["scales"]),
        op(
            "interpolate",
            ["x", "to", "scales", "offsets"],
            ["y"],
            interpolation_mode="#coreai.interpolation_mode<linear>",
        ),
        op("output", ["y"], []),
    ]
    made = model(function("main", ["x", "to", "by"], body, types | {"ones": one, "offsets": four, "scales": four}))
    x = np.random.default_rng(1).standard_normal((3, 2, length, 3)).astype(np.float32)
    x[1, 0] = np.inf
    shape = (3, 2, 2 * length, 3)
    found = run(made, x=x, to=np.array(shape, np.int32), by=np.array([2, 1], np.float32))["y"]
    torch = pytest.importorskip("torch")
    expected = torch.nn.functional.interpolate(torch.from_numpy(x), shape[2:], mode="bilinear").numpy()
    others = np.ones(shape, bool)
    others[1, 0] = False
    np.testing.assert_allclose(found[others], expected[others], rtol=1e-5, atol=1e-6)
    assert not np.isfinite(found[1, 0]).any()


def test_half_pixels_are_those_of_pytorch() -> None:
    torch = pytest.importorskip("torch")
    scale = np.array([1, 1, 2, 1.6], np.float32)
    expected = torch.nn.functional.interpolate(torch.from_numpy(X), (8, 8), mode="bilinear", align_corners=False)
    np.testing.assert_allclose(
        _resized((1, 2, 8, 8), scale.astype(float), np.zeros(4), "linear"), expected, rtol=1e-5, atol=1e-6
    )


def test_between_whole_numbers_it_is_refused_and_not_cut_off() -> None:
    told = (np.array([4, 6], np.int32), np.array([2, 2], np.float32), np.zeros(2, np.float32))
    whole = np.arange(6, dtype=np.int32).reshape(2, 3)
    with pytest.raises(ConversionError, match="between whole numbers"):
        check(
            case(
                "interpolate",
                Fed(whole),
                *told,
                makes=np.zeros((4, 6), np.int32),
                interpolation_mode="#coreai.interpolation_mode<linear>",
            )
        )
