"""split and join: a pipeline as the models that it is made of, and models as one pipeline."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

from coreproof.errors import EditError
from coreproof.model.base import Model
from coreproof.model.coreml.model import CoreMLModel
from coreproof.model.coreml.proto import Model_pb2
from coreproof.model.files.paths import inside
from coreproof.model.files.scratch import TemporaryFolder
from coreproof.model.files.wire import Bytes, field_bytes, records
from coreproof.model.formats import classic
from coreproof.model.load import load
from coreproof.model.public import public

_WEIGHTS = "@model_path/weights/"
_Feature = Model_pb2.FeatureDescription


@public
def split(model: Model | str | Path) -> list[CoreMLModel]:
    """The stages of a pipeline in their order, each a model of its own, spelled as it was inside.

    A stage keeps the names of its features. Weight files go with the stage that reads them. Raises EditError for a model
    that is no pipeline.

    Example:
        >>> len(cp.split(cp.join(["one.mlmodel", "two.mlmodel"])))
        2

    """
    model = load(model)
    if not isinstance(model, CoreMLModel) or not classic.is_pipeline(model.spec):
        raise EditError("only a pipeline can be split", where=model.name, expected="a pipeline", found=model.format)
    kind = model.kind
    pipeline = classic.pipeline_of(model.spec)
    # a classifier and a regressor wrap the pipeline (field 1), whose models are its field 1
    numbers = [model.spec.DESCRIPTOR.fields_by_name[kind].number, *([1] if kind != "pipeline" else []), 1]
    spelled = list(_payloads(model.stored(), numbers))
    stages = []
    for index, (stage, data) in enumerate(zip(pipeline.models, spelled, strict=True)):
        spec = Model_pb2.Model()
        spec.CopyFrom(stage)
        if not spec.specificationVersion:
            spec.specificationVersion = model.spec.specificationVersion
        name = pipeline.names[index] if index < len(pipeline.names) and pipeline.names[index] else f"stage{index}"
        scratch = _weights_of(model, spec)
        stages.append(
            CoreMLModel(
                spec,
                name=f"{model.name}_{name}",
                folder=Path(scratch.name) if scratch is not None else None,
                keep_alive=scratch,
                origin=data,
            )
        )
    return stages


@public
def join(models: Sequence[Model | str | Path], name: str | None = None) -> CoreMLModel:
    """One pipeline of these models: a stage reads what earlier ones make under the names of its inputs.

    Inputs that no earlier stage makes become the pipeline's, outputs that no later stage reads its outputs. What the last
    stage is, classifier or regressor, the pipeline is. Raises EditError, which names every connection that does not fit.

    Example:
        >>> stages = cp.split(cp.join(["one.mlmodel", "two.mlmodel"]))
        >>> len(stages)
        2

    """
    given = [load(m) for m in models]
    stages = [m for m in given if isinstance(m, CoreMLModel)]
    if len(stages) != len(given) or len(stages) < 2:
        raise EditError(
            "a pipeline is made of two or more Core ML models",
            expected="Core ML models",
            found=", ".join(f"{m.name} ({m.format})" for m in given) or "none",
        )
    inputs, outputs = _connected(stages)
    last = stages[-1]
    kind = "pipeline"
    if last.signature.predicted_label is not None:
        kind = "pipelineRegressor" if last.kind.endswith("Regressor") else "pipelineClassifier"
    spec = Model_pb2.Model(specificationVersion=max(m.spec.specificationVersion for m in stages))
    description = spec.description
    for features, target in ((inputs, description.input), (outputs, description.output)):
        for feature in features:
            target.add().CopyFrom(feature)
    names = {f.name for f in outputs}
    for field in ("predictedFeatureName", "predictedProbabilitiesName"):
        predicted = getattr(last.spec.description, field)
        if predicted in names:
            setattr(description, field, predicted)
    scratch, stored = _joined_weights(stages)
    content = b"".join(field_bytes(1, data) for data in stored)
    content += b"".join(field_bytes(2, stage.name.encode()) for stage in stages)
    if kind != "pipeline":
        content = field_bytes(1, content)
    # put together from bytes, so that every stage is stored as it was spelled
    data = spec.SerializeToString(deterministic=True)
    data += field_bytes(spec.DESCRIPTOR.fields_by_name[kind].number, content)
    whole = Model_pb2.Model.FromString(data)
    return CoreMLModel(
        whole,
        name=name or "_".join(stage.name for stage in stages),
        folder=Path(scratch.name) if scratch is not None else None,
        keep_alive=scratch,
        origin=data,
    )


def _payloads(data: Bytes, numbers: Sequence[int]) -> Iterator[bytes]:
    """The contents of the fields on a path, as they are spelled."""
    if not numbers:
        yield bytes(data)
        return
    for record in records(data):
        if record.number == numbers[0]:
            yield from _payloads(record.payload, numbers[1:])


# connections


def _connected(stages: Sequence[CoreMLModel]) -> tuple[list[_Feature], list[_Feature]]:
    """The features of the whole: what the stages read and nobody makes, what they make and nobody reads."""
    inputs: dict[str, _Feature] = {}
    made: dict[str, _Feature] = {}
    read: set[str] = set()
    problems = []
    for index, stage in enumerate(stages):
        description = stage.spec.description
        known = {*made, *inputs}
        if index and not any(f.name in known for f in description.input):
            names = ", ".join(f.name for f in description.input)
            problems.append(
                f"{stage.name} reads {names}; the stages before it read and make {', '.join(sorted(known))}"
            )
        for feature in description.input:
            source = made.get(feature.name)
            if source is not None:
                read.add(feature.name)
            else:
                source = inputs.setdefault(feature.name, feature)
            if source is not feature and not _fits(source, feature):
                problems.append(f"{feature.name!r} is {_told(source)}, {stage.name} reads {_told(feature)}")
        # a stage may write anew what it reads: later ones then read its version
        own = {f.name for f in description.input}
        for feature in description.output:
            if feature.name in made and feature.name not in own:
                problems.append(f"{feature.name!r} is made twice, again by {stage.name}")
            made[feature.name] = feature
            read.discard(feature.name)
    if problems:
        raise EditError(
            "the models do not fit together",
            expected="outputs that later models read under the same name, with the same type",
            found="; ".join(problems),
            fix="rename or retype features first: coreproof edit MODEL OUT --do 'rename OLD NEW'",
        )
    return list(inputs.values()), [feature for name, feature in made.items() if name not in read]


def _fits(source: _Feature, target: _Feature) -> bool:
    """Whether one feature can be fed to another: the same kind, and the same size where both say one."""
    a, b = source.type, target.type
    kind = a.WhichOneof("Type")
    if kind != b.WhichOneof("Type"):
        return False
    if kind == "imageType":
        flexible = any(t.imageType.WhichOneof("SizeFlexibility") is not None for t in (a, b))
        same_size = (a.imageType.width, a.imageType.height) == (b.imageType.width, b.imageType.height)
        return (same_size or flexible) and a.imageType.colorSpace == b.imageType.colorSpace
    if kind == "multiArrayType":
        if any(t.multiArrayType.WhichOneof("ShapeFlexibility") is not None for t in (a, b)):
            return True
        shapes = [[n for n in t.multiArrayType.shape if n != 1] for t in (a, b)]
        return not shapes[0] or not shapes[1] or shapes[0] == shapes[1]
    return True


def _told(feature: _Feature) -> str:
    from coreproof.model.coreml.features import read_feature

    return str(read_feature(feature)).partition(": ")[2]


# weights


def _weights_of(model: CoreMLModel, stage: Model_pb2.Model) -> TemporaryFolder | None:
    """A folder with the weight files that this stage reads; None where it reads none."""
    files = sorted({blob.fileName for blob in classic.blobs([stage])})
    if not files:
        return None
    scratch = TemporaryFolder()
    for file in files:
        copy = inside(scratch.name, file.removeprefix("@model_path/"), what="a weight file", where=model.where)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(model.weight_file(file).path, copy)
    return scratch


def _joined_weights(stages: Sequence[CoreMLModel]) -> tuple[TemporaryFolder | None, list[bytes]]:
    """One folder with the weights of all stages, and the stages with the names that their files have in it."""
    if all(stage.folder is None or next(classic.blobs([stage.spec]), None) is None for stage in stages):
        return None, [stage.stored() for stage in stages]
    scratch = TemporaryFolder()
    folder = Path(scratch.name) / "weights"
    folder.mkdir()
    stored = []
    for index, stage in enumerate(stages):
        spec = Model_pb2.Model()
        spec.CopyFrom(stage.spec)
        for blob in classic.blobs([spec]):
            source = stage.weight_file(blob.fileName).path
            blob.fileName = f"{_WEIGHTS}{index}-{source.name}"
            copy = folder / f"{index}-{source.name}"
            if not copy.exists():
                shutil.copyfile(source, copy)
        stored.append(stage.with_spec(spec).stored())
    return scratch, stored
