"""Translates one function of an ML Program: its inputs and states, its operations, its outputs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import partial

from coreproof.conversion.coreml_to_onnx.boundary import understood
from coreproof.conversion.coreml_to_onnx.lowering import OPSETS, Declared
from coreproof.conversion.coreml_to_onnx.mlprogram.arguments import constant_of, given_to
from coreproof.conversion.coreml_to_onnx.mlprogram.literals import declared
from coreproof.conversion.mil_to_coreai.states import close_states, open_handle
from coreproof.conversion.mil_to_coreai.translation import ELEMENTS, FLOATS, FunctionScope, Operand, Tensor, Translation
from coreproof.conversion.operators import MIL, TO_COREAI
from coreproof.conversion.registry import Handler
from coreproof.errors import ConversionError
from coreproof.model.coreai.element_types import TensorType
from coreproof.model.coreai.program import Function, StoredBlock, StoredOperation
from coreproof.model.coreml.model import CoreMLModel
from coreproof.model.coreml.proto import MIL_pb2
from coreproof.model.features import Signature
from coreproof.model.formats import program as mil


def handler_for(operator: str, opset: str) -> Handler | None:
    """The newest handler that holds for ``operator`` in a file of ``opset``.

    Compressed weights are decoded by the handlers that decode them on the way to ONNX, which make arrays of arrays.
    """
    if operator.startswith("constexpr_"):
        return MIL.find(operator, OPSETS.get(opset))
    return TO_COREAI.find(operator, OPSETS.get(opset))


def missing_in(function: MIL_pb2.Function) -> list[tuple[str, str]]:
    """Every operation of a function that is not translated, with its first output."""
    opset = str(function.opset)
    return [
        (operation.type, operation.outputs[0].name if operation.outputs else operation.type)
        for operation in mil.nodes(mil.block_of(function).operations)
        if operation.type != "const" and handler_for(operation.type, opset) is None
    ]


def translate_function(model: CoreMLModel, name: str, signature: Signature) -> Function:
    """One function of the program, whose features ``signature`` describes.

    Raises ConversionError for an operation in a form that Core AI does not express.
    """
    stored = model.spec.mlProgram.functions[name]
    scope = FunctionScope(model.where, str(stored.opset))
    top = Translation(scope)
    inputs: dict[str, str] = {}
    for named in stored.inputs:
        own = declared(named)
        inputs[own.name] = _input(top, own, is_state=named.type.WhichOneof("type") == "stateType").name
    block = mil.block_of(stored)
    translate_operations(top, model, block.operations)
    outputs: dict[str, str] = {}
    for wanted in _handed_out(top, signature):
        value = top.value(top.lookup(wanted) if wanted in top.environment else scope.scores)
        outputs[wanted] = value.name
        scope.give_name(value, wanted)
    tokens = close_states(top)
    top.append("output", [*outputs.values(), *tokens], [])
    return _named(scope, name, inputs, outputs, [*scope.constants, *top.operations])


def _handed_out(top: Translation, signature: Signature) -> list[str]:
    """The outputs that are tensors: of a classifier its scores, for Core AI knows no texts and no dictionaries."""
    scope = top.scope
    if scope.scores is None:
        return [feature.name for feature in signature.outputs]
    classified = (signature.predicted_label, signature.probabilities)
    plain = [feature.name for feature in signature.outputs if feature.name not in classified]
    return [*plain, *([scope.scores_name] if scope.scores_name and scope.scores_name not in plain else [])]


def _input(top: Translation, own: Declared, *, is_state: bool) -> Tensor:
    if own.shape is None or own.dtype not in ELEMENTS:
        raise ConversionError(
            f"input {own.name!r} is nothing that Core AI takes",
            where=top.scope.where,
            expected="a tensor of numbers of known rank",
            found=f"{own.dtype}, rank {'?' if own.shape is None else len(own.shape)}",
        )
    held = TensorType(ELEMENTS[own.dtype], own.shape, is_state)
    value = Tensor(top.scope.fresh("input"), held)
    top.scope.types[value.name] = held
    top.scope.give_name(value, own.name)
    if is_state:
        open_handle(top, own.name, value)
    top.environment[own.name] = value
    return value


def _named(
    scope: FunctionScope, name: str, inputs: dict[str, str], outputs: dict[str, str], body: Sequence[StoredOperation]
) -> Function:
    """The function with MIL's names in the places of the provisional ones."""
    names = {**{fresh: fresh for fresh in (*scope.types, *scope.others)}, **scope.names}

    def block(held: StoredBlock) -> StoredBlock:
        return StoredBlock(tuple(names[a] for a in held.arguments), tuple(map(operation, held.operations)))

    def operation(held: StoredOperation) -> StoredOperation:
        results = tuple(names[r] for r in held.results)
        return StoredOperation(
            results[0] if results else held.kind,
            held.kind,
            tuple(names[o] for o in held.operands),
            results,
            held.attributes,
            tuple(map(block, held.blocks)),
            held.constant,
        )

    return Function(
        name=name,
        private=False,
        inputs={called: names[value] for called, value in inputs.items()},
        outputs={called: names[value] for called, value in outputs.items()},
        block=block(StoredBlock(tuple(inputs.values()), tuple(body))),
        types={names[fresh]: held for fresh, held in scope.types.items()},
        others={names[fresh]: text for fresh, text in scope.others.items()},
        # what MIL has no value for
        unnamed=frozenset(n for f in (*scope.types, *scope.others) if (n := names[f]).startswith("%")),
    )


