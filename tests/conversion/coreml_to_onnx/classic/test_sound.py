"""VGGish's front end against NumPy's own Fourier transform, and the kinds that are refused with their reason."""

from __future__ import annotations

import numpy as np
import pytest

from coreproof.conversion.coreml_to_onnx.classic.refused import REASONS
from coreproof.conversion.coreml_to_onnx.kinds import LOWERERS
from coreproof.errors import ConversionError, UnsupportedModelError
from coreproof.model.coreml.proto import Model_pb2
from coreproof.runtime.open import session
from tests.build import classic


def reference(samples: np.ndarray) -> np.ndarray:
    """The steps (1) to (4) of SoundAnalysisPreprocessing.proto."""
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(400) / 400)
    frames = np.stack([samples[160 * n : 160 * n + 400] * window for n in range(96)])
    magnitude = np.abs(np.fft.rfft(frames, 512))

    def mel(hertz: float) -> float:
        return float(1127 * np.log(1 + hertz / 700))

    edges = [mel(125) + (mel(7500) - mel(125)) * n / 65 for n in range(66)]
    bands = np.zeros((257, 64))
    for line in range(1, 257):
        at = mel(line * 16000 / 512)
        for band in range(64):
            low, middle, high = edges[band : band + 3]
            bands[line, band] = max(0, min((at - low) / (middle - low), (high - at) / (high - middle)))
    return np.log(magnitude @ bands + 0.01)[None]


def test_the_front_end_of_vggish() -> None:
    rng = np.random.default_rng(0)
    samples = np.sin(np.arange(15_600) * 2 * np.pi * 440 / 16_000) + 0.1 * rng.normal(size=15_600)
    model = classic("soundAnalysisPreprocessing", {"audio": [15_600]}, {"mel": [1, 96, 64]}, dtype="FLOAT32", vggish={})
    with session(model) as running:
        got = running.run({"audio": samples})["mel"]
    assert (got.shape, got.dtype) == ((1, 96, 64), np.float32)
    np.testing.assert_allclose(got, reference(samples.astype(np.float32).astype(np.float64)), rtol=1e-5, atol=1e-5)


def test_another_length_of_sound_is_refused() -> None:
    with pytest.raises(ConversionError, match="fed 100 samples, and hears 15600"):
        session(classic("soundAnalysisPreprocessing", {"audio": [100]}, {"mel": [1, 96, 64]}, vggish={}))


def test_confidences_are_thresholded_as_the_proto_says() -> None:
    curve = {
        f"{kind}{part}": {"vector": [0.5]}
        for kind in ("precision", "recall")
        for part in ("Values", "ConfidenceThresholds")
    }
    model = classic("classConfidenceThresholding", {"x": [2]}, {"y": [2, 2]}, precisionRecallCurves=[curve, curve])
    with session(model) as running:
        assert running.run({"x": [0.25, 0.75]})["y"].tolist() == [[0.25, 0.75], [1, 1]]


@pytest.mark.parametrize("kind", REASONS)
def test_what_only_apple_computes_is_refused_with_the_reason(kind: str) -> None:
    with pytest.raises(UnsupportedModelError, match="only Apple's frameworks compute") as raised:
        session(classic(kind, {"x": "string"}, {"y": "string"}))
    assert REASONS[kind] in str(raised.value)


def test_every_kind_of_model_that_a_file_can_hold_is_lowered_or_refused_with_a_reason() -> None:
    kinds = {field.name for field in Model_pb2.Model.DESCRIPTOR.oneofs_by_name["Type"].fields}
    assert kinds == set(LOWERERS) | set(REASONS)
    assert not set(LOWERERS) & set(REASONS)
