"""Names inside a Core ML model: MIL allows identifiers only, ONNX allows anything."""

from __future__ import annotations

import re

_OUTSIDE = re.compile(r"[^A-Za-z0-9_]")


class Names:
    """Gives every ONNX name an identifier of its own, the same each time it is asked for."""

    def __init__(self) -> None:
        self._given: dict[str, str] = {}
        self._taken: set[str] = set()

    def of(self, name: str) -> str:
        """The identifier that stands for ``name``."""
        if name not in self._given:
            self._given[name] = self.fresh(name)
        return self._given[name]

    def fresh(self, wanted: str) -> str:
        """An identifier like ``wanted`` that nothing else has."""
        identifier = _OUTSIDE.sub("_", wanted) or "value"
        if identifier[0].isdigit():
            identifier = f"var_{identifier}"
        unique, count = identifier, 0
        while unique in self._taken:
            count += 1
            unique = f"{identifier}_{count}"
        self._taken.add(unique)
        return unique
