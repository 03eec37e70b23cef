"""ProgramBody: surgery on the operations of an ML Program."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from coreproof.errors import EditError
from coreproof.model.base import Model
from coreproof.model.coreml import CoreMLModel
from coreproof.model.coreml_graph import MIL_DTYPES, immediate, program_graph
from coreproof.model.coreml_proto import MIL_pb2, Model_pb2
from coreproof.model.graph import Graph
from coreproof.model.layer_weights import layer_weights
from coreproof.surgery.body import Body
from coreproof.surgery.program_features import (
    array_feature,
    carried_dtype,
    declare_array,
    description_of,
    place_of,
    rename_features,
)
from coreproof.surgery.program_types import TypeFollower, formal_inputs, names_read
from coreproof.surgery.program_weights import (
    DEFAULT_WEIGHT_FILE,
    WeightStore,
    as_dtype,
    set_tensor_type,
    tensor_type,
    text_value,
    write_value,
)

_VARIADIC = ("values", "loop_vars", "ref_tensors")
_SINGLE_ALWAYS = {"scale_factor_height", "scale_factor_width"}
"""Floats that MIL wants in float32 whatever the data is."""
_IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


class ProgramBody(Body):
    """An ML Program under surgery: the operations of its main function, its constants, its weight file, its features."""

    def __init__(self, model: Model) -> None:
        assert isinstance(model, CoreMLModel)
        self._origin = model
        self._spec = Model_pb2.Model()
        self._spec.CopyFrom(model.spec)
        program = self._spec.mlProgram
        chosen = self._spec.description.defaultFunctionName or "main"
        self._name = chosen if chosen in program.functions else next(iter(program.functions))
        self._function = program.functions[self._name]
        self._block = self._function.block_specializations[self._function.opset]
        self._description = description_of(self._spec, self._name)
        self._store = WeightStore(model)
        self._view: CoreMLModel | None = None
        self._graph: Graph | None = None
        self._stale: set[str] = set()

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
        origin = self._origin
        made = CoreMLModel(
            spec,
            name=origin.name,
            folder=self._store.folder,
            notes=origin.notes,
            provenance=origin.provenance,
        )
        self._store.lend(made)
        return made

    def _changed(self, *values: str) -> None:
        """The graph is another one; what makes ``values`` may make another type of them."""
        self._view = self._graph = None
        self._stale.update(values)

    def _renew_types(self) -> TypeFollower | None:
        """Makes the declared types behind the edits follow again, those of the outputs' features included."""
        if not self._stale:
            return None
        follower = TypeFollower(self._seen(), self._function, self._stale)
        follower.follow(self._block.operations)
        self._stale.clear()
        self._view = self._graph = None
        for name in follower.changed:
            place = place_of(self._description.output, name)
            if place is not None and self._description.output[place].type.WhichOneof("Type") == "multiArrayType":
                dtype, shape = self._type(name)
                feature = self._description.output[place]
                declare_array(feature, carried_dtype(dtype, self._spec.specificationVersion), shape)
        return follower

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
            if operation.type != "const" and _name(operation) == name:
                return index, operation
        raise AssertionError(name)

    def _constants(self) -> dict[str, Any]:
        """The operations that make constants, by what they make."""
        return {o.name: op for op in self._block.operations if _is_constant(op) for o in op.outputs}

    def _index_of(self, value: str) -> int:
        return next(i for i, op in enumerate(self._block.operations) if any(o.name == value for o in op.outputs))

    def _free(self, wish: str) -> str:
        taken = {n for op in all_operations(self._block.operations) for n in (*(o.name for o in op.outputs), _name(op))}
        taken.update(named.name for named in self._function.inputs)
        wish = re.sub(r"[^A-Za-z0-9_]", "_", wish)
        name, number = wish, 1
        while name in taken:
            name, number = f"{wish}_{number}", number + 1
        return name

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

    # layers

    def remove(self, layer: str) -> None:
        index, operation = self._find(layer)
        read = list(names_read(operation))
        made = [o.name for o in operation.outputs]
        del self._block.operations[index]
        self._drop_unread(read)
        self._changed(*made)

    def set_inputs(self, layer: str, inputs: Sequence[str]) -> None:
        _, operation = self._find(layer)
        before = MIL_pb2.Operation()
        before.CopyFrom(operation)
        bound = [b for _, b in _bindings(operation)]
        constants = self._constants()
        moving = [b for b in bound if b.name not in constants]
        for name in inputs:
            if name not in {b.name for b in bound}:
                self.require_value(name)
        given = [name for name in inputs if name]
        if len(given) == len(bound):
            _bind(bound, given)
        elif len(given) == len(moving):
            _bind(moving, given)
        elif variadic := next((key for key in _VARIADIC if key in operation.inputs), None):
            settings = {b.name for key, b in _bindings(operation) if key != variadic}
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
        self._drop_unread(names_read(before))
        self._changed(*(o.name for o in before.outputs))

    def set_outputs(self, layer: str, outputs: Sequence[str]) -> None:
        _, operation = self._find(layer)
        if len(outputs) != len(operation.outputs):
            raise EditError(
                f"layer {layer!r} makes another number of values",
                where=self._where,
                expected=len(operation.outputs),
                found=", ".join(outputs),
            )
        _keep_name(operation)
        for output, name in zip(operation.outputs, outputs, strict=True):
            output.name = name
        self._sort()
        self._changed(*outputs)

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
        if places and places[0] in _VARIADIC:
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

    # settings and weights

    def set(self, layer: str, attribute: str, value: Any) -> None:
        _, operation = self._find(layer)
        known = formal_inputs(operation.type, str(self._function.opset), self._where)
        made = operation.outputs[0].name
        self._assign(operation, attribute, value, known)
        self._changed(*(o.name for o in self._block.operations[self._index_of(made)].outputs))

    def _assign(self, operation: Any, attribute: str, value: Any, known: Mapping[str, bool]) -> None:
        key, index = _indexed(attribute)
        where = f"layer {_name(operation)!r}"
        if key not in known and key not in operation.inputs:
            raise EditError(
                f"{operation.type} has no attribute and no weight {attribute!r}",
                where=where,
                expected=", ".join(known),
                found=attribute,
            )
        if value is None:
            self._take_away(operation, key, known)
            return
        if key in operation.attributes and key != "name":
            # before iOS 18 the data of a compressed constant are its attributes
            stored = operation.attributes[key]
            dtype = MIL_DTYPES[stored.type.tensorType.dataType]
            write_value(stored, as_dtype(value, dtype, f"{where}, {key!r}"), dtype, self._store, self._weight_name())
            return
        bound = list(operation.inputs[key].arguments) if key in operation.inputs else []
        if (len(bound) > 1 and index is None) or (index is not None and index >= len(bound)):
            raise EditError(
                f"{operation.type} has {len(bound)} of {key!r}",
                where=where,
                expected=f"{key}[0] to {key}[{len(bound) - 1}]",
                found=attribute,
            )
        binding = bound[index or 0] if bound else None
        dtype, shape = self._setting_type(operation, key, value, binding)
        array = as_dtype(value, dtype, f"{where}, {attribute!r}")
        if shape is not None and not isinstance(value, np.ndarray) and len(shape) != array.ndim:
            raise EditError(
                f"{key!r} has another rank", where=where, expected=f"{dtype}{list(shape)}", found=f"{value!r}"
            )
        if binding is not None and binding.WhichOneof("binding") == "value":
            write_value(binding.value, array, dtype, self._store, self._weight_name())
            return
        self._store_constant(operation, key, binding, array, dtype)

    def _setting_type(
        self, operation: Any, key: str, value: Any, binding: Any
    ) -> tuple[str, tuple[int | None, ...] | None]:
        """The dtype of an argument and, where it is a constant now, its shape."""
        if binding is not None and binding.WhichOneof("binding") == "value":
            if binding.value.type.WhichOneof("type") != "tensorType":
                raise EditError(f"{key!r} is a list", where=f"layer {_name(operation)!r}", fix="use the verb relabel")
            tensor = binding.value.type.tensorType
            return MIL_DTYPES[tensor.dataType], tuple(int(d.constant.size) for d in tensor.dimensions)
        if binding is not None:
            dtype, shape = self._type(binding.name)
            return dtype, shape if binding.name in self._constants() else None
        given = np.asarray(value)
        if given.dtype.kind in "USO":
            return "str", None
        if given.dtype.kind in "iub" and (given.dtype.kind == "b" or not _takes_floats(operation, key)):
            return "bool" if given.dtype.kind == "b" else "int32", None
        return "float32" if key in _SINGLE_ALWAYS else self._float_of(operation), None

    def _float_of(self, operation: Any) -> str:
        """The float dtype that an operation computes in: that of the data that it reads, else of what it makes."""
        constants = self._constants()
        names = [name for name in names_read(operation) if name not in constants] + list(names_read(operation))
        for name in (*names, *(o.name for o in operation.outputs)):
            value = self.graph.values.get(name)
            if value is not None and value.dtype in ("float16", "float32"):
                return value.dtype
        return "float32"

    def _store_constant(self, operation: Any, key: str, binding: Any, array: npt.NDArray[Any], dtype: str) -> None:
        """Puts the array into the constant that the argument reads, if nothing else reads it; else into a new one."""
        constants = self._constants()
        old = constants.get(binding.name) if binding is not None else None
        if old is not None and old.type == "const" and self._readers(binding.name) == 1:
            self._write(old, array, dtype)
            self._changed(binding.name)
            return
        name = self._free(binding.name if old is not None else f"{_name(operation)}_{key}_0")
        constant = MIL_pb2.Operation(type="const")
        constant.attributes["name"].CopyFrom(text_value(name))
        constant.outputs.add(name=name)
        self._write(constant, array, dtype)
        if binding is not None:
            before = binding.name
            binding.name = name
        else:
            before = None
            operation.inputs[key].arguments.add(name=name)
        self._block.operations.insert(self._index_of(operation.outputs[0].name), constant)
        self._changed(name)
        if before is not None:
            self._drop_unread([before])

    def _write(self, constant: Any, array: npt.NDArray[Any], dtype: str) -> None:
        write_value(constant.attributes["val"], array, dtype, self._store, self._weight_name())
        set_tensor_type(constant.outputs[0].type, dtype, array.shape)

    def _weight_name(self) -> str:
        """The weight file that the program reads already."""
        for operation in all_operations(self._block.operations):
            for value in operation.attributes.values():
                if value.WhichOneof("value") == "blobFileValue":
                    return str(value.blobFileValue.fileName)
        return DEFAULT_WEIGHT_FILE

    def _take_away(self, operation: Any, key: str, known: Mapping[str, bool]) -> None:
        if key not in operation.inputs:
            raise EditError(
                f"{operation.type} has no {key!r} here",
                where=f"layer {_name(operation)!r}",
                expected=", ".join(operation.inputs),
                found=key,
            )
        if not known.get(key, True):
            raise EditError(f"{operation.type} cannot be without {key!r}", where=f"layer {_name(operation)!r}")
        read = [b.name for b in operation.inputs[key].arguments if b.WhichOneof("binding") == "name"]
        del operation.inputs[key]
        self._drop_unread(read)

    def _readers(self, value: str) -> int:
        """How many places name the value: arguments, in nested blocks too, and outputs."""
        places = [b.name for op in all_operations(self._block.operations) for _, b in _bindings(op)]
        nested = [
            name for op in all_operations(self._block.operations) for block in op.blocks for name in block.outputs
        ]
        return [*places, *nested, *self._block.outputs].count(value)

    def _drop_unread(self, names: Iterable[str]) -> None:
        """Constants that only a changed layer read go with it, and what those were made from."""
        constants = self._constants()
        for name in dict.fromkeys(names):
            operation = constants.get(name)
            if operation is None or any(self._readers(o.name) for o in operation.outputs):
                continue
            read = list(names_read(operation))
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
            late = late or any(name in makers and name not in made for name in names_read(operation))
            made.update(o.name for o in operation.outputs)
        if not late:
            return
        order = _ordered(operations, makers)
        copies = []
        for index in order:
            copy = MIL_pb2.Operation()
            copy.CopyFrom(operations[index])
            copies.append(copy)
        del self._block.operations[:]
        self._block.operations.extend(copies)

    def weights(self, layer: str) -> dict[str, npt.NDArray[np.generic]]:
        return dict(layer_weights(self._seen(), self.node(layer).name))

    # names

    def rename_layer(self, old: str, new: str) -> None:
        _, operation = self._find(old)
        operation.attributes["name"].CopyFrom(text_value(self._identifier(new)))
        self._changed()

    def rename_value(self, old: str, new: str) -> None:
        self.require_value(old)
        self.require_free(self._identifier(new))
        for named in self._function.inputs:
            if named.name == old:
                named.name = new
        _rename(self._block, old, new)
        rename_features(self._description, old, new)
        self._changed()

    # features

    def set_output(self, value: str, instead_of: str | None = None) -> None:
        self.require_value(value)
        self._renew_types()
        outputs = self._description.output
        if value in self.graph.inputs or (self.is_constant(value) and self.graph.producer(value) is None):
            raise EditError(
                f"{value!r} cannot be an output: it is an input or a constant",
                where=self._where,
                fix="insert an identity behind it",
            )
        place = place_of(outputs, instead_of)
        if instead_of is not None and place is None:
            raise EditError(f"there is no output {instead_of!r}", expected=", ".join(f.name for f in outputs))
        if value != instead_of and place_of(outputs, value) is not None:
            raise EditError(f"{value!r} is an output already", where=self._where)
        dtype, shape = self._type(value)
        carried = carried_dtype(dtype, self._spec.specificationVersion)
        if carried != dtype:
            self._cast_output(value, carried)
        feature = array_feature(value, carried, shape)
        if place is None:
            outputs.append(feature)
            self._block.outputs.append(value)
        else:
            self._forget(str(instead_of))
            if value == instead_of:
                feature.shortDescription = outputs[place].shortDescription
            outputs[place].CopyFrom(feature)
            self._block.outputs[list(self._block.outputs).index(str(instead_of))] = value
        self._changed()

    def _cast_output(self, value: str, carried: str) -> None:
        """Lets ``value`` name what is cast for the outside; within it is called by another name from now on."""
        inner = self._free(f"{value}_uncast")
        _rename(self._block, value, inner)
        self._graph = None
        self._add_cast(inner, value, carried, self._index_of(inner) + 1)

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

    def drop_output(self, name: str) -> None:
        outputs = self._description.output
        place = place_of(outputs, name)
        if place is None:
            raise EditError(f"there is no output {name!r}", expected=", ".join(f.name for f in outputs), found=name)
        del outputs[place]
        if name in self._block.outputs:
            self._block.outputs.remove(name)
        self._forget(name)
        self._changed()

    def _forget(self, name: str) -> None:
        """A feature that goes is no classifier's any more."""
        if self._description.predictedFeatureName == name:
            self._description.predictedFeatureName = ""
        if self._description.predictedProbabilitiesName == name:
            self._description.predictedProbabilitiesName = ""

    def set_input(self, value: str, shape: Sequence[int], dtype: str) -> None:
        carried = carried_dtype(dtype, self._spec.specificationVersion)
        lengths = [int(n) for n in shape]
        place = place_of(self._description.input, value)
        if place is not None:
            declare_array(self._description.input[place], carried, lengths)
            named = next(n for n in self._function.inputs if n.name == value)
            set_tensor_type(named.type, carried, lengths)
            self._changed(*self._read_from(value))
            return
        self._identifier(value)
        self._step_aside(value)
        self._description.input.append(array_feature(value, carried, lengths))
        named = self._function.inputs.add(name=value)
        set_tensor_type(named.type, carried, lengths)
        self._graph = self._view = None
        if carried != dtype:
            inner = self._free(f"{value}_to_{dtype}")
            for operation in self._block.operations:
                _rename_reads(operation, value, inner)
            self._add_cast(value, inner, dtype, 0)
        self._changed(*self._read_from(value))

    def _step_aside(self, value: str) -> None:
        """What makes ``value`` so far goes, or calls it by another name where it makes other values as well."""
        maker = next((op for op in self._block.operations if any(o.name == value for o in op.outputs)), None)
        if maker is None:
            return
        if len(maker.outputs) > 1:
            _keep_name(maker)
            for output in maker.outputs:
                if output.name == value:
                    output.name = self._free(f"{value}_unread")
            return
        read = list(names_read(maker))
        del self._block.operations[self._index_of(value)]
        self._drop_unread(read)

    def _read_from(self, value: str) -> list[str]:
        return [o.name for op in self._block.operations if value in names_read(op) for o in op.outputs]

    def drop_input(self, name: str) -> None:
        inputs = self._description.input
        place = place_of(inputs, name)
        if place is None:
            raise EditError(f"there is no input {name!r}", expected=", ".join(f.name for f in inputs), found=name)
        del inputs[place]
        for index, named in enumerate(self._function.inputs):
            if named.name == name:
                del self._function.inputs[index]
                break
        self._changed()


