"""What a node has, held against what its handler takes; and what is said where a handler, or a library below it, fails on it.

A handler computes with what the file gives it, as the operator's definition does. What is thrown on the way, by Python, NumPy or
coremltools, is about their own names and objects: the user is told of the node's operands and attributes instead.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from functools import lru_cache

import numpy as np
import onnx_ir as ir

from coreproof.conversion.onnx_to_coreml.lowering import Context
from coreproof.conversion.onnx_to_coreml.mil import Items, Operand
from coreproof.errors import ConversionError

_LONGEST = 60
_FIX = (
    "hold the node against its operator's definition; where it is as defined, please report it with the model: "
    "`coreproof shrink` makes a small one of it"
)
_OF_PYTHON = re.compile(
    r"\w\(\) |to unpack|NoneType|' object|object is not|Python scalar|invalid literal|truth value|empty sequence|"
    r"iterable argument|is not in list|inhomogeneous|<class |could not convert"
)
"""What Python and NumPy say of their own objects."""


def check_form(
    ctx: Context, handler: Callable[..., object], operands: Sequence[Operand | None], attributes: Collection[str]
) -> None:
    """Raises ConversionError for operands that the handler does not take or lacks, and for such attributes.

    ONNX's schemas were asked before (``schemas``); they know nothing of other domains, and leave optional what some form needs.
    """
    taken = _taken(handler)
    if taken is None:
        return
    if len(operands) > taken.most:
        raise ctx.refuse(
            f"{len(operands)} inputs, of which the last are not converted in this opset",
            f"at most {taken.most}: {', '.join(taken.operands)}",
            "leave out what says nothing, or write the file anew in a newer opset: onnx.version_converter.convert_version",
        )
    given = [*operands, *[None] * (len(taken.operands) - len(operands))]
    lacking = [n for n, value in zip(taken.operands, given, strict=False) if value is None and n in taken.required]
    lacking += [name for name in taken.needed if name not in attributes]
    if lacking:
        raise ctx.refuse(
            f"no {', '.join(map(repr, lacking))}", f"a node that has {', '.join(map(repr, lacking))}", _FIX
        )
    if taken.attributes is not None and (unknown := sorted(set(attributes).difference(taken.attributes))):
        raise ctx.refuse(
            f"the attribute{'s' if len(unknown) > 1 else ''} {', '.join(map(repr, unknown))}, which it does not have in this "
            "opset, or which is not converted",
            f"no others than {', '.join(map(repr, taken.attributes))}" if taken.attributes else "no attributes",
            "take it away if it says nothing: coreproof edit, verb set",
        )


class _Taken:
    """What a handler takes: operands by place, those that it cannot be without, and attributes (None: any)."""

    def __init__(self, parameters: Sequence[inspect.Parameter]) -> None:
        placed = [p for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD]
        any_number = any(p.kind is p.VAR_POSITIONAL for p in parameters)
        by_name = [p for p in parameters if p.kind is p.KEYWORD_ONLY]
        self.operands = [p.name for p in placed]
        self.most = 1 << 30 if any_number else len(placed)
        # a handler says of an operand that may be left out that it is None then
        self.required = {p.name for p in placed if p.default is p.empty and "None" not in str(p.annotation)}
        self.needed = [p.name for p in by_name if p.default is p.empty]
        anything = any(p.kind is p.VAR_KEYWORD for p in parameters)
        self.attributes = None if anything else sorted(p.name for p in by_name)


@lru_cache(1024)
def _taken(handler: Callable[..., object]) -> _Taken | None:
    parameters = [*inspect.signature(handler).parameters.values()]
    # the first one is the context
    return _Taken(parameters[1:]) if parameters else None


def failed(node: ir.Node, operands: Sequence[Operand | None], error: Exception) -> ConversionError:
    """The refusal of a node on which its handler failed: with what it was given, and what was said of that."""
    named = (f"{value.name} {_told(o)}" for value, o in zip(node.inputs, operands, strict=False) if value is not None)
    given = "; ".join(named) or "no operands"
    attributes = ", ".join(f"{name} = {_short(a.value)}" for name, a in node.attributes.items())
    words = said(error)
    refusal = ConversionError(
        f"{node.op_type} cannot be expressed in Core ML in this form",
        where=f"node {node.name or (node.outputs[0].name if node.outputs else '')!r}",
        expected="operands and attributes that fit each other",
        found=f"{given}{f'; {attributes}' if attributes else ''}{f' ({words})' if words else ''}",
        fix=_FIX,
    )
    refusal.__cause__ = error
    return refusal


def said(error: BaseException) -> str:
    """What a library says of a model, in a line; nothing where it says it of its own objects."""
    if isinstance(error, LookupError | AssertionError | AttributeError | TypeError | ArithmeticError | NameError):
        return ""
    words = next(_lines(error), "")
    return "" if _OF_PYTHON.search(words) else words


def _lines(error: BaseException) -> Iterator[str]:
    return (" ".join(line.split()) for line in str(error).splitlines() if line.strip())


def _told(operand: Operand | None) -> str:
    """An operand in a few words: its dtype and shape, or the numbers of a small constant."""
    if operand is None:
        return "left out"
    if isinstance(operand, Items):
        return f"a sequence of {len(operand.items)} tensors"
    if isinstance(operand, np.ndarray):
        return _short(operand.tolist()) if operand.size <= 8 else f"constant {operand.dtype}{list(operand.shape)}"
    from coremltools.converters.mil.mil import types

    lengths = ", ".join(str(n) if isinstance(n, int | np.integer) else "?" for n in operand.shape or ())
    return f"{types.builtin_to_string(operand.dtype)}[{lengths}]"


def _short(value: object) -> str:
    if isinstance(value, ir.TensorProtocol | ir.Graph):
        return f"a {'graph' if isinstance(value, ir.Graph) else 'tensor'}"
    text = str(list(value) if isinstance(value, tuple) else value)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."


def named_attributes(node: ir.Node) -> Mapping[str, object]:
    """A node's attributes as its handler takes them: arrays for tensors, tuples for lists."""
    return {name: _attribute(a) for name, a in node.attributes.items()}


def _attribute(attribute: ir.Attr) -> object:
    if attribute.type == ir.AttributeType.TENSOR:
        return attribute.as_tensor().numpy()
    value = attribute.value
    return tuple(value) if isinstance(value, list | tuple) else value
