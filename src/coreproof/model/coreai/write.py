"""Writes a StoredProgram as an .aimodel: what the child process is told is the document that it tells when it reads one."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from coreproof.errors import ConversionError
from coreproof.model.coreai.arrays import ArrayFile
from coreproof.model.coreai.child import Child
from coreproof.model.coreai.locations import location_of
from coreproof.model.coreai.program import Function, StoredBlock, StoredOperation, StoredProgram, operations

_SECONDS = 60.0
_BYTES_A_SECOND = 5_000_000


def write_program(program: StoredProgram, path: Path, where: str) -> Child:
    """Makes the folder ``path``, which ends in .aimodel, of a program; ``where`` is the model in messages.

    Returns the child that wrote it, to be closed: its packages are imported, which takes longer than a small model does.

    Raises ConversionError where Apple's package does not take the program, and MissingDependencyError without it.
    """

    def fail(found: str) -> ConversionError:
        return ConversionError(
            "Apple's Core AI does not take what was made of the model",
            where=where,
            found=found,
            fix="please report it with the model: `coreproof shrink` makes a small one of it",
        )

    size = sum(o.constant.nbytes for f in program.functions for o in operations(f.block) if o.constant is not None)
    child = Child(fail, size)
    try:
        tell(program, child.folder)
        request = {"do": "write", "path": str(path.resolve()), "folder": str(child.folder)}
        child.ask(request, _SECONDS + size / _BYTES_A_SECOND)
    except BaseException:
        child.close()
        raise
    return child


def tell(program: StoredProgram, folder: Path) -> None:
    """Puts into a folder what the child reads there to write a program."""
    with ArrayFile(folder / "constants") as constants:
        document = {"functions": [_Teller(function, constants).function() for function in program.functions]}
    (folder / "graph.json").write_text(json.dumps(document), encoding="utf-8")


class _Teller:
    """Tells one function; its values are numbered as they are met."""

    def __init__(self, function: Function, constants: ArrayFile) -> None:
        self._function = function
        self._constants = constants
        self._numbers: dict[str, int] = {}

    def function(self) -> dict[str, object]:
        told = self._function
        handed = told.block.operations[-1].operands
        results = [self._type(value) for value in handed]
        inputs = [self._type(value) for value in told.inputs.values()]
        attributes = {
            "sym_name": _quoted(told.name),
            "function_type": f"({', '.join(inputs)}) -> ({', '.join(results)})",
            "arg_attrs": _named(list(told.inputs)),
            "res_attrs": _named(_called(handed, told.outputs)),
            "param_decls": "#param.decl.array<[]>",
            **({"priv": "unit"} if told.private else {}),
        }
        return {
            "operation": "coreai.graph",
            "attributes": attributes,
            "blocks": [self._block(told.block)],
            "location": "",
        }

    def _block(self, block: StoredBlock) -> dict[str, object]:
        return {
            "arguments": [self._value(argument) for argument in block.arguments],
            "operations": [self._operation(operation) for operation in block.operations],
        }

    def _operation(self, operation: StoredOperation) -> dict[str, object]:
        told: dict[str, object] = {
            "operation": operation.kind,
            "operands": [self._numbers[name] for name in operation.operands],
            "results": [self._value(name) for name in operation.results],
            "location": self._location(operation.results),
            "attributes": dict(operation.attributes),
            "blocks": [self._block(block) for block in operation.blocks],
        }
        if operation.constant is not None:
            told["constant"] = self._constants.add(operation.constant)
        return told

    def _location(self, results: Sequence[str]) -> str:
        """Where the names of the results are noted; of those that have none, nothing is."""
        named = {at: name for at, name in enumerate(results) if name not in self._function.unnamed}
        return location_of(named) if named else ""

    def _value(self, name: str) -> list[object]:
        return [self._numbers.setdefault(name, len(self._numbers)), self._type(name)]

    def _type(self, name: str) -> str:
        held = self._function.types.get(name)
        return self._function.others[name] if held is None else held.text


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _named(names: Sequence[str | None]) -> str:
    return f"[{', '.join('{}' if name is None else f'{{coreai.name = {_quoted(name)}}}' for name in names)}]"


def _called(handed: Sequence[str], outputs: Mapping[str, str]) -> list[str | None]:
    """The name of each value that is handed out; of a token, which only says what comes after what, none."""
    left = list(outputs.items())
    names: list[str | None] = []
    for value in handed:
        found = next((pair for pair in left if pair[1] == value), None)
        if found is not None:
            left.remove(found)
        names.append(None if found is None else found[0])
    return names
