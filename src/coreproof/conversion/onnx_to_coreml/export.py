"""Writes a MIL program as a Core ML specification: an ML Program with its weights, or a NeuralNetwork."""

from __future__ import annotations

import traceback
from bisect import bisect_right, insort
from collections.abc import Mapping, Sequence
from itertools import takewhile
from math import prod
from typing import TYPE_CHECKING

import numpy as np

from coreproof.conversion.onnx_to_coreml.class_outputs import Classes
from coreproof.conversion.onnx_to_coreml.features import (
    SPECIFICATIONS,
    FlexibleShape,
    ImageInput,
    describe_array,
    describe_classes,
    describe_image,
)
from coreproof.conversion.onnx_to_coreml.mil import Operation, Program, Var
from coreproof.conversion.onnx_to_coreml.network_weights import fill_in, keep_large
from coreproof.conversion.onnx_to_coreml.node_form import said
from coreproof.conversion.onnx_to_coreml.quiet import quiet
from coreproof.conversion.onnx_to_coreml.streamed_weights import WeightStream
from coreproof.errors import ConversionError
from coreproof.model.coreml.proto import Model_pb2

if TYPE_CHECKING:
    from coreproof.conversion.onnx_to_coreml.program import Built, OutputPlan

_NETWORK_PASSES = (
    "nn_backend::decompose_conv1d",
    "nn_backend::handle_return_inputs_as_outputs",
    "common::const_elimination",
    "common::dead_code_elimination",
    "nn_backend::handle_unused_inputs",
    "nn_backend::commingle_loop_vars",
)
"""What coremltools' layers still need done; applied one by one, because its manager validates and prints between them."""


def program_spec(
    built: Built,
    shapes: Mapping[str, FlexibleShape],
    images: Mapping[str, ImageInput],
    classifier: Classes | None,
    version: int,
    weights: WeightStream,
) -> Model_pb2.Model:
    """The specification of an ML Program, whose weights were written to ``weights`` while it was built."""
    if classifier is not None:
        _classify(built, classifier)
    description = Model_pb2.ModelDescription()
    _describe_inputs(description, built, shapes, images)
    if classifier is not None:
        describe_classes(description, classifier.name, classifier.probabilities, is_text=classifier.is_text)
    _describe_outputs(description, built, built.outputs if classifier is None else built.outputs[1:])
    spec = Model_pb2.Model(specificationVersion=SPECIFICATIONS[version], description=description)
    with quiet():
        spec.mlProgram.CopyFrom(weights.export(built.program))
    return spec


def _describe_inputs(
    description: Model_pb2.ModelDescription,
    built: Built,
    shapes: Mapping[str, FlexibleShape],
    images: Mapping[str, ImageInput],
) -> None:
    for plan in built.inputs:
        feature = description.input.add(name=built.names.identifier_for(plan.name))
        if plan.name in images:
            describe_image(feature, shapes[plan.name], images[plan.name].colour)
        else:
            describe_array(feature, shapes[plan.name], plan.dtype)


def _describe_outputs(description: Model_pb2.ModelDescription, built: Built, plans: Sequence[OutputPlan]) -> None:
    made = {o.name: o for o in built.program.functions["main"].outputs}
    for plan in plans:
        describe_array(description.output.add(name=plan.name), _known_shape(made[plan.name]), plan.dtype)


def _known_shape(var: Var) -> FlexibleShape | None:
    try:
        return FlexibleShape(tuple(int(d) for d in var.shape))
    except (TypeError, ValueError):
        return None


