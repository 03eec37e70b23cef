"""The agreement matrix for the terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich import box
from rich.table import Table
from rich.text import Text

from coreproof.cli.terminal import Line, lines

if TYPE_CHECKING:
    from coreproof.comparison.comparison import Comparison

_GAP = 2
"""Signs between two columns."""


def agreement_table(comparison: Comparison, width: int = 80) -> Table:
    """On how many photos each two models have the same top class; complete agreement green, the least of all red.

    What is wider than ``width`` goes on below: a count that is cut off is another count.
    """
    photos, names = comparison.count, comparison.names
    kinds: dict[str, list[str]] = {}
    for model in comparison.models:
        if model.spoken != model.name:
            kinds.setdefault(model.called, []).append(model.name)
    notes = [
        *(f"{kind}: {', '.join(of)}" for kind, of in kinds.items()),
        f"same top class, of {photos:,} photos",
        *(f"weak: {w.text}" for w in comparison.weaknesses),
    ]
    if any(pair.undefined for pair in comparison.pairs.values()):
        notes.append("Cohen's kappa is undefined where two models name one class on every photo")
    for found in comparison.explanations:
        notes.append(f"{comparison.spoken(found.a)} and {comparison.spoken(found.b)} differ on {found.differ:,}:")
        notes += [f"  made alike in {c.cause}, on {c.differ:,} ({c.model})" for c in found.causes]
    if comparison.skipped:
        notes.append(f"{comparison.skipped_count:,} skipped: {', '.join(list(comparison.skipped)[:3])}")
    known = next((accuracy.photos for accuracy in comparison.accuracies.values()), 0)
    count, right = len(f"{photos:,}"), len(f"right of {known:,}") + _GAP if known else 0
    longest = max(map(len, names)) + _GAP
    # full names over the columns only where they fit; else numbers, which the rows carry as well
    numbered = longest + sum(max(len(name), count) + _GAP for name in names) + right + _GAP > width
    columns = len(names)
    if numbered:
        # what is left for columns beside the names, the numbers and how often a model is right
        room = width - longest - (len(str(columns)) + _GAP) - right - _GAP
        columns = max(1, room // (max(count, len(str(columns))) + _GAP))
    # a caption would be wrapped to the width of a narrow matrix
    whole = Table.grid()
    for start in range(0, len(names), columns):
        whole.add_row(_columns(comparison, range(start, min(start + columns, len(names))), numbered))
    whole.add_row(lines(notes))
    return whole


def _columns(comparison: Comparison, shown: Sequence[int], numbered: bool) -> Table:
    """Some columns of the matrix; behind the last ones stands how often each model is right."""
    photos, names, counts = comparison.count, comparison.names, comparison.agreement()
    judged = comparison.accuracies if shown[-1] == len(names) - 1 else {}
    title = Line(comparison.title) if comparison.title and shown[0] == 0 else None
    table = Table(title=title, box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    if numbered:
        table.add_column("", justify="right", style="dim", no_wrap=True)
    table.add_column("", style="bold", no_wrap=True)
    for position in shown:
        heading = str(position + 1) if numbered else names[position]
        table.add_column(Line(heading), justify="right", no_wrap=True, min_width=len(f"{photos:,}"))
    if judged:
        known = next(iter(judged.values())).photos
        table.add_column(f"right of {known:,}", justify="right", no_wrap=True)
    # the least of all pairs is red, not of each row
    least = min((pair.count for pair in comparison.pairs.values()), default=photos)
    for position, a in enumerate(names, start=1):
        cells = [
            Line("·", style="dim") if a == b else _cell(counts[a][b], photos, least)
            for b in (names[column] for column in shown)
        ]
        if judged:
            cells.append(Line(f"{judged[a].top1:,}"))
        table.add_row(*([str(position)] if numbered else []), Line(a), *cells)
    return table


def _cell(count: int, photos: int, least: int) -> Text:
    style = "green" if count == photos else "red" if count == least else "yellow"
    return Line(f"{count:,}", style=style)
