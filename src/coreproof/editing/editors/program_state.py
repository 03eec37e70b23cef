"""ProgramState: an ML Program laid open: its parts, the model that it is now, and the types that follow from every edit."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from coreproof.editing.editor import Editor
from coreproof.editing.editors.program_features import ARRAY_DTYPES, carried_dtype, declare_array, description_of
from coreproof.editing.editors.program_operations import copied, ordered
from coreproof.editing.editors.program_types import TypeFollower
from coreproof.editing.editors.program_weights import WeightStore, tensor_type, text_value
from coreproof.errors import EditError
from coreproof.model.base import Model
from coreproof.model.coreml.graph import program_graph
from coreproof.model.coreml.model import CoreMLModel
from coreproof.model.coreml.proto import MIL_pb2, Model_pb2
from coreproof.model.formats import program as mil
from coreproof.model.formats.free_name import free_name
from coreproof.model.graph import Graph

_IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


class ProgramState(Editor):
    """The main function of an ML Program, its constants, its weight file and its description, and what all primitives need."""

    def __init__(self, model: Model) -> None:
        assert isinstance(model, CoreMLModel)
        self._origin = model
        self._spec = Model_pb2.Model()
        self._spec.CopyFrom(model.spec)
        self._store = WeightStore(model)
        self._view: CoreMLModel | None = None
        self._graph: Graph | None = None
        self._stale: set[str] = set()
        self._retyped: set[str] = set()
        self._lay_open()

    def _lay_open(self) -> None:
        self._name = mil.main_name(self._spec)
        self._function = self._spec.mlProgram.functions[self._name]
        self._block = mil.block_of(self._function)
        self._description = description_of(self._spec, self._name)

    @property
    def model(self) -> CoreMLModel:
        self._renew_types()
        return self._seen()

    @property
    def graph(self) -> Graph:
        if self._graph is None:
            self._graph = program_graph(self._spec.mlProgram, self._name)
        return self._graph

    def close(self) -> CoreMLModel:
        self._renew_types()
        return self._model(self._spec)

    def _seen(self) -> CoreMLModel:
        if self._view is None:
            self._view = self._model(self._spec)
        return self._view

    def _model(self, spec: Any) -> CoreMLModel:
        made = self._origin.with_spec(spec, self._store.folder)
        self._store.lend(made)
        return made

    def _changed(self, *values: str) -> None:
        """The graph is another one; what makes ``values`` may make another type of them."""
        self._view = self._graph = None
        self._stale.update(values)

    @contextmanager
    def _all_or_nothing(self) -> Iterator[None]:
        """A change that fails half way is undone."""
        kept = Model_pb2.Model()
        kept.CopyFrom(self._spec)
        stale, retyped = set(self._stale), set(self._retyped)
        try:
            yield
        except EditError:
            self._spec.CopyFrom(kept)
            self._lay_open()
            self._stale, self._retyped = stale, retyped
            raise
        finally:
            self._changed()

    def _dtypes(self, values: Iterable[str]) -> list[str | None]:
        """What the values are declared as now, None for those that nothing makes."""
        known = self.graph.values
        return [known[name].dtype if name in known else None for name in values]

    def _renew_types(self) -> TypeFollower | None:
        """Makes the declared types behind the edits follow again, those of the outputs' features included."""
        if not self._stale:
            return None
        follower = TypeFollower(self._seen(), self._function, self._stale, self._retyped)
        follower.follow(self._block.operations)
        touched = self._stale | follower.changed
        self._stale, self._retyped = set(), set()
        self._view = self._graph = None
        for feature in list(self._description.output):
            if feature.name in touched and feature.type.WhichOneof("Type") == "multiArrayType":
                self._redeclare(feature)
        return follower

    def _redeclare(self, feature: Any) -> None:
        """A described output follows its value; one that cannot have the value's dtype gets it cast."""
        value = self.graph.values.get(feature.name)
        if value is None or value.shape is None or value.dtype is None:
            return
        dtype, shape = self._type(feature.name)
        array, carried = feature.type.multiArrayType, carried_dtype(dtype, self._spec.specificationVersion)
        if carried != dtype:
            self._cast_output(feature.name, carried)
        array.dataType = ARRAY_DTYPES[carried]
        if array.shape and tuple(array.shape) != shape:
            declare_array(feature, carried, shape)

    def _type(self, value: str) -> tuple[str, tuple[int | None, ...]]:
        """dtype and shape as declared; EditError where the value is no tensor."""
        known = self.graph.values[value]
        if known.shape is None or known.dtype is None:
            raise EditError(f"the value {value!r} is no tensor", where=self._where, found=known.dtype)
        return known.dtype, tuple(d if isinstance(d, int) else None for d in known.shape)

    @property
    def _where(self) -> str:
        return self._origin.where

    # finding

    def _find(self, layer: str) -> tuple[int, Any]:
        name = self.node(layer).name
        for index, operation in enumerate(self._block.operations):
            if operation.type != "const" and mil.name(operation) == name:
                return index, operation
        raise AssertionError(name)

    def _constants(self) -> dict[str, Any]:
        """The operations that make constants, by what they make."""
        return {o.name: op for op in self._block.operations if mil.is_constant(op) for o in op.outputs}

    def _index_of(self, value: str) -> int:
        return next(i for i, op in enumerate(self._block.operations) if any(o.name == value for o in op.outputs))

    def _free(self, wish: str) -> str:
        taken = {n for op in mil.nodes(self._block.operations) for n in (*(o.name for o in op.outputs), mil.name(op))}
        taken.update(named.name for named in self._function.inputs)
        return free_name(re.sub(r"[^A-Za-z0-9_]", "_", wish), taken)

    def _identifier(self, name: str) -> str:
        if not _IDENTIFIER.fullmatch(name):
            safe = re.sub(r"[^A-Za-z0-9_]", "_", name)
            raise EditError(
                f"{name!r} cannot be a name in an ML Program",
                expected="letters, digits and underscores, not a digit first",
                found=name,
                fix=f"call it {safe if not safe[:1].isdigit() else '_' + safe}",
            )
        return name

    def _cast_output(self, value: str, carried: str) -> None:
        """Lets ``value`` name what is cast for the outside; within it is called by another name from now on."""
        inner = self._inside(value, "uncast")
        self._add_cast(inner, value, carried, self._index_of(inner) + 1)

    def _inside(self, value: str, mark: str) -> str:
        """The name that a value has within from now on; outside it keeps its own."""
        inner = self._free(f"{value}_{mark}")
        outside = list(self._block.outputs)
        mil.rename(self._block, {value: inner})
        self._block.outputs[:] = outside
        self._graph = self._view = None
        return inner

    def _add_cast(self, source: str, made: str, dtype: str, place: int) -> None:
        short = {"float16": "fp16", "float32": "fp32"}.get(dtype, dtype)
        _, shape = self._type(source)
        constant = MIL_pb2.Operation(type="const")
        setting = self._free(f"{made}_dtype_0")
        constant.attributes["name"].CopyFrom(text_value(setting))
        constant.attributes["val"].CopyFrom(text_value(short))
        constant.outputs.add(name=setting).type.CopyFrom(tensor_type("str", ()))
        cast = MIL_pb2.Operation(type="cast")
        cast.attributes["name"].CopyFrom(text_value(self._free(made + "_cast")))
        cast.inputs["x"].arguments.add(name=source)
        cast.inputs["dtype"].arguments.add(name=setting)
        cast.outputs.add(name=made).type.CopyFrom(tensor_type(dtype, shape))
        self._block.operations.insert(place, constant)
        self._block.operations.insert(place + 1, cast)
        self._graph = self._view = None

    def _read_from(self, value: str) -> list[str]:
        return [o.name for op in self._block.operations if value in mil.reads(op) for o in op.outputs]

    def _readers(self, value: str) -> int:
        """How many places name the value: arguments, in nested blocks too, and outputs."""
        places = [b.name for op in mil.nodes(self._block.operations) for _, b in mil.bindings(op)]
        nested = [name for op in mil.nodes(self._block.operations) for block in op.blocks for name in block.outputs]
        return [*places, *nested, *self._block.outputs].count(value)

    def _drop_unread(self, names: Iterable[str]) -> None:
        """Constants that only a changed layer read go with it, and what those were made from."""
        for name in dict.fromkeys(names):
            operation = self._constants().get(name)  # looked up anew: an operation with two outputs goes once
            if operation is None or any(self._readers(o.name) for o in operation.outputs):
                continue
            read = list(mil.reads(operation))
            del self._block.operations[self._index_of(name)]
            self._drop_unread(read)
        self._graph = self._view = None

    def _sort(self) -> None:
        """Moves operations behind what they read, where they do not stand there; EditError where they read in a circle."""
        operations = list(self._block.operations)
        made: set[str] = {named.name for named in self._function.inputs}
        makers = {o.name: i for i, op in enumerate(operations) for o in op.outputs}
        late = False
        for operation in operations:
            late = late or any(name in makers and name not in made for name in mil.reads(operation))
            made.update(o.name for o in operation.outputs)
        if not late:
            return
        copies = [copied(operations[index]) for index in ordered(operations, makers)]
        del self._block.operations[:]
        self._block.operations.extend(copies)
