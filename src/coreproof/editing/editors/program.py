"""ProgramEditor: edits the operations of an ML Program."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence

from coreproof.conversion.operators import MIL
from coreproof.editing.editor import Editor, NewLayer
from coreproof.editing.editors.program_constants import ProgramConstants
from coreproof.editing.editors.program_document import ProgramDocument, copied, keep_name
from coreproof.editing.editors.program_interface import ProgramInterface
from coreproof.editing.editors.program_types import EditedTypes, formal_inputs
from coreproof.editing.editors.widen import Widening
from coreproof.errors import EditError
from coreproof.model.base import Model
from coreproof.model.coreml.model import CoreMLModel
from coreproof.model.coreml.proto import MIL_pb2
from coreproof.model.formats import classic
from coreproof.model.formats import program as mil
from coreproof.model.graph import Graph, Node


class ProgramEditor(Editor):
    """An ML Program being edited: the operations of its main function, their constants, their types, the features."""

    def reopen(self, model: Model) -> None:
        assert isinstance(model, CoreMLModel)
        self._document = ProgramDocument(model)
        self._types = EditedTypes(self._document)
        self._constants = ProgramConstants(self._document, self._types)
        self.interface = ProgramInterface(self._document, self._types)

    @property
    def model(self) -> CoreMLModel:
        self._types.renew()
        return self._document.model

    @property
    def graph(self) -> Graph:
        return self._document.graph

    def close(self) -> CoreMLModel:
        self._types.renew()
        return self._document.as_model()

    # layers

    def _find(self, layer: str) -> tuple[int, MIL_pb2.Operation]:
        return self._document.find(self.node(layer).name)

    def remove(self, layer: str) -> None:
        index, operation = self._find(layer)
        read = list(mil.reads(operation))
        made = mil.writes(operation)
        del self._document.block.operations[index]
        self._document.drop_unread(read)
        self._types.changed(*made)

    def set_inputs(self, layer: str, inputs: Sequence[str]) -> None:
        _, operation = self._find(layer)
        before = copied(operation)
        bound = [b for _, b in mil.bindings(operation)]
        constants = self._document.constants()
        moving = [b for b in bound if b.name not in constants]
        dtypes = self._types.dtypes(b.name for b in moving)
        types = self._types.known(b.name for b in bound)
        for name in inputs:
            if name not in {b.name for b in bound}:
                self.require_value(name)
        given = [name for name in inputs if name]
        # all that the operation reads, settings included, else the values alone; last, more or fewer of a list
        rebound = bound if len(given) == len(bound) else moving if len(given) == len(moving) else None
        if rebound is not None:
            for binding, name in zip(rebound, given, strict=True):
                binding.name = name
        elif (variadic := MIL.traits(operation.type).get("variadic", "")) in operation.inputs:
            settings = {b.name for key, b in mil.bindings(operation) if key != variadic}
            argument = operation.inputs[variadic]
            del argument.arguments[:]
            for name in given:
                if name not in settings:
                    argument.arguments.add(name=name)
        else:
            raise EditError(
                f"layer {layer!r} reads another number of values",
                where=self._document.where,
                expected=f"{len(moving)} ({', '.join(b.name for b in moving)})",
                found=", ".join(given) or "none",
            )
        try:
            self._document.sort()
        except EditError:
            operation.CopyFrom(before)
            raise
        self._document.drop_unread(mil.reads(before))
        self._types.changed()
        # values of the same types give the same types; to follow them costs a walk through the whole program
        if types is None or types != self._types.known(b.name for _, b in mil.bindings(self._find(layer)[1])):
            self._types.changed(*mil.writes(before))
        if set(dtypes) != set(self._types.dtypes(name for name in inputs if name not in constants)):
            self._types.retyped.update(mil.writes(before))

    def redirect(self, value: str, to: str, readers: Sequence[Node]) -> None:
        if not readers:
            return
        self.require_value(to)
        known = self._types.known([value])
        # types are followed through the whole program only where they may have changed
        is_alike = known is not None and known == self._types.known([to])
        same_dtype = self._types.dtypes([value]) == self._types.dtypes([to])
        wanted = {reader.name for reader in readers}
        made: list[str] = []
        with self._types.all_or_nothing():
            for operation in self._document.block.operations:
                if mil.name(operation) in wanted and value in mil.reads(operation):
                    mil.rename_reads(operation, {value: to})
                    made += mil.writes(operation)
            self._document.sort()
            self._document.drop_unread([value])
        if not is_alike:
            self._types.changed(*made)
        if not same_dtype:
            self._types.retyped.update(made)

    def set_outputs(self, layer: str, outputs: Sequence[str]) -> None:
        _, operation = self._find(layer)
        if len(outputs) != len(operation.outputs):
            raise EditError(
                f"layer {layer!r} makes another number of values",
                where=self._document.where,
                expected=len(operation.outputs),
                found=", ".join(outputs),
            )
        # an operation without a name of its own is called by its first output
        keep_name(operation)
        moved = [name for output, name in zip(operation.outputs, outputs, strict=True) if output.name != name]
        dtypes = self._types.dtypes(moved)
        for output, name in zip(operation.outputs, outputs, strict=True):
            output.name = name
        self._document.sort()
        self._types.changed(*outputs, *(made for name in moved for made in self._document.made_from(name)))
        for name, before, now in zip(moved, dtypes, self._types.dtypes(moved), strict=True):
            if before not in (None, now):
                self._types.retyped.update(self._document.made_from(name))

    def add(self, layer: NewLayer, after: str | None) -> None:
        document, outputs = self._document, layer.outputs
        known = formal_inputs(layer.operator, str(document.function.opset), document.where)
        bound = self._arguments(layer, known)
        for wanted in (layer.name, *outputs):
            document.identifier(wanted)
        self._complete(layer.operator, known, {*bound, *layer.attributes})
        place = 0 if after is None else self._find(after)[0] + 1
        # also the constants and casts that are put in front go where the operation is refused
        kept = MIL_pb2.Block()
        kept.CopyFrom(document.block)
        operation = mil.new_operation(layer.operator, layer.name)
        for key, values in bound.items():
            for read in values:
                operation.inputs[key].arguments.add(name=read)
        for output in outputs:
            operation.outputs.add(name=output)
        document.block.operations.insert(place, operation)
        try:
            for key, value in layer.attributes.items():
                # looked up anew: a constant that was put in front has moved it
                inserted = document.block.operations[document.place_of(outputs[0])]
                self._constants.assign(inserted, key, value, known)
            self._types.changed(*outputs)
            document.sort()
            follower = self._types.renew()
            refused = [follower.problems[o] for o in outputs if follower is not None and o in follower.problems]
            if refused:
                raise EditError(
                    f"{layer.operator} does not take these inputs: {refused[0].problem}",
                    where=f"{document.where}, layer {layer.name!r}",
                    expected=refused[0].expected,
                    found=refused[0].found,
                )
            self._require_types(layer.operator, outputs)
        except EditError:
            document.block.CopyFrom(kept)
            self._types.changed()
            raise

    def _arguments(self, layer: NewLayer, known: Mapping[str, bool]) -> dict[str, list[str]]:
        """argument -> the values that are bound to it, from a list in the operation's own order, or by name."""
        read = list(map(self.require_value, layer.reads))
        if isinstance(layer.inputs, Mapping):
            return {key: [value] for key, value in layer.inputs.items()}
        places = [key for key in known if key not in layer.attributes]
        if places and places[0] == MIL.traits(layer.operator).get("variadic"):
            return {places[0]: read}
        if len(read) > len(places):
            raise EditError(f"{layer.operator} reads fewer values", expected=", ".join(places), found=", ".join(read))
        return {key: [value] for key, value in zip(places, read, strict=False)}

    def _complete(self, operator: str, known: Mapping[str, bool], given: set[str]) -> None:
        missing = [key for key, optional in known.items() if not optional and key not in given]
        if missing or not given.issubset(known):
            raise EditError(
                f"{operator} is not given what it takes",
                where=self._document.where,
                expected=", ".join(f"{k} (may be left out)" if optional else k for k, optional in known.items()),
                found=", ".join(sorted(given)) or "nothing",
            )

    def _require_types(self, operator: str, outputs: Iterable[str]) -> None:
        declared = {o.name: o.type for op in self._document.block.operations for o in op.outputs}
        untyped = [name for name in outputs if declared[name].WhichOneof("type") is None]
        if untyped:
            raise EditError(
                f"it is not known what {operator} makes",
                where=self._document.where,
                expected="a type",
                found=", ".join(untyped),
            )

    def set(self, layer: str, attribute: str, value: object) -> None:
        _, operation = self._find(layer)
        known = formal_inputs(operation.type, str(self._document.function.opset), self._document.where)
        made = mil.writes(operation)
        self._constants.assign(operation, attribute, value, known)
        self._types.changed(*made)

    # widths

    def widen(self, operations: Collection[str]) -> None:
        """Makes operations (by the first value that each makes) compute in float32. Raises EditError, the model unchanged."""
        self._types.renew()
        Widening(self._document, operations).carry_out()
        self._types.changed()

    # names

    def rename_layer(self, old: str, new: str) -> None:
        mil.set_name(self._find(old)[1], self._document.identifier(new))
        self._types.changed()

    def name_output(self, value: str, output: str) -> None:
        """The block says what it hands out, besides the description."""
        self.rename_value(value, output)
        if output not in self._document.block.outputs:
            self._document.block.outputs.append(output)
            self._types.changed()

    def rename_value(self, old: str, new: str) -> None:
        self.require_value(old)
        self.require_free(self._document.identifier(new))
        # a function names its inputs beside its block
        for named in self._document.function.inputs:
            if named.name == old:
                named.name = new
        mil.rename(self._document.block, {old: new})
        for names in (self._types.stale, self._types.retyped):
            if old in names:
                names.add(new)
        classic.rename(self._document.description, {old: new})
        self._types.changed()
