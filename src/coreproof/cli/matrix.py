"""The agreement matrix for the terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.table import Table
    from rich.text import Text

    from coreproof.compare.comparison import Comparison


def agreement_table(comparison: Comparison) -> Table:
    """On how many photos each two models have the same top class; complete agreement green, the least of all red."""
    from rich.table import Table
    from rich.text import Text

    photos = len(comparison.photos)
    notes = [f"same top class, of {photos:,} photos"]
    for found in comparison.explanations:
        notes.append(f"{found.a} and {found.b} differ on {found.differ:,}:")
        notes += [f"  without {c.cause}, on {c.differ:,} ({c.model})" for c in found.causes]
    if comparison.skipped:
        notes.append(f"{len(comparison.skipped)} skipped: {', '.join(list(comparison.skipped)[:3])}")
    table = Table(title=comparison.title or None)
    table.add_column("", style="bold", no_wrap=True)
    for name in comparison.names:
        table.add_column(name, justify="right", no_wrap=True)
    if comparison.accuracies:
        table.add_column("right", justify="right", no_wrap=True)
    counts = comparison.agreement()
    least = min((pair.count for pair in comparison.pairs.values()), default=photos)
    for a in comparison.names:
        cells = [Text("·", style="dim") if a == b else _cell(counts[a][b], photos, least) for b in comparison.names]
        if comparison.accuracies:
            accuracy = comparison.accuracies[a]
            cells.append(Text(f"{accuracy.top1:,} of {accuracy.photos:,}"))
        table.add_row(a, *cells)
    # a caption would be wrapped to the width of a narrow matrix
    whole = Table.grid()
    whole.add_row(table)
    whole.add_row(Text("\n".join(notes)))
    return whole


def _cell(count: int, photos: int, least: int) -> Text:
    from rich.text import Text

    style = "green" if count == photos else "red" if count == least else "yellow"
    return Text(f"{count:,}", style=style)
