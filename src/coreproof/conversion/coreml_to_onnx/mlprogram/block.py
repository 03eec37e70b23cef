"""Lowers the operations of one MIL block, one after the other, and rounds what the program stores as float16."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial

import onnx_ir as ir

from coreproof.conversion.coreml_to_onnx.boundary import understood
from coreproof.conversion.coreml_to_onnx.builder import OnnxBuilder
from coreproof.conversion.coreml_to_onnx.lowering import Declared, Lowering, Operand, handler_for
from coreproof.conversion.coreml_to_onnx.mlprogram.arguments import constant_of, given_to
from coreproof.conversion.coreml_to_onnx.mlprogram.literals import declared
from coreproof.conversion.coreml_to_onnx.rounding import commutes, rounds
from coreproof.model.coreml.model import CoreMLModel
from coreproof.model.coreml.proto import MIL_pb2


def lower_operations(low: Lowering, model: CoreMLModel, operations: Iterable[MIL_pb2.Operation]) -> None:
    """Lowers ``operations`` in order; their outputs enter ``low.environment``."""
    for operation in operations:
        low.operation = operation.type
        low.name = operation.outputs[0].name if operation.outputs else operation.type
        arguments: dict[str, object] = {}
        with understood(low.refuse, partial(dict[str, object], arguments)):
            _lower_operation(low, model, operation, arguments)


def _lower_operation(
    low: Lowering, model: CoreMLModel, operation: MIL_pb2.Operation, arguments: dict[str, object]
) -> None:
    """Lowers one operation; ``arguments`` is filled with what it is given, for those who tell what went wrong."""
    low.outputs = tuple(declared(o) for o in operation.outputs)
    low.blocks = operation.blocks
    low.shared.model = model
    if operation.type == "const":
        literal = constant_of(low, model, operation)
        low.environment[low.name] = literal
        low.shared.names.setdefault(id(literal), low.name)
        return
    handler = handler_for(operation.type, low.opset)
    if handler is None:
        raise low.refuse("is not lowered")
    given = given_to(handler, low, model, operation, arguments)
    outputs = low.outputs
    exact = None
    if low.shared.switches is not None:
        given = low.shared.switches.enter(low, given)
    elif (
        commutes(operation.type) and outputs and outputs[0].dtype == "float16" and isinstance(given.get("x"), ir.Value)
    ):
        # where it hands on float32, its input was rounded all the same
        exact = low.shared.exact.get(given["x"])
    if exact is not None:
        given["x"] = exact
    results = handler(low, **given)
    results = results if isinstance(results, list | tuple) and operation.type != "make_list" else [results]
    if len(results) != len(outputs):
        raise low.refuse("it has another number of outputs", expected=len(results), found=len(outputs))
    for output, result in zip(outputs, results, strict=True):
        low.environment[output.name] = finish(low, output, result, unrounded=exact is not None)


def finish(low: Lowering, output: Declared, result: Operand, *, unrounded: bool = False) -> Operand:
    """Gives a result its MIL name and declared shape, and rounds it where the program stores it as float16.

    ``unrounded`` says that it was made from an input before that was rounded.
    """
    if not isinstance(result, ir.Value):
        low.shared.names.setdefault(id(result), output.name)
        return result
    _declare(result, output)
    if low.shared.switches is not None:
        return low.shared.switches.leave(low, output.name, result)
    is_rounded = (
        output.dtype == "float16"
        and low.precision == "stored"
        and (unrounded or rounds(low.operation))
        and result.dtype == ir.DataType.FLOAT
    )
    if not is_rounded:
        low.shared.give_name(result, output.name)
        return result
    low.shared.give_name(result, f"{output.name}/exact")
    half = low.op("Cast", result, to=ir.DataType.FLOAT16, name=f"{output.name}/float16")
    rounded = low.op("Cast", half, to=ir.DataType.FLOAT)
    rounded.shape = result.shape
    low.shared.give_name(rounded, output.name)
    low.shared.halves[rounded] = half
    low.shared.exact[rounded] = result
    return rounded


def _declare(value: ir.Value, output: Declared) -> None:
    """Fills in the lengths that ONNX's own inference left open with those that the file declares."""
    if output.shape is None or (value.shape is not None and len(value.shape) != len(output.shape)):
        return
    known = list(value.shape) if value.shape is not None else [None] * len(output.shape)
    value.shape = ir.Shape(
        [k if isinstance(k, int) else d if d is not None else k for k, d in zip(known, output.shape, strict=True)]
    )


def inner(low: Lowering, block: MIL_pb2.Block, inputs: Sequence[ir.Value]) -> tuple[Lowering, list[ir.Value]]:
    """Lowers a nested block into a graph of its own with these inputs; returns it and its outputs."""
    b = OnnxBuilder(f"{low.name}/body", parent=low.b)
    b.inputs.extend(inputs)
    child = low.nested(b)
    for named, value in zip(block.inputs, inputs, strict=True):
        child.environment[named.name] = value
        low.shared.claim(value)
    lower_operations(child, low.shared.model, block.operations)
    outputs = []
    for name in block.outputs:
        value = child.value(child.lookup(name))
        producer = value.producer()
        # an ONNX body makes each of its outputs itself, and none of them twice
        if producer is None or producer not in child.b.nodes or value in outputs:
            value = child.op("Identity", value)
        outputs.append(value)
    return child, outputs
