"""Fourier transforms, against numpy and PyTorch."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from tests.conversion.onnx_to_coreml.one_node import TARGETS, check_node

RANDOM = np.random.default_rng(4)
PROGRAMS = [t for t in TARGETS if t[0] == "mlprogram"]
REAL = RANDOM.normal(size=(2, 7, 6, 1)).astype(np.float32)
PAIRS = RANDOM.normal(size=(2, 7, 6, 2)).astype(np.float32)


def _complex(pairs: np.ndarray) -> np.ndarray:
    return pairs[..., 0] + (1j * pairs[..., 1] if pairs.shape[-1] == 2 else 0)


def _pairs(numbers: np.ndarray) -> np.ndarray:
    return np.stack([numbers.real, numbers.imag], axis=-1).astype(np.float32)


def _check(x: np.ndarray, wanted: np.ndarray, axis: int, length: int | None, **attributes: int) -> None:
    """In the form of opset 17, and in that of opset 20 which takes the axis as an operand."""
    constants: dict[str, Any] = {} if length is None else {"length": np.array(length)}
    tolerance = {"rtol": 1e-4, "atol": 1e-4, "targets": PROGRAMS}
    check_node("DFT", {"x": x}, wanted, constants, opset=17, axis=axis, **attributes, **tolerance)
    order = ["x", "length" if length is not None else "", "axis"]
    check_node(
        "DFT", {"x": x}, wanted, {**constants, "axis": np.array(axis)}, order=order, opset=20, **attributes, **tolerance
    )


@pytest.mark.sweep(2)
@pytest.mark.parametrize("length", [None, 4, 9])
@pytest.mark.parametrize("axis", [1, 2])
@pytest.mark.parametrize("x", [REAL, PAIRS], ids=["real", "complex"])
def test_forwards(x: np.ndarray, axis: int, length: int | None) -> None:
    _check(x, _pairs(np.fft.fft(_complex(x), length, axis)), axis, length)


@pytest.mark.sweep(1)
@pytest.mark.parametrize("length", [None, 4, 9])
def test_half_of_a_spectrum(length: int | None) -> None:
    _check(REAL, _pairs(np.fft.rfft(REAL[..., 0], length, 1)), 1, length, onesided=1)


@pytest.mark.sweep(1)
@pytest.mark.parametrize("length", [None, 5])
def test_backwards(length: int | None) -> None:
    _check(PAIRS, _pairs(np.fft.ifft(_complex(PAIRS), length, 2)), 2, length, inverse=1)


@pytest.mark.sweep(1)
@pytest.mark.parametrize("how", ["whole", "onesided", "inverse"])
def test_along_an_axis_of_free_length(how: str) -> None:
    x = RANDOM.normal(size=(2, 7, 3, 1 if how == "onesided" else 2)).astype(np.float32)
    numpy_way = {"whole": np.fft.fft, "onesided": np.fft.rfft, "inverse": np.fft.ifft}[how]
    wanted = numpy_way(x[..., 0] if how == "onesided" else _complex(x), axis=1)
    check_node(
        "DFT",
        {"x": x},
        _pairs(wanted),
        axis=1,
        **({} if how == "whole" else {how: 1}),
        free={"x": [0, 1]},
        shapes={"x": [(1, 4), (2, 16), *x.shape[2:]]},
        targets=PROGRAMS,
        rtol=1e-4,
        atol=1e-4,
    )


@pytest.mark.sweep(1)
@pytest.mark.parametrize("length", [6, 7, 12])
def test_back_from_half_of_a_spectrum(length: int) -> None:
    spectrum = np.fft.rfft(RANDOM.normal(size=(2, length, 3)), axis=1)
    wanted = np.fft.irfft(spectrum, length, axis=1)[..., None]
    constants = {"length": np.array(length), "axis": np.array(1)}
    described = {"opset": 20, "inverse": 1, "onesided": 1, "rtol": 1e-4, "atol": 1e-4, "targets": PROGRAMS}
    check_node("DFT", {"x": _pairs(spectrum)}, wanted.astype(np.float32), constants, **described)


@pytest.mark.sweep(3)
@pytest.mark.parametrize("windowed", [False, True])
@pytest.mark.parametrize("onesided", [0, 1])
@pytest.mark.parametrize("free", [False, True])
def test_short_time_spectra(onesided: int, windowed: bool, free: bool) -> None:
    signal = RANDOM.normal(size=(2, 40, 1)).astype(np.float32)
    window = np.hanning(8).astype(np.float32)
    wanted = torch.stft(
        torch.tensor(signal[..., 0]),
        8,
        hop_length=3,
        window=torch.tensor(window if windowed else np.ones(8, np.float32)),
        center=False,
        onesided=bool(onesided),
        return_complex=True,
    )
    constants = {"step": np.array(3), "window": window, "length": np.array(8)}
    order = ["x", "step", "window" if windowed else "", "length"]
    if not windowed:
        del constants["window"]
    check_node(
        "STFT",
        {"x": signal},
        torch.view_as_real(wanted).transpose(1, 2).numpy(),
        constants,
        order=order,
        targets=PROGRAMS,
        onesided=onesided,
        rtol=1e-4,
        atol=1e-4,
        **({"free": {"x": [1]}, "shapes": {"x": [2, (20, 50), 1]}} if free else {}),
    )
