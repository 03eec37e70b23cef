"""Pools of any window, padded wider than the window and reaching beyond it, against counting element by element."""

from __future__ import annotations

import itertools

import numpy as np
import onnx_ir as ir
import onnxruntime
import pytest

from coreproof.conversion.coreml_to_onnx.builder import OnnxBuilder
from coreproof.conversion.coreml_to_onnx.pools import Window, pool


def _pooled(x: np.ndarray, kind: str, window: Window, *, exclude: bool) -> np.ndarray:
    b = OnnxBuilder()
    value = pool(b, b.input("x", np.float32, x.shape), kind, window, exclude=exclude)
    model = ir.to_proto(b.model([value])).SerializeToString()
    (found,) = onnxruntime.InferenceSession(model).run(None, {"x": x})
    return np.asarray(found)


def _counted(x: np.ndarray, kind: str, window: Window, *, exclude: bool) -> np.ndarray:
    """Every window by itself, along the one axis that there is."""
    ((before, after),), (beyond,), (kernel,), (stride,) = (
        window.pads or [],
        window.beyond,
        window.kernel,
        window.strides,
    )
    row = x[0, 0].astype(np.float64)
    padded = [*[None] * before, *row, *[None] * after]
    found = []
    for start in range(0, len(padded) + beyond - kernel + 1, stride):
        seen = padded[start : start + kernel]
        real = [n for n in seen if n is not None]
        if kind == "MAX":
            found.append(max(real, default=np.finfo(np.float32).min))  # what ONNX Runtime makes of a window of nothing
        elif kind == "L2":
            found.append(np.sqrt(sum(n * n for n in real)))
        else:
            found.append(sum(real) / (len(real) if exclude else len(seen)))
    return np.array(found)[None, None]


@pytest.mark.sweep(2)
@pytest.mark.parametrize("kind", ["MAX", "AVERAGE", "L2"])
@pytest.mark.parametrize("exclude", [False, True])
def test_a_pool_is_what_its_windows_hold(kind: str, exclude: bool) -> None:
    x = np.random.default_rng(0).normal(size=(1, 1, 5)).astype(np.float32)
    for kernel, stride, before, after, beyond in itertools.product((2, 3), (1, 2), (0, 1, 3), (0, 1, 3), (-1, 0, 1)):
        window = Window([kernel], [stride], [(before, after)], beyond=[beyond])
        if kind == "AVERAGE" and exclude and max(before, after + beyond) >= kernel:
            continue  # a window of padding alone has no average
        expected = _counted(x, kind, window, exclude=exclude)
        np.testing.assert_allclose(_pooled(x, kind, window, exclude=exclude), expected, rtol=1e-5, atol=1e-6)


def test_what_lies_beyond_counts_in_no_average_however_far_it_reaches() -> None:
    x = np.arange(1, 7, dtype=np.float32).reshape(1, 1, 6)
    window = Window([2], [3], [(1, 0)], beyond=[4])  # windows at -1, 2, 5 and, beyond all elements, 8
    found = _pooled(x, "AVERAGE", window, exclude=False)[0, 0]
    np.testing.assert_allclose(found[:3], [0.5, 3.5, 6])
    assert np.isnan(found[3])


def test_a_pool_of_two_dimensions_is_padded_in_both() -> None:
    x = np.arange(12, dtype=np.float32).reshape(1, 1, 3, 4)
    found = _pooled(x, "AVERAGE", Window([2, 2], [1, 1], [(2, 0), (0, 2)]), exclude=False)
    padded = np.pad(x[0, 0], [(2, 0), (0, 2)])
    windows = np.lib.stride_tricks.sliding_window_view(padded, (2, 2))
    np.testing.assert_allclose(found[0, 0], windows.mean((2, 3)))