def all_operations(operations: Iterable[Any]) -> Iterator[Any]:
    """The operations with those of nested blocks."""
    for operation in operations:
        yield operation
        for block in operation.blocks:
            yield from all_operations(block.operations)


def _name(operation: Any) -> str:
    """How the read view names an operation: by its name, or by its first output."""
    name = operation.outputs[0].name if operation.outputs else operation.type
    return str((immediate(operation.attributes["name"]) or name) if "name" in operation.attributes else name)


def _keep_name(operation: Any) -> None:
    """An operation without a name of its own is named by its output: before that changes it gets one."""
    if "name" not in operation.attributes:
        operation.attributes["name"].CopyFrom(text_value(_name(operation)))


def _is_constant(operation: Any) -> bool:
    return bool(operation.type == "const" or operation.type.startswith("constexpr_"))


def _bindings(operation: Any) -> list[tuple[str, Any]]:
    """(argument, binding) for every value that an operation names itself, in the order of the read view."""
    return [
        (key, binding)
        for key, argument in operation.inputs.items()
        for binding in argument.arguments
        if binding.WhichOneof("binding") == "name"
    ]


def _bind(bindings: Sequence[Any], names: Sequence[str]) -> None:
    for binding, name in zip(bindings, names, strict=True):
        binding.name = name


