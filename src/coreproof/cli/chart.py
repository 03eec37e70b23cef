"""A small chart of errors along a network, in block characters, for the terminal."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.text import Text

from coreproof.visible import visible

if TYPE_CHECKING:
    from coreproof.verification.row import Row
    from coreproof.verification.verification import Verification

_BLOCKS = " ▁▂▃▄▅▆▇█"
_MARGIN = 7
_WIDEST = 3


def error_chart(verification: Verification, width: int = 80, height: int = 6) -> Text:
    """One column a value (or several values, the worst of them), from input to output.

    Bars: the root-mean-square error as a share of the scale, on a logarithmic axis; green where the value agrees, yellow
    where that proves little, red where it does not agree. The line is what is allowed. The first divergence is marked below.
    """
    room = max(1, width - _MARGIN - 1)
    columns = _columns(verification.rows, room)
    wide = max(1, min(_WIDEST, room // max(1, len(columns))))
    low, high = _decades(columns)
    text = Text()
    for line in range(height, 0, -1):
        text.append(_axis(line, height, low, high), style="dim")
        for column in columns:
            sign, style = _cell(column, line, height, low, high)
            text.append(sign * wide, style=style)
        text.append("\n")
    text.append(" " * (_MARGIN - 1) + "└" + "─" * (wide * len(columns)), style="dim")
    first = verification.first_divergence
    if first is not None:
        place = next(i for i, column in enumerate(columns) if any(row is first for row in column))
        text.append("\n")
        text.append(_pointer(wide * place + (wide - 1) // 2, _named(first), width), style="bold red")
    return text


def _named(first: Row) -> str:
    came_from = f", {first.source}" if first.source and first.source != first.candidate else ""
    return visible(f"first divergence: {first.candidate} ({first.operator}{came_from})")


def _columns(rows: Sequence[Row], most: int) -> list[list[Row]]:
    """The rows in as many even groups as there is room for."""
    count = min(most, len(rows))
    return [list(rows[i * len(rows) // count : (i + 1) * len(rows) // count]) for i in range(count)]


def _error(column: Sequence[Row]) -> float:
    """The largest error; infinite where it is no number."""
    errors = [row.judgement.rms_relative_error for row in column]
    return max(math.inf if math.isnan(e) else e for e in errors)


def _allowed(column: Sequence[Row]) -> float:
    return min((row.tolerance.typical or row.tolerance.relative for row in column), default=0.0)


def _decades(columns: Sequence[Sequence[Row]]) -> tuple[int, int]:
    """Powers of ten that the axis spans: every error and every limit, twelve at most."""
    shown = [x for c in columns for x in (_error(c), _allowed(c)) if 0 < x < math.inf]
    if not shown:
        return -8, 0
    high = math.ceil(math.log10(max(shown)))
    # three decades at least, or noise would look like a trend
    low = min(math.floor(math.log10(min(shown))), high - 3)
    return max(low, high - 12), high


def _height(error: float, height: int, low: int, high: int) -> float:
    """How high a bar is, in lines; an error that is not zero shows at least one eighth."""
    if error == 0:
        return 0.0
    if math.isinf(error):
        return float(height)
    share = (math.log10(error) - low) / (high - low)
    return min(float(height), max(0.125, share * height))


def _cell(column: Sequence[Row], line: int, height: int, low: int, high: int) -> tuple[str, str]:
    filled = _height(_error(column), height, low, high) - (line - 1)
    # half of an eighth, the smallest block
    if filled >= 0.0625:
        return _BLOCKS[min(8, max(1, round(filled * 8)))], _colour(column)
    limit = _allowed(column)
    here = limit > 0 and math.ceil(_height(limit, height, low, high)) == line
    return ("┄", "dim") if here else (" ", "")


def _colour(column: Sequence[Row]) -> str:
    if not all(row.agrees for row in column):
        return "red"
    return "yellow" if any(row.weakness is not None for row in column) else "green"


def _axis(line: int, height: int, low: int, high: int) -> str:
    label = f"1e{high:+d}" if line == height else f"1e{low:+d}" if line == 1 else ""
    return f"{label:>{_MARGIN - 1}}┤" if label else " " * (_MARGIN - 1) + "│"


def _pointer(place: int, words: str, width: int) -> str:
    """An arrow below a column, with words on the side where there is room."""
    at = _MARGIN + place
    if at + 2 + len(words) <= width:
        return " " * at + "▲ " + words
    if len(words) + 1 <= at:
        return words.rjust(at - 1) + " ▲"
    return " " * at + "▲\n" + words
