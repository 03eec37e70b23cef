"""What a converted model tells of itself, and inputs that may be left out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import coreproof as cp
from coreproof.model.coreml.model import CoreMLModel
from tests.build import graph_model, weights

W = weights(8, 4)
METADATA = {"author": "Ada", "license": "MIT", "version": "1.2", "description": "adds"}


def source() -> Any:
    text = "net (float[1, 8] x, float[1, 8] shift, int32[1] n) => (float[1, 4] y, int32[1] m) {"
    return graph_model(text + " a = Add (x, shift)  y = MatMul (a, w)  m = Add (n, n) }", 17, w=W)


@pytest.mark.parametrize(("to", "target"), [("mlprogram", "iOS15"), ("mlprogram", None), ("neuralnetwork", None)])
def test_metadata_descriptions_and_defaults_are_stored_and_used(to: Any, target: str | None, tmp_path: Path) -> None:
    made = cp.convert(
        source(), to, target=target, metadata=METADATA, describe={"x": "what is added to", "y": "the sum"},
        defaults={"shift": 0.5, "n": 3},
    )  # fmt: skip
    path = tmp_path / ("m.mlpackage" if to == "mlprogram" else "m.mlmodel")
    made.save(path)
    stored = cp.load(path)
    assert isinstance(stored, CoreMLModel)
    held = stored.spec.description.metadata
    assert (held.author, held.license, held.versionString, held.shortDescription) == ("Ada", "MIT", "1.2", "adds")
    features = {f.name: f for f in (*stored.signature.inputs, *stored.signature.outputs)}
    assert (features["x"].description, features["y"].description) == ("what is added to", "the sum")
    assert {name: (f.optional, f.default) for name, f in features.items() if f.optional} == {
        "shift": (True, 0.5), "n": (True, 3)
    }  # fmt: skip
    assert str(features["shift"]).endswith("optional (default 0.5)")
    x = np.ones((1, 8), np.float32)
    got = cp.session(stored).run({"x": x})
    np.testing.assert_allclose(got["y"], (x + 0.5) @ W, atol=2e-2)
    np.testing.assert_array_equal(got["m"], [6])
    got = cp.session(stored).run({"x": x, "shift": -x})
    np.testing.assert_allclose(got["y"], np.zeros((1, 4)), atol=1e-5)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"metadata": {"colour": "red"}}, "does not hold that"),
        ({"describe": {"z": "?"}}, "no such features"),
        ({"defaults": {"y": 1}}, "no such features"),
        ({"defaults": {"n": 0.5}}, "no whole number"),
        ({"defaults": {"x": float("nan")}}, "is no number"),
        ({"defaults": {"shift": 0}, "target": "iOS13"}, "from iOS 14 on"),
    ],
)
def test_what_cannot_be_told_is_refused(options: dict[str, Any], expected: str) -> None:
    to: Any = "neuralnetwork" if "target" in options else "mlprogram"
    with pytest.raises(cp.CoreproofError, match=expected):
        cp.convert(source(), to, check=False, **options)
