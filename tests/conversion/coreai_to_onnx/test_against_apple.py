"""Every case of our handlers once more, through Apple's own interpreter: what we take an operation to mean is what Apple does."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from coreproof.errors import RunError
from coreproof.model.coreai.arrays import at, mapped, written
from coreproof.model.coreai.child import Child
from coreproof.model.coreai.element_types import TensorType
from tests.aimodels import needs_coreai
from tests.conversion.coreai_to_onnx.cases import Case, Fed, feeds, kind_of, same
from tests.conversion.coreai_to_onnx.ops import (
    test_complex_numbers,
    test_convolution,
    test_elementwise_binary,
    test_elementwise_unary,
    test_gathering,
    test_pooling,
    test_quantization,
    test_reduction,
    test_resampling,
    test_shaping,
    test_slicing,
)

FAMILIES = (
    test_complex_numbers, test_convolution, test_elementwise_binary, test_elementwise_unary, test_gathering, test_pooling,
    test_quantization, test_reduction, test_resampling, test_shaping, test_slicing,
)  # fmt: skip
CASES = [each for family in FAMILIES for each in family.CASES]

OTHERWISE: dict[str, str] = {
    "reduce_sum_nothing": "without axes the interpreter sums all into the first element; elsewhere that means no reduction",
}
"""Cases on which Apple's interpreter says something else than the dialect's own definition, or nothing, and what."""


def _literal(array: np.ndarray, held: TensorType) -> str:
    if array.size == 0:
        return f"dense<> : {held}"
    if array.dtype.kind == "b":
        return f"dense<{str(array.tolist()).lower()}> : {held}"
    return (
        f"dense<{array.astype(float).tolist() if 'float' in array.dtype.name else array.astype(int).tolist()}> : {held}"
    )


def _text(each: Case) -> str:
    """The case as a module in MLIR's generic form."""
    fed, constants, read, kinds = [], [], [], []
    for i, operand in enumerate(each.operands):
        array = operand.array if isinstance(operand, Fed) else operand
        held = kind_of(array)
        read.append(f"%v{i}")
        kinds.append(str(held))
        if isinstance(operand, Fed):
            fed.append(f'%v{i}: {held} {{coreai.name = "v{i}"}}')
        else:
            constants.append(f"%v{i} = coreai.constant {_literal(array, held)}")
    made = [str(kind_of(array)) for array in each.expected]
    names = [f"%y{i}" for i in range(len(made))]
    said = f" <{{{', '.join(f'{k} = {v}' for k, v in each.attributes.items())}}}>" if each.attributes else ""
    results = names[0] if len(names) == 1 else ", ".join(names)
    declared = ", ".join(f'{kind} {{coreai.name = "y{i}"}}' for i, kind in enumerate(made))
    return "\n".join(
        [
            f"module {{ coreai.graph @main({', '.join(fed)}) -> ({declared}) {{",
            *constants,
            f'{results} = "{each.kind}"({", ".join(read)}){said} : ({", ".join(kinds)}) -> ({", ".join(made)})',
            f"coreai.output {', '.join(names)} : {', '.join(made)} }} }}",
        ]
    )


@pytest.fixture(scope="module")
def child() -> Child:
    with Child(lambda found: RunError("Apple's interpreter does not run the case", found=found), 0) as held:
        yield held


@pytest.mark.sweep(30)
@needs_coreai
@pytest.mark.parametrize("each", [c for c in CASES if c.name not in OTHERWISE], ids=lambda c: c.name)
def test_apple_makes_the_same(each: Case, child: Child, tmp_path: Path) -> None:
    found = _by_apple(each, child, tmp_path)
    for i, expected in enumerate(each.expected):
        same(found[f"y{i}"], expected, f"{each.name} y{i}")


def _by_apple(each: Case, child: Child, folder: Path) -> dict[str, np.ndarray]:
    written_text, asset = folder / "case.mlir", folder / "case.aimodel"
    written_text.write_text(_text(each), encoding="utf-8")
    child.ask({"do": "assemble", "text": str(written_text), "path": str(asset)}, 60)
    child.ask({"do": "open", "path": str(asset), "function": "main"}, 60)
    places = written(folder / "fed", feeds(each))
    answer = child.ask({"do": "run", "folder": str(folder), "inputs": places, "states": {}}, 60)
    held = mapped(folder / "outputs")
    return {name: np.array(at(held, place)) for name, place in answer["outputs"].table().items()}
