"""One operation of Core AI, what it is given and what it should make: for our lowering, and for Apple's interpreter."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import ml_dtypes
import numpy as np

import coreproof as cp
from coreproof.model.coreai.arrays import pairs
from coreproof.model.coreai.element_types import DTYPES, TensorType
from coreproof.model.coreai.model import CoreAIModel
from coreproof.model.coreai.program import Function, StoredBlock, StoredOperation, StoredProgram

ELEMENTS: Mapping[str, str] = {
    dtype: element for element, dtype in DTYPES.items() if element not in ("ui1", "ui3", "ui6")
}


@dataclass(frozen=True)
class Fed:
    """An operand that is an input of the function, and no constant."""

    array: np.ndarray


@dataclass(frozen=True)
class Case:
    """``attributes`` as MLIR writes them; ``expected`` gives the types of the results as well."""

    name: str
    kind: str
    operands: tuple[Fed | np.ndarray, ...]
    expected: tuple[np.ndarray, ...]
    attributes: Mapping[str, str] = field(default_factory=dict)
    block: tuple[tuple[str, ...], str] | None = None
    """The one block of an operation: element types of two scalar arguments, and the operation that combines them."""
    elements: Mapping[int, str] = field(default_factory=dict)
    """Element types of operands that NumPy has no dtype for."""
    apple: str = ""
    """Why Apple's interpreter is no judge of it."""


def case(
    kind: str,
    *operands: Fed | np.ndarray,
    makes: np.ndarray | np.generic | Sequence[np.ndarray],
    name: str = "",
    apple: str = "",
    elements: Mapping[int, str] | None = None,
    **attributes: str,
) -> Case:
    """A case of ``coreai.<kind>``; attributes are given as MLIR writes them."""
    made = tuple(map(np.asarray, (makes,) if isinstance(makes, np.ndarray | np.generic) else makes))
    called = f"{kind}{'_' + name if name else ''}".replace(".", "_")
    return Case(called, f"coreai.{kind}", operands, made, attributes, apple=apple, elements=elements or {})


def kind_of(array: np.ndarray) -> TensorType:
    """The type of a tensor."""
    return TensorType(ELEMENTS[array.dtype.name], array.shape)


def program_of(case: Case) -> StoredProgram:
    """The program of one function that is this operation."""
    types: dict[str, TensorType] = {}
    operations, inputs, read = [], {}, []
    for i, operand in enumerate(case.operands):
        array = operand.array if isinstance(operand, Fed) else operand
        held = kind_of(array)
        types[f"v{i}"] = TensorType(case.elements.get(i, held.element), held.shape)
        read.append(f"v{i}")
        if isinstance(operand, Fed):
            inputs[f"v{i}"] = f"v{i}"
        else:
            operations.append(StoredOperation(f"v{i}", "coreai.constant", (), (f"v{i}",), constant=array))
    made = [f"y{i}" for i in range(len(case.expected))]
    types.update({name: kind_of(array) for name, array in zip(made, case.expected, strict=True)})
    operations.append(StoredOperation("op", case.kind, tuple(read), tuple(made), case.attributes))
    operations.append(StoredOperation("output", "coreai.output", tuple(made), ()))
    outputs = {name: name for name in made}
    block = StoredBlock(tuple(inputs), tuple(operations))
    return StoredProgram((Function("main", False, inputs, outputs, block, types),))


def feeds(case: Case) -> dict[str, np.ndarray]:
    """What the function is fed."""
    return {f"v{i}": operand.array for i, operand in enumerate(case.operands) if isinstance(operand, Fed)}


def check(case: Case) -> None:
    """Lowers the operation, runs it, and holds what it makes against what is expected."""
    with cp.session(CoreAIModel(program_of(case), name=case.name)) as session:
        fed = feeds(case)
        found = session.run({n: pairs(array) if array.dtype.kind == "c" else array for n, array in fed.items()})
    for i, expected in enumerate(case.expected):
        same(np.asarray(found[f"y{i}"]), expected, f"{case.name} y{i}")


def same(found: np.ndarray, expected: np.ndarray, what: str) -> None:
    """Whole numbers have to be equal, floats to be within a few roundings of their type; complex numbers are pairs of such."""
    found, expected = (pairs(array) if array.dtype.kind == "c" else array for array in (found, expected))
    assert found.shape == expected.shape, what
    if expected.dtype.kind in "biu" or "int" in expected.dtype.name:
        np.testing.assert_array_equal(found.astype(np.int64), expected.astype(np.int64), err_msg=what)
        return
    step = float(ml_dtypes.finfo(expected.dtype).eps)
    wide = expected.astype(np.float64)
    finite = np.abs(wide[np.isfinite(wide)])
    most = float(finite.max()) if finite.size else 0.0
    np.testing.assert_allclose(found.astype(np.float64), wide, rtol=8 * step, atol=4 * step * most, err_msg=what)
