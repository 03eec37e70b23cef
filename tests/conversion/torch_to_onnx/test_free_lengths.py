"""Operators along axes of free length: converted once, they are what PyTorch computes at each of several lengths."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from math import log, sqrt
from typing import Any

import numpy as np
import pytest

import coreproof as cp
from coreproof.errors import ConversionError
from tests.conversion.torch_to_onnx.test_forms import Called

torch = pytest.importorskip("torch", reason="needs the torch extra")
functional = torch.nn.functional


def drawn(*shape: int) -> Any:
    return torch.from_numpy(np.random.default_rng(sum(shape)).normal(size=shape).astype(np.float32))


def check(functions: Sequence[Callable[..., Any]], free: Sequence[Any], examples: Sequence[Any]) -> None:
    """All functions in one module: an export takes seconds."""
    module = Called(lambda x: tuple(made for f in functions for made in _listed(f(x)))).eval()
    model = cp.convert(
        cp.Source(module, (examples[0],)),
        "mlprogram",
        precision="fp32",
        shapes={"input_0": free},
        check=False,
    )
    (name,) = (f.name for f in model.signature.inputs)
    with cp.session(model) as running:
        for x in examples:
            found = [np.asarray(v) for v in running.run({name: x.numpy()}).values()]
            for number, (got, want) in enumerate(zip(found, module(x), strict=True)):
                said = f"result {number} at {tuple(x.shape)}"
                np.testing.assert_allclose(
                    got.reshape(want.shape), want.numpy(), rtol=1e-4, atol=1e-5, equal_nan=True, err_msg=said
                )


def _listed(made: Any) -> list[Any]:
    return list(made) if isinstance(made, tuple) else [made]


@pytest.mark.thorough
def test_running_products_and_extrema() -> None:
    ties = drawn(1, 9, 4).round()
    check(
        [
            lambda x: x.cumprod(1),
            lambda x: torch.cummax(x, 1),
            lambda x: torch.cummin(x, 1),
            lambda x: torch.cummax(x.transpose(1, 2), -1),
        ],
        [1, (2, 16), 4],
        [drawn(1, 6, 4), ties, drawn(1, 2, 4)],
    )


@pytest.mark.thorough
def test_what_stands_in_the_middle() -> None:
    holes = drawn(1, 7, 4)
    holes[0, 2, 1] = holes[0, 5, 1] = holes[0, 0, 3] = torch.nan
    check(
        [
            torch.median,
            lambda x: torch.median(x, 1),
            lambda x: torch.nanmedian(x, 1)[0],
            lambda x: x.nan_to_num().round().mode(1)[0],
        ],
        [1, (2, 16), 4],
        [drawn(1, 6, 4), drawn(1, 11, 4), holes],
    )


@pytest.mark.sweep(1)
@pytest.mark.parametrize("free", ["batch", "size"])
def test_adaptive_pooling(free: str) -> None:
    check(
        [
            lambda x: functional.adaptive_avg_pool2d(x, (3, 2)),
            lambda x: functional.adaptive_avg_pool2d(x, (None, 1)),
            lambda x: functional.adaptive_avg_pool2d(x, 1),
            lambda x: functional.adaptive_max_pool2d(x, (3, 2), return_indices=True),
            lambda x: functional.adaptive_avg_pool1d(x[:, :, 0], 4),
        ],
        [(1, 4), 2, 7, 9] if free == "batch" else [1, 2, (3, 16), (3, 16)],
        [drawn(2, 2, 7, 9), drawn(1, 2, 7, 9).round()]
        if free == "batch"
        else [drawn(1, 2, 7, 9), drawn(1, 2, 12, 6), drawn(1, 2, 5, 4).round()],
    )


@pytest.mark.thorough
def test_triangles_of_any_length() -> None:
    """Causal masks as they are written inside forward: beyond the main diagonal, of infinities, of truths, at a computed one."""
    inf = float("inf")
    check(
        [
            lambda x: (x + torch.full((x.shape[1], x.shape[1]), -inf).triu(1)).softmax(-1),
            lambda x: x.masked_fill(torch.ones(x.shape[1], x.shape[1], dtype=torch.bool).triu(1), -inf),
            lambda x: torch.triu(x, 2) + torch.tril(x, -3),
            lambda x: (x > 0).triu(1),
            lambda x: (x * 9).to(torch.int32).tril(-1),
            lambda x: torch.ones_like(x).tril(x.shape[1] - 3),
            lambda x: x[:, :, :2].triu(1),
            lambda x: x[:, :3].tril(-1),
        ],
        "1x3..16x3..16",
        [drawn(1, 6, 6), drawn(1, 3, 3), drawn(1, 11, 11)],
    )


@pytest.mark.thorough
def test_equal_steps_as_many_as_an_axis_is_long() -> None:
    check(
        [
            lambda x: x + torch.linspace(-1, 2, x.shape[1])[:, None],
            lambda x: x + torch.linspace(0.5, x.shape[1] - 0.5, x.shape[1], dtype=torch.float32)[:, None] / x.shape[1],
            lambda x: x + torch.linspace(start=x.amin(), end=x.amax(), steps=x.shape[1])[:, None],
        ],
        [1, (1, 16), 4],
        [drawn(1, 6, 4), drawn(1, 1, 4), drawn(1, 13, 4)],
    )


def _as_tensorflow_pads(x: Any) -> Any:
    """ "Same" padding, before a window of three and a stride of two."""
    height, width = (max((math.ceil(n / 2) - 1) * 2 + 3 - n, 0) for n in x.shape[2:])
    padded = functional.pad(x, (width // 2, width - width // 2, height // 2, height - height // 2))
    return functional.max_pool2d(padded, 3, 2)


@pytest.mark.thorough
def test_the_larger_of_two_lengths() -> None:
    check(
        [
            _as_tensorflow_pads,
            lambda x: functional.pad(x, (0, max(x.shape[2], x.shape[3]) - x.shape[3])).mean(3),
            lambda x: x[:, :, : min(7, x.shape[2])].sum(2),
        ],
        [1, 2, (4, 20), (4, 20)],
        [drawn(1, 2, 9, 8), drawn(1, 2, 4, 13), drawn(1, 2, 17, 20)],
    )


@pytest.mark.thorough
def test_windows_that_slide_over_any_size_and_come_back() -> None:
    def back(x: Any, kernel: Any, **how: Any) -> Any:
        return functional.fold(functional.unfold(x, kernel, **how), x.shape[2:], kernel, **how)

    check(
        [
            lambda x: functional.unfold(x, 3, padding=1),
            lambda x: functional.unfold(x, (3, 2), dilation=(2, 1), stride=(2, 3), padding=(1, 0)),
            lambda x: functional.unfold(x[0], (2, 3), stride=2),
            lambda x: functional.unfold(x.masked_fill(x > 1, torch.inf), 4, stride=4),
            lambda x: functional.unfold(x[:, :, :6], 3),
            lambda x: back(x, 3, padding=1),
            lambda x: back(x, 4, stride=4),
            lambda x: back(x, (3, 2), stride=(2, 3), padding=(1, 0), dilation=(2, 1)),
            lambda x: functional.fold(x.tile(1, 2, 1, 1).flatten(2), (x.shape[2] * 2, x.shape[3] * 2), 2, stride=2),
        ],
        [1, 2, (6, 20), (6, 20)],
        [drawn(1, 2, 9, 8), drawn(1, 2, 6, 13), drawn(1, 2, 17, 20)],
    )


def _windows(x: Any, side: int = 4) -> Any:
    """Of a picture padded to whole ones, each attended to within itself, and put back."""
    batch, channels, height, width = x.shape
    padded = functional.pad(x, (0, -width % side, 0, -height % side))
    rows, columns = padded.shape[2] // side, padded.shape[3] // side
    cut = padded.permute(0, 2, 3, 1).view(batch, rows, side, columns, side, channels)
    seen = cut.permute(0, 1, 3, 2, 4, 5).reshape(-1, side * side, channels)
    made = (seen @ seen.transpose(1, 2)).softmax(-1) @ seen
    put = made.view(batch, rows, columns, side, side, channels).permute(0, 1, 3, 2, 4, 5)
    return put.reshape(batch, rows * side, columns * side, channels)[:, :height, :width].permute(0, 3, 1, 2)


def _grid(x: Any, cells: int = 4) -> Any:
    """A picture's sparse grid, as MaxViT attends to it."""
    batch, channels, height, width = x.shape
    whole = x[:, :, : height // cells * cells, : width // cells * cells]
    height, width = whole.shape[2] // cells, whole.shape[3] // cells
    cut = whole.view(batch, channels, cells, height, cells, width).permute(0, 3, 5, 2, 4, 1)
    seen = cut.relu() + cut.mean((3, 4), keepdim=True)
    return seen.permute(0, 5, 3, 1, 4, 2).reshape(batch, channels, cells * height, cells * width)


def _unrolled(x: Any) -> Any:
    """Windows by two, and those by two again, as Hiera orders its tokens."""
    channels, height, width = x.shape[1], x.shape[2] // 4, x.shape[3] // 4
    y = x[:, :, : height * 4, : width * 4].permute(0, 2, 3, 1)
    y = y.view(-1, height * 2, 2, width * 2, 2, channels).permute(0, 2, 4, 1, 3, 5)
    y = y.reshape(-1, height * 2, width * 2, channels).view(-1, height, 2, width, 2, channels)
    return y.permute(0, 2, 4, 1, 3, 5).reshape(-1, 16, height * width, channels).amax(1)


@pytest.mark.thorough
def test_six_dimensions_of_a_picture_of_any_size() -> None:
    check(
        [
            _windows,
            _grid,
            _unrolled,
            lambda x: functional.pixel_unshuffle(x[:, :, : x.shape[2] // 2 * 2, : x.shape[3] // 2 * 2], 2),
        ],
        "1..3x4x8..20x8..20",
        [drawn(2, 4, 9, 11), drawn(1, 4, 8, 8), drawn(3, 4, 20, 13)],
    )


@pytest.mark.thorough
def test_the_largest_of_windows_and_where_they_stand() -> None:
    check(
        [
            lambda x: functional.max_pool2d(x, 2, return_indices=True),
            lambda x: functional.max_pool2d(x, 3, 2, 1, ceil_mode=True, return_indices=True),
            lambda x: functional.max_pool2d(x, 2, 1, dilation=2, return_indices=True),
            lambda x: functional.max_pool2d(x, 2, 1, dilation=(1, 3)),
            lambda x: functional.max_pool2d(x, 1, 2, return_indices=True),
            lambda x: functional.max_pool3d(x[:, :1].reshape(2, 1, 1, *x.shape[2:]), (1, 2, 3), return_indices=True),
        ],
        [2, 3, (4, 24), (5, 20)],
        [drawn(2, 3, 9, 7), drawn(2, 3, 4, 5), drawn(2, 3, 8, 20).round()],  # equal ones: the first counts
    )


def _back_in_place(x: Any) -> Any:
    """SegNet's way up: what was largest goes back to where it stood."""
    largest, places = functional.max_pool2d(x, 2, return_indices=True)
    return functional.max_unpool2d(largest * 2, places, 2, output_size=x.shape)


@pytest.mark.thorough
def test_what_was_largest_goes_back() -> None:
    sizes = [(1, 2, 8, 6), (1, 2, 4, 4), (1, 2, 10, 20)]
    check([_back_in_place], sizes, [drawn(*size) for size in sizes])


@pytest.mark.thorough
def test_pools_along_one_axis() -> None:
    check(
        [
            lambda x: functional.max_pool1d(x, 3),
            lambda x: functional.max_pool1d(x, 3, 1, 1),
            lambda x: functional.max_pool1d(x, 2, 2, 0, 2, ceil_mode=True),
            lambda x: functional.max_pool1d(x[0], (2,)),
            lambda x: functional.max_pool1d(x, 3, 2, 1, return_indices=True),
        ],
        [2, 4, (6, 24)],
        [drawn(2, 4, 12), drawn(2, 4, 7), drawn(2, 4, 24)],
    )


@pytest.mark.thorough
def test_diagonals() -> None:
    check(
        [
            lambda x: x.diagonal(dim1=1, dim2=2),
            lambda x: x.diagonal(1, 2, 1),
            lambda x: x.diagonal(-2, 1, 2),
            lambda x: x.diagonal(0, 0, -1),
            lambda x: torch.diag_embed((x @ x.mT).diagonal(dim1=-2, dim2=-1)),
        ],
        [2, (3, 9), (4, 12)],
        [drawn(2, 5, 7), drawn(2, 9, 4), drawn(2, 3, 12)],
    )


@pytest.mark.thorough
def test_spectra_of_other_lengths_than_the_axis() -> None:
    fft = torch.fft
    check(
        [
            lambda x: torch.view_as_real(fft.rfft(x, n=2 * x.shape[-1])),
            lambda x: torch.view_as_real(fft.fft(x, n=x.shape[-1] // 2)),
            lambda x: torch.view_as_real(fft.rfft(x, n=8)),
            lambda x: fft.irfft(fft.rfft(x), n=x.shape[-1]),
            lambda x: fft.irfft(fft.rfft(x), n=x.shape[-1] // 2),
            lambda x: fft.irfft(fft.rfft(x, n=2 * x.shape[-1]) ** 2, n=2 * x.shape[-1])[..., : x.shape[-1]],
            lambda x: fft.irfft(fft.rfft(x, 16), n=x.shape[-1]),
            lambda x: fft.ifft(x, n=x.shape[-1] + 3).abs(),
            lambda x: fft.irfftn(fft.rfftn(x, dim=(-2, -1), norm="ortho"), s=x.shape[-2:], dim=(-2, -1), norm="ortho"),
        ],
        [2, (2, 6), (5, 32)],
        [drawn(2, 3, 12), drawn(2, 2, 5), drawn(2, 6, 31)],
    )


@pytest.mark.thorough
def test_frames_and_back_over_a_free_length() -> None:
    window = torch.hann_window(8)

    def framed(x: Any) -> Any:
        return torch.istft(torch.stft(x, 8, 4, window=window, return_complex=True) * 2, 8, 4, window=window)

    check([framed], [2, (16, 64)], [drawn(2, 24), drawn(2, 16), drawn(2, 63)])


def test_tensors_beside_a_length() -> None:
    check(
        [
            lambda x: (x * 10) % x.shape[1],
            lambda x: (x * 10).round().int() % x.shape[1],
            lambda x: x * x.shape[1] + x.shape[1] - x / x.shape[1],
            lambda x: torch.fmod(x * 10, x.shape[1]),
        ],
        [2, (3, 9)],
        [drawn(2, 5), drawn(2, 9), drawn(2, 3)],
    )


def test_whole_parts_of_lengths() -> None:
    def halved(x: Any) -> Any:
        assert isinstance(2, int)
        assert {int: 1}[(2).__class__] == 1
        return functional.interpolate(x, size=int(x.shape[-1] * 0.5))

    check(
        [
            halved,
            lambda x: functional.interpolate(x, size=int(x.shape[-1] * 1.25), mode="linear"),
            lambda x: functional.interpolate(x, size=int(x.shape[-1] / 3) + int("1")),
            lambda x: x * float(x.shape[-1]) + float("2"),
            lambda x: x / torch.tensor(float(x.shape[-1])),
        ],
        [2, 3, (4, 30)],
        [drawn(2, 3, 13), drawn(2, 3, 4), drawn(2, 3, 30)],
    )


@pytest.mark.sweep(1)
@pytest.mark.parametrize("name", ["sqrt", "log", "log1p"])
def test_numbers_that_are_computed_of_a_length(name: str) -> None:
    check(
        [lambda x: x / getattr(math, name)(x.shape[-1]), lambda x: getattr(math, name)(x.shape[-1] / 2) + x],
        [2, 3, (4, 30)],
        [drawn(2, 3, 13), drawn(2, 3, 4), drawn(2, 3, 30)],
    )


@pytest.mark.thorough
def test_further_numbers_that_are_computed_of_a_length() -> None:
    def scaled(x: Any) -> Any:
        assert log(8, 2) == 3.0
        assert round(2.25, 1) == 2.2
        return (x.transpose(1, 2) @ x * log(x.shape[-1]) / sqrt(x.shape[1])).softmax(-1)

    check(
        [
            scaled,
            lambda x: x * math.exp(-x.shape[-1] / 10),
            lambda x: x[..., : int(math.sqrt(x.shape[-1]))],
            lambda x: x[..., : round(x.shape[-1] / 3)],
            lambda x: functional.interpolate(x, size=round(x.shape[-1] * 0.5)),
            lambda x: functional.interpolate(x, size=round(x.shape[-1] * 1.25) + round(1.4)),
        ],
        [2, 3, (4, 30)],
        [drawn(2, 3, n) for n in (13, 4, 30, 5, 6, 9, 10, 16, 25)],
    )


@pytest.mark.thorough
@pytest.mark.parametrize(
    "compute",
    [
        lambda x: x * math.ceil(math.log2(x.shape[-1])),
        lambda x: x[..., : int(math.log2(x.shape[-1]))],
        lambda x: x[..., : math.floor(math.log(x.shape[-1], 2))],
        lambda x: x * int(math.log(x.shape[-1]) / math.log(2)),
        lambda x: x * math.floor(math.log(x.shape[-1]) / math.log(2)),
        lambda x: x * int(float(math.log(x.shape[-1]) / math.log(2))),
        lambda x: x if math.exp(x.shape[-1] / 10) > 3 else -x,
        lambda x: x[..., : round(x.shape[-1] * 0.3)],
    ],
    ids=[
        "levels",
        "cut off",
        "rounded down",
        "cut off of two",
        "rounded down of two",
        "by way of a float",
        "a branch",
        "rounded",
    ],
)
def test_whole_numbers_that_rounding_decides_are_refused(compute: Any) -> None:
    with pytest.raises(ConversionError):
        cp.convert(cp.Source(Called(compute).eval(), (drawn(2, 3, 13),)), shapes={"input_0": [2, 3, (4, 30)]})


@pytest.mark.thorough
def test_what_is_looked_up_along_free_lengths() -> None:
    table = torch.from_numpy(np.random.default_rng(1).normal(size=(20, 4)).astype(np.float32))

    def bags(x: Any) -> Any:
        ids = x[:, 0].mul(5).long().clamp(-9, 9) + 9
        return tuple(
            functional.embedding_bag(ids, table, mode=mode, padding_idx=padding)
            for mode, padding in (("sum", 3), ("mean", None), ("max", 9))
        )

    check(
        [
            lambda x: torch.take_along_dim(x, x.argsort(-1), -1),
            lambda x: torch.take_along_dim(x[:, :1], x.argsort(1), 2) if x.shape[1] < x.shape[2] else x,
            lambda x: torch.take_along_dim(x, torch.tensor([[[1], [0]]])),
            lambda x: functional.one_hot(x.argmax(-1), x.shape[-1]),
            bags,
        ],
        [2, 3, (4, 30)],
        [drawn(2, 3, 13), drawn(2, 3, 4), drawn(2, 3, 30)],
    )


def test_a_factor_that_float32_does_not_hold_is_no_silent_difference() -> None:
    """100 * 0.29 is 28.999999999999996, and 29 in float32."""
    module = Called(lambda x: functional.interpolate(x, size=int(x.shape[-1] * 0.29))).eval()
    with pytest.raises(cp.CoreproofError):
        cp.convert(cp.Source(module, (drawn(2, 3, 50),)), "mlprogram", shapes={"input_0": [2, 3, (10, 100)]})


class Taken(torch.nn.Module):  # type: ignore[misc,name-defined]
    """Numbers taken out of a tensor by Python's own types, beside a length that is free."""

    def forward(self, x: Any) -> Any:
        return x * int(x.sum()) + float(x.amax()) / x.shape[1]


class Decides(torch.nn.Module):  # type: ignore[misc,name-defined]
    def forward(self, x: Any) -> Any:
        return x * 2 if int(x.sum()) > 3 else x


def test_numbers_taken_out_of_tensors_beside_a_free_length() -> None:
    example = (torch.ones(2, 4),)
    made = cp.convert(Taken(), "mlprogram", precision="fp32", example=example, shapes={"x": [2, (3, 9)]})
    with cp.session(made) as running:
        for x in (torch.ones(2, 4), -torch.ones(2, 9), torch.linspace(-3, 1, 12).reshape(2, 6)):
            (got,) = running.run({"x": x.numpy()}).values()
            np.testing.assert_allclose(got, Taken()(x).numpy(), rtol=1e-5, atol=1e-5)
    with pytest.raises(ConversionError, match="decides by its data"):
        cp.convert(Decides(), "mlprogram", example=example, shapes={"x": [2, (3, 9)]})
