"""ONNX's own backend tests for the layers of image classifiers, against their stored outputs.

``python -m conformance.onnx_backend`` runs all of them; here are those that are quick and that networks rest on.
"""

from __future__ import annotations

import re
import warnings
from functools import cache
from typing import Any

import pytest
from conformance.onnx_backend import cases, judge

FAMILIES = re.compile(
    r"test_(conv_with|basic_conv|convtranspose|averagepool_2d|averagepool_1d|maxpool_2d|maxpool_1d|globalaveragepool|globalmaxpool"
    r"|batchnorm_(epsilon|example)$|instancenorm|layer_normalization_(2d|3d)_axis\d(_epsilon)?$|group_normalization_\w+e$|lrn"
    r"|relu|leakyrelu|elu|selu|celu$|gelu_\w+[12]$|hardsigmoid|hardswish$|mish$|sigmoid|softplus|softsign|softmax_axis_\d$"
    r"|logsoftmax_axis_\d$|prelu|thresholdedrelu|swish$|tanh|erf|add$|add_bcast|sub|mul|div$|pow_example|sqrt|exp|clip_default_max"
    r"|abs|neg|floor|ceil|round|reciprocal|min_example|max_example|sum_example|mean_example)"
)
UNJUDGED = re.compile(r"uint8|uint16|uint32|uint64|int8|int16|training|expanded|bfloat16")


@cache
def chosen() -> dict[str, Any]:
    return {c.name: c for c in cases(("node",)) if FAMILIES.match(c.name) and not UNJUDGED.search(c.name)}


@pytest.mark.parametrize("name", sorted(chosen()))
def test_stored_outputs_come_out(name: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        outcome = judge(chosen()[name])
    assert outcome.status in ("passed", "frozen"), outcome.reason


def test_the_families_are_really_judged() -> None:
    assert len(chosen()) > 100
