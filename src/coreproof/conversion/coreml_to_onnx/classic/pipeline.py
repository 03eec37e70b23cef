"""Pipelines: each stage reads, by name, what the pipeline is fed and what earlier stages made."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import onnx_ir as ir

from coreproof.conversion.coreml_to_onnx.classic.held import Dictionary, Held, scores_of
from coreproof.conversion.coreml_to_onnx.classic.inlined import inlined
from coreproof.conversion.coreml_to_onnx.classic.lowerer import ModelLowerer, lowers_model
from coreproof.conversion.coreml_to_onnx.classic.stage import Stage, known_shape
from coreproof.conversion.coreml_to_onnx.kinds import lowerer_of
from coreproof.conversion.coreml_to_onnx.lowered_model import LoweredModel
from coreproof.errors import CoreproofError, UnsupportedOperatorsError
from coreproof.model.coreml.model import CoreMLModel
from coreproof.model.features import Feature, ImageLayout
from coreproof.model.formats import classic


def stages_of(model: CoreMLModel) -> list[CoreMLModel]:
    """The stages of a pipeline as models, which find their weights in its folder."""
    return [model.with_spec(stage) for stage in classic.nested(model.spec)]


def stage_name(model: CoreMLModel, index: int) -> str:
    """What a stage is called in messages: its place, and its name or its kind."""
    names = classic.pipeline_of(model.spec).names
    kind = classic.name(classic.nested(model.spec)[index])
    return f"stage {index} ({names[index] if index < len(names) and names[index] else kind})"


# what makes no sense


def _problems(model: CoreMLModel) -> Iterator[str]:
    stages = stages_of(model)
    if not stages:
        yield "it has no stages"
    there = {feature.name: ("the pipeline's input", feature) for feature in model.signature.inputs}
    for index, stage in enumerate(stages):
        place = f"{stage_name(model, index)}: "
        for feature in stage.signature.inputs:
            if feature.name not in there:
                if not feature.optional:
                    yield f"{place}nothing before it makes its input {feature.name!r}"
                continue
            maker, made = there[feature.name]
            if not _connects(made, feature):
                yield f"{place}it reads {feature}, and {maker} is {made}"
        lower = lowerer_of(stage.kind)
        if isinstance(lower, ModelLowerer):
            yield from lower.problems(stage, place)
        for feature in stage.signature.outputs:
            # a later stage of the same name takes the earlier one's place
            there[feature.name] = (f"the output of {stage_name(model, index)}", feature)
    for feature in model.signature.outputs:
        if feature.name not in there:
            yield f"no stage makes its output {feature.name!r}"
        elif not _connects(there[feature.name][1], feature):
            yield f"its output is {feature}, and {there[feature.name][0]} is {there[feature.name][1]}"


_NUMBERS = ("tensor", "double", "int64")


def _connects(made: Feature, read: Feature) -> bool:
    """Whether what is made can be what is read: of one kind, numbers with numbers; of arrays the sizes show at the connection."""
    if made.kind in _NUMBERS and read.kind in _NUMBERS:
        return True
    if made.kind != read.kind:
        # a picture is an array of its pixels to the next stage, and the other way round
        return "image" in (made.kind, read.kind) and "tensor" in (made.kind, read.kind)
    return made.kind != "dictionary" or made.holds == read.holds


def _unsupported(model: CoreMLModel, place: str) -> Iterator[tuple[str, str]]:
    for index, stage in enumerate(stages_of(model)):
        own = f"{place}{stage_name(model, index)}"
        if lowerer_of(stage.kind) is None:
            yield stage.kind, own
        elif classic.is_pipeline(stage.spec):
            yield from _unsupported(stage, f"{own}, ")


# lowering


@lowers_model(_problems)
def lower_pipeline(stage: Stage) -> None:
    """The stages in their order, each in the graph of the whole."""
    model = stage.model
    missing = list(_unsupported(model, ""))
    if missing:
        raise UnsupportedOperatorsError(stage.where, missing, "ONNX")
    held = dict(stage.held)
    for index, part in enumerate(stages_of(model)):
        where = f"{stage.where}, {stage_name(model, index)}"
        inner = Stage(part, where, held, stage.shared)
        for feature in part.signature.inputs:
            if feature.name in held:
                inner.held[feature.name] = _handed_on(inner, feature, held[feature.name])
        lower = lowerer_of(part.kind)
        if isinstance(lower, ModelLowerer):
            held.update(lower.into(inner))
        elif lower is not None:
            try:
                lowered = lower(part, "fp32" if stage.shared.precision == "fp32" else "stored", function=None)
            except CoreproofError as error:
                raise error.at(where) from None
            held.update(added(inner, lowered))
    for feature in model.signature.outputs:
        stage.write(feature.name, held[feature.name])
    scores = scores_of(model.signature.predicted_label or "")
    if scores in held:
        stage.made[scores] = held[scores]


def _handed_on(stage: Stage, feature: Feature, held: Held) -> Held:
    """What stands under a name as a stage declares that it reads it; dictionaries and optional inputs as they are."""
    if isinstance(held, Dictionary) or held in stage.shared.optional:
        return held
    if feature.image is not None:
        return _picture(stage, feature, feature.image, held)
    return stage.as_declared(feature, held)


def _picture(stage: Stage, feature: Feature, image: ImageLayout, value: ir.Value) -> ir.Value:
    """A picture of the size that a stage reads; one that a stage made is of whole numbers from 0 to 255, as pictures are."""
    b, shape = stage.b, known_shape(value)
    wanted = [1, image.channels, image.height, image.width]
    if shape is not None and len(shape) < 4:
        value = b.op("Reshape", value, np.array(wanted, np.int64))
        shape = known_shape(value)
    if shape is not None and list(shape) != wanted and not feature.ranges and not feature.enumerated:
        raise stage.refuse(
            f"its input {feature.name!r} is a picture of another size",
            expected=wanted,
            found=list(shape),
        )
    if value not in b.inputs and image.colour != "GRAY_FLOAT16":
        value = b.op("Clip", b.op("Round", stage.cast(value, ir.DataType.FLOAT)), np.float32(0), np.float32(255))
    return value


def added(stage: Stage, lowered: LoweredModel) -> dict[str, Held]:
    """A stage that was lowered by itself, a network or a program, put into the graph."""
    signature, graph = lowered.signature, lowered.model.graph
    if lowered.states:
        raise stage.refuse("it has states, which a stage of a pipeline has not")
    fed = {}
    for value in graph.inputs:
        held = stage.held.get(value.name or "")
        if isinstance(held, Dictionary):
            raise stage.refuse(f"its input {value.name!r} is a dictionary")
        if held is None:
            continue
        default = value.const_value
        if held in stage.shared.optional and default is not None:
            stage.read(value.name, default=float(default.numpy().reshape(-1)[0]))
        assert value.dtype is not None
        fed[value.name or ""] = stage.cast(held, value.dtype)
    outputs, renamed = inlined(stage.b, graph, fed)
    for own, name in lowered.values.items():
        stage.shared.values.setdefault(own, renamed.get(name, name))
    made: dict[str, Held] = {}
    for feature in signature.outputs:
        if feature.name in outputs and feature.name not in (signature.predicted_label, signature.probabilities):
            made[feature.name] = outputs[feature.name]
    if signature.scores is not None and signature.labels is not None:
        scores = stage.flat(stage.cast(outputs[signature.scores], ir.DataType.DOUBLE))
        stage.write_class(signature.labels, scores)
        made |= stage.made
    return made
