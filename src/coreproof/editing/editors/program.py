"""ProgramEditor: edits the operations of an ML Program."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from coreproof.conversion.operators import MIL
from coreproof.editing.editors.program_labels import ProgramLabels
from coreproof.editing.editors.program_operations import bind, copied, keep_name
from coreproof.editing.editors.program_retype import ProgramRetype
from coreproof.editing.editors.program_settings import ProgramSettings
from coreproof.editing.editors.program_types import formal_inputs
from coreproof.editing.editors.program_weights import text_value
from coreproof.errors import EditError
from coreproof.model.coreml.proto import MIL_pb2
from coreproof.model.formats import classic
from coreproof.model.formats import program as mil
from coreproof.model.graph import Node


class ProgramEditor(ProgramSettings, ProgramRetype, ProgramLabels):
    """An ML Program being edited: the operations of its main function, its constants, its weight file, its features."""

    # layers

    def remove(self, layer: str) -> None:
        index, operation = self._find(layer)
        read = list(mil.reads(operation))
        made = [o.name for o in operation.outputs]
        del self._block.operations[index]
        self._drop_unread(read)
        self._changed(*made)

    def remove_all(self, layers: Sequence[str]) -> None:
        gone = set(layers)
        self._require_layers(gone)
        kept = [op for op in self._block.operations if mil.is_constant(op) or mil.name(op) not in gone]
        made = {o.name for op in self._block.operations for o in op.outputs}
        wanted = {name for op in kept if not mil.is_constant(op) for name in mil.reads(op)} | set(self._block.outputs)
        read = {name for op in self._block.operations for name in mil.reads(op)}
        for operation in reversed([op for op in kept if mil.is_constant(op)]):
            # constants that nobody read before were not asked for, and stay
            if any(o.name in wanted or o.name not in read for o in operation.outputs):
                wanted.update(mil.reads(operation))
        kept = [
            op
            for op in kept
            if not mil.is_constant(op) or any(o.name in wanted or o.name not in read for o in op.outputs)
        ]
        copies = [copied(operation) for operation in kept]
        del self._block.operations[:]
        self._block.operations.extend(copies)
        self._changed(*made.difference(o.name for op in copies for o in op.outputs))

    def drop_unread_weights(self) -> None:
        self._store.compact(list(classic.blobs([self._spec])))
        self._changed()

    def _require_layers(self, names: Collection[str]) -> None:
        known = {mil.name(op) for op in self._block.operations}
        for name in names:
            if name not in known:
                self.node(name)

    def set_inputs(self, layer: str, inputs: Sequence[str]) -> None:
        _, operation = self._find(layer)
        before = MIL_pb2.Operation()
        before.CopyFrom(operation)
        bound = [b for _, b in mil.bindings(operation)]
        constants = self._constants()
        moving = [b for b in bound if b.name not in constants]
        dtypes = self._dtypes(b.name for b in moving)
        types = self._known_types(b.name for b in bound)
        for name in inputs:
            if name not in {b.name for b in bound}:
                self.require_value(name)
        given = [name for name in inputs if name]
        if len(given) == len(bound):
            bind(bound, given)
        elif len(given) == len(moving):
            bind(moving, given)
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
                where=self._where,
                expected=f"{len(moving)} ({', '.join(b.name for b in moving)})",
                found=", ".join(given) or "none",
            )
        try:
            self._sort()
        except EditError:
            operation.CopyFrom(before)
            raise
        self._drop_unread(mil.reads(before))
        self._changed()
        if types is None or types != self._known_types(b.name for _, b in mil.bindings(self._find(layer)[1])):
            self._changed(*(o.name for o in before.outputs))
        if set(dtypes) != set(self._dtypes(name for name in inputs if name not in constants)):
            self._retyped.update(o.name for o in before.outputs)

    def redirect(self, value: str, to: str, readers: Sequence[Node]) -> None:
        if not readers:
            return
        self.require_value(to)
        known = self._known_types([value])
        is_alike = known is not None and known == self._known_types([to])
        same_dtype = self._dtypes([value]) == self._dtypes([to])
        wanted = {reader.name for reader in readers}
        made: list[str] = []
        with self._all_or_nothing():
            for operation in self._block.operations:
                if mil.name(operation) in wanted and value in mil.reads(operation):
                    mil.rename_reads(operation, {value: to})
                    made += [output.name for output in operation.outputs]
            self._sort()
            self._drop_unread([value])
        if not is_alike:
            self._changed(*made)
        if not same_dtype:
            self._retyped.update(made)

    def _known_types(self, values: Iterable[str]) -> list[Any] | None:
        """The declared types of values; None where they do not say all: behind an edit, where lengths are open."""
        if self._stale:
            return None
        known = [self.graph.values.get(name) for name in values]
        if any(v is None or v.shape is None or None in v.shape for v in known):
            return None
        return [(v.dtype, v.shape, v.name if v.constant else None) for v in known if v is not None]

    def set_outputs(self, layer: str, outputs: Sequence[str]) -> None:
        _, operation = self._find(layer)
        if len(outputs) != len(operation.outputs):
            raise EditError(
                f"layer {layer!r} makes another number of values",
                where=self._where,
                expected=len(operation.outputs),
                found=", ".join(outputs),
            )
        keep_name(operation)
        moved = [name for output, name in zip(operation.outputs, outputs, strict=True) if output.name != name]
        dtypes = self._dtypes(moved)
        for output, name in zip(operation.outputs, outputs, strict=True):
            output.name = name
        self._sort()
        self._changed(*outputs, *(made for name in moved for made in self._read_from(name)))
        for name, before, now in zip(moved, dtypes, self._dtypes(moved), strict=True):
            if before not in (None, now):
                self._retyped.update(self._read_from(name))

    def add(
        self,
        operator: str,
        name: str,
        inputs: Sequence[str] | Mapping[str, str],
        outputs: Sequence[str],
        attributes: Mapping[str, Any],
        after: str | None,
    ) -> None:
        known = formal_inputs(operator, str(self._function.opset), self._where)
        bound = self._arguments(operator, known, inputs, attributes)
        for wanted in (name, *outputs):
            self._identifier(wanted)
        self._complete(operator, known, {*bound, *attributes})
        place = 0 if after is None else self._find(after)[0] + 1
        kept = MIL_pb2.Block()
        kept.CopyFrom(self._block)
        operation = MIL_pb2.Operation(type=operator)
        operation.attributes["name"].CopyFrom(text_value(name))
        for key, values in bound.items():
            for value in values:
                operation.inputs[key].arguments.add(name=value)
        for output in outputs:
            operation.outputs.add(name=output)
        self._block.operations.insert(place, operation)
        try:
            for key, value in attributes.items():
                self._assign(self._block.operations[self._index_of(outputs[0])], key, value, known)
            self._changed(*outputs)
            self._sort()
            follower = self._renew_types()
            refused = [follower.problems[o] for o in outputs if follower is not None and o in follower.problems]
            if refused:
                raise EditError(
                    f"{operator} does not take these inputs: {refused[0].problem}",
                    where=f"{self._where}, layer {name!r}",
                    expected=refused[0].expected,
                    found=refused[0].found,
                )
            self._require_types(operator, outputs)
        except EditError:
            self._block.CopyFrom(kept)
            self._changed()
            raise

    def _arguments(
        self,
        operator: str,
        known: Mapping[str, bool],
        inputs: Sequence[str] | Mapping[str, str],
        attributes: Mapping[str, Any],
    ) -> dict[str, list[str]]:
        """argument -> the values that are bound to it, from a list in the operation's own order, or by name."""
        read = list(inputs.values()) if isinstance(inputs, Mapping) else list(inputs)
        for value in read:
            self.require_value(value)
        if isinstance(inputs, Mapping):
            return {key: [value] for key, value in inputs.items()}
        places = [key for key in known if key not in attributes]
        if places and places[0] == MIL.traits(operator).get("variadic"):
            return {places[0]: read}
        if len(read) > len(places):
            raise EditError(f"{operator} reads fewer values", expected=", ".join(places), found=", ".join(read))
        return {key: [value] for key, value in zip(places, read, strict=False)}

    def _complete(self, operator: str, known: Mapping[str, bool], given: set[str]) -> None:
        unknown = sorted(given.difference(known))
        missing = [key for key, optional in known.items() if not optional and key not in given]
        if unknown or missing:
            raise EditError(
                f"{operator} is not given what it takes",
                where=self._where,
                expected=", ".join(f"{k} (may be left out)" if optional else k for k, optional in known.items()),
                found=", ".join(sorted(given)) or "nothing",
            )

    def _require_types(self, operator: str, outputs: Iterable[str]) -> None:
        declared = {o.name: o.type for op in self._block.operations for o in op.outputs}
        untyped = [name for name in outputs if declared[name].WhichOneof("type") is None]
        if untyped:
            raise EditError(
                f"it is not known what {operator} makes", where=self._where, expected="a type", found=", ".join(untyped)
            )

    # names

    def rename_layer(self, old: str, new: str) -> None:
        _, operation = self._find(old)
        operation.attributes["name"].CopyFrom(text_value(self._identifier(new)))
        self._changed()

    def name_output(self, value: str, output: str) -> None:
        """The block says what it hands out, besides the description."""
        self.rename_value(value, output)
        if output not in self._block.outputs:
            self._block.outputs.append(output)
            self._changed()

    def rename_value(self, old: str, new: str) -> None:
        self.require_value(old)
        self.require_free(self._identifier(new))
        for named in self._function.inputs:
            if named.name == old:
                named.name = new
        mil.rename(self._block, {old: new})
        for names in (self._stale, self._retyped):
            if old in names:
                names.add(new)
        classic.rename(self._description, {old: new})
        self._changed()
