"""ONNX Runtime's DynamicQuantizeLSTM, written out, against its own kernel; what is not usual is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir
import pytest

from coreproof.conversion.onnx_to_coreml.convert import onnx_to_coreml
from coreproof.errors import UnsupportedOperatorsError
from coreproof.model.onnx.model import OnnxModel
from tests.conversion.onnx_to_coreml.microsoft_node import EVERYWHERE, check_microsoft, microsoft_model

FULL = [t for t in EVERYWHERE if t[2] == "fp32"]
STEPS, ROWS, FED, UNITS = 5, 1, 6, 4
ORDER = ["x", "w", "r", "b", "", "h", "c", "", "ws", "wz", "rs", "rz"]


def operands(directions: int, *, signed: bool, columns: bool) -> tuple[dict[str, Any], dict[str, Any]]:
    rng = np.random.default_rng(3)
    # seven bits: some processors add pairs of products in 16 bits, and stop there (see tests/runtime/test_exact_integers.py)
    lowest, highest, kind = (-64, 64, np.int8) if signed else (64, 192, np.uint8)
    parameters = (directions, 4 * UNITS) if columns else (directions,)
    zero = 0 if signed else 128
    inputs = {
        "x": rng.normal(size=(STEPS, ROWS, FED)).astype(np.float32),
        "h": 0.5 * rng.normal(size=(directions, ROWS, UNITS)).astype(np.float32),
        "c": rng.normal(size=(directions, ROWS, UNITS)).astype(np.float32),
    }
    constants = {
        "w": rng.integers(lowest, highest, (directions, FED, 4 * UNITS)).astype(kind),
        "r": rng.integers(lowest, highest, (directions, UNITS, 4 * UNITS)).astype(kind),
        "b": rng.normal(size=(directions, 8 * UNITS)).astype(np.float32),
        "ws": rng.uniform(0.003, 0.01, parameters).astype(np.float32),
        "rs": rng.uniform(0.003, 0.01, parameters).astype(np.float32),
        "wz": np.full(parameters, zero, kind),
        "rz": np.full(parameters, zero, kind),
    }
    return inputs, constants


@pytest.mark.thorough
@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
@pytest.mark.parametrize(("signed", "columns"), [(True, False), (False, False), (True, True)])
def test_states_are_quantised_at_each_step(direction: str, signed: bool, columns: bool) -> None:
    inputs, constants = operands(2 if direction == "bidirectional" else 1, signed=signed, columns=columns)
    described: dict[str, Any] = {"outputs": ("y", "last", "cell"), "direction": direction, "hidden_size": UNITS}
    check_microsoft("DynamicQuantizeLSTM", inputs, constants, ORDER, targets=FULL, **described)
    # without a bias and what it begins with
    del inputs["h"], inputs["c"], constants["b"]
    order = [name if name in inputs or name in constants else "" for name in ORDER]
    check_microsoft("DynamicQuantizeLSTM", inputs, constants, order, targets=FULL, **described)


@pytest.mark.thorough
def test_in_float16_a_state_lies_a_step_off_at_most() -> None:
    inputs, constants = operands(2, signed=True, columns=False)
    check_microsoft(
        "DynamicQuantizeLSTM", inputs, constants, ORDER, targets=[("mlprogram", "iOS18", "fp16")], half=0.02,
        outputs=("y",), direction="bidirectional", hidden_size=UNITS,
    )  # fmt: skip


@pytest.mark.parametrize(
    "unusual",
    [
        {"clip": 1.0},
        {"input_forget": 1},
        {"activations": ["Relu", "Tanh", "Tanh"]},
        {"direction": "up"},
        {"activations": 3},
    ],
    ids=str,
)
def test_other_forms_are_refused_by_name(unusual: dict[str, Any]) -> None:
    inputs, constants = operands(1, signed=True, columns=False)
    proto = microsoft_model("DynamicQuantizeLSTM", inputs, constants, ORDER, hidden_size=UNITS, **unusual)
    with pytest.raises(UnsupportedOperatorsError, match="DynamicQuantizeLSTM"):
        onnx_to_coreml(OnnxModel(ir.from_proto(proto), name="net"), "mlprogram")
