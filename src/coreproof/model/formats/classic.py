"""Core ML models without layers of their own: a pipeline's nodes are the models in it, any other is one node by itself.

The node here is a ``Model`` message, so that weights and layers of every stage are reached by one walk.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from coreproof.model.coreml.proto import FeatureTypes_pb2, MIL_pb2, Model_pb2
from coreproof.model.formats import program

ARRAY_DTYPES = {
    "float32": FeatureTypes_pb2.ArrayFeatureType.FLOAT32,
    "float64": FeatureTypes_pb2.ArrayFeatureType.DOUBLE,
    "int32": FeatureTypes_pb2.ArrayFeatureType.INT32,
    "float16": FeatureTypes_pb2.ArrayFeatureType.FLOAT16,
}
"""The dtypes that a multi-array can have, and their numbers (FeatureTypes.proto)."""
FLOAT16_FEATURES_SINCE = 7
"""The first specification version (iOS 16) that has float16 features."""


def is_pipeline(spec: Model_pb2.Model) -> bool:
    """Whether the model is made of others: a plain pipeline, a classifier or a regressor."""
    return str(spec.WhichOneof("Type") or "").startswith("pipeline")


def pipeline_of(spec: Model_pb2.Model) -> Model_pb2.Pipeline:
    """The Pipeline message, which classifiers and regressors wrap."""
    kind = str(spec.WhichOneof("Type"))
    pipeline: Model_pb2.Pipeline = spec.pipeline if kind == "pipeline" else getattr(spec, kind).pipeline
    return pipeline


def nested(spec: Model_pb2.Model) -> list[Model_pb2.Model]:
    """The stages of a pipeline; none of any other model."""
    return list(pipeline_of(spec).models) if is_pipeline(spec) else []


def nodes(specs: Iterable[Model_pb2.Model]) -> Iterator[Model_pb2.Model]:
    """The models with the stages of pipelines, and those of pipelines in them."""
    for spec in specs:
        yield spec
        yield from nodes(nested(spec))


def name(spec: Model_pb2.Model) -> str:
    """How the read view names a model that is one node: by its type."""
    return str(spec.WhichOneof("Type") or "nothing")


def reads(spec: Model_pb2.Model) -> list[str]:
    """The features that a model takes."""
    return [feature.name for feature in spec.description.input]


def writes(spec: Model_pb2.Model) -> list[str]:
    """The features that a model makes."""
    return [feature.name for feature in spec.description.output]


def blobs(specs: Iterable[Model_pb2.Model]) -> Iterator[MIL_pb2.Value.BlobFileValue]:
    """The BlobFileValue messages of the models, stages and nested blocks included."""
    for spec in nodes(specs):
        if spec.WhichOneof("Type") == "mlProgram":
            for block in program.blocks(spec.mlProgram):
                yield from program.blobs(block.operations)


# features


def described(spec: Model_pb2.Model) -> Iterator[Model_pb2.FeatureDescription]:
    """Every FeatureDescription of a model, those of its further functions apart."""
    description = spec.description
    for features in (description.input, description.output, description.state, description.trainingInput):
        yield from features


def rename(description: Model_pb2.ModelDescription | Model_pb2.FunctionDescription, names: Mapping[str, str]) -> None:
    """Renames features wherever a model's, or a function's, description says them."""
    for role in ("input", "output", "state", "trainingInput"):
        for feature in getattr(description, role, ()):
            feature.name = names.get(feature.name, feature.name)
    for field in ("predictedFeatureName", "predictedProbabilitiesName"):
        setattr(description, field, names.get(getattr(description, field), getattr(description, field)))
