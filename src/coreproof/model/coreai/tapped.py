"""A program that hands out inner values as well: Apple's interpreter shows what a function gives out, and nothing else."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path

from coreproof.model.coreai.element_types import numpy_dtype
from coreproof.model.coreai.model import CoreAIModel
from coreproof.model.coreai.program import Function, StoredBlock, StoredProgram
from coreproof.model.coreai.write import write_program
from coreproof.model.formats.free_name import free_name


def inner_values(function: Function) -> tuple[str, ...]:
    """The values of a function, outside of nested blocks, that it could hand out: tensors of at least one axis."""
    made = [
        name
        for operation in function.block.operations
        if operation.constant is None
        for name in operation.results
        if name not in function.outputs.values()
    ]
    return tuple(name for name in made if _can_be_handed_out(function, name))


def write_tapped(model: CoreAIModel, taps: Iterable[str], path: Path) -> Mapping[str, str]:
    """Writes the program of ``model`` to ``path`` with these values as outputs besides; the output of each, by the value.

    Raises ConversionError where Apple's package does not take it.
    """
    function = model.function
    taken = {*function.types, *function.outputs, *function.inputs}
    called = {tap: free_name(f"tap_{at}", taken) for at, tap in enumerate(taps)}
    *body, last = function.block.operations
    tapped = replace(
        function,
        outputs={**function.outputs, **{name: tap for tap, name in called.items()}},
        block=StoredBlock(function.block.arguments, (*body, replace(last, operands=(*last.operands, *called)))),
    )
    write_program(
        StoredProgram(tuple(tapped if f.name == function.name else f for f in model.program.functions)),
        path,
        model.where,
    )
    return called


def _can_be_handed_out(function: Function, name: str) -> bool:
    held = function.types.get(name)
    if held is None or held.state or not held.shape:
        return False
    try:
        numpy_dtype(held.element)
    except ValueError:
        return False
    # elements narrower than a byte lie packed
    return held.element == "i1" or not held.element.endswith(("i1", "i2", "i3", "i4", "i6"))
