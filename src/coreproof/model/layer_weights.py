"""The weights of one layer, or of all of them, as real numbers in their real shape: alike for every format that has layers."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from coreproof.errors import CoreproofError, InputError, UnreadableModelError
from coreproof.model.base import Model
from coreproof.model.coreml.compressed import DECOMPRESS, grain_of, steps_of
from coreproof.model.coreml.proto import MIL_pb2, Model_pb2, NeuralNetwork_pb2
from coreproof.model.coreml.weight_params import (
    WeightsError,
    network_weights,
    read_steps,
    read_vector,
    read_weights,
    shape_of,
    stored_as,
)
from coreproof.model.formats import classic, coreai, network, onnx, program
from coreproof.model.formats.free_name import free_name
from coreproof.model.formats.program import MIL_DTYPES, ordered_arguments
from coreproof.model.graph import Node
from coreproof.model.onnx.packed_weights import blocks_of
from coreproof.model.other_weights import constant_of

if TYPE_CHECKING:
    import onnx_ir as ir
    from torch.export import ExportedProgram

    from coreproof.model.coreml.model import CoreMLModel

Array = np.ndarray


@dataclass(frozen=True)
class WeightRef:
    """One weight that is not read yet. ``dtype`` is how the file stores it ("float32", "float16", "uint8" when quantised)."""

    dtype: str
    shape: tuple[int, ...]
    read: Callable[[], Array] = field(repr=False, compare=False)
    """The numbers that it stands for: quantised and compressed weights come back as floats."""
    steps: Callable[[], Array] | None = field(default=None, repr=False, compare=False)
    """How far the numbers that it could have held lie apart, at each one; NaN where it is left out. None for plain floats."""
    stored: int | None = field(default=None, compare=False)
    """The bytes that it takes in the file, of a compressed one with all that unpacks it; None where that is not known."""
    constant: str | None = field(default=None, compare=False)
    """What holds it, where that is one plain constant of floats, to be exchanged by ``with_weights``."""
    grain: Callable[[], Array | None] | None = field(default=None, repr=False, compare=False)
    """Of a table whose entries are rounded themselves the steps of these, at each number; nothing for others."""

    @property
    def size(self) -> int:
        """How many numbers the weight has."""
        return math.prod(self.shape)


def layer_weights(model: Model, layer: str) -> dict[str, Array]:
    """The weights that ``layer`` carries or reads, by the names of ``Node.parameters``, in real values and shapes.

    float32 from a NeuralNetwork (dequantised), the stored float type from ONNX and an ML Program (compressed ones
    decompressed). Layers inside branches and loops have their own names. Raises InputError where there is no such layer,
    UnreadableModelError where its weights are not what its fields say.
    """
    return weights_by_layer(model)(layer)


def weights_by_layer(model: Model) -> Callable[[str], dict[str, Array]]:
    """``layer_weights`` of many layers, for which the model is walked through once; none is read before it is asked for."""
    layers: dict[str, _Lazy] = {}
    for name, weights in _layers(model):
        layers.setdefault(name, weights)

    def read(layer: str) -> dict[str, Array]:
        if layer not in layers:
            raise InputError(
                f"there is no layer {layer!r}", where=model.name, fix="`coreproof show MODEL` lists the layers"
            )
        return {parameter: reference.read() for parameter, reference in layers[layer]().items()}

    return read


def layer_steps(model: Model, layer: str) -> dict[str, Array]:
    """Of the weights of ``layer`` that are quantised or compressed, how far the numbers that each could hold lie apart."""
    found = next((weights() for name, weights in _layers(model) if name == layer), {})
    return {parameter: reference.steps() for parameter, reference in found.items() if reference.steps is not None}


def all_weights(model: Model) -> Mapping[str, Mapping[str, WeightRef]]:
    """layer -> parameter -> weight, for the layers that have any, in stored order; nothing is read before ``WeightRef.read``.

    A layer that bears the name of an earlier one is called "name#2"; one of a pipeline's stage "stage0/name".
    """
    named: dict[str, Mapping[str, WeightRef]] = {}
    for name, weights in _layers(model):
        named[free_name(name, named, first=2, sign="#")] = weights()
    return {name: weights for name, weights in named.items() if weights}


def may_hold_steps(model: Model) -> bool:
    """Whether any weight of a model may be quantised or compressed (have ``steps``): its operators say it, no weight is read."""
    from coreproof.model.coreml.model import CoreMLModel
    from coreproof.model.onnx.model import OnnxModel

    if isinstance(model, OnnxModel):
        return any(node.op_type == "DequantizeLinear" for node in model.ir.graph.all_nodes())
    return isinstance(model, CoreMLModel) and _unpacks(model.spec)


def _unpacks(spec: Model_pb2.Model) -> bool:
    if spec.WhichOneof("Type") == "mlProgram":
        return _decompresses(program.main(spec))
    # a network's layers say it weight by weight
    return network.is_network(spec) or any(map(_unpacks, classic.nested(spec)))


def _decompresses(block: MIL_pb2.Block) -> bool:
    return any(
        operation.type.startswith("constexpr_") or any(map(_decompresses, operation.blocks))
        for operation in block.operations
    )


_Lazy = Callable[[], dict[str, WeightRef]]


def _layers(model: Model) -> Iterator[tuple[str, _Lazy]]:
    """Every layer, nested ones too, with a function that names its weights."""
    from coreproof.model.coreai.model import CoreAIModel
    from coreproof.model.coreml.model import CoreMLModel
    from coreproof.model.onnx.model import OnnxModel
    from coreproof.model.torch.model import TorchModel

    if isinstance(model, CoreAIModel):
        for name, held in coreai.weights(model.function):
            yield name, partial(_held_arrays, held)
    elif isinstance(model, OnnxModel):
        yield from _onnx_layers(model.ir.graph)
    elif isinstance(model, CoreMLModel):
        yield from _coreml_layers(model, model.spec, "")
    elif isinstance(model, TorchModel) and model.has_program:
        exported = model.exported()
        for node in model.graph.nodes:
            yield node.name, partial(_torch_weights, exported, node)


def _coreml_layers(model: CoreMLModel, spec: Model_pb2.Model, prefix: str) -> Iterator[tuple[str, _Lazy]]:
    if spec.WhichOneof("Type") == "mlProgram":
        yield from _program_layers(model, program.main(spec), {}, prefix)
    elif network.is_network(spec):
        for layer in network.nodes(network.main(spec).layers):
            yield prefix + layer.name, partial(_network_weights, model, layer)
    for index, stage in enumerate(classic.nested(spec)):
        yield from _coreml_layers(model, stage, f"{prefix}stage{index}/")


# NeuralNetwork


def _network_weights(model: CoreMLModel, layer: NeuralNetwork_pb2.NeuralNetworkLayer) -> dict[str, WeightRef]:
    operator = layer.WhichOneof("layer")
    if operator is None:
        return {}
    fields = getattr(layer, operator)
    return {
        name: _network_weight(model, layer, operator, fields, name, params) for name, params in network_weights(fields)
    }


def _network_weight(
    model: CoreMLModel,
    layer: NeuralNetwork_pb2.NeuralNetworkLayer,
    operator: str,
    fields: object,
    name: str,
    params: NeuralNetwork_pb2.WeightParams,
) -> WeightRef:
    known = shape_of(operator, fields, name)
    dtype, count = stored_as(params)
    shape, axis = ((count,), 0) if known is None else known

    def read() -> Array:
        try:
            return read_vector(params, name) if known is None else read_weights(params, shape, name, axis)
        except WeightsError as error:
            raise UnreadableModelError(
                error.problem,
                where=f"{model.where}, layer {layer.name!r} ({operator})",
                expected=error.expected,
                found=error.found,
            ) from None

    if "float" in dtype:
        return WeightRef(dtype, shape, read, constant=constant_of(layer.name, name))
    return WeightRef(dtype, shape, read, partial(read_steps, params, shape, name, axis))


# ML Program

_Constants: TypeAlias = Mapping[str, MIL_pb2.Operation]
"""Constant operations by what they make, those of the blocks around included."""


def _program_layers(
    model: CoreMLModel, block: MIL_pb2.Block, outside: _Constants, prefix: str
) -> Iterator[tuple[str, _Lazy]]:
    """Operations with what constants they read."""
    constants = dict(outside)
    for operation in block.operations:
        if program.is_constant(operation):
            constants.update(dict.fromkeys(program.writes(operation), operation))
        if operation.type != "const":
            yield prefix + program.name(operation), partial(_operation_weights, model, operation, constants)
        for nested in operation.blocks:
            yield from _program_layers(model, nested, constants, prefix)


def _operation_weights(model: CoreMLModel, operation: MIL_pb2.Operation, constants: _Constants) -> dict[str, WeightRef]:
    """Float constants of rank 1 and more, integers of more than 16 elements (shorter ones are settings)."""
    weights = {}
    for key, argument in ordered_arguments(operation):
        several = len(argument.arguments) > 1
        for index, binding in enumerate(argument.arguments):
            reference = _operand(model, binding, constants)
            if reference is not None and _is_weight(reference):
                weights[f"{key}[{index}]" if several else key] = reference
    if operation.type.startswith("constexpr_"):
        for key, value in sorted(operation.attributes.items()):
            reference = _literal(model, value)
            if reference is not None and _is_weight(reference):
                weights[key] = reference
    return weights


def _is_weight(reference: WeightRef) -> bool:
    if reference.dtype == "str" or not reference.shape:
        return False
    # axes, pads and shapes are short integers; integers beyond that are quantised weights or tables of indices
    return "float" in reference.dtype or reference.size > 16


def _operand(model: CoreMLModel, binding: MIL_pb2.Argument.Binding, constants: _Constants) -> WeightRef | None:
    """The constant that an argument is bound to; None for what is made when the program runs."""
    if binding.WhichOneof("binding") == "value":
        return _literal(model, binding.value)
    operation = constants.get(binding.name)
    if operation is None:
        return None
    if operation.type == "const":
        held = _literal(model, operation.attributes["val"])
        plain = held is not None and held.dtype in ("float16", "float32")
        return replace(held, constant=binding.name) if held is not None and plain else held
    position = program.writes(operation).index(binding.name)
    made = operation.outputs[position].type
    data = next(iter(_compressed_data(model, operation, constants)), None)
    return WeightRef(
        data.dtype if data is not None else program.dtype_of(made) or "?",
        tuple(length or 0 for length in program.shape_of(made) or ()),
        lambda: np.asarray(_decompressed(model, operation, constants)[position]),
        lambda: _steps(model, operation, constants),
        _stored(model, operation, constants),
        grain=lambda: grain_of(
            operation.type, _compressed(model, operation, constants), _inner_steps(model, operation, constants)
        ),
    )


def _stored(model: CoreMLModel, operation: MIL_pb2.Operation, constants: _Constants) -> int:
    """The bytes of all that an operation that decompresses is made from."""
    around = _before(constants, operation)
    parts = [_literal(model, value) for key, value in operation.attributes.items() if key != "name"]
    parts += [_operand(model, held.arguments[0], around) for held in operation.inputs.values()]
    return sum(part.stored or 0 for part in parts if part is not None)


def _compressed_data(model: CoreMLModel, operation: MIL_pb2.Operation, constants: _Constants) -> Iterator[WeightRef]:
    """The integers (or the table's indices) that a compressed weight is stored as."""
    for key in ("quantized_data", "indices", "data", "indices_nonzero_data", "nonzero_data", "source_val"):
        if key in operation.attributes:
            found = _literal(model, operation.attributes[key])
        elif key in operation.inputs:
            found = _operand(model, operation.inputs[key].arguments[0], _before(constants, operation))
        else:
            continue
        if found is not None:
            yield found


def _decompressed(model: CoreMLModel, operation: MIL_pb2.Operation, constants: _Constants) -> tuple[object, ...]:
    if operation.type not in DECOMPRESS:
        raise UnreadableModelError(
            "a weight is compressed in a way that is not known",
            where=f"{model.where}, operation {program.name(operation)!r}",
            expected=", ".join(DECOMPRESS),
            found=operation.type,
        )
    try:
        dense = DECOMPRESS[operation.type](**_compressed(model, operation, constants))
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        if isinstance(error, CoreproofError):
            raise
        raise UnreadableModelError(
            "a compressed weight does not hold together",
            where=f"{model.where}, operation {program.name(operation)!r} ({operation.type})",
            found=str(error) or type(error).__name__,
            fix="the model is damaged; copy it or convert it again",
        ) from error
    return dense if isinstance(dense, tuple) else (dense,)


def _compressed(model: CoreMLModel, operation: MIL_pb2.Operation, constants: _Constants) -> dict[str, Array]:
    """The arguments of an operation that decompresses: attributes before iOS18, inputs since."""
    around = _before(constants, operation)
    arguments = {key: _literal(model, value) for key, value in operation.attributes.items() if key != "name"}
    arguments.update((key, _operand(model, held.arguments[0], around)) for key, held in operation.inputs.items())
    return {key: argument.read() for key, argument in arguments.items() if argument is not None}


def _steps(model: CoreMLModel, operation: MIL_pb2.Operation, constants: _Constants) -> Array:
    inner = _inner_steps(model, operation, constants)
    return steps_of(operation.type, _compressed(model, operation, constants), inner)


def _inner_steps(model: CoreMLModel, operation: MIL_pb2.Operation, constants: _Constants) -> dict[str, Array]:
    """The steps of those arguments that are compressed themselves."""
    inner = {}
    for key, argument in operation.inputs.items():
        maker = constants.get(argument.arguments[0].name)
        # a mask says where numbers stand; it has no steps
        if maker is not None and maker.type != "const" and "mask" not in key:
            inner[key] = _steps(model, maker, _before(constants, operation))
    return inner


def _before(constants: _Constants, operation: MIL_pb2.Operation) -> _Constants:
    """The constants without those of an operation: nothing is made from itself."""
    return {name: maker for name, maker in constants.items() if maker is not operation}


def _literal(model: CoreMLModel, value: MIL_pb2.Value) -> WeightRef | None:
    from coreproof.model.coreml.literals import read_literal, tensor_type

    tensor = tensor_type(value.type)
    if tensor is None:
        return None
    shape = tuple(int(d.constant.size) for d in tensor.dimensions)
    dtype = MIL_DTYPES.get(tensor.dataType, "?")
    taken = -(-math.prod(shape) * _bits(dtype) // 8)
    return WeightRef(dtype, shape, lambda: np.asarray(read_literal(model, value)), stored=taken)


def _bits(dtype: str) -> int:
    """How many bits a number of MIL takes: its name ends in them ("uint4", "float16"), or a bool's byte."""
    digits = "".join(c for c in dtype.partition("_")[0] if c.isdigit())
    return int(digits) if digits else 8


# PyTorch


def _torch_weights(program: ExportedProgram, node: Node) -> dict[str, WeightRef]:
    """Parameters and buffers by their names in the module ("layer1.0.conv1.weight")."""
    held = {**program.state_dict, **program.constants}

    def read(name: str) -> Array:
        tensor = held[name].detach().cpu()
        # NumPy has no bfloat16 of its own, and float32 holds all of its numbers
        array: Array = (tensor.float() if "bfloat16" in str(tensor.dtype) else tensor).numpy()
        return array

    stored = {name: about for name, about in node.parameters.items() if hasattr(held.get(name), "dtype")}
    return {
        name: WeightRef(dtype, shape, partial(read, name), constant=name) for name, (dtype, shape) in stored.items()
    }


# Core AI


def _held_arrays(held: Mapping[str, Array]) -> dict[str, WeightRef]:
    """Arrays that a program holds itself; integers are what the operations that unpack them read."""
    return {name: WeightRef(array.dtype.name, array.shape, partial(_real, array)) for name, array in held.items()}


def _real(array: Array) -> Array:
    # NumPy computes with its own dtypes only; those of ml_dtypes have no order
    return array if array.dtype.isbuiltin == 1 else array.astype(np.float32)


# ONNX


def _onnx_layers(graph: ir.Graph) -> Iterator[tuple[str, _Lazy]]:
    for node in graph:
        yield onnx.name_ir(node), partial(_node_weights, node)
        for inner in onnx.nested_ir(node):
            yield from _onnx_layers(inner)


def _node_weights(node: ir.Node) -> dict[str, WeightRef]:
    """Initializers and constants that a node reads, by their names; a Constant node's own value by what it makes."""
    read = node.outputs if node.op_type == "Constant" else node.inputs
    known = {value.name: _onnx_constant(value) for value in read if value is not None and value.name}
    held = [None if value is None else known.get(value.name or "") for value in node.inputs]
    shapes = [() if one is None else one.shape for one in held]
    packed = blocks_of(node, [None if one is None else one.read for one in held], shapes)
    if packed is not None:
        known = {name: WeightRef(*packed[1]) if one is held[packed[0]] else one for name, one in known.items()}
    return {name: weight for name, weight in known.items() if weight is not None and weight.dtype != "str"}


def _onnx_constant(value: ir.Value) -> WeightRef | None:
    """An initializer, a Constant node's value, or one of those dequantised or cast; None for what is computed."""
    import onnx_ir as ir

    producer = value.producer()
    if value.is_initializer() and value.const_value is not None:
        held = _tensor(value.const_value)
        return replace(held, constant=value.name) if "float" in held.dtype else held
    if producer is None or producer.domain not in ("", "ai.onnx"):
        return None
    if producer.op_type == "Constant":
        try:
            tensor = ir.convenience.get_const_tensor(value)
        except ValueError:  # it carries its value under a name that the standard does not know: it has none
            return None
        return None if tensor is None else _tensor(tensor)
    if producer.op_type not in ("DequantizeLinear", "Identity", "Cast"):
        return None
    operands = [None if i is None else _onnx_constant(i) for i in producer.inputs]
    if not operands or operands[0] is None:
        return None
    first = operands[0]
    if producer.op_type == "Identity":
        return first
    if producer.op_type == "Cast":
        to = producer.attributes.get_int("to", 0)
        if to in (ir.DataType.UNDEFINED, ir.DataType.STRING) or to not in ir.DataType.__members__.values():
            return None
        return WeightRef(first.dtype, first.shape, lambda: first.read().astype(ir.DataType(to).numpy()), first.steps)
    if len(operands) < 2 or operands[1] is None:
        return None
    # DequantizeLinear's defaults
    axis, block = producer.attributes.get_int("axis", 1), producer.attributes.get_int("block_size", 0)
    shapes = [o.shape for o in operands[1:] if o is not None]
    channels = first.shape[axis] if -len(first.shape) <= axis < len(first.shape) else 1
    known = [o for o in operands if o is not None]
    if block > 0:  # blocked scales (opset 21) are not along one axis
        rest = [n for at, n in enumerate(first.shape) if at != axis % len(first.shape)]
        counted = {(*rest[: axis % len(first.shape)], -(-channels // block), *rest[axis % len(first.shape) :])}
        if set(shapes) != counted:
            return None
        known[1:] = [
            replace(o, shape=first.shape, read=partial(_unblocked, o, axis, block, channels)) for o in known[1:]
        ]
    elif not {math.prod(shape) for shape in shapes} <= {1, channels}:
        return None  # scales that fit no axis: the engine refuses it
    return WeightRef(
        first.dtype,
        first.shape,
        lambda: _dequantised(known, axis),
        # (q + 1 - zero) * scale - (q - zero) * scale: the step is the scale
        lambda: np.broadcast_to(np.abs(_along(known[1].read(), first.shape, axis)), first.shape),
    )


def _unblocked(blocks: WeightRef, axis: int, size: int, length: int) -> Array:
    """What lies along an axis once for a block, for each of its places."""
    spread: Array = np.take(blocks.read(), np.arange(length) // size, axis)
    return spread


def _along(values: Array, shape: tuple[int, ...], axis: int) -> Array:
    """One number for all, for each place along an axis, or for each number, as it is broadcast over ``shape``."""
    if values.shape == shape:
        return values
    if values.size == 1:
        return values.reshape(())
    return values.reshape([-1 if a == axis % len(shape) else 1 for a in range(len(shape))])


def _dequantised(operands: list[WeightRef], axis: int) -> Array:
    """(x - zero point) * scale along ``axis`` (ONNX DequantizeLinear)."""
    data, scale, *zero = (o.read() for o in operands)
    shift = _along(zero[0].astype(np.float32), data.shape, axis) if zero else np.float32(0)
    dense: Array = ((data.astype(np.float32) - shift) * _along(scale, data.shape, axis)).astype(scale.dtype)
    return dense


def _tensor(tensor: ir.TensorProtocol) -> WeightRef:
    dtype = "str" if tensor.dtype.is_string() else str(tensor.dtype.numpy())
    return WeightRef(dtype, tuple(int(n) for n in tensor.shape.numpy()), tensor.numpy)
