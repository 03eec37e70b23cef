"""NotebookView: what a result can do in a notebook: show itself. The views are the report's; the front door hands them down."""

from __future__ import annotations

import html
from abc import ABC, abstractmethod
from collections.abc import Callable

from coreproof.visible import visible


def plain(result: object) -> str:
    """A result as text: what is shown where nobody has handed down a view."""
    return f"<pre>{html.escape(str(result))}</pre>"


view: Callable[[object], str] = plain
"""How a result looks. ``coreproof/__init__.py``, which may name every room, puts the report's views here."""


class NotebookView:
    """A mixin for results that notebooks show as HTML."""

    def _repr_html_(self) -> str:
        return view(self)


class Spoken(ABC):
    """A mixin for results: as text they are what they found, in a list or at a prompt one line of it."""

    @abstractmethod
    def _spoken(self) -> str:
        """What was found, in a sentence or more."""

    def __str__(self) -> str:
        return "\n".join(visible(line) for line in self._spoken().splitlines())

    def __repr__(self) -> str:
        first, *_ = str(self).splitlines() or [""]
        return f"<{type(self).__name__}: {first}>"
