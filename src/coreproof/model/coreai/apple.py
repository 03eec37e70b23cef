"""The child process in which Apple's Core AI packages run: the one file that touches what they keep private.

It answers requests, one JSON line each, with one JSON line: a result, or ``{"error": ...}``. Arrays travel in files. The native
part of those packages may abort the process over what it does not like; that is why it has one of its own.
"""

from __future__ import annotations

import asyncio
import importlib
import json
import os
import re
import sys
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from functools import cache, cached_property
from pathlib import Path
from types import ModuleType
from typing import Protocol

import numpy as np

from coreproof.errors import RunError
from coreproof.model.coreai.arrays import ArrayFile, Place, at, mapped, written
from coreproof.model.coreai.bytecode import GRAPH, resources
from coreproof.model.coreai.element_types import tensor_type
from coreproof.model.coreai.literals import dense_array, stored_array
from coreproof.model.coreai.locations import without_locations
from coreproof.model.files.entries import Entry, parse_json

_BUFFERED = {"f16", "f32", "f64", "i1", "ui1", *(f"{sign}i{bits}" for sign in "su" for bits in (8, 16, 32, 64))}
"""Element types that NumPy may ask the bindings for: over any other one they end the process."""
_LONGEST_LOCATION = 20_000
_DATE = "19800101T000000Z"
"""The day of every asset, the one that archives bear whose bytes are to be the same again."""
_DIALECT = "coreai._compiler._mlir_libs._coreaiIR._bindings.mlir.dialects.coreai"

Answer = dict[str, object]


class _Attribute(Protocol):
    name: object
    attr: object


class _Attributes(Protocol):
    def __iter__(self) -> Iterator[_Attribute]: ...
    def __getitem__(self, name: str) -> object: ...


class _Value(Protocol):
    type: object


class _Block(Protocol):
    arguments: Sequence[_Value]
    operations: Sequence[_Holder]


class _Region(Protocol):
    blocks: Sequence[_Block]


class _Operation(Protocol):
    """What is used of an operation of the bindings to MLIR."""

    name: str
    attributes: _Attributes
    operands: Sequence[_Value]
    results: Sequence[_Value]
    regions: Sequence[_Region]
    location: object

    def get_asm(self, **options: object) -> str: ...
    def print(self, **options: object) -> None: ...


class _Holder(Protocol):
    operation: _Operation


# reading


def read(request: Entry) -> Answer:
    """Writes the graphs of the asset at ``path`` to ``graph.json`` in ``folder``, and its constants to ``constants`` there."""
    folder = Path(request["folder"].text())
    asset = importlib.import_module("coreai.authoring").AIModelAsset.load(request["path"].text())
    module = asset.program._module._mlir_module  # noqa: SLF001 - there is no public way to the operations
    with ArrayFile(folder / "constants") as constants:
        reader = _Reader(constants, Path(request["path"].text()) / GRAPH)
        document = {"functions": [reader.graph(held.operation) for held in module.body.operations]}
    (folder / "graph.json").write_text(json.dumps(document), encoding="utf-8")
    return {"producer": str(asset.metadata.producer) if hasattr(asset.metadata, "producer") else ""}


class _Reader:
    """A walk through the operations of a module; values are numbered as they are met."""

    def __init__(self, constants: ArrayFile, file: Path) -> None:
        self._constants = constants
        self._file = file
        self._numbers: dict[_Value, int] = {}
        self._places: dict[tuple[str, str], Place] = {}

    def graph(self, operation: _Operation) -> Answer:
        """One operation at the top of a module, which is a graph."""
        return {
            "operation": operation.name,
            "attributes": _attributes(operation),
            "blocks": [self._block(block) for region in operation.regions for block in region.blocks],
        }

    def _block(self, block: _Block) -> Answer:
        return {
            "arguments": [self._value(argument) for argument in block.arguments],
            "operations": [self._operation(inner.operation) for inner in block.operations],
        }

    def _operation(self, operation: _Operation) -> Answer:
        told: Answer = {
            "operation": operation.name,
            "operands": [self._numbers[value] for value in operation.operands],
            "results": [self._value(value) for value in operation.results],
            "location": str(operation.location)[:_LONGEST_LOCATION],
        }
        if operation.name == "coreai.constant":
            return {**told, "constant": self._constant(operation)}
        blocks = [self._block(block) for region in operation.regions for block in region.blocks]
        return {**told, "attributes": _attributes(operation), "blocks": blocks}

    def _value(self, value: _Value) -> list[object]:
        return [self._numbers.setdefault(value, len(self._numbers)), str(value.type)]

    def _constant(self, operation: _Operation) -> Place | None:
        kind = str(operation.results[0].type)
        held = tensor_type(kind)
        if held is None or held.dtype is None:  # a picture
            return None
        if held.element in _BUFFERED:
            array = np.array(operation.attributes["value"])
            # what lies beside the graph comes back as the attribute that names it
            if array.dtype != object:
                return self._constants.add(array)
        text = operation.get_asm(large_elements_limit=None, assume_verified=True)
        name = _resource(text)
        return self._constants.add(dense_array(text, kind)) if name is None else self._beside(name, kind)

    def _beside(self, name: str, kind: str) -> Place:
        """Where a constant lies that is kept beside the graph: several may be one."""
        if (name, kind) not in self._places:
            if name not in self._resources:
                raise ValueError(f"the bytes of the constant {name} are not in the file")
            self._places[name, kind] = self._constants.add(stored_array(self._resources[name], kind))
        return self._places[name, kind]

    @cached_property
    def _resources(self) -> Mapping[str, np.ndarray]:
        return resources(mapped(self._file))


