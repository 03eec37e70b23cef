"""The rules of the doctor, one file a fault: how it is recognised, explained, repaired.

A rule is a file of this folder, and its id is the file's name, with hyphens. ``applies(case)`` says quickly whether there is
anything to look at, ``hypotheses(case)`` yields what the rule supposes. A rule that has to try a lot yields that from
``last_resort(case)`` instead, which is asked only when no hypothesis of any rule could be repaired.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

from coreproof.doctor.finding import Hypothesis
from coreproof.doctor.trial import holding

if TYPE_CHECKING:
    from coreproof.doctor.case import Case


@dataclass(frozen=True)
class Rule:
    """One fault: its id, whether there is anything to look at, and what is supposed."""

    id: str
    applies: Callable[[Case], bool]
    hypotheses: Callable[[Case], Iterable[Hypothesis]]
    last_resort: Callable[[Case], Iterable[Hypothesis]]

    def suppose(self, case: Case, *, last: bool = False) -> list[Hypothesis]:
        """What this rule supposes of a case, without what trying has refuted; ``last``: only what it tries as the last resort."""
        if not self.applies(case):
            return []
        return list(holding(case, self.last_resort(case) if last else self.hypotheses(case)))


@cache
def rules() -> tuple[Rule, ...]:
    """All rules; imports every file of this folder."""
    found = []
    for name in sorted(module.name for module in pkgutil.iter_modules(__path__)):
        file = importlib.import_module(f"{__name__}.{name}")
        asked = (getattr(file, function, _nothing) for function in ("hypotheses", "last_resort"))
        found.append(Rule(name.replace("_", "-"), file.applies, *asked))
    return tuple(found)


def _nothing(case: Case) -> Iterable[Hypothesis]:
    return ()
