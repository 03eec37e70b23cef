"""Shown: what a result can do in a notebook: show itself. The views are the report's; this is the one way up to them."""

from __future__ import annotations


class Shown:
    """A mixin for results that notebooks show as HTML."""

    def _repr_html_(self) -> str:
        from coreproof.report.notebook import html

        return html(self)
