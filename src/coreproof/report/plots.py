"""Plots for notebooks and print, drawn with matplotlib without its global state."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from coreproof.errors import InputError
from coreproof.model.files.atomic import replacing
from coreproof.model.files.outputs import PLOT
from coreproof.model.optional import import_optional
from coreproof.visible import visible

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from coreproof.verification.row import Row
    from coreproof.verification.verification import Verification

_INK, _MUTED, _GOOD, _BAD, _LIMIT = "#202124", "#80868b", "#1e8e3e", "#d93025", "#5f6368"
_NAMED = 50
"""So many layer names are readable side by side."""
SUFFIXES = (".png", ".svg", ".pdf")


def error_plot(verification: Verification) -> Figure:
    """Errors and tolerances along the network, on a logarithmic scale; the first divergence is marked.

    Dots are root-mean-square errors, thin strokes reach up to the single worst element, both as shares of a value's scale;
    the shaded area is what is allowed typically, the dashed line what is allowed to a single element. Values for which so
    much is allowed that agreement proves little are grey.
    The figure belongs to no window: notebooks show it, ``save_plot`` writes it.

    Raises MissingDependencyError where matplotlib is not installed.
    """
    require()
    rows = verification.rows
    figure = figure_class()(figsize=(max(8.0, min(14.0, 3.0 + 0.16 * len(rows))), 4.8), layout="constrained", dpi=150)
    axes = figure.add_subplot()
    floor, ceiling = _limits(rows)
    _draw_limits(axes, rows, floor)
    _draw_errors(axes, rows, floor, ceiling)
    _draw_first(axes, verification)
    _name_layers(axes, verification)
    axes.set_yscale("log")
    axes.set_ylim(floor, ceiling)
    axes.set_xlim(-0.8, len(rows) - 0.2)
    axes.set_ylabel("error, as a share of the value's scale", color=_INK, fontsize=9)
    axes.grid(axis="y", color="#e8eaed", linewidth=0.6)
    # the grid behind the dots
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    lines = _legend(axes, 6 if figure.get_figwidth() > 11 else int(figure.get_figwidth() / 2.2))
    axes.set_title(_title(verification), loc="left", fontsize=10.5, color=_INK, pad=12 + 14 * lines)
    return figure


def save_plot(verification: Verification, path: str | Path, *, replace: bool = False) -> Path:
    """Writes ``error_plot`` as .png, .svg or .pdf, whole or not at all.

    Raises InputError for another suffix, MissingDependencyError where matplotlib is not installed, OutputExistsError where
    something else than such a picture stands there, unless ``replace`` allows it.
    """
    path = check_suffix(path)
    figure = error_plot(verification)
    from matplotlib import rc_context

    # matplotlib writes the time of day into both
    undated = {".svg": {"Date": None}, ".pdf": {"CreationDate": None}}.get(path.suffix.lower())
    with replacing(path, PLOT, replace=replace) as fresh, rc_context({"svg.hashsalt": "coreproof"}):
        figure.savefig(fresh, metadata=undated)  # the same numbers give the same bytes
    return path


def check_suffix(path: str | Path) -> Path:
    """The path, if its suffix says a format that is drawn."""
    path = Path(path)
    if path.suffix.lower() not in SUFFIXES:
        raise InputError("a plot is saved as .png, .svg or .pdf", where=str(path), found=path.suffix or "no suffix")
    return path


def require() -> None:
    """Raises MissingDependencyError, with the line that installs it, where matplotlib is not there."""
    import_optional("matplotlib", "matplotlib, which draws the plot,", "notebook")


def figure_class() -> type[Figure]:
    """Figure, with the picture of itself that notebooks ask for; matplotlib gives it to figures of pyplot only."""
    from matplotlib.figure import Figure

    class NotebookFigure(Figure):
        def _repr_png_(self) -> tuple[bytes, dict[str, str]]:
            stream = io.BytesIO()
            self.savefig(stream, format="png")
            titles = [axes.get_title(loc="left") or axes.get_title() for axes in self.axes]
            return stream.getvalue(), {"alt": ". ".join(filter(None, titles)).replace("\n", " ")}

    return NotebookFigure


# parts of the figure


def _errors(row: Row) -> tuple[float, float]:
    """Root mean square, and that of the worst element; infinite where they are no numbers."""
    typical, worst = row.judgement.rms_relative_error, row.judgement.required_relative
    if row.judgement.misplaced:
        return math.inf, math.inf
    return (math.inf if math.isnan(typical) else typical), (math.inf if math.isnan(worst) else worst)


def _limits(rows: Sequence[Row]) -> tuple[float, float]:
    """The ends of the axis: whole decades around every error and limit; an error of zero lies on the lower end."""
    shown = [
        x
        for row in rows
        for x in (*_errors(row), row.tolerance.typical or 0.0, row.tolerance.relative)
        if 0 < x < math.inf
    ]
    if not shown:
        return 1e-9, 1.0
    # in decades: where something diverges, its label needs a place above
    room = 0.15 if all(row.agrees for row in rows) else 0.9
    high = math.ceil(math.log10(max(shown)) + room)
    low = math.floor(math.log10(min(shown)) - 0.15)
    # fourteen decades: what is smaller lies on the lower edge, or the rest would be squeezed
    return 10.0 ** max(low, high - 14), 10.0**high


def _draw_limits(axes: Axes, rows: Sequence[Row], floor: float) -> None:
    edges = [i - 0.5 for i in range(len(rows) + 1)]
    typical = [max(row.tolerance.typical or row.tolerance.relative, floor) for row in rows]
    single = [max(row.tolerance.relative, floor) for row in rows]
    axes.stairs(typical, edges, baseline=floor, fill=True, color="#e6f4ea", linewidth=0, label="allowed typically")
    axes.stairs(typical, edges, baseline=None, color="#a8dab5", linewidth=0.8)
    axes.stairs(
        single, edges, baseline=None, color=_LIMIT, linewidth=0.8, linestyle=(0, (4, 3)), label="allowed to one element"
    )


def _draw_errors(axes: Axes, rows: Sequence[Row], floor: float, ceiling: float) -> None:
    size = 16.0 if len(rows) < 120 else 8.0
    for colour, label, chosen in (
        (_GOOD, "error (rms), agrees", [row.agrees and row.weakness is None for row in rows]),
        (_MUTED, "error (rms), proves little", [row.agrees and row.weakness is not None for row in rows]),
        (_BAD, "error (rms), diverges", [not row.agrees for row in rows]),
    ):
        places = [i for i, row in enumerate(rows) if chosen[i] and max(_errors(row)) > 0]
        if not places:
            continue
        errors = [_errors(rows[i]) for i in places]
        low = [_within(e[0], floor, ceiling) for e in errors]
        high = [_within(max(e), floor, ceiling) for e in errors]
        axes.vlines(places, low, high, color=colour, linewidth=0.9, alpha=0.55, label="… up to the worst element")
        axes.scatter(places, low, s=size, color=colour, zorder=3, linewidths=0, label=label, clip_on=False)
    equal = [i for i, row in enumerate(rows) if max(_errors(row)) == 0]
    if equal:
        axes.scatter(
            equal, [floor] * len(equal), s=size, facecolors="white", edgecolors=_GOOD, linewidths=0.9, zorder=3,
            label="no error at all", clip_on=False,
        )  # fmt: skip


def _within(error: float, floor: float, ceiling: float) -> float:
    return min(max(error, floor), ceiling)


def _draw_first(axes: Axes, verification: Verification) -> None:
    first = verification.first_divergence
    if first is None:
        return
    rows = verification.rows
    place = rows.index(first)
    axes.axvline(place, color=_BAD, linewidth=0.8, linestyle=(0, (1, 2)), zorder=1)
    # words at the right end would leave the figure
    left = place > 0.6 * len(rows)
    words = f"first divergence: {_short(first.candidate, 34)} ({drawn(first.operator)})"
    if first.source and first.source != first.candidate:
        words += f"\n{_short(first.source, 48)}"
    axes.annotate(
        words,
        (place, 1.0),
        xycoords=("data", "axes fraction"),
        xytext=(-7 if left else 7, -2),
        textcoords="offset points",
        ha="right" if left else "left",
        va="top",
        fontsize=8.5,
        color=_BAD,
        bbox={"boxstyle": "round,pad=0.2", "facecolor": "white", "edgecolor": "none", "alpha": 0.85},
        zorder=4,
    )


def _name_layers(axes: Axes, verification: Verification) -> None:
    """Every layer's name where there is room, else evenly spaced ones, the first divergence and the outputs.

    A layer of PyTorch is named as PyTorch names it, where that is known.
    """
    rows = verification.rows
    first = verification.first_divergence
    kept = [i for i, row in enumerate(rows) if row is first or row.how == "output"]
    step = max(1, math.ceil(len(rows) / _NAMED))
    # a spaced name gives way to one that is always shown
    room = max(1, step // 2)
    places = sorted(
        {*kept, *(i for i in range(0, len(rows), step) if step == 1 or all(abs(i - k) > room for k in kept))}
    )
    axes.set_xticks(places, [_short(_layer(rows[i]), 26) for i in places], rotation=90, fontsize=6.5)
    for label, place in zip(axes.get_xticklabels(), places, strict=True):
        row = rows[place]
        label.set_color(_BAD if not row.agrees else _MUTED if row.weakness is not None else _INK)
        if row is first or row.how == "output":
            label.set_fontweight("bold")
    axes.tick_params(axis="x", length=2, color=_MUTED)
    axes.tick_params(axis="y", labelsize=8, color=_MUTED)


def _legend(axes: Axes, columns: int) -> int:
    """Draws the legend above the axes; returns its number of lines."""
    handles = dict(zip(*axes.get_legend_handles_labels()[::-1], strict=True))
    order = sorted(handles, key=lambda label: ("error" not in label, label.startswith("…"), label))
    axes.legend(
        [handles[label] for label in order],
        order,
        loc="lower left",
        bbox_to_anchor=(0, 1.0),
        ncols=columns,
        frameon=False,
        fontsize=8,
        borderaxespad=0.2,
        handlelength=1.4,
        columnspacing=1.4,
    )
    return -(-len(order) // columns)


def _layer(row: Row) -> str:
    return row.source if row.source and row.how != "output" else row.candidate


def _short(name: str, most: int) -> str:
    """A long name without its middle, as it is drawn."""
    name = visible(name)
    # both ends: names of layers differ in their first and in their last parts
    half = (most - 1) // 2
    return drawn(name if len(name) <= most else f"{name[: most - 1 - half]}…{name[-half:]}")


def drawn(name: str) -> str:
    """A name as matplotlib draws it: nothing hidden in it, and no formula between two dollars."""
    return visible(name).replace("$", r"\$")


def _title(verification: Verification) -> str:
    diverging = sum(not row.agrees for row in verification.rows)
    count = len(verification.rows)
    verdict = f"all {count} values agree" if not diverging else f"{diverging} of {count} values diverge"
    return drawn(f"{verification.candidate} against {verification.reference}: {verdict}")