def _classify(built: Built, classifier: Classes) -> None:
    """Replaces the first output by a predicted label and a dictionary of probabilities."""
    from coremltools.converters.mil import Builder as mb
    from coremltools.converters.mil.mil import mil_list, types

    labels = classifier.labels
    function = built.program.functions["main"]
    scores = function.outputs[0]
    _check_labels(scores.shape, labels, built)
    # Core ML knows int64 and string labels, and no int32
    classes = [label if isinstance(label, str) else np.int64(label) for label in labels]
    with function:
        if classifier.softmax:
            scores = mb.softmax(x=scores, axis=_class_axis(scores.shape), name=f"{scores.name}_softmax")
        # classify takes float32 alone
        if scores.dtype != types.fp32:
            scores = mb.cast(x=scores, dtype="fp32")
        label, probabilities = mb.classify(probabilities=scores, classes=mb.const(val=mil_list(classes)))
        label.name, probabilities.name = classifier.name, classifier.probabilities
        function.set_outputs([label, probabilities, *function.outputs[1:]])


def _class_axis(shape: Sequence[int]) -> int:
    """The axis over which the classes lie: the only one longer than 1, else the last."""
    longer = [i for i, d in enumerate(shape) if not isinstance(d, int) or d > 1]
    return longer[0] if len(longer) == 1 else len(shape) - 1


def _check_labels(shape: Sequence[int], labels: Sequence[object], built: Built) -> None:
    output = built.outputs[0].name
    rows = prod(length for length in shape[:-1] if isinstance(length, int))
    # a batch that may be one or several is several: where it is, there are more scores than labels
    is_free = not isinstance(shape[0], int) and any(plan.shape[:1] == (None,) for plan in built.inputs)
    # a batch of scores: the product of its lengths would be no number of classes
    if (rows > 1 or is_free) and shape[-1] == len(labels):
        raise ConversionError(
            "a Core ML classifier names the class of one sample at a time",
            where=f"output {output!r}",
            expected=f"[1, {len(labels)}] scores",
            found=str(list(shape)),
            fix="convert it for one sample: --batch 1, or give the input's shape",
        )
    count = prod(length for length in shape if isinstance(length, int))
    if count != len(labels):
        raise ConversionError(
            "the number of labels is not the number of classes",
            where=f"output {output!r}",
            expected=f"{count} labels",
            found=f"{len(labels)}",
        )


def network_spec(
    built: Built,
    shapes: Mapping[str, FlexibleShape],
    images: Mapping[str, ImageInput],
    classifier: Classes | None,
    version: int,
) -> Model_pb2.Model:
    """The specification of a NeuralNetwork, made by coremltools' own backend for it.

    Raises ConversionError for operations that no layer expresses.
    """
    from coremltools.converters.mil.backend.nn.load import load
    from coremltools.converters.mil.mil.passes.pass_registry import PASS_REGISTRY

    _refuse_inexpressible(built.program)
    _name_layers_apart(built.program)
    # the backend would describe the inputs from them; ours are described below
    built.program.functions["main"].input_types = ()
    with quiet():
        for name in _NETWORK_PASSES:
            PASS_REGISTRY[name].apply(built.program)
        kept = keep_large(built.program)
        try:
            spec = load(built.program)
        except Exception as error:  # coremltools' translators meet what no model of its own had
            at = _operation_of(error)
            raise ConversionError(
                "a NeuralNetwork's layers cannot express this model",
                where=None if at is None else f"operation {at.name!r} ({at.op_type})",
                found=said(error) or (None if at is None else _given(at)),
                fix="convert it to an ML Program",
            ) from None
    fill_in(spec, kept)
    # what a NeuralNetwork can hold ends with iOS 14
    spec.specificationVersion = max(spec.specificationVersion, SPECIFICATIONS[min(version, 14)])
    description = Model_pb2.ModelDescription()
    _describe_inputs(description, built, shapes, images)
    _describe_outputs(description, built, built.outputs if classifier is None else built.outputs[1:])
    spec.description.CopyFrom(description)
    if images:
        from coreproof.model.coreml.proto import NeuralNetwork_pb2

        # the layers were made for [1, C, H, W]; by default a picture enters with rank 5
        spec.neuralNetwork.imageInputShapeMapping = NeuralNetwork_pb2.RANK4_IMAGE_MAPPING
    return spec if classifier is None else _network_classifier(spec, built, classifier)


