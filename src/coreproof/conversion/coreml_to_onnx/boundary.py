"""The boundary where a file's operations meet their handlers: wrong types are said by name, and so is what a handler throws.

A handler computes with what the file gives it, as the operator's definition does: strides that are texts, or an axis that a
value does not have, fail somewhere inside, in NumPy or in ONNX's own checks. Here the operation and its parameters are known.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from typing import Any, Protocol

import numpy as np
import onnx
import onnx.shape_inference
import onnx_ir as ir

from coreproof.errors import CoreproofError, TooLargeError
from coreproof.model.coreml.weight_params import WeightsError

FOREIGN = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    RuntimeError,
    TypeError,
    ValueError,
    onnx.checker.ValidationError,
    onnx.defs.SchemaError,
    onnx.shape_inference.InferenceError,
)
"""What a handler, NumPy or ONNX may raise over numbers that make no sense to them."""

_LONGEST = 60
_FIX = "the model is damaged, or of a form that coreproof does not know; convert it again from its source"


class Refuse(Protocol):
    """Makes the error that names an operation or a layer."""

    def __call__(
        self, problem: str, *, expected: object = None, found: object = None, fix: str | None = None
    ) -> CoreproofError:
        """The error to raise, which says where."""


@contextmanager
def understood(refuse: Refuse, given: Callable[[], Mapping[str, object]]) -> Iterator[None]:
    """What is thrown inside becomes the error of ``refuse``, with the parameters that ``given`` tells, by name."""
    try:
        yield
    except TooLargeError as error:
        if error.where is not None:
            raise
        place = refuse(error.problem).where
        raise TooLargeError(
            error.problem, where=place, expected=error.expected, found=error.found, fix=error.fix
        ) from None
    except CoreproofError:
        raise
    except WeightsError as error:  # its problem is said already, and lacks the layer's name only
        raise refuse(error.problem, expected=error.expected, found=error.found) from None
    except MemoryError as error:
        refused = refuse("it would take more memory than there is")
        raise TooLargeError(refused.problem, where=refused.where, found=str(error) or None) from error
    except FOREIGN as error:
        said = str(error).strip().splitlines()
        parameters = ", ".join(f"{name}={told(value)}" for name, value in given().items())
        raise refuse(
            "it cannot be carried out with these parameters",
            found=f"{parameters or 'none'} ({said[-1] if said else type(error).__name__})",
            fix=_FIX,
        ) from error


def told(value: object) -> str:
    """A parameter in a few words: dtype and shape of what is large or not known yet, the numbers of what is small."""
    if isinstance(value, ir.Value):
        dtype = value.dtype.name.lower() if value.dtype is not None else "?"
        shape = "?" if value.shape is None else ", ".join(str(d) if isinstance(d, int) else "?" for d in value.shape)
        return f"{dtype}[{shape}]"
    if isinstance(value, np.ndarray) and value.size > 8:
        return f"{value.dtype}{list(value.shape)}"
    text = str(value.tolist()) if isinstance(value, np.ndarray | np.generic) else repr(value)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."


# the parameters of MIL operations


signature_of = cache(inspect.signature)
"""What a handler takes; asked for every operation, of which there may be thousands."""


def settled(handler: Callable[..., object], arguments: Mapping[str, object], refuse: Refuse) -> dict[str, Any]:
    """The arguments, each of the type that the handler's signature gives it; ``refuse`` names those that are not, all at once.

    An int, a bool or a str has to be one constant; what is declared as an operand may be anything.
    """
    wrong: list[tuple[str, str, object]] = []
    ready = dict(arguments)
    for name, kind in _plain_parameters(handler).items():
        value = ready.get(name)
        if name not in ready or (value is None and kind.endswith("| None")):
            continue
        fits, ready[name] = _as_plain(kind.removesuffix(" | None"), value)
        if not fits:
            wrong.append((name, _WORDS[kind.removesuffix(" | None")], value))
    if wrong:
        names = ", ".join(repr(name) for name, _, _ in wrong)
        raise refuse(
            f"its parameter {names} is of another type" if len(wrong) == 1 else f"its parameters {names} are not",
            expected=", ".join(f"{name}: {words}" for name, words, _ in wrong),
            found=", ".join(f"{name}: {told(value)}" for name, _, value in wrong),
            fix=_FIX,
        )
    return ready


_WORDS = {"int": "one whole number, a constant", "bool": "true or false, a constant", "str": "a text"}


@cache
def _plain_parameters(handler: Callable[..., object]) -> dict[str, str]:
    kinds = {name: str(p.annotation) for name, p in signature_of(handler).parameters.items()}
    return {name: kind for name, kind in kinds.items() if kind.removesuffix(" | None") in _WORDS}


def _as_plain(kind: str, value: object) -> tuple[bool, object]:
    if kind == "str":
        return isinstance(value, str), value
    # files hold single numbers as arrays of one
    if isinstance(value, np.ndarray) and value.size == 1:
        value = value.reshape(())[()]
    if kind == "bool":
        return isinstance(value, bool | np.bool_), value
    return isinstance(value, int | np.integer) and not isinstance(value, bool), value
