"""What a Core ML file claims, held against what it holds, when it is loaded: before anything is allocated or run.

Names, types and sizes that make no sense in any model are refused here, all at once. What a model computes is not judged: a
model with a broken layer loads, so that the doctor can look at it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Protocol

from coreproof.errors import UnreadableModelError, first_few
from coreproof.model.coreml.literals import BITS, WithWeights, tensor_type
from coreproof.model.coreml.proto import FeatureTypes_pb2, MIL_pb2, Model_pb2, NeuralNetwork_pb2
from coreproof.model.coreml.weight_file import WeightFile
from coreproof.model.coreml.weight_params import network_weights, shape_of, shortfall
from coreproof.model.formats import classic, network, program
from coreproof.model.formats.program import MIL_DTYPES


class Loaded(WithWeights, Protocol):
    """As much of ``CoreMLModel`` as is judged here."""

    @property
    def weight_files(self) -> tuple[WeightFile, ...]:
        """The weight files that were opened so far."""


def require_sound(model: Loaded, spec: Model_pb2.Model) -> None:
    """Raises UnreadableModelError, which names what makes no sense, or what the weight file does not hold."""
    # a file made to complain may have millions of faults; nobody reads them
    found = list(islice(_model(model, spec, ""), 1000))
    if found:
        raise UnreadableModelError(
            "the model says what cannot be, or holds less than it says",
            where=model.where,
            found=first_few(found),
            fix="it is damaged, or was written by a tool that did not finish; copy it or convert it again",
        )
    # only now: while it is read, each blob is held against its own constant
    for file in model.weight_files:
        file.require_separate_blobs()


def _model(model: Loaded, spec: Model_pb2.Model, place: str) -> Iterator[str]:
    kind = spec.WhichOneof("Type")
    if kind is None:
        yield f"{place or 'the model'} is of no type"
        return
    yield from _features(spec, place)
    if kind == "mlProgram":
        yield from _program(model, spec.mlProgram, place)
    elif network.is_network(spec):
        yield from _layers(network.main(spec).layers, place)
    for index, stage in enumerate(classic.nested(spec)):
        yield from _model(model, stage, f"{place}stage {index}: ")


# the description


def _features(spec: Model_pb2.Model, place: str) -> Iterator[str]:
    description = spec.description
    described: list[tuple[str, object]] = [("", description)]
    if description.functions:
        described = [(f"function {f.name!r}: ", f) for f in description.functions]
        default = description.defaultFunctionName
        if default not in {f.name for f in description.functions}:
            yield f"{place}the default function {default!r} is not described"
    for of, held in described:
        for role in ("input", "output", "state"):
            features = list(getattr(held, role))
            yield from _named(features, f"{place}{of}", role)
            for feature in features:
                size = feature.type.imageType
                if feature.type.WhichOneof("Type") == "imageType" and (size.width < 1 or size.height < 1):
                    yield f"{place}{of}{role} {feature.name!r} is a picture of {size.width}x{size.height} pixels"
                for problem in _flexible(feature.type.multiArrayType):
                    yield f"{place}{of}{role} {feature.name!r} {problem}"


def _flexible(array: FeatureTypes_pb2.ArrayFeatureType) -> Iterator[str]:
    """More ranges than lengths are well: an old network's input of rank 3 may say them for all five of its axes."""
    rank, ranges = len(array.shape), array.shapeRange.sizeRanges
    if 0 < len(ranges) < rank:
        yield f"has {rank} lengths and ranges for {len(ranges)} of them"
    for lengths in ranges:
        if 0 <= lengths.upperBound < lengths.lowerBound:
            yield f"has a length from {lengths.lowerBound} to {lengths.upperBound}"
    for allowed in array.enumeratedShapes.shapes:
        if len(allowed.shape) < rank:
            yield f"has {rank} lengths, and {len(allowed.shape)} in one of its shapes"


def _named(features: Iterable[Model_pb2.FeatureDescription], place: str, role: str) -> Iterator[str]:
    seen: set[str] = set()
    for index, feature in enumerate(features):
        if not feature.name:
            yield f"{place}{role} {index} has no name"
        elif feature.name in seen:
            yield f"{place}two features are called {feature.name!r}"
        seen.add(feature.name)


