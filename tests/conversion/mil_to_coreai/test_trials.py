"""The trials of our MIL handlers once more, by way of Core AI: what NumPy or PyTorch makes of the same arguments has to come out.

Each is translated, and run both lowered by coreproof and by Apple's own interpreter, where that is installed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from coreproof.conversion.mil_to_coreai.convert import translated
from coreproof.conversion.operators import TO_COREAI
from coreproof.errors import ConversionError, RunError
from coreproof.model.coreai.arrays import at, mapped, written
from coreproof.model.coreai.child import Child
from coreproof.model.coreai.model import CoreAIModel
from coreproof.model.coreai.write import tell
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
    test_recurrent,
    test_reduction,
    test_resampling,
    test_resizing,
    test_scattering,
    test_shaping,
    test_slicing,
    test_tensor_operation,
)

FAMILIES = (
    test_activation, test_attention, test_convolution, test_elementwise_binary, test_elementwise_unary, test_gathering,
    test_linear, test_normalization, test_pooling, test_quantization, test_recurrent, test_reduction, test_resampling,
    test_resizing, test_scattering, test_shaping, test_slicing, test_tensor_operation,
)  # fmt: skip
REFUSED = {"resize": "a size that is known at run time only"}
TRIALS = [each for module in FAMILIES for each in module.family.trials if each.operator in TO_COREAI]
ADDED = dict.fromkeys(("conv", "conv_transpose", "linear"), "bias")
"""Operations that become two, of which the second adds this operand: in half width they round twice."""


def hold(trial: Trial, folder: Path, opened: Callable[[CoreMLModel], Any]) -> None:
    is_refused = trial.operator in REFUSED and any("shape" in row.fed for row in trial.rows)
    with pytest.raises(ConversionError, match="has to be a constant") if is_refused else nullcontext():
        trial.hold_elsewhere(folder, opened, between=ADDED.get(trial.operator))


@pytest.mark.sweep(12)
@pytest.mark.parametrize("trial", TRIALS, ids=str)
def test_it_makes_what_the_definition_says(trial: Trial, tmp_path: Path) -> None:
    def opened(model: CoreMLModel) -> Session:
        return session(CoreAIModel(translated(model), name=model.name))

    hold(trial, tmp_path, opened)


class ByApple:
    """A translated program as it was written, in Apple's interpreter; one child process is there for all tests."""

    def __init__(self, model: CoreMLModel, child: Child, folder: Path) -> None:
        self._model, self._child, self._folder = CoreAIModel(translated(model), name=model.name), child, folder
        self.signature = self._model.signature

    def __enter__(self) -> ByApple:
        tell(self._model.program, self._folder)
        place = self._folder / "written.aimodel"
        self._child.ask({"do": "write", "path": str(place), "folder": str(self._folder)}, 60)
        self._child.ask({"do": "open", "path": str(place), "function": self._model.function.name}, 60)
        return self

    def __exit__(self, *raised: object) -> None:
        """Nothing is held."""

    def run(self, fed: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        places = written(self._folder / "fed", fed)
        answer = self._child.ask({"do": "run", "folder": str(self._folder), "inputs": places, "states": {}}, 60)
        held = mapped(self._folder / "outputs")
        return {name: np.array(at(held, place)) for name, place in answer["outputs"].table().items()}


@pytest.fixture(scope="module")
def child() -> Iterator[Child]:
    with Child(lambda found: RunError("Apple's interpreter does not run the trial", found=found), 0) as held:
        yield held


# in half width the interpreter rounds within an operation that sums or approximates, which no definition says
@needs_coreai
@pytest.mark.sweep(1, each="trial.operator")
@pytest.mark.parametrize("trial", [t for t in TRIALS if not (t.half and t.within)], ids=str)
def test_apple_s_interpreter_makes_the_same(trial: Trial, tmp_path: Path, child: Child) -> None:
    hold(trial, tmp_path, lambda model: ByApple(model, child, tmp_path))
