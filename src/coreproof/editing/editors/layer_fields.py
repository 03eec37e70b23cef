"""The fields of a NeuralNetwork layer, set by the names under which the graph shows them, such as ``valid.paddingAmounts``."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from google.protobuf import text_format
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from coreproof.errors import EditError
from coreproof.model.coreml.weight_params import shape_of

_STEP = re.compile(r"(\w+)(?:\[(\d+)\])?$")
_WEIGHTS = "WeightParams"


def set_field(layer: Any, path: str, value: object) -> None:
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
    fields = getattr(layer, operator)
    trial = type(fields)()
    trial.CopyFrom(fields)
    try:
        _assign_path(trial, path, value, operator)
    except EditError as error:
        where = f"layer {layer.name!r} ({operator})"
        raise EditError(error.problem, where=where, expected=error.expected, found=error.found, fix=error.fix) from None
    fields.CopyFrom(trial)


def _assign_path(fields: Any, path: str, value: Any, operator: str) -> None:
    message, steps = fields, path.split(".")
    for step in steps[:-1]:
        message = _inside(message, step)
    match = _STEP.match(steps[-1])
    field = message.DESCRIPTOR.fields_by_name.get(match[1]) if match else None
    if match is None or field is None:
        raise _unknown(message, steps[-1])
    if match[2] is None:
        _assign(message, field, value)
    else:
        _assign_item(getattr(message, field.name), field, int(match[2]), value)
    if field.message_type is not None and field.message_type.name == _WEIGHTS:
        if value is not None:
            _check_shape(operator, fields, path, value)
        if field.name == "bias" and "hasBias" in message.DESCRIPTOR.fields_by_name:
            message.hasBias = value is not None


def _inside(message: Any, step: str) -> object:
    match = _STEP.match(step)
    field = message.DESCRIPTOR.fields_by_name.get(match[1]) if match else None
    if match is None or field is None or field.message_type is None:
        raise _unknown(message, step)
    value = getattr(message, field.name)
    if not field.is_repeated:
        return value
    index = int(match[2] or 0)
    if match[2] is None or index >= len(value):
        raise EditError(f"{field.name!r} is a list", expected=f"{field.name}[0] to [{len(value) - 1}]", found=step)
    return value[index]


def _unknown(message: Any, step: str) -> EditError:
    from difflib import get_close_matches

    names = [f.name for f in message.DESCRIPTOR.fields]
    near = get_close_matches(step, names, n=1)
    return EditError(
        f"there is no attribute {step!r}",
        expected=", ".join(names) or "no attributes",
        found=step,
        fix=f"was {near[0]!r} meant?" if near else None,
    )


def _assign(message: Any, field: FieldDescriptor, value: object) -> None:
    """``value`` as the whole of a field."""
    name = field.name
    if value is None:
        message.ClearField(name)
        return
    kind = None if field.message_type is None else field.message_type.name
    if field.message_type is not None and field.message_type.GetOptions().map_entry:
        _assign_map(message, field, value)
    elif field.is_repeated:
        items = _listed(field, value)
        message.ClearField(name)
        for item in items:
            if kind is None:
                getattr(message, name).append(_scalar(field, item))
            else:
                _fill(getattr(message, name).add(), item)
    elif kind is None:
        setattr(message, name, _scalar(field, value))
    elif value is False:
        message.ClearField(name)
    else:
        if kind != _WEIGHTS:
            message.ClearField(name)
        getattr(message, name).SetInParent()
        _fill(getattr(message, name), value)


def _assign_item(items: Any, field: FieldDescriptor, index: int, value: Any) -> None:
    if not field.is_repeated or index >= len(items):
        raise EditError(f"{field.name!r} has no item {index}", expected=f"an index below {len(items)}", found=index)
    if value is None:
        del items[index]
    elif field.message_type is None:
        items[index] = _scalar(field, value)
    else:
        _fill(items[index], value)


def _fill(message: Any, value: Any) -> None:
    """Gives a message its content: True leaves it empty."""
    if message.DESCRIPTOR.name == _WEIGHTS and not isinstance(value, Mapping):
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
            text_format.Parse(value, message)
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


def _assign_map(message: Any, field: FieldDescriptor, value: object) -> None:
    if not isinstance(value, Mapping):
        raise EditError(f"{field.name!r} is a table", expected="keys and values", found=value)
    entries = getattr(message, field.name)
    message.ClearField(field.name)
    for key, item in value.items():
        kind = {bool: "boolValue", int: "longValue", float: "doubleValue", str: "stringValue"}.get(type(item))
        if kind is None:
            raise EditError("a parameter is of no kind that can be stored", expected="text or a number", found=item)
        if kind == "longValue" and -(2**31) <= item < 2**31:
            kind = "intValue"
        setattr(entries[str(key)], kind, item)


def _listed(field: FieldDescriptor, value: object) -> list[object]:
    if isinstance(value, np.ndarray) and field.message_type is None:
        return list(value.reshape(-1).tolist())
    if isinstance(value, Iterable) and not isinstance(value, str | bytes | Mapping | np.ndarray):
        return list(value)
    return [value]


def _scalar(field: FieldDescriptor, value: Any) -> object:
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
        return value.encode() if field.type == FieldDescriptor.TYPE_BYTES else value
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if kind in (FieldDescriptor.CPPTYPE_FLOAT, FieldDescriptor.CPPTYPE_DOUBLE) and is_number:
        return float(value)
    integers = {
        FieldDescriptor.CPPTYPE_INT32: (-(2**31), 2**31),
        FieldDescriptor.CPPTYPE_INT64: (-(2**63), 2**63),
        FieldDescriptor.CPPTYPE_UINT32: (0, 2**32),
        FieldDescriptor.CPPTYPE_UINT64: (0, 2**64),
    }
    if kind in integers and is_number and math.isfinite(value) and value == int(value):
        low, high = integers[kind]
        if low <= value < high:
            return int(value)
    words = {
        FieldDescriptor.CPPTYPE_BOOL: "true or false",
        FieldDescriptor.CPPTYPE_STRING: "text",
        FieldDescriptor.CPPTYPE_FLOAT: "a number",
        FieldDescriptor.CPPTYPE_DOUBLE: "a number",
        FieldDescriptor.CPPTYPE_UINT32: "a whole number, 0 or more",
        FieldDescriptor.CPPTYPE_UINT64: "a whole number, 0 or more",
    }
    raise EditError(
        f"{field.name!r} takes another value", expected=words.get(kind, "a whole number"), found=repr(value)
    )


def _enumerated(field: FieldDescriptor, value: object) -> int:
    known = field.enum_type
    assert known is not None
    if isinstance(value, str) and value in known.values_by_name:
        return int(known.values_by_name[value].number)
    if isinstance(value, int) and not isinstance(value, bool) and value in known.values_by_number:
        return value
    raise EditError(f"{field.name!r} takes another value", expected=", ".join(known.values_by_name), found=repr(value))


# weights


def write_weights(params: Any, value: Any) -> None:
    """Stores numbers in a WeightParams message: as float16 where it held float16 and they fit, else as float32."""
    try:
        numbers = np.asarray(value, np.float32)
    except (TypeError, ValueError):
        raise EditError("a weight is an array of numbers", expected="numbers", found=repr(value)) from None
    empty = params.ByteSize() == 0
    wants_half = bool(params.float16Value) or (empty and getattr(value, "dtype", None) == np.float16)
    for field in ("floatValue", "float16Value", "rawValue", "int8RawValue", "quantization"):
        params.ClearField(field)
    if wants_half and _fits_half(numbers):
        params.float16Value = numbers.astype("<f2").tobytes()
    else:
        _write_floats(params, numbers)


def _fits_half(numbers: npt.NDArray[np.float32]) -> bool:
    finite = numbers[np.isfinite(numbers)]
    return not finite.size or float(np.abs(finite).max()) <= float(np.finfo(np.float16).max)


def _write_floats(params: Any, numbers: npt.NDArray[np.float32]) -> None:
    """``floatValue`` without a Python object a number: the message is given the packed bytes that it would be parsed from."""
    data = numbers.astype("<f4").tobytes()
    length, prefix = len(data), bytearray([1 << 3 | 2])
    while length > 0x7F:
        prefix.append(length & 0x7F | 0x80)
        length >>= 7
    prefix.append(length)
    if data:
        params.MergeFromString(bytes(prefix) + data)
    else:
        params.SetInParent()


def _check_shape(operator: str, fields: object, path: str, value: Any) -> None:
    """An array of the right size in another shape was meant for another layout."""
    shape = np.shape(value)
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
