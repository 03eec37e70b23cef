"""Lowers one function of a Core AI program: its inputs and states, its operations, its outputs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Literal

import numpy as np
import onnx_ir as ir

from coreproof.conversion.coreai_to_onnx.lowering import NARROW, CoreAILowering, CoreAIScope, Operand, carrier
from coreproof.conversion.coreml_to_onnx.boundary import understood
from coreproof.conversion.coreml_to_onnx.builder import OnnxBuilder
from coreproof.conversion.coreml_to_onnx.lowered_model import LoweredModel
from coreproof.conversion.operators import COREAI
from coreproof.errors import ConversionError, UnsupportedOperatorsError
from coreproof.model.coreai.element_types import TensorType
from coreproof.model.coreai.model import CoreAIModel
from coreproof.model.coreai.program import Function, StoredBlock, StoredOperation, StoredProgram, operations
from coreproof.model.features import Feature, Signature
from coreproof.model.formats.coreai import short

ENDS = ("coreai.output", "coreai.yield", "coreai.condition")
_DEEPEST = 40


def coreai_to_onnx(
    model: CoreAIModel, *, precision: Literal["stored", "fp32"] = "stored", function: str | None = None
) -> LoweredModel:
    """The ONNX model of one function (that of the model when ``function`` is None).

    ``precision`` "stored" brings each result into the element type that the program gives it. Raises UnsupportedOperatorsError,
    which names everything that is not lowered, and ConversionError.
    """
    model = model if function is None else model.at_function(function)
    chosen = model.function
    _refuse_unsupported(model, chosen)
    b = OnnxBuilder(by_layer=True, fold=True)
    b.taken.update(value for operation in operations(chosen.block) for value in operation.results)
    scope = CoreAIScope(model.program)
    low = CoreAILowering(b, precision, model.where, chosen, scope)
    for name, value in chosen.inputs.items():
        low.environment[value] = _input(low, name, chosen.types.get(value))
    lower_block(low, chosen.block)
    outputs = [_output(low, name, value) for name, value in chosen.outputs.items()]
    states: dict[str, str] = {}
    for feature in model.signature.states:
        after = low.op("Cast", scope.states[feature.name], to=_handed(chosen.types[chosen.inputs[feature.name]]))
        b.rename(after, b.unique(f"{feature.name}/after"))
        states[feature.name] = after.name or ""
        outputs.append(after)
    return LoweredModel(b.model(outputs), carried_signature(model), dict(scope.values), states)


def carried_signature(model: CoreAIModel) -> Signature:
    """What the model takes and makes in ONNX: float32 for bfloat16 and float8, and pairs of it for complex numbers."""
    of = model.signature
    inputs, outputs, states = (tuple(map(_carried, features)) for features in (of.inputs, of.outputs, of.states))
    return replace(of, inputs=inputs, outputs=outputs, states=states)


def _refuse_unsupported(model: CoreAIModel, function: Function) -> None:
    """Names every operation without a handler, of the function and of those that it invokes."""
    missing = [
        (operation.kind, operation.name)
        for block in _reached(model.program, function.block, set())
        for operation in operations(block)
        if operation.kind not in (*ENDS, "coreai.constant") and short(operation.kind) not in COREAI
    ]
    if missing:
        raise UnsupportedOperatorsError(model.where, missing, "ONNX")


def _reached(program: StoredProgram, block: StoredBlock, seen: set[str]) -> Iterator[StoredBlock]:
    yield block
    for operation in operations(block):
        if operation.kind == "coreai.invoke" and (callee := callee_of(operation)) not in seen:
            seen.add(callee)
            for function in program.functions:
                if function.name == callee:
                    yield from _reached(program, function.block, seen)


def callee_of(operation: StoredOperation) -> str:
    """The name of the function that an ``invoke`` runs."""
    return operation.attributes.get("callee", "").partition("@")[2].partition(">")[0].strip('"')


# inputs and outputs


def _handed(held: TensorType) -> ir.DataType:
    """The ONNX type in which a value of this type enters and leaves: what NumPy or ONNX has no dtype for does as float32."""
    if held.element == "bf16" or held.element.startswith("f8") or held.is_complex:
        return ir.DataType.FLOAT
    return ir.DataType.from_numpy(np.dtype(held.dtype))


def _carried(feature: Feature) -> Feature:
    """A feature as the graph has it."""
    if feature.dtype is not None and feature.dtype.startswith("complex") and feature.shape is not None:
        return replace(feature, dtype="float32", shape=(*feature.shape, 2))
    wide = feature.dtype is not None and feature.dtype.startswith(("bfloat", "float8"))
    return replace(feature, dtype="float32") if wide else feature


def _input(low: CoreAILowering, name: str, held: TensorType | None) -> Operand:
    carried = None if held is None else carrier(held.element)
    if held is None or carried is None or held.dtype is None or "int4" in held.dtype or "int2" in held.dtype:
        raise ConversionError(
            f"input {name!r} is nothing that ONNX takes",
            where=low.where,
            expected="a tensor of numbers",
            found=str(held or low.function.others.get(name, "?")),
        )
    lengths: list[int | str] = [f"{name}_{i}" if n is None else n for i, n in enumerate(held.shape)]
    lengths += [2] if held.is_complex else []
    value = low.b.input(name, _handed(held), lengths)
    fed = value if value.dtype == carried else low.op("Cast", value, to=carried)
    if held.state:
        low.scope.states[name] = fed
        return None
    low.scope.values[name] = name
    return narrowed(low, fed, held) if value.dtype == carried and held.element in NARROW else fed


def _output(low: CoreAILowering, name: str, value: str) -> ir.Value:
    """The value in the declared type, under the declared name."""
    held, found = low.function.types[value], low.value(low.lookup(value))
    wanted = _handed(held)
    entered = next((entry for entry in low.b.inputs if entry.name == name), None)
    if entered is not None and low.function.inputs.get(name) == value:
        return entered  # what is handed out as it came: a node that made it again could not bear its name
    if entered is not None:
        raise ConversionError(
            f"output {name!r} has the name of an input, and is another value",
            where=low.where,
            expected="names of their own",
        )
    is_free = found.producer() is not None and found.const_value is None
    if is_free and found.name == name and found.dtype == wanted:
        return found
    if is_free and found.name == name:
        low.b.rename(found, low.b.unique(f"{name}/carried"))
    made = low.b.copy(found) if found.dtype == wanted else low.ops("Cast", found, to=wanted, outputs=1)[0]
    low.b.rename(made, name)
    low.scope.values[value] = made.name or ""
    return made


# operations


def lower_block(low: CoreAILowering, block: StoredBlock) -> tuple[Operand, ...]:
    """Lowers the operations of a block; what it hands out."""
    handed: tuple[Operand, ...] = ()
    for operation in block.operations:
        low.current, low.operation, low.name = operation, operation.kind, operation.name
        if operation.kind in ENDS:
            handed = tuple(low.lookup(name) for name in operation.operands)
            continue
        if operation.kind == "coreai.constant":
            if operation.constant is None:
                raise low.refuse("it holds no tensor of numbers")
            low.environment[operation.results[0]] = operation.constant
            continue
        arguments = [low.lookup(name) for name in operation.operands]
        with understood(low.refuse, partial(_told, operation, arguments)), low.b.working_on(operation.name):
            _lower(low, operation, arguments)
    return handed


def _told(operation: StoredOperation, arguments: Sequence[Operand]) -> Mapping[str, object]:
    return dict(zip(operation.operands, arguments, strict=True))


def _lower(low: CoreAILowering, operation: StoredOperation, arguments: Sequence[Operand]) -> None:
    name = short(operation.kind)
    handler = COREAI.find(name)
    if handler is None:
        raise low.refuse("is not lowered")
    if not COREAI.traits(name).get("complex_numbers", False) and any(
        held is not None and held.is_complex for held in (*low.given, *low.made)
    ):
        raise low.refuse("it is lowered for real numbers only")
    results = handler(low, *arguments)
    results = results if isinstance(results, tuple) else (results,)
    if len(results) != len(operation.results):
        raise low.refuse("it has another number of results", expected=len(results), found=len(operation.results))
    # a block within may have moved on
    low.current = operation
    exact = COREAI.traits(name).get("exact", False)
    for value, result in zip(operation.results, results, strict=True):
        low.environment[value] = _finish(low, value, result, exact=exact)


def _finish(low: CoreAILowering, name: str, result: Operand, *, exact: bool) -> Operand:
    """A result in its own type and, where it is a value of the graph, under its own name."""
    held = low.function.types.get(name)
    if held is None or not isinstance(result, ir.Value):
        return result
    carried = carrier(held.element)
    if carried is None:
        raise low.refuse("ONNX has no numbers of that kind", found=str(held))
    if result.dtype != carried:
        result = low.op("Cast", result, to=carried)
    if not exact:
        result = narrowed(low, result, held)
    if result.const_value is not None:
        # computed while the graph grew: what follows may need to know it
        return _constant(result)
    if result.shape is None or len(result.shape) == len(held.shape):
        known = list(result.shape) if result.shape is not None else [None] * len(held.shape)
        lengths = [
            k if isinstance(k, int) else n if n is not None else k for k, n in zip(known, held.shape, strict=True)
        ]
        result.shape = ir.Shape(lengths)
    if low.named and name not in low.scope.given and result not in low.b.inputs and result.name not in low.scope.given:
        low.b.taken.add(name)
        low.b.rename(result, name)
        low.scope.given.add(name)
    if low.named:
        low.scope.values[name] = result.name or ""
    return result


def _constant(result: ir.Value) -> np.ndarray:
    assert result.const_value is not None
    array: np.ndarray = result.const_value.numpy()
    return array


def narrowed(low: CoreAILowering, value: ir.Value, held: TensorType) -> ir.Value:
    """The value rounded, or wrapped, to what its own type holds; floats only where precision is as stored."""
    narrow = NARROW.get(held.element)
    if narrow is None or (value.dtype == ir.DataType.FLOAT and low.precision != "stored"):
        return value
    return low.op("Cast", low.op("Cast", value, to=narrow), to=value.dtype)


def enter(low: CoreAILowering) -> None:
    """One function deeper. Raises ConversionError where functions invoke each other without an end."""
    low.scope.depth += 1
    if low.scope.depth > _DEEPEST:
        raise low.refuse("functions invoke each other without an end")