def _attributes(operation: _Operation) -> dict[str, str]:
    return {str(named.name): str(named.attr) for named in operation.attributes}


def _resource(text: str) -> str | None:
    """The name of the bytes that a constant's text names; None where it holds them itself."""
    found = re.search(r"coreai\.constant dense_resource<([^>]*)>", text[:4096])
    return None if found is None else found[1].strip('"')


# writing


def assemble(request: Entry) -> Answer:
    """Saves the program that a text of MLIR says as the asset ``path``."""
    authoring, ir = importlib.import_module("coreai.authoring"), importlib.import_module("coreai._compiler.ir")
    with importlib.import_module("coreai.authoring.context").Context()._mlir_context:  # noqa: SLF001
        module = ir.Module.parse(Path(request["text"].text()).read_text(encoding="utf-8"))
        _save(authoring.AIProgram._from_mlir_module(module), Path(request["path"].text()))  # noqa: SLF001
    return {}


class _Program(Protocol):
    def save_asset(self, path: Path) -> object:
        """Writes the asset."""


def _save(program: _Program, path: Path) -> None:
    """Writes the asset, the same bytes of the same program: Apple's writer notes the time, and its keys in any order."""
    program.save_asset(path)
    about = path / "metadata.json"
    noted = parse_json(about.read_bytes(), lambda problem: RunError("Apple's writer is not understood", found=problem))
    plain = {name: noted[name].text() for name in ("assetVersion", "producer")}
    about.write_text(json.dumps({**plain, "creationDate": _DATE}, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def write(request: Entry) -> Answer:
    """Saves the program that ``graph.json`` in ``folder`` tells, as ``read`` would, as the asset ``path``."""
    folder = Path(request["folder"].text())
    authoring, ir = importlib.import_module("coreai.authoring"), importlib.import_module("coreai._compiler.ir")
    document = parse_json(
        (folder / "graph.json").read_bytes(), lambda problem: RunError("a program is not understood", found=problem)
    )
    context = importlib.import_module("coreai.authoring.context").Context()._mlir_context  # noqa: SLF001
    with context, ir.Location.unknown():
        module = ir.Module.create()
        held = mapped(folder / "constants")
        for told in document["functions"].each():
            _Writer(ir, held).put(told, ir.InsertionPoint(module.body))
        module.operation.verify()
        _save(authoring.AIProgram._from_mlir_module(module), Path(request["path"].text()))  # noqa: SLF001
    return {}


class _Writer:
    """Builds operations of what is told of them; ``ir`` is the bindings' module, ``held`` the bytes of the constants."""

    def __init__(self, ir: ModuleType, held: np.ndarray) -> None:
        self._ir = ir
        self._held = held
        self._values: dict[int, object] = {}
        # a few texts say the types and the attributes of most operations
        self._type: Callable[[str], object] = cache(ir.Type.parse)
        self._attribute: Callable[[str], object] = cache(ir.Attribute.parse)

    def put(self, told: Entry, at_the: object) -> None:
        """Builds one operation, with the blocks within it."""
        ir, kind = self._ir, told["operation"].text()
        results = [result.each(2) for result in _each(told, "results")]
        attributes = {name: self._attribute(text.text()) for name, text in told["attributes"].table().items()}
        if "constant" in told.table():
            attributes["value"] = self._elements(told["constant"], results[0][1].text())
        blocks = told["blocks"].each()
        operands = [self._values[operand.whole(0)] for operand in _each(told, "operands")]
        built = ir.Operation.create(
            kind,
            results=[self._type(type_.text()) for _, type_ in results],
            operands=operands,
            attributes=attributes,
            regions=len(blocks),
            loc=self._location(told["location"].text()),
            ip=at_the,
        )
        self._values.update({number.whole(0): made for (number, _), made in zip(results, built.results, strict=True)})
        for region, block in zip(built.regions, blocks, strict=False):
            self._block(block, region)

    def _block(self, told: Entry, region: _Region) -> None:
        arguments = [argument.each(2) for argument in told["arguments"].each()]
        types = [self._type(type_.text()) for _, type_ in arguments]
        block = self._ir.Block.create_at_start(region, types)
        self._values.update(
            {number.whole(0): value for (number, _), value in zip(arguments, block.arguments, strict=True)}
        )
        for operation in told["operations"].each():
            self.put(operation, self._ir.InsertionPoint(block))

    def _elements(self, place: Entry, kind: str) -> object:
        """A constant; large ones lie beside the graph, as Apple's own writer puts them."""
        bound = importlib.import_module(_DIALECT)
        array = at(self._held, place)
        return bound.create_elements_attr(self._ir.Location.unknown(), self._type(kind), array)

    def _location(self, text: str) -> object:
        return self._ir.Location.from_attr(self._ir.Attribute.parse(text)) if text else self._ir.Location.unknown()


def _each(told: Entry, key: str) -> list[Entry]:
    """The entries of a list that need not be there."""
    held = told.get(key)
    return [] if held.value is None else held.each()


# running


class _Runner:
    """One function of an asset, loaded."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._function: Callable[..., Awaitable[Mapping[str, _Array]]] | None = None
        self._kept: list[object] = []

    def open(self, request: Entry) -> Answer:
        """Loads ``function`` of the asset at ``path``."""
        asset = importlib.import_module("coreai.authoring").AIModelAsset.load(request["path"].text())
        loading = asset.executable()
        model = self._loop.run_until_complete(loading.__aenter__())
        self._function = model.load_function(request["function"].text())
        # they free the model when they are collected
        self._kept = [loading, model]
        return {}

    def run(self, request: Entry) -> Answer:
        """Runs the function on the arrays in ``folder``; the outputs and the states after the run are written there."""
        if self._function is None:
            raise RuntimeError("no function is open")
        folder, made = Path(request["folder"].text()), importlib.import_module("coreai.runtime").NDArray
        held = mapped(folder / "fed")
        fed, states = (
            {name: made(np.array(at(held, place))) for name, place in request[key].table().items()}
            for key in ("inputs", "states")
        )
        function = self._function

        async def call() -> Mapping[str, _Array]:
            return await function(inputs=fed, state=states)

        results = self._loop.run_until_complete(call())
        outputs = {name: np.asarray(value.numpy()) for name, value in results.items()}
        after = {name: np.asarray(value.numpy()) for name, value in states.items()}
        return {
            "outputs": written(folder / "outputs", outputs),
            "states": written(folder / "states", after),
        }


class _Array(Protocol):
    def numpy(self) -> np.ndarray: ...


def _limit_memory(size: int) -> None:
    """No more address space than this: where a system knows such a limit."""
    try:
        import resource
    except ImportError:  # Windows
        return
    resource.setrlimit(resource.RLIMIT_AS, (size, resource.getrlimit(resource.RLIMIT_AS)[1]))


def serve() -> None:
    """Answers requests until the input ends."""
    # what native code prints goes where errors go
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    runner = _Runner()
    tasks: Mapping[str, Callable[[Entry], Answer]] = {
        "read": read,
        "assemble": assemble,
        "write": write,
        "open": runner.open,
        "run": runner.run,
    }
    for line in sys.stdin:
        request = parse_json(line, lambda problem: RunError("a request is not understood", found=problem))
        try:
            answer = tasks[request["do"].text()](request)
        except Exception as error:  # the packages raise what they like
            # of what they wrap it in, the first that went wrong says most
            cause = error.__cause__ or error
            answer = {"error": without_locations(str(cause)).strip() or type(cause).__name__}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


if __name__ == "__main__":
    _limit_memory(int(sys.argv[1]))
    importlib.import_module("coreai.authoring")  # before any other of them: they import each other in a circle
    serve()
