"""What an operation of an ML Program is given, as its handler takes it: read alike on the way to ONNX and to Core AI."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from coreproof.conversion.coreml_to_onnx.boundary import Refuse, settled, signature_of, told
from coreproof.conversion.operators import several
from coreproof.conversion.registry import Handler
from coreproof.model.coreml.literals import Constant, read_literal
from coreproof.model.coreml.model import CoreMLModel
from coreproof.model.coreml.proto import MIL_pb2


class Reader(Protocol):
    """The translation of a block, as far as reading an operation asks for it."""

    @property
    def refuse(self) -> Refuse:
        """Makes the error that names the operation."""

    def lookup(self, name: str, /) -> object:
        """The value of this name."""


def constant_of(reader: Reader, model: CoreMLModel, operation: MIL_pb2.Operation) -> Constant:
    """What a ``const`` holds. Refuses one that holds nothing."""
    if "val" not in operation.attributes or not operation.outputs:
        raise reader.refuse("it holds no value", expected="an attribute 'val' and an output")
    return read_literal(model, operation.attributes["val"])


def given_to(
    handler: Handler, reader: Reader, model: CoreMLModel, operation: MIL_pb2.Operation, arguments: dict[str, object]
) -> dict[str, Any]:
    """The operands by the names of the handler's parameters; ``arguments`` is filled first, for those who tell what went wrong.

    Refuses what is bound to several values and takes one, and what is no parameter of the operation.
    """
    if operation.type.startswith("constexpr_"):
        # before iOS18 the constants of a constexpr operation are its attributes
        arguments.update({k: read_literal(model, v) for k, v in operation.attributes.items() if k != "name"})
    tuples = several(operation.type)
    for key, argument in operation.inputs.items():
        arguments[key] = _argument(reader, model, key, argument, is_tuple=key in tuples)
    try:
        signature_of(handler).bind(reader, **arguments)
    except TypeError as error:
        raise reader.refuse("its inputs are not those of this operation", found=str(error)) from None
    return settled(handler, arguments, reader.refuse)


def _argument(reader: Reader, model: CoreMLModel, key: str, argument: MIL_pb2.Argument, *, is_tuple: bool) -> object:
    values = [
        reader.lookup(binding.name) if binding.WhichOneof("binding") == "name" else read_literal(model, binding.value)
        for binding in argument.arguments
    ]
    if is_tuple:
        return tuple(values)
    if len(values) != 1:
        raise reader.refuse(
            f"its parameter {key!r} is bound to {len(values)} values", expected="one", found=[told(v) for v in values]
        )
    return values[0]


def element_lengths(shape: Sequence[object]) -> list[int | None]:
    """The shape of a list's elements, None for a length that is not known yet.

    The file gives it as one vector, or as a tuple of numbers, in which a text stands for such a length.
    """
    flat = [length for part in shape for length in np.ravel(np.asarray(part, object))]
    return [None if isinstance(length, str) else int(length) for length in flat]
