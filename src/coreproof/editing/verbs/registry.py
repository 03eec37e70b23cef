"""The registry of the verbs of surgery."""

from __future__ import annotations

from collections.abc import Callable

Verb = Callable[..., None]
VERBS: dict[str, Verb] = {}
"""verb -> function of an open body and the edit's arguments; filled by the modules in ``surgery/verbs``."""


def verb(function: Verb) -> Verb:
    """Registers a verb of surgery under its function's name (a trailing underscore is dropped)."""
    VERBS[function.__name__.rstrip("_")] = function
    return function