def _rename(block: Any, old: str, new: str) -> None:
    """Renames a value in a block and in those nested in it: where it is made, read, and handed out."""
    for named in block.inputs:
        if named.name == old:
            named.name = new
    block.outputs[:] = [new if name == old else name for name in block.outputs]
    for operation in block.operations:
        for output in operation.outputs:
            if output.name == old:
                output.name = new
        _rename_reads(operation, old, new)
        for nested in operation.blocks:
            _rename(nested, old, new)


def _rename_reads(operation: Any, old: str, new: str) -> None:
    for _, binding in _bindings(operation):
        if binding.name == old:
            binding.name = new
    for nested in operation.blocks:
        nested.outputs[:] = [new if name == old else name for name in nested.outputs]
        for inner in nested.operations:
            _rename_reads(inner, old, new)


def _takes_floats(operation: Any, key: str) -> bool:
    """Whether an argument given as a whole number is a float all the same: the other operand of an arithmetic operation."""
    return key in ("y", "x", "alpha", "beta", "epsilon", "gamma", "bias", "constant_val", "weight", "mean", "variance")


def _indexed(attribute: str) -> tuple[str, int | None]:
    """``values[1]`` as its argument and its place."""
    match = re.fullmatch(r"(\w+)\[(\d+)\]", attribute)
    return (match[1], int(match[2])) if match else (attribute, None)


def _ordered(operations: Sequence[Any], makers: Mapping[str, int]) -> list[int]:
    """The operations in an order in which each follows what it reads, as near to the given one as that allows."""
    order: list[int] = []
    done: set[int] = set()
    for start in range(len(operations)):
        stack, open_ones = [start], set[int]()
        while stack:
            index = stack[-1]
            if index in done:
                stack.pop()
                continue
            waiting = [makers[n] for n in names_read(operations[index]) if n in makers and makers[n] not in done]
            if index in open_ones and waiting:
                raise EditError(
                    "the layers would read from each other in a circle",
                    expected="a layer that reads what is made before it",
                    found=_name(operations[index]),
                )
            open_ones.add(index)
            if waiting:
                stack += reversed(waiting)
            else:
                done.add(index)
                order.append(index)
                stack.pop()
    return order
