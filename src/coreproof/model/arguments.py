"""Arguments that are one of a list: the same words and the same error in Python and on the command line."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from operator import index
from typing import Literal, SupportsIndex, TypeAlias, TypeVar, get_args

from coreproof.errors import InputError

Engine = Literal["auto", "onnxruntime", "torch", "openvino", "reference", "coreml", "coreai"]
ENGINES: tuple[Engine, ...] = get_args(Engine)
PRECISIONS: tuple[Literal["fp16", "fp32"], ...] = ("fp16", "fp32")
System: TypeAlias = str
"""A deployment target by its name (iOS17, macOS14); one of coremltools' own (``ct.target.iOS17``) is taken as well."""
OTHER_NAMES = {"float16": "fp16", "float32": "fp32"}
"""What others call the two arithmetics; taken beside ours wherever one is named."""


_Word = TypeVar("_Word", bound=str)
_Thing = TypeVar("_Thing")


def one_of(
    value: object, allowed: Sequence[_Word], argument: str, other_names: Mapping[str, str] = OTHER_NAMES
) -> _Word:
    """``value`` as one of ``allowed``, which it may also be called by another name.

    Raises InputError, which names the argument and the whole list.
    """
    named = other_names.get(value, value) if isinstance(value, str) else None
    known = next((word for word in allowed if word == named), None)
    if known is None:
        raise InputError(f"{argument} does not know {value!r}", expected=", ".join(allowed))
    return known


def texts(value: object, argument: str) -> tuple[str, ...]:
    """``value`` as several texts. Raises InputError, which names the argument, for one text and for anything else."""
    if isinstance(value, str | bytes) or not isinstance(value, Iterable):
        raise InputError(f"{argument} are a list of texts, one a class", found=repr(value)[:80])
    return tuple(str(each) for each in value)


def of_kind(value: _Thing | None, kind: type[_Thing], argument: str) -> _Thing | None:
    """``value``, which is one of that class or None. Raises InputError, which names the argument."""
    if value is not None and not isinstance(value, kind):
        raise InputError(f"{argument} is a coreproof.{kind.__name__}", found=repr(value)[:80])
    return value


def whole(value: object, argument: str, least: int = 0) -> int:
    """``value`` as a whole number of at least ``least``. Raises InputError, which names the argument."""
    if isinstance(value, bool) or not isinstance(value, SupportsIndex) or index(value) < least:
        raise InputError(f"{argument} is a whole number of at least {least}", found=repr(value))
    return index(value)
