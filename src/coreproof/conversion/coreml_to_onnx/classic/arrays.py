"""Models that turn arrays into arrays: Scaler, Imputer, Normalizer, ArrayFeatureExtractor, FeatureVectorizer, Identity."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import onnx_ir as ir

from coreproof.conversion.coreml_to_onnx.classic.counts import count_of, fed_count
from coreproof.conversion.coreml_to_onnx.classic.dictionaries import dense, keys_array
from coreproof.conversion.coreml_to_onnx.classic.held import Dictionary, Labels
from coreproof.conversion.coreml_to_onnx.classic.lowerer import lowers_model
from coreproof.conversion.coreml_to_onnx.classic.stage import DOUBLE, INT64, Stage, f64, known_shape, label_array
from coreproof.model.budget import afford
from coreproof.model.coreml.model import CoreMLModel

_FIRST = np.array([0], np.int64)


def one_to_one(model: CoreMLModel) -> Iterator[str]:
    """The problem of a model that takes, or makes, more than the one feature of its kind."""
    inputs, outputs = len(model.signature.inputs), len(model.signature.outputs)
    if (inputs, outputs) != (1, 1):
        yield f"it turns one feature into one, and has {inputs} inputs and {outputs} outputs"


# scaler


def _scaler_problems(model: CoreMLModel) -> Iterator[str]:
    yield from one_to_one(model)
    fed = fed_count(model)
    for what, values in (("shift", model.spec.scaler.shiftValue), ("scale", model.spec.scaler.scaleValue)):
        if len(values) > 1 and fed is not None and len(values) != fed:
            yield f"it has {len(values)} {what} values for {fed} numbers"


@lowers_model(_scaler_problems)
def lower_scaler(stage: Stage) -> None:
    """scale * (x + shift), each 1 and 0 where the file has none."""
    scaler, b = stage.model.spec.scaler, stage.b
    value = stage.numbers()
    single = known_shape(value) == ()
    for operator, constants in (("Add", scaler.shiftValue), ("Mul", scaler.scaleValue)):
        if constants:
            constant = f64(constants[0]) if single or len(constants) == 1 else f64(list(constants))
            value = b.op(operator, value, constant)
    # an output of whole numbers holds no fraction, and none is cut off
    output = stage.model.signature.outputs[0]
    if output.kind == "int64" or output.dtype in ("int32", "int64"):
        value = stage.require(
            _all(stage, b.op("Equal", value, b.op("Floor", value))), value, "the scaled value is not whole"
        )
    stage.write_only(value)


def _all(stage: Stage, truths: ir.Value) -> ir.Value:
    lowest = stage.b.op("ReduceMin", stage.cast(stage.flat(truths), ir.DataType.INT32), _FIRST, keepdims=0)
    return stage.b.op("Equal", lowest, np.array(1, np.int32))


# imputer


def _imputer_problems(model: CoreMLModel) -> Iterator[str]:
    yield from one_to_one(model)
    imputer, kinds = model.spec.imputer, [f.kind for f in model.signature.inputs[:1]]
    imputed, replaced = imputer.WhichOneof("ImputedValue"), imputer.WhichOneof("ReplaceValue")
    if imputed is None:
        yield "it says nothing that it puts in the place of a missing value"
        return
    fitting, types = _FITTING[imputed]
    if kinds and kinds[0] not in fitting:
        yield f"it puts {imputed} in the place of what is missing, and reads a {kinds[0]}"
    if replaced not in (None, *types):
        yield f"it looks for {replaced}, to put {imputed} in its place"
    fed = fed_count(model)
    if imputed in ("imputedDoubleArray", "imputedInt64Array") and fed is not None:
        count = len(getattr(imputer, imputed).vector)
        if count != fed:
            yield f"it has {count} values to put in for {fed} numbers"


_FITTING: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "imputedDoubleValue": (("double", "tensor"), ("replaceDoubleValue",)),
    "imputedInt64Value": (("int64", "tensor"), ("replaceInt64Value",)),
    "imputedStringValue": (("string",), ("replaceStringValue",)),
    "imputedDoubleArray": (("tensor",), ("replaceDoubleValue",)),
    "imputedInt64Array": (("tensor",), ("replaceInt64Value",)),
    "imputedStringDictionary": (("dictionary",), ()),
    "imputedInt64Dictionary": (("dictionary",), ()),
}


@lowers_model(_imputer_problems)
def lower_imputer(stage: Stage) -> None:
    """Puts a value where one is missing: NaN, unless the file says what else stands for it."""
    imputer, b = stage.model.spec.imputer, stage.b
    imputed = str(imputer.WhichOneof("ImputedValue"))
    replaced = imputer.WhichOneof("ReplaceValue")
    constant = getattr(imputer, imputed)
    held = stage.read()
    if isinstance(held, Dictionary):
        imputed_map = constant.map
        keys: Labels = tuple(imputed_map)
        stage.write_only(_completed(stage, held, keys, [imputed_map[key] for key in imputed_map]))
        return
    texts = imputed == "imputedStringValue"
    single = np.array(constant) if not hasattr(constant, "vector") else np.array(list(constant.vector))
    whole = imputed.startswith("imputedInt64")
    # what is not fed at all is imputed as well
    default = None if texts or single.ndim else float(single)
    value = stage.value(default=default)
    if texts:
        if replaced is not None:
            missing = b.op("Equal", value, np.array(imputer.replaceStringValue))
            value = b.op("Where", missing, single, value)
        stage.write_only(value)
        return
    value = stage.cast(value, INT64 if whole else DOUBLE)
    wanted = getattr(imputer, replaced) if replaced is not None else np.nan
    # no whole number is NaN: nothing can be missing
    if whole and replaced is None:
        stage.write_only(value)
        return
    missing = (
        b.op("IsNaN", value)
        if np.isnan(wanted)
        else b.op("Equal", value, np.array(wanted, np.int64 if whole else np.float64))
    )
    stage.write_only(b.op("Where", missing, single.astype(np.int64 if whole else np.float64), value))


def _completed(stage: Stage, held: Dictionary, imputed: Labels, amounts: list[float]) -> Dictionary:
    """The dictionary, and behind it those of the imputed entries whose keys it lacks."""
    if not imputed:
        return held
    b, count = stage.b, len(imputed)
    keys = keys_array(stage, held)
    # an imputed key is lacking where its place is not among those of the keys that are there
    there = stage.positions(keys, imputed)
    marks = b.op("ScatterElements", np.ones(count + 1), there, _zeros(stage, there), axis=0)
    lacking = b.op("Greater", b.op("Slice", marks, _FIRST, np.array([count], np.int64)), f64(0))
    more = b.op("Compress", label_array(imputed), lacking, axis=0)
    added = b.op("Compress", f64(amounts), lacking, axis=0)
    return Dictionary(b.op("Concat", keys, more, axis=0), b.op("Concat", held.values, added, axis=0))


def _zeros(stage: Stage, like: ir.Value) -> ir.Value:
    return stage.b.op("Expand", f64(0), stage.b.op("Shape", like))


# normalizer


def _normalizer_problems(model: CoreMLModel) -> Iterator[str]:
    yield from one_to_one(model)
    if model.spec.normalizer.normType not in (0, 1, 2):
        yield f"its norm is none that is known ({model.spec.normalizer.normType})"


@lowers_model(_normalizer_problems)
def lower_normalizer(stage: Stage) -> None:
    """x through the largest of its numbers, the sum of their sizes, or the root of the sum of their squares.

    A vector of zeros stays one.
    """
    normalizer, b = stage.model.spec.normalizer, stage.b
    value = stage.numbers()
    flat = stage.flat(value)
    if normalizer.normType == normalizer.LMax:
        norm = b.op("ReduceMax", flat, _FIRST, keepdims=1)
    elif normalizer.normType == normalizer.L1:
        norm = b.op("ReduceSum", b.op("Abs", flat), _FIRST, keepdims=1)
    else:
        norm = b.op("Sqrt", b.op("ReduceSum", b.op("Mul", flat, flat), _FIRST, keepdims=1))
    # 0 / 0 would be NaN
    norm = b.op("Where", b.op("Equal", norm, f64(0)), f64(1), norm)
    result = b.op("Div", flat, norm)
    stage.write_only(result if flat is value else b.op("Reshape", result, b.op("Shape", value), allowzero=1))


# array feature extractor


def _extractor_problems(model: CoreMLModel) -> Iterator[str]:
    yield from one_to_one(model)
    indices, fed = model.spec.arrayFeatureExtractor.extractIndex, fed_count(model)
    if not indices:
        yield "it extracts nothing"
    beyond = [index for index in indices if (fed is not None and index >= fed) or index >= 2**62]
    if beyond:
        yield f"it extracts number {beyond[0]} of {'an array' if fed is None else fed}"
    output = next(iter(model.signature.outputs), None)
    if output is not None and output.kind in ("double", "int64") and len(indices) > 1:
        yield f"it extracts {len(indices)} numbers, and its output {output.name!r} is one"


@lowers_model(_extractor_problems)
def lower_extractor(stage: Stage) -> None:
    """The numbers at the given places of an array."""
    indices = np.array(list(stage.model.spec.arrayFeatureExtractor.extractIndex), np.int64)
    stage.write_only(stage.b.op("Gather", stage.flat(stage.value()), indices, axis=0))


# feature vectorizer


def _vectorizer_problems(model: CoreMLModel) -> Iterator[str]:
    declared = {f.name: f for f in model.signature.inputs}
    total = 0
    for column in model.spec.featureVectorizer.inputList:
        feature = declared.get(column.inputColumn)
        total += column.inputDimensions
        if feature is None:
            yield f"it puts in {column.inputColumn!r}, which is none of its inputs"
            continue
        if feature.kind not in ("double", "int64", "tensor", "dictionary"):
            yield f"it puts in {feature.name!r}, which is a {feature.kind}"
        if not column.inputDimensions:
            yield f"it puts in {feature.name!r} with no dimensions"
        elif feature.kind in ("double", "int64") and column.inputDimensions != 1:
            yield f"{feature.name!r} is one number, and is put in as {column.inputDimensions}"
        elif feature.kind == "tensor" and (count := count_of(feature)) not in (None, column.inputDimensions):
            yield f"{feature.name!r} is an array of {count}, and is put in as {column.inputDimensions}"
    if not model.spec.featureVectorizer.inputList:
        yield "it puts nothing into its array"
    for output in model.signature.outputs:
        if output.kind == "tensor" and count_of(output) not in (None, total):
            yield f"it makes an array of {total}, and its output {output.name!r} is one of {list(output.shape or ())}"


@lowers_model(_vectorizer_problems)
def lower_vectorizer(stage: Stage) -> None:
    """The features one after the other; a dictionary of whole numbers gives the values at its keys, and zero elsewhere."""
    b = stage.b
    parts = []
    for column in stage.model.spec.featureVectorizer.inputList:
        held, count = stage.read(column.inputColumn), int(column.inputDimensions)
        if isinstance(held, Dictionary):
            afford(f"the array of {column.inputColumn!r}", [count], 8, where=stage.where)
            parts.append(dense(stage, held, count))
        else:
            parts.append(stage.flat(stage.numbers(column.inputColumn)))
    stage.write_only(parts[0] if len(parts) == 1 else b.op("Concat", *parts, axis=0))


# identity


def _identity_problems(model: CoreMLModel) -> Iterator[str]:
    inputs, outputs = model.signature.inputs, model.signature.outputs
    if len(inputs) != len(outputs):
        yield f"it hands on its inputs, and has {len(inputs)} of them and {len(outputs)} outputs"
    for source, target in zip(inputs, outputs, strict=False):
        if source.kind != target.kind:
            yield f"it hands on {source.name!r}, a {source.kind}, as {target.name!r}, a {target.kind}"


@lowers_model(_identity_problems)
def lower_identity(stage: Stage) -> None:
    """The inputs, unchanged, as the outputs in the same order."""
    for source, target in zip(stage.model.signature.inputs, stage.model.signature.outputs, strict=True):
        stage.write(target.name, stage.read(source.name))


# class confidence thresholding


def _thresholding_problems(model: CoreMLModel) -> Iterator[str]:
    yield from one_to_one(model)
    fed = fed_count(model)
    curves = len(model.spec.classConfidenceThresholding.precisionRecallCurves)
    if curves and fed is not None and curves != fed:
        yield f"it has {curves} curves, and is fed the confidences of {fed} classes"


@lowers_model(_thresholding_problems)
def lower_thresholding(stage: Stage) -> None:
    """The confidences, and below them ones: the model takes all classes, and its curves are for whoever reads them."""
    flat = stage.flat(stage.numbers())
    ones = stage.b.op("Expand", f64(1), stage.b.op("Shape", flat))
    stage.write_only(stage.b.op("Concat", *(stage.b.op("Unsqueeze", row, _FIRST) for row in (flat, ones)), axis=0))
