"""Sound before a network hears it: SoundAnalysisPreprocessing.proto, which is the front end of VGGish."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from coreproof.conversion.coreml_to_onnx.classic.arrays import one_to_one
from coreproof.conversion.coreml_to_onnx.classic.counts import fed_count
from coreproof.conversion.coreml_to_onnx.classic.lowerer import lowers_model
from coreproof.conversion.coreml_to_onnx.classic.stage import Stage, f64
from coreproof.model.coreml.model import CoreMLModel

_RATE, _SAMPLES = 16_000, 15_600
_WINDOW, _HOP, _FOURIER = 400, 160, 512
_FRAMES = (_SAMPLES - _WINDOW) // _HOP + 1
_BANDS, _LOWEST, _HIGHEST, _OFFSET = 64, 125.0, 7500.0, 0.01


def _problems(model: CoreMLModel) -> Iterator[str]:
    yield from one_to_one(model)
    if model.spec.soundAnalysisPreprocessing.WhichOneof("SoundAnalysisPreprocessingType") != "vggish":
        yield "its kind of preprocessing is none that is known"
    if fed_count(model) not in (None, _SAMPLES):
        yield f"it is fed {fed_count(model)} samples, and hears {_SAMPLES}"


@lowers_model(_problems)
def lower_vggish(stage: Stage) -> None:
    """The logarithm of the energy in 64 bands of 96 frames of 25 milliseconds, [1, 96, 64], step by step as in the proto."""
    b = stage.b
    starts = np.arange(_FRAMES)[:, None] * _HOP + np.arange(_WINDOW)
    # the periodic window, whose end would be its beginning
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(_WINDOW) / _WINDOW)
    frames = b.op("Mul", b.op("Gather", stage.vector(), starts.astype(np.int64)), f64(hann))
    # 512 points of which 400 are heard: the rest would be zeros, and is left out of the product
    angle = 2 * np.pi * np.outer(np.arange(_WINDOW), np.arange(_FOURIER // 2 + 1)) / _FOURIER
    real, imaginary = (b.op("MatMul", frames, f64(wave)) for wave in (np.cos(angle), np.sin(angle)))
    magnitude = b.op("Sqrt", b.op("Add", b.op("Mul", real, real), b.op("Mul", imaginary, imaginary)))
    bands = b.op("MatMul", magnitude, f64(mel_bands()))
    # silence has no logarithm
    result = b.op("Log", b.op("Add", bands, f64(_OFFSET)))
    stage.write_only(b.op("Reshape", result, np.array([1, _FRAMES, _BANDS], np.int64)))


def mel_bands() -> np.ndarray:
    """How much of each of the 257 frequencies is in each of the 64 bands: triangles of equal width on the mel scale."""
    mel = _mel(np.linspace(0, _RATE / 2, _FOURIER // 2 + 1))[:, None]
    edges = np.linspace(_mel(np.array(_LOWEST)), _mel(np.array(_HIGHEST)), _BANDS + 2)
    rising = (mel - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - mel) / (edges[2:] - edges[1:-1])
    bands: np.ndarray = np.maximum(0, np.minimum(rising, falling))
    bands[0] = 0  # a constant is no sound
    return bands


def _mel(hertz: np.ndarray) -> np.ndarray:
    return np.asarray(1127.0 * np.log1p(hertz / 700.0))
