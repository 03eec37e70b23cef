"""NotebookView: what a result can do in a notebook: show itself. The views are the report's; the front door hands them down."""

from __future__ import annotations

import html
from collections.abc import Callable


def plain(result: object) -> str:
    """A result as text: what is shown where nobody has handed down a view."""
    return f"<pre>{html.escape(repr(result))}</pre>"


view: Callable[[object], str] = plain
"""How a result looks. ``coreproof/__init__.py``, which may name every room, puts the report's views here."""


class NotebookView:
    """A mixin for results that notebooks show as HTML."""

    def _repr_html_(self) -> str:
        return view(self)
