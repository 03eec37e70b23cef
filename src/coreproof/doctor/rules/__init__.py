"""The rules of the doctor, one file a fault: how it is recognised, explained, repaired."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Iterable
from functools import cache
from typing import TYPE_CHECKING

from coreproof.doctor.finding import Hypothesis

if TYPE_CHECKING:
    from coreproof.doctor.case import Case

Rule = Callable[["Case"], Iterable[Hypothesis]]
_RULES: dict[str, Rule] = {}
_LAST: set[str] = set()


def rule(name: str, *, last: bool = False) -> Callable[[Rule], Rule]:
    """Registers a rule: a function of the case that yields what it suspects, and nothing where it sees no fault.

    ``last``: it tries so much that it is asked only when no other rule could repair anything.
    """

    def register(function: Rule) -> Rule:
        _RULES[name] = function
        if last:
            _LAST.add(name)
        return function

    return register


@cache
def rules() -> dict[str, Rule]:
    """All rules by name; imports every file of this folder."""
    for module in sorted(m.name for m in pkgutil.iter_modules(__path__)):
        importlib.import_module(f"{__name__}.{module}")
    return {name: _RULES[name] for name in sorted(_RULES, key=lambda name: name in _LAST)}


def is_last(name: str) -> bool:
    """Whether a rule is asked only when no other one could repair anything."""
    return name in _LAST
