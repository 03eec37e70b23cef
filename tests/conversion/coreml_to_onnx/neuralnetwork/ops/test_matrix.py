"""Inner products and batched matrix products, by rank, against numpy."""

from __future__ import annotations

import pytest

from tests.conversion.coreml_to_onnx.lowered import close, run_layer
from tests.drawn import normal


@pytest.mark.parametrize("shape", [(24,), (5, 24), (2, 5, 24), (5, 2, 3, 4), (2, 5, 2, 3, 4)])
def test_inner_product_by_rank(shape: tuple[int, ...]) -> None:
    x, w, b = normal(*shape), normal(7, 24), normal(7)
    found = run_layer("innerProduct", x, inputChannels=24, outputChannels=7, hasBias=True, weights=w, bias=b)
    leading = shape[:-3] if len(shape) > 3 else shape[:-1]
    expected = x.reshape(*leading, 24) @ w.T + b
    close(found, expected.reshape(*leading, 7, 1, 1) if len(shape) > 3 else expected)


def test_batched_matmul_stores_its_weights_by_column() -> None:
    x, w, b = normal(2, 3, 4), normal(4, 5), normal(5)
    found = run_layer(
        "batchedMatmul",
        x,
        weightMatrixFirstDimension=4,
        weightMatrixSecondDimension=5,
        weights=w.T,
        hasBias=True,
        bias=b,
    )
    close(found, x @ w + b)
    a, c = normal(2, 4, 3), normal(5, 4)
    close(run_layer("batchedMatmul", a, c, transposeA=True, transposeB=True), a.transpose(0, 2, 1) @ c.T)
