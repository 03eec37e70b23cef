"""Reads an .aimodel in a child process, and makes a StoredProgram of what that wrote down."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from coreproof.errors import UnreadableModelError
from coreproof.model.coreai.arrays import at, mapped
from coreproof.model.coreai.bytecode import GRAPH
from coreproof.model.coreai.child import Child, require_packages
from coreproof.model.coreai.element_types import TensorType, tensor_type
from coreproof.model.coreai.locations import read_location
from coreproof.model.coreai.program import Function, StoredBlock, StoredOperation, StoredProgram
from coreproof.model.files.entries import Entry, Fail, parse_json
from coreproof.model.formats.free_name import free_name

_SECONDS = 60.0
_BYTES_A_SECOND = 2_000_000
_LARGEST_GRAPH = 1 << 30
_DEEPEST = 60


def require_asset(path: Path) -> int:
    """The bytes of an .aimodel. Raises UnreadableModelError for a path that is no folder of its files."""
    names = ("metadata.json", GRAPH)
    missing = [name for name in names if (path / name).is_symlink() or not (path / name).is_file()]
    if not path.is_dir() or missing:
        raise UnreadableModelError(
            "the model is not an .aimodel, or it is damaged",
            where=str(path),
            expected=f"a folder with {' and '.join(names)} in it",
            found="no folder" if not path.is_dir() else f"no file {' and none '.join(missing)}",
            fix="if it was copied or downloaded, do that again, with all that lies in it",
        )
    return (path / GRAPH).stat().st_size


def read_program(path: Path, child: Child | None = None) -> StoredProgram:
    """The program of an .aimodel; ``child``: one that has started already, which is asked before it is closed.

    Raises UnreadableModelError (no such folder, damaged, the reader ended over it) and MissingDependencyError.
    """

    def fail(found: str) -> UnreadableModelError:
        return UnreadableModelError(
            "Apple's Core AI does not read the model",
            where=str(path),
            expected="a Core AI program",
            found=found,
            fix="if the model was copied or downloaded, do that again; else make it again from its source",
        )

    size = require_asset(path)
    require_packages()
    with child or Child(fail, size) as asked:
        asked.failing(fail)
        request = {"do": "read", "path": str(path.resolve()), "folder": str(asked.folder)}
        asked.ask(request, _SECONDS + size / _BYTES_A_SECOND)
        written = asked.folder / "graph.json"
        if written.stat().st_size > _LARGEST_GRAPH:
            raise fail(f"a graph of {written.stat().st_size:,} bytes")
        document = parse_json(written.read_bytes(), fail)
        # the folder goes with the child; what is mapped of it stays until nothing refers to it
        constants = mapped(asked.folder / "constants")
    return program_of(document, constants, fail)


def program_of(document: Entry, constants: np.ndarray, fail: Fail) -> StoredProgram:
    """The program that the child's document tells; ``constants`` are the bytes of those. Raises what ``fail`` makes."""
    functions = []
    for told in document["functions"].each():
        kind = told["operation"].text()
        if kind == "coreai.graph":
            functions.append(_Reader(constants, fail).function(told))
    if not functions:
        raise fail("a program without graphs")
    return StoredProgram(tuple(functions))


