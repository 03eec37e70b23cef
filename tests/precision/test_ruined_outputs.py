"""Outputs that float16 ruins are found without a source, also where the right answer is zero throughout."""

from __future__ import annotations

import math

import numpy as np

from coreproof.conversion.convert import convert
from coreproof.precision.ruined_outputs import ruined_outputs
from tests.build import onnx_model


def test_what_float16_makes_of_nothing_is_ruined() -> None:
    net = onnx_model(
        """
        <ir_version: 8, opset_import: ["" : 17]>
        net (float[1, 4] x) => (float[1, 4] y) {
            quarter = Constant <value_float: float = 0.25> ()
            more = Add (x, quarter)
            left = Sub (more, x)
            y = Sub (left, quarter)
        }
        """
    )
    model = convert(net, "mlprogram", precision="fp16")
    between = {"x": np.float32([[1025, 1026, 1027, 1028]])}  # where float16 holds whole numbers alone
    assert ruined_outputs(model, between) == {"y": math.inf}
    assert ruined_outputs(model, {"x": np.float32([[1, 2, 3, 4]])}) == {}
