"""patch_coremltools: scripts that call MLModel.predict run unchanged."""

from __future__ import annotations

import subprocess
import sys

import pytest

SCRIPT = """
import warnings
warnings.simplefilter("ignore")
import numpy as np
import coremltools as ct
from coremltools.models import datatypes
from coremltools.models.neural_network import NeuralNetworkBuilder
import coreproof

builder = NeuralNetworkBuilder([("x", datatypes.Array(4))], [("y", datatypes.Array(4))], disable_rank5_shape_mapping=True)
builder.add_activation("relu", "RELU", "x", "y")
model = ct.models.MLModel(builder.spec)
coreproof.patch_coremltools()
coreproof.patch_coremltools()
x = np.array([-1.0, 2.0, -3.0, 4.0])
assert model.predict({"x": x})["y"].tolist() == [0.0, 2.0, 0.0, 4.0]
assert [r["y"][1] for r in model.predict([{"x": x}, {"x": x * 2}])] == [2.0, 4.0]
print("predicted")
"""


@pytest.mark.skipif(sys.platform == "darwin", reason="on a Mac Core ML itself answers")
def test_predict_answers_without_core_ml() -> None:
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=False)
    assert done.stdout.endswith("predicted\n"), done.stderr[-2000:]
