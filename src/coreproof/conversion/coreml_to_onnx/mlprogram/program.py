"""Lowers one function of an ML Program: its inputs and states, its operations, its outputs."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import numpy as np
import onnx_ir as ir

from coreproof.conversion.coreml_to_onnx.builder import OnnxBuilder
from coreproof.conversion.coreml_to_onnx.lowered_model import LoweredModel, varying
from coreproof.conversion.coreml_to_onnx.lowering import Lowering, RoundingPolicy, Shared, handler_for
from coreproof.conversion.coreml_to_onnx.mlprogram.block import lower_operations
from coreproof.conversion.coreml_to_onnx.mlprogram.literals import declared
from coreproof.errors import ConversionError, UnsupportedOperatorsError
from coreproof.model.coreml.features import read_signature
from coreproof.model.coreml.model import CoreMLModel
from coreproof.model.coreml.open_states import open_states
from coreproof.model.coreml.proto import MIL_pb2
from coreproof.model.features import Feature, Signature
from coreproof.model.formats import program as mil


def lower_program(
    model: CoreMLModel,
    precision: Literal["stored", "fp32"] = "stored",
    function: str | None = None,
    switches: RoundingPolicy | None = None,
) -> LoweredModel:
    """The ONNX model of one function (the default one when ``function`` is None).

    ``switches`` lets each operation compute in float16 or float32 as one more input says; ``precision`` is not asked then.
    """
    program = model.spec.mlProgram
    chosen = chosen_function(model, program, function)
    stateful = read_signature(model.spec, chosen) if model.spec.description.functions else model.signature
    model, states = (opened := open_states(model, chosen)).model, opened.pairs
    program = model.spec.mlProgram
    body, opset = mil.block_of(program.functions[chosen]), str(program.functions[chosen].opset)
    _refuse_unsupported(model, body, opset)
    signature = read_signature(model.spec, chosen)

    b = OnnxBuilder()
    # a node that the lowering adds must not take the name of a value of the program
    b.taken.update(
        o.name for operation in mil.nodes(body.operations) if operation.type != "const" for o in operation.outputs
    )
    b.taken.update(f.name for f in signature.outputs)
    shared = Shared(b, model, switches)
    low = Lowering(b=b, precision=precision, where=model.where, opset=opset, shared=shared)
    if switches is not None:
        switches.declare(low)
    features = {f.name: f for f in signature.inputs}
    for named in program.functions[chosen].inputs:
        add_input(low, named, features)
    lower_operations(low, model, body.operations)

    signature = _with_scores(low, signature)
    plain = [f for f in signature.outputs if f.name not in (signature.predicted_label, signature.probabilities)]
    if shared.scores is None:
        plain = list(signature.outputs)
    outputs = {f.name: _output(low, f) for f in plain}
    if signature.scores is not None and signature.scores not in outputs:
        outputs[signature.scores] = _plain(low, signature.scores, shared.scores)
    values = {name: v.name or name for name, v in low.environment.items() if isinstance(v, ir.Value)}
    values.update({name: v.name or name for name, v in outputs.items()})
    own = replace(signature, inputs=stateful.inputs, outputs=stateful.outputs, states=stateful.states)
    return LoweredModel(b.model(list(outputs.values())), own, values, states)


def chosen_function(model: CoreMLModel, program: MIL_pb2.Program, wanted: str | None) -> str:
    """The name of the function that is wanted, else of the default one. Raises ConversionError where there is none such."""
    name = wanted or model.spec.description.defaultFunctionName or "main"
    # a program of one function need not call it main
    if name not in program.functions and wanted is None and len(program.functions) == 1:
        return str(next(iter(program.functions)))
    if name not in program.functions:
        raise ConversionError(
            "the model has no such function",
            where=model.where,
            expected=" or ".join(sorted(program.functions)),
            found=name,
        )
    return str(name)


def _refuse_unsupported(model: CoreMLModel, body: MIL_pb2.Block, opset: str) -> None:
    missing = [
        (operation.type, operation.outputs[0].name if operation.outputs else operation.type)
        for operation in mil.nodes(body.operations)
        if operation.type != "const" and handler_for(operation.type, opset) is None
    ]
    if missing:
        raise UnsupportedOperatorsError(model.where, missing, "ONNX")


# inputs


def _onnx_dtype(feature: Feature) -> ir.DataType:
    return (
        ir.DataType.FLOAT if feature.kind == "image" else ir.DataType.from_numpy(np.dtype(feature.dtype or "float32"))
    )


def add_input(low: Lowering, named: MIL_pb2.NamedValueType, features: dict[str, Feature]) -> None:
    """The ONNX input of a function's input in the dtype that the model's description declares, widened to its carrier."""
    own = declared(named)
    feature = features.get(own.name)
    if feature is None:
        raise ConversionError(
            "the program's input is not described as a feature",
            where=low.where,
            found=own.name,
            expected=list(features),
        )
    shape = [f"{own.name}_{i}" if d is None else d for i, d in enumerate(own.shape or ())]
    first = 2 if feature.kind == "image" and len(shape) == 4 else 0  # of a picture the height and the width alone
    for i, varies in enumerate(varying(feature, shape[first:]), first):
        shape[i] = f"{own.name}_{i}" if varies else shape[i]
    value = low.b.input(own.name, _onnx_dtype(feature).numpy(), shape)
    if own.shape is not None:
        low.b.may_be_left_out(value, feature, low.where)
    carrier = (
        ir.DataType.FLOAT if "float" in own.dtype else ir.DataType.BOOL if own.dtype == "bool" else ir.DataType.INT32
    )
    carried = value if value.dtype == carrier else low.op("Cast", value, to=carrier, name=f"{own.name}/carried")
    low.shared.claim(carried)
    if feature.kind == "state":
        low.shared.states[own.name] = carried
    low.environment[own.name] = carried


# outputs


def _with_scores(low: Lowering, signature: Signature) -> Signature:
    if low.shared.scores is None:
        is_classifier = signature.predicted_label is not None or signature.probabilities is not None
        return replace(signature, labels=None if is_classifier else signature.labels, scores=None)
    return replace(signature, scores=low.shared.scores_name)


def _output(low: Lowering, feature: Feature) -> ir.Value:
    """The value of that name in the feature's dtype, bearing the feature's name."""
    # an input that is handed out as it came: a node that made it again could not bear its name
    handed_on = next((value for value in low.b.inputs if value.name == feature.name), None)
    if handed_on is not None:
        return handed_on
    operand = low.lookup(feature.name)
    value = low.value(operand)
    if value.dtype == ir.DataType.STRING:
        raise ConversionError(
            f"output {feature.name!r} is a text, which no ONNX output of a Core ML model is",
            where=low.where,
            expected=str(feature),
            found="a constant text",
        )
    wanted = _onnx_dtype(feature)
    half = low.shared.halves.get(value)
    # what was rounded exists in float16 already
    if wanted == ir.DataType.FLOAT16 and half is not None and value.name == feature.name:
        value.name = f"{feature.name}/rounded"
        half.name = feature.name
        return half
    return _plain(low, feature.name, value, wanted)


def _plain(low: Lowering, name: str, value: ir.Value | None, dtype: ir.DataType | None = None) -> ir.Value:
    assert value is not None
    dtype = dtype or value.dtype
    is_free = value.producer() is not None and value.const_value is None
    if is_free and value.name == name and value.dtype == dtype:
        return value
    if is_free and value.name == name:
        value.name = f"{name}/carried"
    result = low.op("Identity", value) if value.dtype == dtype else low.op("Cast", value, to=dtype)
    result.name = name
    return result