def _operation_of(error: Exception) -> Operation | None:
    """The operation that coremltools was at when it raised: its errors do not name it, its translators all call it ``op``."""
    found = None
    for frame, _ in traceback.walk_tb(error.__traceback__):
        at = frame.f_locals.get("op")
        found = at if hasattr(at, "op_type") and hasattr(at, "name") else found
    return found


def _given(at: Operation) -> str:
    """The operands of an operation in words, for an error that says nothing of them."""
    return "; ".join(f"{name} of shape {list(v.shape)}" for name, v in at.inputs.items() if hasattr(v, "shape"))


def _refuse_inexpressible(program: Program) -> None:
    """All operations that coremltools' NeuralNetwork backend has no layer for, at once."""
    from coremltools.converters.mil.backend.nn.mil_to_nn_mapping_registry import MIL_TO_NN_MAPPING_REGISTRY

    import coremltools.converters.mil.backend.nn.op_mapping  # noqa: F401 - fills the registry  # isort: skip

    missing: dict[str, str] = {}
    for operation in program.functions["main"].operations:
        # constants become fields of the layers that read them
        if operation.op_type not in MIL_TO_NN_MAPPING_REGISTRY and operation.op_type != "const":
            missing.setdefault(operation.op_type, operation.name)
    if missing:
        raise ConversionError(
            "a NeuralNetwork's layers cannot express this model",
            found="; ".join(f"{op} (first at {name!r})" for op, name in missing.items()),
            fix="convert it to an ML Program",
        )


def _name_layers_apart(program: Program) -> None:
    """Renames each operation of which the backend could name a part as something else of the model is named.

    It writes some operations as several layers, and calls those after the operation ("norm_scale", "norm_mvn"); the result of a
    dynamic quantisation of "norm" is called so too.
    """
    operations = program.functions["main"].operations
    taken = sorted({o.name for o in operations} | {v.name for o in operations for v in o.outputs})

    def is_begun(name: str) -> bool:
        # "add_1" is the next addition, and no part of "add"
        begun = takewhile(lambda other: other.startswith(f"{name}_"), taken[bisect_right(taken, f"{name}_") :])
        return any(not other[len(name) :].lstrip("_").isdecimal() for other in begun)

    for operation in operations:
        if operation.op_type != "const" and is_begun(operation.name):
            name = f"{operation.name}_layer"
            while is_begun(name) or name in taken:
                name += "_layer"
            operation.name = name
            insort(taken, name)


def _network_classifier(spec: Model_pb2.Model, built: Built, classifier: Classes) -> Model_pb2.Model:
    """The NeuralNetwork as a NeuralNetworkClassifier over its first output."""
    labels = classifier.labels
    output = built.outputs[0].name
    shape = next(o.shape for o in built.program.functions["main"].outputs if o.name == output)
    _check_labels(shape, labels, built)
    made = Model_pb2.Model(specificationVersion=spec.specificationVersion)
    made.description.CopyFrom(spec.description)
    network = spec.neuralNetwork
    # another message, whose fields are those of a plain network and the labels
    made.neuralNetworkClassifier.layers.MergeFrom(network.layers)
    made.neuralNetworkClassifier.preprocessing.MergeFrom(network.preprocessing)
    made.neuralNetworkClassifier.arrayInputShapeMapping = network.arrayInputShapeMapping
    made.neuralNetworkClassifier.imageInputShapeMapping = network.imageInputShapeMapping
    scores = output
    if classifier.softmax:
        scores = f"{output}_softmax"
        layer = made.neuralNetworkClassifier.layers.add(name=scores, input=[output], output=[scores])
        # softmax of the older layers is over the channels of rank 5 alone
        layer.softmaxND.axis = _class_axis(shape)
    made.neuralNetworkClassifier.labelProbabilityLayerName = scores
    if classifier.is_text:
        made.neuralNetworkClassifier.stringClassLabels.vector.extend(str(label) for label in labels)
    else:
        made.neuralNetworkClassifier.int64ClassLabels.vector.extend(int(label) for label in labels)
    describe_classes(made.description, classifier.name, classifier.probabilities, is_text=classifier.is_text)
    return made
