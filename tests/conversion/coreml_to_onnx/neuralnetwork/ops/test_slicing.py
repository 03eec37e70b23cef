"""Slices, crops and paddings, against numpy and the format's worked examples."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.conversion.coreml_to_onnx.lowered import close, run_layer
from tests.drawn import normal


def edges(top: int, bottom: int, left: int, right: int) -> dict[str, Any]:
    return {
        "borderAmounts": [
            {"startEdgeSize": top, "endEdgeSize": bottom},
            {"startEdgeSize": left, "endEdgeSize": right},
        ]
    }


def test_padding_as_the_format_shows_it() -> None:
    x = np.arange(1, 13, dtype=np.float32).reshape(1, 3, 4)
    for mode, kind in (("reflect", "reflection"), ("edge", "replication")):
        found = run_layer("padding", x, exact=False, paddingAmounts=edges(2, 0, 2, 0), **{kind: {}})
        close(found[0, 0], np.pad(x, ((0, 0), (2, 0), (2, 0)), mode=mode))  # type: ignore[call-overload]
    close(run_layer("crop", x, cropAmounts=edges(1, 0, 1, 2)), x[:, 1:, 1:2])


@pytest.mark.parametrize(
    ("axis", "expected"),
    [("CHANNEL_AXIS", lambda x: x[1:3]), ("HEIGHT_AXIS", lambda x: x[:, 1:3]), ("WIDTH_AXIS", lambda x: x[:, :, 1:3])],
)
def test_slice_axes(axis: str, expected: Any) -> None:
    x = normal(4, 4, 4)
    close(run_layer("slice", x, startIndex=1, endIndex=-1, stride=1, axis=axis), expected(x))
