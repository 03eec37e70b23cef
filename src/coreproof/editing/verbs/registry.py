"""The registry of the verbs of editing."""

from __future__ import annotations

from collections.abc import Callable
from inspect import Parameter, signature

Verb = Callable[..., None]
VERBS: dict[str, Verb] = {}
"""verb -> function of an open editor and the edit's arguments; filled by the modules in ``editing/verbs``."""


def verb(function: Verb) -> Verb:
    """Registers a verb of editing under its function's name (a trailing underscore is dropped)."""
    VERBS[function.__name__.rstrip("_")] = function
    return function


def parameters(function: Verb) -> list[Parameter]:
    """What a verb takes; its first parameter is the open editor."""
    return list(signature(function).parameters.values())[1:]
