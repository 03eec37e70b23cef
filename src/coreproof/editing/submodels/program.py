"""Cuts an ML Program: the operations that are kept, the constants that they read, and a weight file with those alone."""

from __future__ import annotations

import weakref
from collections.abc import MutableSequence, Sequence
from pathlib import Path

from coreproof.editing.editors.coreml_interface import declare_array
from coreproof.editing.editors.program_types import PROGRAM_ARRAY_DTYPES
from coreproof.editing.editors.program_weights import tensor_type
from coreproof.editing.submodels.submodel import Selection, Submodel, SubmodelBuilder, bypasses, layers_of
from coreproof.errors import EditError
from coreproof.model.coreml.model import CoreMLModel
from coreproof.model.coreml.proto import FeatureTypes_pb2, MIL_pb2, Model_pb2
from coreproof.model.files.scratch import TemporaryFolder
from coreproof.model.formats import classic, program


class ProgramSubmodelBuilder(SubmodelBuilder):
    """Operations declare the types of what they make, so that a cut needs no inference."""

    model: CoreMLModel

    def _read(self) -> None:
        self._function = program.main_name(self.model.spec)
        function = self.model.spec.mlProgram.functions[self._function]
        block = program.block_of(function)
        # held together: protobuf hands out messages anew, and they are told apart by which object they are
        self._stored = list(block.operations)
        computing = [operation for operation in self._stored if not program.is_constant(operation)]
        self._constants = {
            name: operation
            for operation in self._stored
            if program.is_constant(operation)
            for name in program.writes(operation)
        }
        self._types = {named.name: named.type for named in function.inputs}
        self._types.update({output.name: output.type for operation in self._stored for output in operation.outputs})
        self.layers = layers_of(
            computing,
            ((*program.writes(operation), operation.type)[0] for operation in computing),
            lambda operation: operation.type,
            program.reads,
            program.writes,
            self._constants,
        )
        self.inputs = tuple(named.name for named in function.inputs)
        self.whole_outputs = tuple(block.outputs)
        types = self._types.items()
        self.shapes = {name: shape for name, t in types if (shape := _fixed(t)) is not None}
        self.dtypes = {name: dtype for name, t in types if (dtype := program.dtype_of(t)) in PROGRAM_ARRAY_DTYPES}

    def learn(self, name: str, shape: tuple[int, ...], dtype: str) -> None:
        """Notes shape and dtype of a value that can be a feature: a multi-array of rank 1 or more."""
        stored = program.dtype_of(self._types[name])
        if stored not in PROGRAM_ARRAY_DTYPES or not shape:
            return
        super().learn(name, shape, stored)
        self._types[name] = tensor_type(stored, shape)

    def build(self, submodel: Submodel) -> CoreMLModel:
        """The sub-model in a folder of its own, whose weight file holds what it reads; other functions stay as they are."""
        if submodel.shapes:
            raise EditError("the operations of an ML Program declare their shapes; inputs cannot be made smaller")
        cut, around = self.select(submodel), bypasses(submodel)
        whole = self.model.spec
        spec = Model_pb2.Model(specificationVersion=whole.specificationVersion)
        spec.description.CopyFrom(whole.description)
        spec.mlProgram.version = whole.mlProgram.version
        # other functions of the package are none of the cut's business
        for name, other in whole.mlProgram.functions.items():
            if name != self._function:
                spec.mlProgram.functions[name].CopyFrom(other)
        opset = whole.mlProgram.functions[self._function].opset
        function = spec.mlProgram.functions[self._function]
        function.opset = opset
        block = function.block_specializations[opset]
        kept = [layer.message for layer in cut.layers if isinstance(layer.message, MIL_pb2.Operation)]
        # told apart by identity: constants may be equal
        wanted = {id(operation) for operation in (*kept, *self._read_constants(kept, cut.outputs))}
        for operation in self._stored:
            if id(operation) in wanted:
                block.operations.add().CopyFrom(operation)
                program.rename_reads(block.operations[-1], around)
        block.outputs.extend(cut.outputs if submodel.outputs else self.whole_outputs)
        for name in cut.inputs:
            function.inputs.add(name=name).type.CopyFrom(self._types[name])
        self._describe(spec, submodel, cut)
        return self._with_weights(spec)

    def _read_constants(self, readers: Sequence[MIL_pb2.Operation], outputs: Sequence[str]) -> list[MIL_pb2.Operation]:
        """The constants that operations read, and what those were made from; those that are outputs themselves."""
        found: dict[str, MIL_pb2.Operation] = {}
        waiting = [*outputs, *(name for reader in readers for name in program.reads(reader))]
        while waiting:
            name = waiting.pop()
            if name in self._constants and name not in found:
                found[name] = self._constants[name]
                waiting += program.reads(found[name])
        return list(found.values())

    def _describe(self, spec: Model_pb2.Model, submodel: Submodel, cut: Selection) -> None:
        description = program.description_of(spec, self._function)
        given = {f.name: f for f in (*description.input, *description.output, *description.state)}
        states = {f.name for f in description.state}
        features = [given[n] if n in given and n in self.inputs else self._feature(n) for n in cut.inputs]
        made = [given[name] if name in given else self._feature(name) for name in cut.outputs]
        _replace(description.input, [f for f in features if f.name not in states])
        _replace(description.state, [f for f in features if f.name in states])
        if submodel.outputs:
            _replace(description.output, made)
            for field in ("predictedFeatureName", "predictedProbabilitiesName"):
                if getattr(description, field) not in cut.outputs:
                    setattr(description, field, "")
        half = FeatureTypes_pb2.ArrayFeatureType.FLOAT16
        # an inner value of float16 becomes a feature, which older versions have none of
        if any(f.type.multiArrayType.dataType == half for f in (*description.input, *description.output)):
            spec.specificationVersion = max(spec.specificationVersion, classic.FLOAT16_FEATURES_SINCE)

    def _feature(self, name: str) -> Model_pb2.FeatureDescription:
        dtype = self.dtypes.get(name)
        if dtype is None:
            raise EditError(
                f"the value {name!r} cannot be a feature",
                where=self.model.name,
                expected=" or ".join(PROGRAM_ARRAY_DTYPES),
                found=program.dtype_of(self._types[name]) if name in self._types else "a value that nothing makes",
            )
        feature = Model_pb2.FeatureDescription(name=name)
        declare_array(feature, dtype, self.shapes.get(name, ()))
        return feature

    def _with_weights(self, spec: Model_pb2.Model) -> CoreMLModel:
        """The model with the blobs that it reads copied to a fresh weight file, each where its constant now says."""
        values = list(classic.blobs([spec]))
        if not values:
            made = CoreMLModel(spec, name=self.model.name, notes=self.model.notes)
            made.take_provenance(self.model)
            return made
        scratch = TemporaryFolder()
        self.model.copy_blobs(values, Path(scratch.name))
        made = self.model.with_spec(spec, Path(scratch.name))
        weakref.finalize(made, scratch.cleanup)
        return made


def _replace(
    features: MutableSequence[Model_pb2.FeatureDescription], fresh: Sequence[Model_pb2.FeatureDescription]
) -> None:
    # copied first: to delete a list's items empties those of them that are wanted again
    copies = [Model_pb2.FeatureDescription.FromString(feature.SerializeToString()) for feature in fresh]
    del features[:]
    features.extend(copies)


def _fixed(value_type: MIL_pb2.ValueType) -> tuple[int, ...] | None:
    """The lengths of a tensor that declares all of them, and has at least one."""
    shape = program.shape_of(value_type)
    fixed = tuple(n for n in shape or () if n is not None)
    return fixed if shape and len(fixed) == len(shape) else None
