"""The agreement matrix as a matplotlib figure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from coreproof.comparison.comparison import Comparison
from coreproof.report.plots import drawn, figure_class, require

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def agreement_plot(comparison: Comparison) -> Figure:
    """A heat map of the share of photos on which two models name the same first class; returned, not shown.

    Raises MissingDependencyError where matplotlib is not installed.
    """
    require()
    names, total = comparison.names, max(comparison.count, 1)
    agreement = comparison.agreement()
    shares = [[agreement[a][b] / total for b in names] for a in names]
    side = 1.6 + 0.62 * len(names)
    figure = figure_class()(figsize=(side + 0.8, side), layout="constrained", dpi=150)
    axes = figure.add_subplot()
    # from one half at the most: models that agree on 95 and on 99 of 100 should look different
    axes.imshow(shares, cmap="Blues", vmin=min(0.5, *(min(row) for row in shares)), vmax=1.0)
    for i, a in enumerate(names):
        for j, b in enumerate(names):
            text = "·" if a == b else str(agreement[a][b])
            axes.text(
                j, i, text, ha="center", va="center", color="white" if shares[i][j] > 0.8 else "#202124", fontsize=9
            )
    shown = [drawn(name) for name in names]
    axes.set_xticks(range(len(names)), shown, rotation=45, ha="right", fontsize=9)
    axes.set_yticks(range(len(names)), shown, fontsize=9)
    axes.tick_params(length=0)
    for spine in axes.spines.values():
        spine.set_visible(False)
    axes.set_title(f"same first class, of {comparison.count} photos", loc="left", fontsize=10)
    return figure