# NeuralNetwork


def _layers(layers: Iterable[NeuralNetwork_pb2.NeuralNetworkLayer], place: str) -> Iterator[str]:
    for layer in network.nodes(layers):
        operator = layer.WhichOneof("layer")
        if operator is None:
            continue  # of a type that is not known: said by whoever lowers it
        fields = getattr(layer, operator)
        for name, params in network_weights(fields):
            known = shape_of(operator, fields, name)
            problem = None if known is None else shortfall(params, known[0])
            if problem is not None:
                yield f"{place}layer {layer.name!r} ({operator}): {name} {problem}"


# ML Program


def _program(model: Loaded, stored: MIL_pb2.Program, place: str) -> Iterator[str]:
    if not stored.functions:
        yield f"{place}the program has no functions"
    for name, function in stored.functions.items():
        of = f"{place}function {name!r}: "
        if function.opset not in function.block_specializations:
            yield f"{of}it has no block for its opset {function.opset!r}"
        for block in function.block_specializations.values():
            yield from _block(model, block, of)


def _block(model: Loaded, block: MIL_pb2.Block, place: str) -> Iterator[str]:
    for index, operation in enumerate(block.operations):
        called = operation.outputs[0].name if operation.outputs else f"number {index}"
        of = f"{place}operation {called!r} ({operation.type or 'of no type'})"
        if not operation.type:
            yield f"{of} has no type"
        if operation.type == "const" and not (operation.outputs and "val" in operation.attributes):
            yield f"{of} holds no value, or gives it no name"
        for key, argument in operation.inputs.items():
            if not argument.arguments or any(b.WhichOneof("binding") is None for b in argument.arguments):
                yield f"{of}: {key} is bound to nothing"
        for key, literal in program.literals(operation):
            for value in program.items(literal):
                yield from _value(model, value, f"{of}: {key}")
        for nested in operation.blocks:
            yield from _block(model, nested, place)


def _value(model: Loaded, value: MIL_pb2.Value, what: str) -> Iterator[str]:
    """A constant: its type, and whether all of it is there."""
    held = value.WhichOneof("value")
    if held is None or (held == "immediateValue" and value.immediateValue.WhichOneof("value") is None):
        yield f"{what} holds no value"
    else:
        yield from _tensor(model, value, what)


def _tensor(model: Loaded, value: MIL_pb2.Value, what: str) -> Iterator[str]:
    tensor = tensor_type(value.type)
    if tensor is None:
        yield f"{what} is of no tensor type"
        return
    if tensor.dataType not in MIL_pb2.DataType.values() or not tensor.dataType:
        yield f"{what} has elements of an unknown type ({tensor.dataType})"
        return
    if any(d.WhichOneof("dimension") != "constant" for d in tensor.dimensions):
        yield f"{what} does not say its shape"
        return
    dtype = MIL_DTYPES.get(tensor.dataType)
    shape = [int(d.constant.size) for d in tensor.dimensions]
    count = math.prod(shape)
    if value.WhichOneof("value") == "blobFileValue":
        blob = value.blobFileValue
        file = model.weight_file(blob.fileName)
        try:
            file.check(blob.offset, dtype, count)
        except UnreadableModelError as error:
            yield f"{what} lies in {blob.fileName}: expected {error.expected}, found {error.found}"
        return
    stored = value.immediateValue.tensor
    which = stored.WhichOneof("value")
    # floats, ints, bools, longs and texts have one entry an element
    if which != "bytes":
        found = 0 if which is None else len(getattr(stored, which).values)
        if found != count:
            yield f"{what} is {dtype}{shape}, and has {found} elements"
        elif which is not None and (which == "strings") != (dtype == "str"):
            yield f"{what} is {dtype}{shape}, and holds {which}"
    elif dtype not in BITS:
        yield f"{what} is {dtype}{shape}, and holds bytes"
    # sub-byte elements fill whole bytes: -(-n // 8) rounds up
    elif len(stored.bytes.values) != -(-count * BITS[dtype] // 8):
        yield f"{what} is {dtype}{shape}, and has {len(stored.bytes.values)} bytes"
