"""Core AI models (.aimodel), as they are stored: a folder with a program in MLIR's bytecode."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path

from coreproof.errors import ConversionError, UnreadableModelError
from coreproof.model.base import SIGN, Model
from coreproof.model.coreai.program import Function, StoredProgram
from coreproof.model.coreai.read import read_program
from coreproof.model.features import Feature, Signature
from coreproof.model.files.outputs import AIMODEL, Kind
from coreproof.model.files.scratch import TemporaryFolder
from coreproof.model.formats.coreai import read_view
from coreproof.model.graph import Graph


class CoreAIModel(Model):
    """A Core AI model; ``program`` are its functions, of which ``function`` is the one that every verb works on.

    ``files`` is the folder that holds it: ``path``, or one of this run's own, which ``keep_alive`` keeps, until it is saved.
    ``opened_states``: the states that are inputs here and none in ``files``, each with the output that holds it after a run.
    """

    format = "coreai"

    def __init__(
        self,
        program: StoredProgram,
        *,
        name: str,
        path: Path | None = None,
        function: str | None = None,
        files: Path | None = None,
        keep_alive: TemporaryFolder | None = None,
    ) -> None:
        super().__init__(name if function is None else f"{name.partition(SIGN)[0]}{SIGN}{function}", path)
        self.files = path if files is None else files
        self.keep_alive = keep_alive
        self._named = function is not None
        self.opened_states: Mapping[str, str] = {}
        self.program = program
        self.function = _chosen(program, function, str(path or name))

    @property
    def functions(self) -> tuple[str, ...]:
        """The names of the functions that can be run, where there are several; the default one first."""
        names = [function.name for function in self.program.public]
        default = _chosen(self.program, None, self.where).name
        return tuple(sorted(names, key=lambda name: name != default)) if len(names) > 1 else ()

    @property
    def at_a_function(self) -> bool:
        """Whether it was opened at one of them."""
        return self._named

    @property
    def where(self) -> str:
        """The model in messages: its path, or its name."""
        return str(self.path or self.name)

    @cached_property
    def signature(self) -> Signature:
        """What the function declares: inputs, outputs and states."""
        inputs = [_feature(self.function, name, value) for name, value in self.function.inputs.items()]
        return Signature(
            inputs=tuple(f for f in inputs if f.kind != "state"),
            outputs=tuple(_feature(self.function, name, value) for name, value in self.function.outputs.items()),
            states=tuple(f for f in inputs if f.kind == "state"),
        )

    @cached_property
    def graph(self) -> Graph:
        """The operations of the function, as they are stored."""
        return read_view(self.function)

    def at_function(self, name: str) -> CoreAIModel:
        """The same model at another function. Raises ConversionError where there is none such."""
        return CoreAIModel(
            self.program, name=self.name, path=self.path, function=name, files=self.files, keep_alive=self.keep_alive
        )

    def _kind(self, target: Path) -> Kind:
        return AIMODEL

    def write(self, fresh: Path, target: Path) -> None:
        """Copies the folder that it was read from: nothing in it is changed."""
        assert not self.opened_states, "the files are those of the model with its states closed"
        if self.files is None or not self.files.is_dir():
            raise UnreadableModelError("the folder that the model was read from is gone", where=self.where)
        shutil.copytree(self.files, fresh)


def load_coreai(path: Path) -> CoreAIModel:
    """Reads an .aimodel.

    Raises UnreadableModelError (no such folder, damaged), and MissingDependencyError without Apple's package.
    """
    return CoreAIModel(read_program(path), name=path.stem, path=path)


def _chosen(program: StoredProgram, wanted: str | None, where: str) -> Function:
    public = program.public
    if not public:
        raise UnreadableModelError("the program has no function that can be run", where=where)
    name = wanted or next((f.name for f in public if f.name == "main"), public[0].name)
    for function in public:
        if function.name == name:
            return function
    raise ConversionError(
        "the model has no such function", where=where, expected=" or ".join(f.name for f in public), found=name
    )


def _feature(function: Function, name: str, value: str) -> Feature:
    held = function.types.get(value)
    if held is None:
        return Feature(name, "sequence", holds=function.others.get(value, "?"))
    return Feature(name, "state" if held.state else "tensor", held.dtype, held.shape)
