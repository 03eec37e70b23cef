"""Pooling against PyTorch: windows that include the last pixel, L2, and pools of the whole picture."""

from __future__ import annotations

from typing import Any

import pytest

from tests.conversion.coreml_to_onnx.lowered import close, run_layer
from tests.drawn import normal, t

torch = pytest.importorskip("torch", reason="PyTorch is not installed")
F = torch.nn.functional


@pytest.mark.parametrize("exclude", [False, True])
@pytest.mark.parametrize("size", [7, 8, 9])
def test_pooling_that_includes_the_last_pixel_is_ceil_mode(size: int, exclude: bool) -> None:
    x = normal(1, 2, size, size)
    fields: dict[str, Any] = {"kernelSize": [3, 3], "stride": [2, 2], "includeLastPixel": {"paddingAmounts": [1, 1]}}
    close(run_layer("pooling", x, **fields), F.max_pool2d(t(x), 3, 2, 1, ceil_mode=True))
    found = run_layer("pooling", x, type="AVERAGE", avgPoolExcludePadding=exclude, **fields)
    close(found, F.avg_pool2d(t(x), 3, 2, 1, ceil_mode=True, count_include_pad=not exclude))


def test_pooling_l2_and_global() -> None:
    x = normal(2, 3, 6, 6)
    found = run_layer("pooling", x, type="L2", kernelSize=[2, 2], stride=[2, 2], valid={})
    close(found, F.lp_pool2d(t(x), 2, 2))
    close(run_layer("pooling", x, type="AVERAGE", globalPooling=True), x.mean((2, 3), keepdims=True))
    close(run_layer("pooling", x, globalPooling=True), x.max((2, 3), keepdims=True))
