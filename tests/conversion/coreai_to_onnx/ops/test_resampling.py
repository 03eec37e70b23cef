"""Core AI's interpolation against its definition, element by element, and against PyTorch's in the two usual ways."""

import itertools

import numpy as np
import pytest

from tests.conversion.coreai_to_onnx.cases import Case, Fed, case, check

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
        CASES.append(
            case(
                "interpolate",
                Fed(X),
                np.array([1, 2, 8, 8], np.int32),
                _scale,
                _offset,
                makes=_resized((1, 2, 8, 8), _scale.astype(float), _offset.astype(float), _mode),
                name=f"{_mode}_{_name}",
                interpolation_mode=_said,
            )
        )
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


def test_half_pixels_are_those_of_pytorch() -> None:
    torch = pytest.importorskip("torch")
    scale = np.array([1, 1, 2, 1.6], np.float32)
    expected = torch.nn.functional.interpolate(torch.from_numpy(X), (8, 8), mode="bilinear", align_corners=False)
    np.testing.assert_allclose(
        _resized((1, 2, 8, 8), scale.astype(float), np.zeros(4), "linear"), expected, rtol=1e-5, atol=1e-6
    )
