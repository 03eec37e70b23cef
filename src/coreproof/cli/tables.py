"""Tables that more than one verb prints."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from rich.table import Table

from coreproof.cli.terminal import Line, lines

if TYPE_CHECKING:
    from coreproof.verification.row import Row
    from coreproof.verification.verification import Verification


def plain_table(
    title: str,
    notes: Sequence[str],
    words: Mapping[str, tuple[int | None, int | None]],
    figures: Sequence[tuple[str, int]],
) -> Table:
    """A table without rules: a mark, then columns of words (least and greatest width by heading), then figures (least width)."""
    table = Table(
        title=Line(title),
        title_justify="left",
        box=None,
        pad_edge=False,
        padding=(0, 1),
        collapse_padding=True,
        caption=lines(notes) if notes else None,
        caption_justify="left",
    )
    table.add_column("", no_wrap=True, min_width=1)
    for heading, (least, most) in words.items():
        table.add_column(heading, overflow="ellipsis", no_wrap=True, min_width=least, max_width=most)
    for heading, least in figures:
        table.add_column(heading, justify="right", no_wrap=True, min_width=least)
    return table


def verification_table(verification: Verification, limit: int | None = None, width: int | None = None) -> Table:
    """One line a compared value, in the candidate's order; the first that diverges is marked.

    "rms" and "worst" are the errors, of all elements and of the single worst one, as shares of the value's scale;
    "used" is how much of its tolerance a value takes: above 1 it diverges. ``limit`` keeps that many lines: those around
    the first divergence, else the last ones, which hold the outputs. In less ``width`` than all columns take, "found" and
    "allowed" stand for whichever of the two errors is nearer to what it may be: it decides.
    """
    rows = verification.rows
    first = verification.first_divergence
    shown = range(len(rows)) if limit is None else _window(rows, first, limit)
    weak = verification.weak
    # a column that says nothing new is left out
    layers = any(row.source and row.source != row.candidate for row in rows)
    left_out = len(rows) - len(shown)
    notes = (
        ["? agrees, but that proves little: rounding may change half of it, or it is NaN, zero or constant"]
        if any(rows[i] in weak for i in shown)
        else []
    )
    notes += [f"{left_out} of {len(rows)} rows left out"] if left_out else []
    if first is not None:
        notes.insert(0, f"▶ first divergence: {first.candidate}: {first.judgement.problem}")
        # an output of other lengths says more than the layer where numbers began to differ
        unlike = [
            row for row in rows if row.how == "output" and row is not first and math.isnan(row.judgement.max_error)
        ]
        notes += [f"✗ {row.candidate}: {row.judgement.problem}" for row in unlike]
    narrow = width is not None and width < (100 if layers else 86)
    both = (("rms", 7), ("allowed", 7), ("worst", 7), ("allowed", 7), ("used", 5))
    table = plain_table(
        f"{verification.reference} (reference) and {verification.candidate}",
        notes,
        {"value": (12, 34), "operator": (6, 18), **({"layer": (6, 26)} if layers else {}), "shape": (6, 14)},
        (("found", 7), ("allowed", 7), ("used", 5)) if narrow else both,
    )
    for index in shown:
        row = rows[index]
        mark, style = ("✓", "green") if row.agrees else ("✗", "red")
        if row is first:
            mark, style = "▶", "bold red"
        elif row in weak:
            mark, style = "?", "yellow"
        table.add_row(
            Line(mark, style=style),
            Line(row.candidate, style=style if not row.agrees else "bold" if row.how == "output" else ""),
            Line(row.operator),
            *([Line(row.source or "", style="bold red" if row is first else "")] if layers else []),
            "x".join(map(str, row.shape)) or "scalar",
            *(_deciding(row) if narrow else _figures(row)),
            Line(_times(row.judgement.used), style=style),
        )
    return table


def _figures(row: Row) -> tuple[str, str, str, str]:
    """Error and limit, of all elements and of the worst one."""
    judgement, tolerance = row.judgement, row.tolerance
    # integers, booleans and texts
    if not tolerance.relative and not tolerance.absolute:
        return _share(judgement.rms_relative_error), "equal", _share(judgement.max_relative_error), "equal"
    typical = "" if tolerance.typical is None else _share(tolerance.typical)
    return (
        _share(judgement.rms_relative_error),
        typical,
        _share(judgement.required_relative),
        _share(tolerance.relative),
    )


def _deciding(row: Row) -> tuple[str, str]:
    """Error and limit of the measure that is nearer to what it may be."""
    judgement, tolerance = row.judgement, row.tolerance
    rms, typical, worst, allowed = _figures(row)
    if tolerance.typical and tolerance.relative:
        of_all = judgement.rms_relative_error / tolerance.typical
        if of_all > judgement.required_relative / tolerance.relative:
            return rms, typical
    return worst, allowed


def _times(used: float) -> str:
    """How often an error fits into what is allowed, in five characters or so."""
    if math.isinf(used):
        return "-"
    return f"{used:.2f}" if used < 10 else f"{used:.0f}" if used < 10_000 else f"{used:.0e}"


def _window(rows: tuple[Row, ...], first: Row | None, limit: int) -> range:
    if len(rows) <= limit:
        return range(len(rows))
    if first is None:
        return range(len(rows) - limit, len(rows))
    # the first divergence in the middle of what is shown
    start = min(max(0, rows.index(first) - limit // 2), len(rows) - limit)
    return range(start, start + limit)


def _share(error: float) -> str:
    """An error as a share of the value's scale, in six characters or so."""
    if math.isnan(error):
        return "-"
    return "0" if error == 0 else "inf" if math.isinf(error) else f"{error:.1e}"
