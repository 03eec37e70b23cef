"""``coreproof verify MODEL --half``: what float16 will do to a model, as a table or as JSON."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from rich.table import Table

from coreproof.cli.progress import progress
from coreproof.cli.say import say_json
from coreproof.cli.tables import plain_table
from coreproof.cli.terminal import Line, console, lines

if TYPE_CHECKING:
    from coreproof.feeding.drawn import Feeds
    from coreproof.model.base import Model
    from coreproof.precision.float16_report import Float16Report, Float16Row

_STYLE = {"ok": "", "overflow": "bold red", "nan": "bold red", "spread": "red"}


def print_forecast(model: Model, fed: Feeds | None = None, rows: int = 24, *, as_json: bool = False) -> int:
    """Predicts, prints, and gives the exit code: 0 float16 is safe, 1 something overflows or the outputs would be wrong.

    ``rows`` is how many operators are shown (0: all): those where something happens, then those that add most.
    """
    from coreproof.precision.forecast import forecast

    with progress() as report:
        found = forecast(model, fed, progress=report)
    if as_json:
        say_json(found.to_json())
    else:
        shown = console()
        shown.print(forecast_table(found, rows))
        shown.print(lines(found.summary().split("\n")))
        if found.must_stay_fp32 and model.is_source:
            shown.print(Line(f"convert with: --keep-fp32 {','.join(found.must_stay_fp32)}"), soft_wrap=True)
    return 0 if found else 1


def forecast_table(report: Float16Report, limit: int = 24) -> Table:
    """One line an operator in the program's order. ▶ stays in float32; errors are shares of the scale."""
    shown = _rows_to_show(report.rows, limit)
    left_out = len(report.rows) - len(shown)
    notes = [f"{left_out} of {len(report.rows)} operators left out"] if left_out else []
    if report.must_stay_fp32:
        notes.insert(0, "▶ has to stay in float32")
    words = {"value": (8, 24), "operator": (8, 16), "module": (None, 22), "range": (11, None), "status": (8, None)}
    table = plain_table(f"{report.model} in float16", notes, words, (("adds", 5), ("output", 6)))
    for row in shown:
        style = _STYLE.get(row.status, "yellow")
        table.add_row(
            Line("▶" if row.must_stay else "", style="bold red"),
            Line(row.layer),
            Line(row.operator),
            Line(row.source or ""),
            _range(row),
            Line(row.status, style=style),
            _share(row.error_added),
            "" if row.error_at_output is None else _share(row.error_at_output),
        )
    return table


def _rows_to_show(rows: tuple[Float16Row, ...], limit: int) -> list[Float16Row]:
    """What stays in float32, where something happens, then what adds most; in the program's order."""
    if not limit or len(rows) <= limit:
        return list(rows)
    # what has to stay, then what something happens to, then what adds most to the outputs
    by_weight = sorted(
        rows, key=lambda r: (not r.must_stay, r.status == "ok", -(r.error_at_output or 0.0), -r.error_added)
    )
    # by identity: two operations may have equal rows
    kept = {id(r) for r in by_weight[:limit]}
    return [r for r in rows if id(r) in kept]


def _range(row: Float16Row) -> str:
    if row.largest == 0.0:
        return "0"
    return f"{row.smallest:.0e} {row.largest:.0e}" if math.isfinite(row.smallest) else f"{row.largest:.0e}"


def _share(error: float) -> str:
    return "0" if error == 0 else "inf" if math.isinf(error) else f"{error:.0e}"
