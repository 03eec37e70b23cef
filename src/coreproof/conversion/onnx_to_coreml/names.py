"""Names inside a Core ML model: MIL allows identifiers only, ONNX allows anything."""

from __future__ import annotations

import re
from collections.abc import Container

from coreproof.conversion.onnx_to_coreml.mil import Block

_OUTSIDE = re.compile(r"[^A-Za-z0-9_]")
_COUNTED = re.compile(r"_\d+$")


class Names:
    """Gives every ONNX name an identifier of its own, the same each time it is asked for."""

    def __init__(self) -> None:
        self._given: dict[str, str] = {}
        self._taken: set[str] = set()
        self._counts: dict[str, int] = {}

    def identifier_for(self, name: str) -> str:
        """The identifier that stands for ``name``."""
        if name not in self._given:
            self._given[name] = self.fresh(name)
        return self._given[name]

    def fresh(self, wanted: str) -> str:
        """An identifier like ``wanted`` that nothing else has."""
        identifier = _OUTSIDE.sub("_", wanted) or "value"
        if identifier[0].isdigit():
            identifier = f"var_{identifier}"
        unique = identifier
        while unique in self._taken:
            self._counts[identifier] = self._counts.get(identifier, 0) + 1
            unique = f"{identifier}_{self._counts[identifier]}"
        self._taken.add(unique)
        return unique


def separate(block: Block, names: Names, kept: Container[int]) -> None:
    """Renames what the builder named by itself, after the value that it helps to make: "logits_mul" for a product in "logits".

    Called after its operation alone ("mul_1") it could bear the name of another value, of the ONNX graph or of the program that
    the graph was exported from. The builder's own counts go on from one conversion of a process to the next; here each begins
    anew, so that the same model has the same names. ``kept`` holds the ``id`` of every variable that was named on purpose.
    """
    for operation, helped in zip(block.operations, _helped(block, kept), strict=True):
        for inner in operation.blocks:
            separate(inner, names, kept)
        for variable in operation.outputs:
            if id(variable) not in kept:
                variable.name = names.fresh(_renamed(variable.name, operation.op_type, helped))
        single = len(operation.outputs) == 1
        operation.name = (
            operation.outputs[0].name if single else names.fresh(_renamed(operation.name, operation.op_type, helped))
        )


def _renamed(name: str, operator: str, helped: str) -> str:
    """``name`` without its count; what a rewrite called by a name of its own ("beyond_32_bits") keeps it."""
    bare = _COUNTED.sub("", name)
    return helped + bare if bare.startswith(operator) else bare


def _helped(block: Block, kept: Container[int]) -> list[str]:
    """For each operation what the names of its values begin with: the next value that was named on purpose."""
    found: list[str] = []
    prefix = ""
    for operation in reversed(block.operations):
        prefix = next((f"{v.name}_" for v in operation.outputs if id(v) in kept), prefix)
        found.append(prefix)
    return found[::-1]
