"""The fields of a NeuralNetwork layer, set by the names under which the graph shows them, such as ``valid.paddingAmounts``."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, MutableSequence
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import numpy.typing as npt
from google.protobuf import text_format
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

if TYPE_CHECKING:  # fields are of either class, by the implementation that protobuf runs on
    from google._upb._message import FieldDescriptor as UpbFieldDescriptor

from coreproof.errors import EditError
from coreproof.model.coreml.proto import NeuralNetwork_pb2
from coreproof.model.coreml.weight_params import shape_of
from coreproof.model.files.wire import varint_bytes
from coreproof.model.numbers import FLOAT16_MAX

Field: TypeAlias = "FieldDescriptor | UpbFieldDescriptor"

_STEP = re.compile(r"(\w+)(?:\[(\d+)\])?$")
_WEIGHTS = "WeightParams"
_BIAS_SWITCH = "hasBias"
_INTEGERS = {
    FieldDescriptor.CPPTYPE_INT32: (-(2**31), 2**31),
    FieldDescriptor.CPPTYPE_INT64: (-(2**63), 2**63),
    FieldDescriptor.CPPTYPE_UINT32: (0, 2**32),
    FieldDescriptor.CPPTYPE_UINT64: (0, 2**64),
}
_WORDS = {
    FieldDescriptor.CPPTYPE_BOOL: "true or false",
    FieldDescriptor.CPPTYPE_STRING: "text",
    FieldDescriptor.CPPTYPE_FLOAT: "a number",
    FieldDescriptor.CPPTYPE_DOUBLE: "a number",
    FieldDescriptor.CPPTYPE_UINT32: "a whole number, 0 or more",
    FieldDescriptor.CPPTYPE_UINT64: "a whole number, 0 or more",
}


def set_field(layer: NeuralNetwork_pb2.NeuralNetworkLayer, path: str, value: object) -> None:
    """Gives the field at ``path`` of a NeuralNetworkLayer's parameters another value; None takes it away.

    Lists for repeated fields; names or numbers for enumerations; True, or a mapping of their fields, for messages (which
    chooses them where only one of several may be there); protobuf's text format, as the graph shows it, for repeated ones.
    Weights take arrays of any float type: stored as float16 where they were so and the numbers allow it, else as float32,
    which also replaces quantised ones. A ``bias`` that is given or taken away switches ``hasBias``. Raises EditError, and
    then leaves the layer as it was.
    """
    operator = layer.WhichOneof("layer")
    if operator is None:
        raise EditError("the layer has no operator", where=f"layer {layer.name!r}")
    fields: Message = getattr(layer, operator)
    # set on a copy: what fails half way leaves the layer as it was
    trial = type(fields)()
    trial.CopyFrom(fields)
    try:
        _assign_path(trial, path, value, operator)
    except EditError as error:
        raise error.at(f"layer {layer.name!r} ({operator})") from None
    fields.CopyFrom(trial)


def _assign_path(fields: Message, path: str, value: object, operator: str) -> None:
    message, steps = fields, path.split(".")
    for step in steps[:-1]:
        message = _inside(message, step)
    field, index = _field(message, steps[-1])
    if index is None:
        _assign(message, field, value)
    else:
        _assign_item(getattr(message, field.name), field, index, value)
    if field.message_type is not None and field.message_type.name == _WEIGHTS:
        if value is not None:
            _check_shape(operator, fields, path, value)
        if field.name == "bias" and _BIAS_SWITCH in message.DESCRIPTOR.fields_by_name:
            # a bias without the switch is not read, the switch without a bias is refused
            setattr(message, _BIAS_SWITCH, value is not None)


def _field(message: Message, step: str) -> tuple[Field, int | None]:
    """The field that a step of a path names, and the place in it, where the step says one: ``weights[1]``."""
    match = _STEP.match(step)
    field = message.DESCRIPTOR.fields_by_name.get(match[1]) if match else None
    if match is None or field is None:
        raise _unknown(message, step)
    return field, None if match[2] is None else int(match[2])


def _inside(message: Message, step: str) -> Message:
    field, index = _field(message, step)
    if field.message_type is None:
        raise _unknown(message, step)
    inner: Message | MutableSequence[Message] = getattr(message, field.name)
    if isinstance(inner, Message):
        return inner
    if index is None or index >= len(inner):
        raise EditError(f"{field.name!r} is a list", expected=f"{field.name}[0] to [{len(inner) - 1}]", found=step)
    return inner[index]


def _unknown(message: Message, step: str) -> EditError:
    from difflib import get_close_matches

    names = [f.name for f in message.DESCRIPTOR.fields]
    near = get_close_matches(step, names, n=1)
    return EditError(
        f"there is no attribute {step!r}",
        expected=", ".join(names) or "no attributes",
        found=step,
        fix=f"was {near[0]!r} meant?" if near else None,
    )


def _assign(message: Message, field: Field, value: object) -> None:
    """``value`` as the whole of a field."""
    name, of_messages = field.name, field.message_type is not None
    # a message that is there means yes, so that false takes it away
    if value is None or (of_messages and not field.is_repeated and value is False):
        message.ClearField(name)
    elif field.message_type is not None and field.message_type.GetOptions().map_entry:
        _assign_map(message, field, value)
    elif field.is_repeated:
        items = _listed(field, value)
        message.ClearField(name)
        for item in items:
            if of_messages:
                _fill(getattr(message, name).add(), item)
            else:
                getattr(message, name).append(_scalar(field, item))
    elif field.message_type is None:
        setattr(message, name, _scalar(field, value))
    else:
        # weights keep the type that they are stored in, if the new numbers allow it: they are not cleared
        if field.message_type.name != _WEIGHTS:
            message.ClearField(name)
        getattr(message, name).SetInParent()
        _fill(getattr(message, name), value)


def _assign_item(items: MutableSequence[object], field: Field, index: int, value: object) -> None:
    if not field.is_repeated or index >= len(items):
        raise EditError(f"{field.name!r} has no item {index}", expected=f"an index below {len(items)}", found=index)
    if value is None:
        del items[index]
    elif isinstance(item := items[index], Message):
        _fill(item, value)
    else:
        items[index] = _scalar(field, value)


_EQUALS = re.compile(r'("(?:\\.|[^"\\])*")|=')
"""A quoted text, or an equals sign outside of one."""


def _as_text_format(shown: str) -> str:
    """``{startEdgeSize=1 endEdgeSize=2}``, as the graph shows a message, in the words of protobuf; other text as it is."""
    if not (shown.startswith("{") and shown.endswith("}")):
        return shown
    return _EQUALS.sub(lambda found: found[1] or ":", shown[1:-1])


def _fill(message: Message, value: object) -> None:
    """Gives a message its content: True leaves it empty."""
    if isinstance(message, NeuralNetwork_pb2.WeightParams) and not isinstance(value, Mapping):
        write_weights(message, value)
    elif isinstance(value, Mapping):
        for key, item in value.items():
            field = message.DESCRIPTOR.fields_by_name.get(key)
            if field is None:
                raise _unknown(message, str(key))
            _assign(message, field, item)
    elif isinstance(value, str):
        message.Clear()
        try:
            text_format.Parse(_as_text_format(value), message)
        except text_format.ParseError as error:
            raise EditError("this is not a message in text format", expected="field: value", found=str(error)) from None
    elif isinstance(value, Message) and value.DESCRIPTOR is message.DESCRIPTOR:
        message.CopyFrom(value)
    elif value is not True:
        names = ", ".join(f.name for f in message.DESCRIPTOR.fields)
        raise EditError(
            "this attribute has attributes of its own",
            expected=f"true, or a table of {names or 'nothing'}",
            found=value,
        )


def _assign_map(message: Message, field: Field, value: object) -> None:
    if not isinstance(value, Mapping):
        raise EditError(f"{field.name!r} is a table", expected="keys and values", found=value)
    entries = getattr(message, field.name)
    message.ClearField(field.name)
    for key, item in value.items():
        kind = {bool: "boolValue", int: "longValue", float: "doubleValue", str: "stringValue"}.get(type(item))
        if kind is None:
            raise EditError("a parameter is of no kind that can be stored", expected="text or a number", found=item)
        # the parameters of custom layers, which their Swift class reads by these types
        fits_int32 = kind == "longValue" and -(2**31) <= item < 2**31
        setattr(entries[str(key)], "intValue" if fits_int32 else kind, item)


def _listed(field: Field, value: object) -> list[object]:
    if isinstance(value, np.ndarray) and field.message_type is None:
        return list(value.reshape(-1).tolist())
    if isinstance(value, Iterable) and not isinstance(value, str | bytes | Mapping | np.ndarray):
        return list(value)
    return [value]


def _scalar(field: Field, value: object) -> object:
    """``value`` as this field holds it; EditError where that would change it."""
    if isinstance(value, np.ndarray) and value.size == 1:
        value = value.reshape(-1)[0]
    if isinstance(value, np.generic):
        value = value.item()
    kind = field.cpp_type
    if kind == FieldDescriptor.CPPTYPE_ENUM:
        return _enumerated(field, value)
    if kind == FieldDescriptor.CPPTYPE_BOOL and isinstance(value, bool):
        return value
    if kind == FieldDescriptor.CPPTYPE_STRING and isinstance(value, str):
        # bytes and texts have one cpp_type
        return value.encode() if field.type == FieldDescriptor.TYPE_BYTES else value
    if isinstance(value, int | float) and not isinstance(value, bool):
        if kind in (FieldDescriptor.CPPTYPE_FLOAT, FieldDescriptor.CPPTYPE_DOUBLE):
            return float(value)
        low, high = _INTEGERS.get(kind, (0, 0))
        if math.isfinite(value) and value == int(value) and low <= value < high:
            return int(value)
    raise EditError(
        f"{field.name!r} takes another value", expected=_WORDS.get(kind, "a whole number"), found=repr(value)
    )


def _enumerated(field: Field, value: object) -> int:
    known = field.enum_type
    assert known is not None
    if isinstance(value, str) and value in known.values_by_name:
        return int(known.values_by_name[value].number)
    if isinstance(value, int) and not isinstance(value, bool) and value in known.values_by_number:
        return value
    raise EditError(f"{field.name!r} takes another value", expected=", ".join(known.values_by_name), found=repr(value))


# weights


def write_weights(params: NeuralNetwork_pb2.WeightParams, value: object) -> None:
    """Stores numbers in a WeightParams message: as float16 where it held float16 and they fit, else as float32."""
    try:
        numbers = np.asarray(value, np.float32)
    except (TypeError, ValueError):
        raise EditError("a weight is an array of numbers", expected="numbers", found=repr(value)) from None
    empty = params.ByteSize() == 0
    wants_half = bool(params.float16Value) or (empty and getattr(value, "dtype", None) == np.float16)
    # only one of them may be set
    for field in ("floatValue", "float16Value", "rawValue", "int8RawValue", "quantization"):
        params.ClearField(field)
    if (
        wants_half
        and np.abs(numbers, where=np.isfinite(numbers), out=np.zeros_like(numbers)).max(initial=0) <= FLOAT16_MAX
    ):
        params.float16Value = numbers.astype("<f2").tobytes()
    else:
        _write_floats(params, numbers)


def _write_floats(params: NeuralNetwork_pb2.WeightParams, numbers: npt.NDArray[np.float32]) -> None:
    """``floatValue`` without a Python object a number: the message is given the packed bytes that it would be parsed from."""
    data = numbers.astype("<f4").tobytes()
    if data:
        # the tag (field 1, of wire type 2: packed), then the length
        params.MergeFromString(bytes([1 << 3 | 2]) + varint_bytes(len(data)) + data)
    else:
        params.SetInParent()


def _check_shape(operator: str, fields: Message, path: str, value: object) -> None:
    """An array of the right size in another shape was meant for another layout."""
    shape = np.asarray(value).shape
    known = shape_of(operator, fields, path)
    if known is None or len(shape) < 2 or math.prod(shape) != math.prod(known[0]):
        return
    if [n for n in shape if n != 1] != [n for n in known[0] if n != 1]:
        raise EditError(
            f"the array for {path!r} is laid out differently",
            expected=f"shape {list(known[0])}",
            found=f"shape {list(shape)}",
            fix="transpose it; or flatten it, if it is in this order already",
        )
