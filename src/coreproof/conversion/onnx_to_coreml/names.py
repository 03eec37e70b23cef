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
    """Renames what the builder named by itself: an ONNX value may have that name too ("select_1").

    The builder counts on from one conversion of a process to the next; here each begins anew, so that the same model has the same
    names. ``kept`` holds the ``id`` of every variable that was named on purpose.
    """
    for operation in block.operations:
        for inner in operation.blocks:
            separate(inner, names, kept)
        for variable in operation.outputs:
            if id(variable) not in kept:
                variable.name = names.fresh(_COUNTED.sub("", variable.name))
        single = len(operation.outputs) == 1
        operation.name = operation.outputs[0].name if single else names.fresh(_COUNTED.sub("", operation.name))
