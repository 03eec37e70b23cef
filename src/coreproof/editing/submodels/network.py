"""Cuts a NeuralNetwork: the layers that are kept, and features in the ranks that its array mapping can read."""

from __future__ import annotations

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from coreproof.editing.editors.coreml_interface import declare_array
from coreproof.editing.submodels.submodel import Selection, Submodel, SubmodelBuilder, bypasses, layers_of
from coreproof.model.coreml.model import CoreMLModel
from coreproof.model.coreml.proto import Model_pb2
from coreproof.model.formats import network
from coreproof.validation.names import score_blob, wanted_outputs
from coreproof.validation.validate import inspect


class NetworkSubmodelBuilder(SubmodelBuilder):
    """Every blob is float32, so that a cut needs its shape only."""

    model: CoreMLModel

    def _read(self) -> None:
        model, stored = self.model, self.model.network.layers
        self.layers = layers_of(
            stored,
            (m.name for m in stored),
            lambda m: m.WhichOneof("layer") or "nothing",
            network.reads,
            network.writes,
        )
        score = score_blob(model)
        self.inputs = tuple(f.name for f in model.signature.inputs)
        # the score blob makes the label and the probabilities, which no layer makes
        self.whole_outputs = tuple(dict.fromkeys([*wanted_outputs(model), *([score] if score is not None else [])]))
        self.shapes = dict(inspect(model).shapes)
        self.dtypes = dict.fromkeys(self.shapes, "float32")

    def declared_shape(self, name: str) -> tuple[int, ...]:
        """The shape in which a feature declares the value."""
        return network.feature_shape(self.model.spec, self.shapes[name])

    def build(self, submodel: Submodel) -> CoreMLModel:
        """The sub-model; a classifier becomes a plain network once its own outputs are gone."""
        cut, around = self.select(submodel), bypasses(submodel)
        whole = self.model.spec
        spec = Model_pb2.Model(specificationVersion=whole.specificationVersion)
        # without its own outputs a classifier has no label to give
        made = getattr(spec, self.model.kind if not submodel.outputs else "neuralNetwork")
        made.SetInParent()
        for descriptor, value in self.model.network.ListFields():
            # a plain network has no labels, and what is left of one is not trained on
            known = descriptor.name in made.DESCRIPTOR.fields_by_name
            if known and descriptor.name not in ("layers", "preprocessing", "updateParams"):
                _copy(made, descriptor, value)
        for layer in cut.layers:
            made.layers.append(layer.message)
            network.rename_reads(made.layers[-1], around)
        for preprocessing in self.model.network.preprocessing:
            # without a name, a step belongs to the first picture
            if (preprocessing.featureName or whole.description.input[0].name) in cut.inputs:
                made.preprocessing.add().CopyFrom(preprocessing)
        self._describe(spec, submodel, cut)
        return self.model.with_spec(spec)

    def _describe(self, spec: Model_pb2.Model, submodel: Submodel, cut: Selection) -> None:
        whole, description, shapes = self.model.spec.description, spec.description, dict(submodel.shapes)
        description.CopyFrom(whole)
        description.ClearField("input")
        description.ClearField("trainingInput")
        given = {f.name: f for f in whole.input}
        for name in cut.inputs:
            feature = description.input.add(name=name)
            if name in given:
                feature.CopyFrom(given[name])
            # an input of the model keeps its declaration, pictures too
            if name not in given or name in shapes:
                declare_array(feature, "float32", network.feature_shape(spec, self.shape_of(submodel, name)))
        if not submodel.outputs:
            return
        description.ClearField("output")
        description.predictedFeatureName = description.predictedProbabilitiesName = ""
        declared = {f.name: f for f in whole.output if f.type.WhichOneof("Type") in ("multiArrayType", "imageType")}
        for name in cut.outputs:
            feature = description.output.add(name=name)
            if name in declared and not submodel.shapes:
                feature.CopyFrom(declared[name])
            else:
                declare_array(feature, "float32", ())


def _copy(target: Message, descriptor: FieldDescriptor, value: object) -> None:
    if isinstance(value, Message):
        getattr(target, descriptor.name).CopyFrom(value)
    elif descriptor.is_repeated:
        getattr(target, descriptor.name).MergeFrom(value)
    else:
        setattr(target, descriptor.name, value)
