"""Models that turn texts and whole numbers into arrays or each other: OneHotEncoder, CategoricalMapping, DictVectorizer."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import numpy as np
import onnx_ir as ir

from coreproof.conversion.coreml_to_onnx.classic.arrays import one_to_one
from coreproof.conversion.coreml_to_onnx.classic.counts import count_of
from coreproof.conversion.coreml_to_onnx.classic.dictionaries import placed
from coreproof.conversion.coreml_to_onnx.classic.held import Dictionary, Labels
from coreproof.conversion.coreml_to_onnx.classic.lowerer import lowers_model
from coreproof.conversion.coreml_to_onnx.classic.stage import Stage
from coreproof.model.coreml.model import CoreMLModel
from coreproof.model.features import Feature


def _held_texts(feature: Feature) -> bool:
    return feature.kind == "string" or feature.dtype == "str"


def _repeated(keys: Labels) -> Iterator[str]:
    twice = [key for key, count in Counter(keys).items() if count > 1]
    if twice:
        yield f"{twice[0]!r} is in its list {Counter(keys)[twice[0]]} times"


# one-hot encoder


def _categories(model: CoreMLModel) -> Labels:
    encoder = model.spec.oneHotEncoder
    which = encoder.WhichOneof("CategoryType")
    return () if which is None else tuple(getattr(encoder, which).vector)


def _one_hot_problems(model: CoreMLModel) -> Iterator[str]:
    yield from one_to_one(model)
    categories = _categories(model)
    if not categories:
        yield "it has no categories"
    yield from _repeated(categories)
    for feature in model.signature.inputs[:1]:
        if categories and _held_texts(feature) != isinstance(categories[0], str):
            yield f"its input {feature.name!r} is of another type than its categories"
    for output in model.signature.outputs[:1]:
        if output.kind == "tensor" and count_of(output) not in (None, len(categories)):
            shape = list(output.shape or ())
            yield f"it knows {len(categories)} categories, and its output {output.name!r} is an array of {shape}"


@lowers_model(_one_hot_problems)
def lower_one_hot(stage: Stage) -> None:
    """1 at the place of the category, 0 elsewhere; all zeros for what is none, or an error, as the file says."""
    encoder, b, categories = stage.model.spec.oneHotEncoder, stage.b, _categories(stage.model)
    count = len(categories)
    # of an array, as the input of a single category, there is one element
    place = stage.positions(stage.flat(stage.value()), categories)
    hot = b.op("Equal", np.arange(count, dtype=np.int64), place)
    result = stage.cast(hot, ir.DataType.DOUBLE)
    if encoder.handleUnknown == encoder.ErrorOnUnknown:
        # what is unknown gets the place behind the last category
        known = b.op("Less", b.op("Reshape", place, np.zeros(0, np.int64)), np.array(count, np.int64))
        result = stage.require(known, result, "the value is none of the categories")
    if stage.model.signature.outputs[0].kind == "dictionary":
        stage.write_only(Dictionary(tuple(range(count)), result, sparse=True))
    else:
        stage.write_only(result)


# categorical mapping


def _mapping_problems(model: CoreMLModel) -> Iterator[str]:
    yield from one_to_one(model)
    mapping = model.spec.categoricalMapping
    which, unknown = mapping.WhichOneof("MappingType"), mapping.WhichOneof("ValueOnUnknown")
    if which is None or not getattr(mapping, which).map:
        yield "it maps nothing"
    to_texts = which == "int64ToStringMap"
    if unknown is not None and to_texts != (unknown == "strValue"):
        yield f"what is unknown becomes {unknown}, which is of another type than what is known"
    for features, texts in ((model.signature.inputs, not to_texts), (model.signature.outputs, to_texts)):
        for feature in features[:1]:
            if _held_texts(feature) != texts:
                yield f"{feature.name!r} is of another type than what it maps"


@lowers_model(_mapping_problems)
def lower_mapping(stage: Stage) -> None:
    """A text for a whole number or the other way round, of a sequence for each element."""
    mapping, b = stage.model.spec.categoricalMapping, stage.b
    known = getattr(mapping, str(mapping.WhichOneof("MappingType"))).map
    keys: Labels = tuple(known)
    values = [known[key] for key in known]
    unknown = mapping.WhichOneof("ValueOnUnknown")
    value = stage.value()
    fallback = getattr(mapping, unknown) if unknown is not None else ("" if isinstance(values[0], str) else 0)
    result = stage.encoded(value, keys, values, fallback)
    if unknown is None:
        place = stage.flat(stage.positions(value, keys))
        # with a 0, so that an empty sequence has a largest place too
        most = b.op(
            "ReduceMax", b.op("Concat", place, np.zeros(1, np.int64), axis=0), np.array([0], np.int64), keepdims=0
        )
        result = stage.require(
            b.op("Less", most, np.array(len(keys), np.int64)), result, "the value is not in the mapping"
        )
    stage.write_only(result)


# dict vectorizer


def _vocabulary(model: CoreMLModel) -> Labels:
    vectorizer = model.spec.dictVectorizer
    which = vectorizer.WhichOneof("Map")
    return () if which is None else tuple(getattr(vectorizer, which).vector)


def _dict_problems(model: CoreMLModel) -> Iterator[str]:
    yield from one_to_one(model)
    vocabulary = _vocabulary(model)
    if not vocabulary:
        yield "it knows no keys"
    yield from _repeated(vocabulary)
    for feature in model.signature.inputs[:1]:
        if feature.kind != "dictionary":
            yield f"it reads a dictionary, and its input {feature.name!r} is a {feature.kind}"


@lowers_model(_dict_problems)
def lower_dict_vectorizer(stage: Stage) -> None:
    """The values of a dictionary at the places of their keys, as an array or as a dictionary by place."""
    vocabulary = _vocabulary(stage.model)
    held = stage.read()
    if not isinstance(held, Dictionary):
        raise stage.refuse("it reads a dictionary", found="an array or a single value")
    values = placed(stage, held, vocabulary)
    if stage.model.signature.outputs[0].kind == "dictionary":
        stage.write_only(Dictionary(tuple(range(len(vocabulary))), values, sparse=True))
    else:
        stage.write_only(values)
