"""Constants that operations share stay what they were for each of them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import coreproof as cp
from tests.build import onnx_model

CROPS = {
    "Pad, ends": ("Pad<mode='constant'>({}, by)", [0, 0, 0, 0, 0, -1]),
    "Pad, both": ("Pad<mode='reflect'>({}, by)", [0, 0, -1, 0, 0, -2]),
    "Slice": ("Slice({}, from, to, axes)", None),
}


@pytest.mark.sweep(3)
@pytest.mark.parametrize(
    ("to", "options"), [("mlprogram", {"precision": "fp32"}), ("mlprogram", {}), ("neuralnetwork", {})]
)
@pytest.mark.parametrize("crop", CROPS)
def test_equal_crops_at_several_lengths_cut_each_its_own_end(crop: str, to: Any, options: Any) -> None:
    """coremltools counted the first one's negative end from the front, in the constant that all of them shared."""
    call, pads = CROPS[crop]
    call = call.replace("'", '"')
    steps = " ".join(f"v{k + 1} = {call.format(f'v{k}')} w{k} = Cos(v{k + 1})" for k in range(3))
    outputs = ", ".join(f"float w{k}" for k in range(3))
    text = f'<ir_version: 8, opset_import: ["": 17]> net (float[1,2,12] x) => ({outputs}) {{ v0 = Abs(x) {steps} }}'
    weights = {"by": np.array(pads)} if pads else {"from": np.array([1]), "to": np.array([-1]), "axes": np.array([-1])}
    source = onnx_model(text, **weights)
    x = np.random.default_rng(0).normal(size=(1, 2, 12)).astype(np.float32)
    made = cp.convert(source, to, check=False, **options)
    with cp.session(source) as a, cp.session(getattr(made, "model", made)) as b:
        expected, found = a.run({"x": x}), b.run({"x": x})
    assert len(expected) == 3
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, atol=2e-3)
