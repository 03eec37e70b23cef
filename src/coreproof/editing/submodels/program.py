"""Cuts an ML Program: the operations that are kept, the constants that they read, and a weight file with those alone."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from coreproof.editing.editors.coreml_interface import declare_array
from coreproof.editing.editors.program_types import PROGRAM_ARRAY_DTYPES
from coreproof.editing.submodels.submodel import Layer, Selection, Submodel, SubmodelBuilder, bypasses
from coreproof.errors import EditError
from coreproof.model.base import Model
from coreproof.model.coreml.model import CoreMLModel
from coreproof.model.coreml.proto import FeatureTypes_pb2, MIL_pb2, Model_pb2
from coreproof.model.files.scratch import TemporaryFolder
from coreproof.model.formats import classic, program


class ProgramSubmodelBuilder(SubmodelBuilder):
    """Operations declare the types of what they make, so that a cut needs no inference."""

    _operations: dict[str, Any]
    _constants: dict[str, Any]
    _types: dict[str, Any]
    _function: str

    @classmethod
    def of(cls, model: Model) -> ProgramSubmodelBuilder:
        """Reads the operations of the main function."""
        assert isinstance(model, CoreMLModel)
        chosen = program.main_name(model.spec)
        function = model.spec.mlProgram.functions[chosen]
        block = program.block_of(function)
        types = {named.name: named.type for named in function.inputs}
        constants, operations, layers = dict[str, Any](), dict[str, Any](), []
        for operation in block.operations:
            types.update({output.name: output.type for output in operation.outputs})
            makes = tuple(program.writes(operation))
            if program.is_constant(operation):
                constants.update(dict.fromkeys(makes, operation))
                continue
            name = makes[0] if makes else operation.type
            while name in operations:
                name += "#"
            operations[name] = operation
            reads = tuple(dict.fromkeys(n for n in program.reads(operation) if n not in constants))
            layers.append(Layer(name, operation.type, reads, makes))
        found = cls(
            model,
            tuple(layers),
            tuple(named.name for named in function.inputs),
            tuple(block.outputs),
            {name: shape for name, t in types.items() if (shape := _fixed(t)) is not None},
            {name: dtype for name, t in types.items() if (dtype := program.dtype_of(t)) in PROGRAM_ARRAY_DTYPES},
        )
        found._operations, found._constants, found._types, found._function = operations, constants, types, chosen
        return found

    def learn(self, name: str, shape: tuple[int, ...], dtype: str) -> None:
        stored = program.dtype_of(self._types[name])
        if stored not in PROGRAM_ARRAY_DTYPES or not shape:
            return
        super().learn(name, shape, stored)
        fixed = MIL_pb2.ValueType()
        fixed.tensorType.dataType = self._types[name].tensorType.dataType
        fixed.tensorType.rank = len(shape)
        for length in shape:
            fixed.tensorType.dimensions.add().constant.size = length
        self._types[name] = fixed

    def build(self, submodel: Submodel) -> CoreMLModel:
        """The sub-model in a folder of its own, whose weight file holds what it reads."""
        assert isinstance(self.model, CoreMLModel)
        if submodel.shapes:
            raise EditError("the operations of an ML Program declare their shapes; inputs cannot be made smaller")
        cut, around = self.select(submodel), bypasses(submodel)
        whole = self.model.spec
        spec = Model_pb2.Model(specificationVersion=whole.specificationVersion)
        spec.mlProgram.version = whole.mlProgram.version
        opset = whole.mlProgram.functions[self._function].opset
        function = spec.mlProgram.functions[self._function]
        function.opset = opset
        block = function.block_specializations[opset]
        kept = [self._operations[layer.name] for layer in cut.layers]
        for constant in self._read_constants([*kept, *(o for o in cut.outputs if o in self._constants)]):
            block.operations.add().CopyFrom(constant)
        for operation in kept:
            block.operations.add().CopyFrom(operation)
            program.rename_reads(block.operations[-1], around)
        block.outputs.extend(cut.outputs if submodel.outputs else self.whole_outputs)
        for name in cut.inputs:
            function.inputs.add(name=name).type.CopyFrom(self._types[name])
        self._describe(spec, submodel, cut)
        return self._with_weights(spec, block)

    def _read_constants(self, readers: Iterable[Any]) -> list[Any]:
        """The constants that operations read, in an order in which each follows what it reads itself."""
        found: dict[int, Any] = {}

        def visit(name: str) -> None:
            operation = self._constants.get(name)
            if operation is not None and id(operation) not in found:
                for read in program.reads(operation):
                    visit(read)
                found[id(operation)] = operation

        for reader in readers:
            for name in [reader] if isinstance(reader, str) else program.reads(reader):
                visit(name)
        return list(found.values())

    def _describe(self, spec: Any, submodel: Submodel, cut: Selection) -> None:
        assert isinstance(self.model, CoreMLModel)
        whole = self.model.spec.description
        given = {f.name: f for f in (*whole.input, *whole.output, *whole.state)}
        states = {f.name for f in whole.state}
        for name in cut.inputs:
            owner = spec.description.state if name in states else spec.description.input
            owner.add().CopyFrom(given[name] if name in self.inputs and name in given else self._feature(name))
        if not submodel.outputs:
            spec.description.output.extend(whole.output)
            spec.description.predictedFeatureName = whole.predictedFeatureName
            spec.description.predictedProbabilitiesName = whole.predictedProbabilitiesName
        for name in cut.outputs if submodel.outputs else ():
            spec.description.output.add().CopyFrom(given[name] if name in given else self._feature(name))
        features = (*spec.description.input, *spec.description.output)
        if any(f.type.multiArrayType.dataType == FeatureTypes_pb2.ArrayFeatureType.FLOAT16 for f in features):
            spec.specificationVersion = max(spec.specificationVersion, classic.FLOAT16_FEATURES_SINCE)

    def _feature(self, name: str) -> Any:
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

    def _with_weights(self, spec: Any, block: Any) -> CoreMLModel:
        """The model with the blobs that it reads copied to a fresh weight file, each where its constant now says."""
        assert isinstance(self.model, CoreMLModel)
        values = list(program.blobs(block.operations))
        if not values:
            return CoreMLModel(spec, name=self.model.name)
        scratch = TemporaryFolder()
        self.model.copy_blobs(values, Path(scratch.name))
        return CoreMLModel(spec, name=self.model.name, folder=Path(scratch.name), keep_alive=scratch)


def _fixed(value_type: Any) -> tuple[int, ...] | None:
    """The lengths of a tensor that declares all of them, and has at least one."""
    shape = program.shape_of(value_type)
    fixed = tuple(n for n in shape or () if n is not None)
    return fixed if shape and len(fixed) == len(shape) else None
