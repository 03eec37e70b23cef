"""Programs with blocks, states and several functions for tests, put together by hand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

import coreproof as cp
from coreproof.model.coreai.element_types import TensorType, tensor_type
from coreproof.model.coreai.model import CoreAIModel
from coreproof.model.coreai.program import Function, StoredBlock, StoredOperation, StoredProgram


def op(
    kind: str,
    operands: Sequence[str],
    results: Sequence[str],
    *blocks: StoredBlock,
    constant: np.ndarray | None = None,
    **attributes: str,
) -> StoredOperation:
    """An operation of the dialect."""
    name = results[0] if results else kind
    return StoredOperation(name, f"coreai.{kind}", tuple(operands), tuple(results), attributes, blocks, constant)


def block(arguments: Sequence[str], *operations: StoredOperation) -> StoredBlock:
    """A block; its last operation hands out what it makes."""
    return StoredBlock(tuple(arguments), operations)


def function(
    name: str,
    inputs: Sequence[str],
    body: Sequence[StoredOperation],
    types: Mapping[str, str],
    *,
    private: bool = False,
) -> Function:
    """A function whose outputs are what its last operation reads; ``types`` as MLIR writes them."""
    held: dict[str, TensorType] = {}
    for value, text in types.items():
        found = tensor_type(text)
        assert found is not None
        held[value] = found
    outputs = {value: value for value in body[-1].operands if value in held}
    return Function(name, private, {i: i for i in inputs}, outputs, StoredBlock(tuple(inputs), tuple(body)), held)


def model(*functions: Function) -> CoreAIModel:
    """The model of a program of these functions."""
    return CoreAIModel(StoredProgram(functions), name="made")


def run(made: CoreAIModel, **fed: np.ndarray) -> dict[str, np.ndarray]:
    """What it makes of these inputs."""
    with cp.session(made) as session:
        return session.run(fed)
