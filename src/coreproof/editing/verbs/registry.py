"""The registry of the verbs of editing."""

from __future__ import annotations

from collections.abc import Callable

Verb = Callable[..., None]
VERBS: dict[str, Verb] = {}
"""verb -> function of an open editor and the edit's arguments; filled by the modules in ``editing/verbs``."""


def verb(function: Verb) -> Verb:
    """Registers a verb of editing under its function's name (a trailing underscore is dropped)."""
    VERBS[function.__name__.rstrip("_")] = function
    return function
