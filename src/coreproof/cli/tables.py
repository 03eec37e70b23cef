"""Tables that more than one verb prints."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.table import Table

    from coreproof.verify.verify import Row, Verification


def verification_table(verification: Verification, limit: int | None = None) -> Table:
    """One line a compared value, in the candidate's order; the first that diverges is marked.

    "max", "rms" and "allowed" (for single elements) are shares of the value's scale. ``limit`` keeps that many lines:
    those around the first divergence, else the last ones, which hold the outputs.
    """
    from rich.table import Table
    from rich.text import Text

    rows = verification.rows
    first = verification.first_divergence
    shown = range(len(rows)) if limit is None else _window(rows, first, limit)
    title = f"{verification.reference} (reference) and {verification.candidate}"
    left_out = len(rows) - len(shown)
    notes = [f"{left_out} of {len(rows)} rows left out"] if left_out else []
    if first is not None:
        notes.insert(0, f"▶ first divergence: {first.candidate}: {first.judgement.problem}")
    table = Table(
        title=title,
        title_justify="left",
        box=None,
        pad_edge=False,
        padding=(0, 1),
        collapse_padding=True,
        caption="\n".join(notes) or None,
        caption_justify="left",
    )
    table.add_column("", no_wrap=True, min_width=1)
    table.add_column("value", overflow="ellipsis", no_wrap=True, min_width=12, max_width=34)
    table.add_column("operator", overflow="ellipsis", no_wrap=True, min_width=8, max_width=18)
    table.add_column("shape", overflow="ellipsis", no_wrap=True, min_width=6, max_width=14)
    for name, width in (("max", 7), ("rms", 7), ("allowed", 7), ("cosine", 9)):
        table.add_column(name, justify="right", no_wrap=True, min_width=width)
    for index in shown:
        row = rows[index]
        judgement = row.judgement
        mark, style = ("✓", "green") if row.agrees else ("✗", "red")
        if row is first:
            mark, style = "▶", "bold red"
        table.add_row(
            Text(mark, style=style),
            Text(row.candidate, style=style if not row.agrees else "bold" if row.how == "output" else ""),
            row.operator,
            "x".join(map(str, row.shape)) or "scalar",
            _share(judgement.max_relative_error),
            _share(judgement.rms_relative_error),
            _share(row.tolerance.relative) if row.tolerance.relative or row.tolerance.absolute else "equal",
            "" if math.isnan(judgement.cosine) else f"{judgement.cosine:.6f}",
        )
    return table


def _window(rows: tuple[Row, ...], first: Row | None, limit: int) -> range:
    if len(rows) <= limit:
        return range(len(rows))
    if first is None:
        return range(len(rows) - limit, len(rows))
    start = min(max(0, rows.index(first) - limit // 2), len(rows) - limit)
    return range(start, start + limit)


def _share(error: float) -> str:
    """An error as a share of the value's scale, in six characters or so."""
    if math.isnan(error):
        return "-"
    return "0" if error == 0 else "inf" if math.isinf(error) else f"{error:.1e}"
