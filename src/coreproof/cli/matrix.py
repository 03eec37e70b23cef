"""The agreement matrix for the terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.table import Table
    from rich.text import Text

    from coreproof.compare.comparison import Comparison


def agreement_table(comparison: Comparison) -> Table:
    """On how many photos each two models have the same top class; complete agreement green, the least of all red."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    photos = comparison.count
    notes = [f"same top class, of {photos:,} photos"]
    for found in comparison.explanations:
        notes.append(f"{found.a} and {found.b} differ on {found.differ:,}:")
        notes += [f"  made alike in {c.cause}, on {c.differ:,} ({c.model})" for c in found.causes]
    if comparison.skipped:
        notes.append(f"{comparison.skipped_count:,} skipped: {', '.join(list(comparison.skipped)[:3])}")
    # full names over the columns only where they fit a terminal; else numbers, which the rows carry as well
    numbered = sum(len(name) + 3 for name in comparison.names) > 60
    table = Table(title=comparison.title or None, box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    if numbered:
        table.add_column("", justify="right", style="dim", no_wrap=True, min_width=2)
    table.add_column("", style="bold", no_wrap=True)
    for position, name in enumerate(comparison.names, start=1):
        table.add_column(
            str(position) if numbered else name, justify="right", no_wrap=True, min_width=len(f"{photos:,}")
        )
    if comparison.accuracies:
        known = next(iter(comparison.accuracies.values())).photos
        table.add_column("right" if numbered else f"right of {known:,}", justify="right", no_wrap=True, min_width=5)
    counts = comparison.agreement()
    least = min((pair.count for pair in comparison.pairs.values()), default=photos)
    for position, a in enumerate(comparison.names, start=1):
        cells = [Text("·", style="dim") if a == b else _cell(counts[a][b], photos, least) for b in comparison.names]
        if comparison.accuracies:
            cells.append(Text(f"{comparison.accuracies[a].top1:,}"))
        table.add_row(*([str(position)] if numbered else []), a, *cells)
    # a caption would be wrapped to the width of a narrow matrix
    whole = Table.grid()
    whole.add_row(table)
    whole.add_row(Text("\n".join(notes)))
    return whole


def _cell(count: int, photos: int, least: int) -> Text:
    from rich.text import Text

    style = "green" if count == photos else "red" if count == least else "yellow"
    return Text(f"{count:,}", style=style)
