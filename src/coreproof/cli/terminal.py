"""Styled lines, tables and consoles in which no name can do anything but be read.

A ``Line`` is whole; a line end inside it is part of a name, and is shown as such. The console escapes once more what reaches
it, so that a text which went another way is harmless too.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from rich.console import Console as RichConsole
from rich.console import ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.style import Style
from rich.text import Text

from coreproof.visible import visible


class Line(Text):
    """Text that stays one line: whatever controls or hides in it, line ends among it, stands escaped. No markup."""

    def __init__(self, text: object = "", *arguments: Any, **settings: Any) -> None:
        super().__init__(visible(text), *arguments, **settings)

    def append(self, text: Text | str, style: str | Style | None = None) -> Line:
        """Adds words; those of a ``Text`` are taken as they are."""
        super().append(text if isinstance(text, Text) else visible(text), style)
        return self


def lines(texts: Iterable[object]) -> Text:
    """Several lines as one text."""
    return Text("\n").join([text if isinstance(text, Text) else Line(text) for text in texts])


class Console(RichConsole):
    """A console on which text controls nothing: only rich's own styles and cursor movements do."""

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """The segments to print, with what a name could do to a terminal made visible."""
        for segment in super().render(renderable, options):
            yield segment if segment.control else Segment(visible(segment.text, keep="\n"), segment.style)


def print_whole(shown: RichConsole, texts: Iterable[Text]) -> None:
    """Prints texts without breaking their lines: the terminal does, and what is copied or searched stays whole."""
    for text in texts:
        shown.print(text, soft_wrap=True)


def console(*, err: bool = False) -> Console:
    """Standard output, or standard error. Texts are no markup, and never highlighted."""
    return Console(stderr=err, markup=False, highlight=False, emoji=False)
