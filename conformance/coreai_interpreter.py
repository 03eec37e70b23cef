"""Programs of Core AI run by Apple's interpreter one after another in one process: each start of its package takes a second."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import count
from typing import Any, Self

import numpy as np

from coreproof.errors import RunError
from coreproof.model.coreai.arrays import at, mapped, written
from coreproof.model.coreai.child import Child
from coreproof.model.coreai.element_types import numpy_dtype
from coreproof.model.coreai.program import StoredProgram
from coreproof.model.coreai.write import tell

Arrays = dict[str, np.ndarray[Any, Any]]
_SECONDS = 60.0
_BYTES = 200_000_000
"""What the largest program of a suite of tests may take."""


class Interpreter:
    """One child process with Apple's package; where a program ended it, the next one finds a new one."""

    def __init__(self) -> None:
        self._child = Child(lambda found: RunError("Apple's Core AI does not run the program", found=found), _BYTES)
        self._numbers = count()

    def run(self, program: StoredProgram, samples: Sequence[Mapping[str, np.ndarray[Any, Any]]]) -> list[Arrays]:
        """The outputs of each sample by name. Raises RunError for what Apple's package does not write, open or run."""
        folder, function = self._child.folder, program.functions[0]
        asset = folder / f"{next(self._numbers)}.aimodel"
        tell(program, folder)
        self._child.ask({"do": "write", "path": str(asset), "folder": str(folder)}, _SECONDS)
        self._child.ask({"do": "open", "path": str(asset), "function": function.name}, _SECONDS)
        return [self._answer(program, sample) for sample in samples]

    def _answer(self, program: StoredProgram, sample: Mapping[str, np.ndarray[Any, Any]]) -> Arrays:
        folder, function = self._child.folder, program.functions[0]
        declared = {name: function.types[value].element for name, value in function.inputs.items()}
        fed = {name: array.astype(numpy_dtype(declared[name]), copy=False) for name, array in sample.items()}
        request = {"do": "run", "folder": str(folder), "inputs": written(folder / "fed", fed), "states": {}}
        told = self._child.ask(request, _SECONDS)
        held = mapped(folder / "outputs")
        found = {name: at(held, place) for name, place in told["outputs"].table().items()}
        # a copy, for the file is written anew by the next run; what NumPy does not compute with, in float32
        return {n: np.array(a if a.dtype.isbuiltin == 1 else a.astype(np.float32)) for n, a in found.items()}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        self._child.close()