class _Reader:
    """Reads one function: names its values, each once, and its operations."""

    def __init__(self, constants: np.ndarray, fail: Fail) -> None:
        self._constants = constants
        self._fail = fail
        self._names: dict[int, str] = {}
        self._wanted: dict[int, str] = {}
        self._taken: set[str] = set()
        self._noted: set[str] = set()
        self._counts: dict[str, int] = {}
        self._types: dict[str, TensorType] = {}
        self._others: dict[str, str] = {}
        self._unnamed: set[str] = set()

    def function(self, told: Entry) -> Function:
        attributes = {name: value.text() for name, value in told["attributes"].table().items()}
        blocks = told["blocks"].each()
        if len(blocks) != 1:
            raise self._fail(f"a graph of {len(blocks)} blocks")
        arguments = [_number(a) for a in blocks[0]["arguments"].each()]
        ends = blocks[0]["operations"].each()
        if not ends or ends[-1]["operation"].text() != "coreai.output":
            raise self._fail("a graph that hands out nothing")
        results = [operand.whole(0) for operand in ends[-1]["operands"].each()]
        called = _declared(attributes.get("arg_attrs", "[]"), len(arguments), "input")
        # a token that is handed out may bear the name of the state whose order it keeps, and is no output
        kinds = {_number(value): value.each(2)[1].text() for value in _values(blocks[0])}
        tensors = [tensor_type(kinds.get(number, "")) is not None for number in results]
        handed = _declared(attributes.get("res_attrs", "[]"), len(results), "output", tensors)
        self._wanted.update(zip(arguments, called, strict=True))
        for number, name, is_tensor in zip(results, handed, tensors, strict=True):
            # two values of one name would be one
            if is_tensor and name not in called:
                self._wanted.setdefault(number, name)
        # no value in between takes the name of what the function declares
        self._taken.update(called, handed)
        # nor does one that is called after its operation take a name that another one bears
        self._noted.update(self._all_noted(blocks[0], 0))
        block = self._block(blocks[0], 0)
        return Function(
            name=_text(attributes.get("sym_name", "")),
            private="priv" in attributes,
            inputs=dict(zip(called, (self._names[n] for n in arguments), strict=True)),
            outputs={
                name: self._known(n) for name, n in zip(handed, results, strict=True) if self._known(n) in self._types
            },
            block=block,
            types=self._types,
            others=self._others,
            unnamed=frozenset(self._unnamed),
        )

    def _block(self, told: Entry, depth: int) -> StoredBlock:
        if depth > _DEEPEST:
            raise self._fail("blocks that are nested too deeply")
        arguments = tuple(self._value(a, None, "argument") for a in told["arguments"].each())
        return StoredBlock(arguments, tuple(self._operation(o, depth) for o in told["operations"].each()))

    def _operation(self, told: Entry, depth: int) -> StoredOperation:
        kind = told["operation"].text()
        location = read_location(told["location"].text())
        constant = None
        if kind == "coreai.constant" and told["constant"].value is not None:
            constant = at(self._constants, told["constant"])
        blocks, attributes = told.get("blocks"), told.get("attributes")
        results = tuple(self._value(r, location.made.get(i), kind) for i, r in enumerate(told["results"].each()))
        return StoredOperation(
            name=results[0] if results else self._unique(_short(kind)),
            kind=kind,
            operands=tuple(self._known(o.whole(0)) for o in told["operands"].each()),
            results=results,
            attributes={} if attributes.value is None else {n: v.text() for n, v in attributes.table().items()},
            blocks=() if blocks.value is None else tuple(self._block(b, depth + 1) for b in blocks.each()),
            constant=constant,
            source=location.source,
        )

    def _known(self, number: int) -> str:
        if number not in self._names:
            raise self._fail(f"a value {number} that nothing makes")
        return self._names[number]

    def _value(self, told: Entry, noted: str | None, maker: str) -> str:
        """The name of a value that is met for the first time, and its type noted; without one it bears its ``maker``'s."""
        number, kind = _number(told), told.each(2)[1].text()
        if number in self._names:
            raise self._fail(f"a value {number} that is made twice")
        plain = self._plain(maker) if noted is None else noted
        name = self._wanted.get(number) or self._unique(plain)
        if noted is None and number not in self._wanted:
            self._unnamed.add(name)
        self._names[number] = name
        if (held := tensor_type(kind)) is not None:
            self._types[name] = held
        else:
            self._others[name] = kind
        return name

    def _plain(self, kind: str) -> str:
        """What a value without a name of its own is called after its operation: none that another one bears."""
        short = _short(kind)
        while True:
            count = self._counts.get(short, 0)
            self._counts[short] = count + 1
            name = f"{short}_{count}" if count else short
            if name not in self._taken and name not in self._noted:
                return name

    def _all_noted(self, block: Entry, depth: int) -> Iterator[str]:
        """The names that the locations of operations note, those within included."""
        if depth > _DEEPEST:
            raise self._fail("blocks that are nested too deeply")
        for told in block["operations"].each():
            yield from read_location(told["location"].text()).made.values()
            inner = told.get("blocks")
            for nested in [] if inner.value is None else inner.each():
                yield from self._all_noted(nested, depth + 1)

    def _unique(self, wanted: str) -> str:
        name = free_name(wanted, self._taken)
        self._taken.add(name)
        return name


def _values(block: Entry) -> Iterator[Entry]:
    """What a block is given, and what its own operations make."""
    yield from block["arguments"].each()
    for operation in block["operations"].each():
        yield from operation["results"].each()


def _number(told: Entry) -> int:
    return told.each(2)[0].whole(0)


def _short(kind: str) -> str:
    return kind.rpartition(".")[2]


def _text(attribute: str) -> str:
    """A text attribute without its quotes."""
    return attribute[1:-1] if attribute.startswith('"') else attribute


def _declared(attribute: str, count: int, kind: str, bears: Sequence[bool] | None = None) -> list[str]:
    """The names that a list of dictionaries gives, "input_0" where one gives none; each once.

    ``bears``: which of them bear a name of their own at all.
    """
    names: list[str] = []
    for place, entry in zip(range(count), (*_dictionaries(attribute), *[""] * count), strict=False):
        found = re.search(r'coreai\.name = "((?:[^"\\]|\\.)*)"', entry)
        is_named = found is not None and found[1] and (bears is None or bears[place])
        name = found[1] if found is not None and is_named else f"{kind}_{place}"
        names.append(name if name not in names else f"{name}_{place}")
    return names


def _dictionaries(attribute: str) -> Iterator[str]:
    """The dictionaries of a list of them, each as text; braces inside quotes are none."""
    depth = start = 0
    for token in re.finditer(r'"(?:[^"\\]|\\.)*"|[{}]', attribute):
        if token[0] == "{":
            start, depth = (token.start() if depth == 0 else start), depth + 1
        elif token[0] == "}":
            depth -= 1
            if depth == 0:
                yield attribute[start : token.end()]
