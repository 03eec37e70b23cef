"""Grids of upsampling and resizing, of PyTorch and as the format states them."""

from __future__ import annotations

import numpy as np
import pytest

from tests.conversion.coreml_to_onnx.lowered import close, run_layer
from tests.drawn import normal, t

torch = pytest.importorskip("torch", reason="PyTorch is not installed")
F = torch.nn.functional


@pytest.mark.parametrize(("mode", "align"), [("ALIGN_CORNERS_TRUE", True), ("ALIGN_CORNERS_FALSE", False)])
def test_bilinear_upsample_grids_of_pytorch(mode: str, align: bool) -> None:
    x = normal(1, 2, 4, 5)
    found = run_layer("upsample", x, scalingFactor=[2, 3], mode="BILINEAR", linearUpsampleMode=mode)
    close(found, F.interpolate(t(x), scale_factor=(2.0, 3.0), mode="bilinear", align_corners=align))


def sampled(x: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Bilinear values at grid points, written out."""

    def weights(points: np.ndarray, length: int) -> np.ndarray:
        return np.maximum(0, 1 - np.abs(points[:, None] - np.arange(length)))

    return weights(rows, x.shape[-2]) @ x @ weights(columns, x.shape[-1]).T


def test_resize_bilinear_grids_as_the_format_states_them() -> None:
    x = normal(1, 2, 4, 6)
    grids = {
        "STRICT_ALIGN_ENDPOINTS_MODE": lambda length, n: np.linspace(0, length - 1, n),
        "ALIGN_ENDPOINTS_MODE": lambda length, n: np.linspace(0, length - 1, n),
        "UPSAMPLE_MODE": lambda length, n: np.linspace(0, length - length / n, n),
        "ROI_ALIGN_MODE": lambda length, n: (np.arange(n) + 0.5) * max(1, length - 1) / n,
    }
    for name, grid in grids.items():
        found = run_layer("resizeBilinear", x, targetSize=[7, 5], mode={"samplingMethod": name})
        expected = sampled(x, np.minimum(3, grid(4, 7)), np.minimum(5, grid(6, 5)))
        close(found, expected.astype(np.float32))


def test_crop_resize_of_batch_entries() -> None:
    x = normal(2, 3, 6, 8)
    boxes = np.asarray([[1, 0.2, 0.25, 0.8, 0.75], [0, 0.0, 0.0, 1.0, 1.0]], np.float32)
    found = run_layer(
        "cropResize", x[None], boxes.reshape(2, 1, 5, 1, 1), targetSize=[4, 3], normalizedCoordinates=True,
        mode={"samplingMethod": "ALIGN_ENDPOINTS_MODE"}, boxIndicesMode={"boxMode": "CORNERS_HEIGHT_FIRST"},
        spatialScale=1.0,
    )  # fmt: skip
    expected = [
        sampled(x[int(b)], np.linspace(y1 * 5, y2 * 5, 4), np.linspace(x1 * 7, x2 * 7, 3))
        for b, y1, x1, y2, x2 in boxes
    ]
    close(found, np.stack(expected)[:, None].astype(np.float32))
