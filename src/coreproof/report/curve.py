"""curve: how much of what rounding allows each value of a step used, along the network, as a drawing inside the page."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

Document: TypeAlias = Mapping[str, Any]

_POINTS = 240
"""A screen shows no more of them side by side; of the values that share a place the worst is shown."""
_LOW, _HIGH = -4.0, 1.0
"""Powers of ten between which shares of the tolerance are drawn: a ten-thousandth of it, ten times it."""


def curve(rows: Sequence[Document]) -> Document | None:
    """The points of the drawing, x and y in per cent of its sides, first layer to last; None for fewer than three values.

    ``rows`` are a step's as the page has them, in the order of the network. ``row`` is where a point stands among them.
    """
    drawn = [(k, _power(row)) for k, row in enumerate(rows) if _power(row) is not None or not row["agrees"]]
    if len(drawn) < 3:
        return None
    width = math.ceil(len(drawn) / _POINTS)
    groups = [drawn[start : start + width] for start in range(0, len(drawn), width)]
    points = []
    for place, group in enumerate(groups):
        # what disagrees is never hidden behind what agrees
        k, power = max(group, key=lambda each: (not rows[each[0]]["agrees"], _HIGH if each[1] is None else each[1]))
        height = _HIGH if power is None else min(_HIGH, max(_LOW, power))
        points.append(
            {
                "row": k,
                "x": round(100 * (place + 0.5) / len(groups), 2),
                "y": round(100 * (_HIGH - height) / (_HIGH - _LOW), 2),
                "agrees": rows[k]["agrees"],
                "name": rows[k]["name"],
                "used": rows[k]["used"],
            }
        )
    return {"points": points, "allowed": round(100 * _HIGH / (_HIGH - _LOW), 2), "grouped": width > 1}


def _power(row: Document) -> float | None:
    """The share of the tolerance that a value used, as a power of ten; None where it has none, or none can be said."""
    used = row["used"]
    if used is None:
        return None
    return math.log10(used) if used > 0 else _LOW
