"""The trials of our MIL handlers once more, by way of Core AI: what NumPy or PyTorch makes of the same arguments has to come out.

Each is translated, and run both lowered by coreproof and by Apple's own interpreter, where that is installed.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import pytest

from coreproof.conversion.mil_to_coreai.convert import coreml_to_coreai, translated
from coreproof.conversion.operators import TO_COREAI
from coreproof.errors import ConversionError
from coreproof.model.coreai.model import CoreAIModel
from coreproof.model.coreml.model import CoreMLModel
from coreproof.runtime.open import session
from coreproof.runtime.session import Session
from tests.aimodels import needs_coreai
from tests.conversion.coreml_to_onnx.mlprogram.family import Trial
from tests.conversion.coreml_to_onnx.mlprogram.ops import (
    test_activation,
    test_attention,
    test_convolution,
    test_elementwise_binary,
    test_elementwise_unary,
    test_gathering,
    test_linear,
    test_normalization,
    test_pooling,
    test_quantization,
    test_reduction,
    test_resizing,
    test_scattering,
    test_shaping,
    test_slicing,
    test_tensor_operation,
)

FAMILIES = (
    test_activation, test_attention, test_convolution, test_elementwise_binary, test_elementwise_unary, test_gathering,
    test_linear, test_normalization, test_pooling, test_quantization, test_reduction, test_resizing, test_scattering,
    test_shaping, test_slicing, test_tensor_operation,
)  # fmt: skip
REFUSED = {"resize": "a size that is known at run time only"}
TRIALS = [each for module in FAMILIES for each in module.family.trials if each.operator in TO_COREAI]
ADDED = dict.fromkeys(("conv", "conv_transpose", "linear"), "bias")
"""Operations that become two, of which the second adds this operand: in half width they round twice."""


def hold(trial: Trial, folder: Path, opened: Callable[[CoreMLModel], Session]) -> None:
    is_refused = trial.operator in REFUSED and any("shape" in row.fed for row in trial.rows)
    with pytest.raises(ConversionError, match="has to be a constant") if is_refused else nullcontext():
        trial.hold_elsewhere(folder, opened, between=ADDED.get(trial.operator))


@pytest.mark.parametrize("trial", TRIALS, ids=str)
def test_it_makes_what_the_definition_says(trial: Trial, tmp_path: Path) -> None:
    def opened(model: CoreMLModel) -> Session:
        return session(CoreAIModel(translated(model), name=model.name))

    hold(trial, tmp_path, opened)


@needs_coreai
@pytest.mark.parametrize("trial", TRIALS, ids=str)
def test_apple_s_interpreter_makes_the_same(trial: Trial, tmp_path: Path) -> None:
    def opened(model: CoreMLModel) -> Session:
        return session(coreml_to_coreai(model), engine="coreai")

    hold(trial, tmp_path, opened)