# operations


def translate_operations(block: Translation, model: CoreMLModel, stored: Iterable[MIL_pb2.Operation]) -> None:
    """Translates operations in order; their outputs enter the block's environment."""
    for operation in stored:
        block.operation = operation.type
        block.name = operation.outputs[0].name if operation.outputs else operation.type
        arguments: dict[str, object] = {}
        with understood(block.refuse, partial(dict[str, object], arguments)):
            _translate(block, model, operation, arguments)


def _translate(
    block: Translation, model: CoreMLModel, operation: MIL_pb2.Operation, arguments: dict[str, object]
) -> None:
    block.outputs = tuple(_carried(o) for o in operation.outputs)
    block.blocks, block.model = operation.blocks, model
    if operation.type == "const":
        literal = constant_of(block, model, operation)
        block.environment[block.name] = literal
        block.scope.called.setdefault(id(literal), block.name)
        return
    handler = handler_for(operation.type, block.scope.opset)
    if handler is None:
        raise block.refuse("it is not translated")
    given = given_to(handler, block, model, operation, arguments)
    outputs, name, kind = block.outputs, block.name, block.operation
    if TO_COREAI.traits(operation.type).get("in_float32", False):
        given = {key: _widened(block, value) for key, value in given.items()}
    results = handler(block, **given)
    results = results if isinstance(results, list | tuple) else [results]
    if len(results) != len(outputs):
        raise block.refuse("it has another number of outputs", expected=len(results), found=len(outputs))
    # blocks within it have moved on
    block.operation, block.name = kind, name
    for output, result in zip(outputs, results, strict=True):
        block.environment[output.name] = _finish(block, output, result)


def _carried(made: MIL_pb2.NamedValueType) -> Declared:
    """An output as the file declares it; of a list the tensor that carries it: its length, which may grow, is in front."""
    if made.type.WhichOneof("type") != "listType":
        return declared(made)
    each = declared(MIL_pb2.NamedValueType(name=made.name, type=made.type.listType.type))
    return replace(each, shape=None if each.shape is None else (None, *each.shape))


def _widened(block: Translation, operand: Operand) -> Operand:
    """An operand of half width in float32."""
    if isinstance(operand, Tensor):
        return block.cast(operand, "f32") if operand.element == "f16" else operand
    if getattr(operand, "dtype", None) != "float16":
        return operand
    half = block.constant(operand, "")
    wide = half.astype("float32")
    if half.ndim:
        block.scope.halves[id(wide)] = wide, half
    return wide


def _finish(block: Translation, output: Declared, result: Operand) -> Operand:
    """A result under its name in MIL, in the type that the program declares."""
    if not isinstance(result, Tensor):
        block.scope.called.setdefault(id(result), output.name)
        return result
    wanted = ELEMENTS.get(output.dtype)
    if wanted in FLOATS and result.element in FLOATS:
        result = block.cast(result, wanted)
    # of a select between two numbers coremltools declares the shape of a number, whatever the condition's is
    lengths = output.shape or result.shape
    fits = len(lengths) == len(result.shape) and all(
        None in (n, m) or n == m for n, m in zip(lengths, result.shape, strict=True)
    )
    if not fits or result.element != wanted:
        raise block.refuse(
            "what it makes has another type than the program says",
            expected=f"{output.dtype}{list(lengths)}",
            found=str(result.held),
        )
    block.scope.give_name(result, output.name)
    return result
