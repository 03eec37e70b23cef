"""The inputs and outputs of an ML Program: declared, taken away, cast where a feature cannot have the dtype of its value."""

from __future__ import annotations

from collections.abc import Sequence

from coreproof.editing.editors.program_features import array_feature, carried_dtype, declare_array, place_of
from coreproof.editing.editors.program_operations import keep_name
from coreproof.editing.editors.program_state import ProgramState
from coreproof.editing.editors.program_weights import set_tensor_type
from coreproof.errors import EditError
from coreproof.model.formats import program as mil


class ProgramInterface(ProgramState):
    """What enters and leaves: the description's features, the function's inputs and the block's outputs, kept alike."""

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
        if place is not None and value == instead_of and outputs[place].type.WhichOneof("Type") == "imageType":
            outputs[place].type.imageType.height, outputs[place].type.imageType.width = (n or 0 for n in shape[-2:])
            self._changed()
            return
        carried = carried_dtype(dtype, self._spec.specificationVersion)
        if not shape:
            self._lift_output(value)
            shape = (1,)
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

    def _lift_output(self, value: str) -> None:
        """A multi-array has a dimension at least: a number by itself gets one of length 1 for the outside."""
        inner = self._inside(value, "scalar")
        after = self.graph.producer(inner)
        assert after is not None
        self.add("expand_dims", self._free(f"{value}_lifted"), [inner], [value], {"axes": [0]}, after.name)

    def drop_output(self, name: str) -> None:
        outputs = self._description.output
        place = place_of(outputs, name)
        if place is None:
            raise EditError(f"there is no output {name!r}", expected=", ".join(f.name for f in outputs), found=name)
        if len(outputs) == 1:
            raise EditError(f"{name!r} is the only output", where=self._where, fix="declare another output first")
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
        if not lengths:
            raise EditError(
                f"{value!r} is a number by itself", expected="an input of one dimension at least", found=lengths
            )
        place = place_of(self._description.input, value)
        if place is not None:
            declare_array(self._description.input[place], carried, lengths)
            named = next(n for n in self._function.inputs if n.name == value)
            if self._dtypes([value]) != [carried]:
                self._retyped.update(self._read_from(value))
            set_tensor_type(named.type, carried, lengths)
            self._changed(value)
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
                mil.rename_reads(operation, {value: inner})
            self._add_cast(value, inner, dtype, 0)
        self._changed(*self._read_from(value))

    def _step_aside(self, value: str) -> None:
        """What makes ``value`` so far goes, or calls it by another name where it makes other values as well."""
        maker = next((op for op in self._block.operations if any(o.name == value for o in op.outputs)), None)
        if maker is None:
            return
        if len(maker.outputs) > 1:
            keep_name(maker)
            for output in maker.outputs:
                if output.name == value:
                    output.name = self._free(f"{value}_unread")
            return
        read = list(mil.reads(maker))
        del self._block.operations[self._index_of(value)]
        self._drop_unread(read)

    def drop_input(self, name: str) -> None:
        owner = next(
            (o for o in (self._description.input, self._description.state) if place_of(o, name) is not None), None
        )
        if owner is None:
            known = ", ".join(f.name for f in self._description.input)
            raise EditError(f"there is no input {name!r}", expected=known, found=name)
        del owner[place_of(owner, name)]
        for index, named in enumerate(self._function.inputs):
            if named.name == name:
                del self._function.inputs[index]
                break
        self._changed()
