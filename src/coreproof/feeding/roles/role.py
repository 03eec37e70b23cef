"""Role: what a value has to hold for those that read it, and what two readers ask for together."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, Literal

Kind = Literal["compared", "unsure", "number", "scores", "mask", "additive", "length", "index", "category"]
_WEIGHT: dict[Kind, int] = {
    "compared": 0,
    "unsure": 1,
    "number": 2,
    "scores": 3,
    "mask": 4,
    "additive": 4,
    "length": 5,
    "index": 6,
    "category": 7,
}


@dataclass(frozen=True)
class Role:
    """What a value holds: ``low`` to ``high`` (ends left out where ``above`` or ``below`` say so), and what for.

    "index": whole numbers that pick from ``high - low + 1``; "length": whole numbers that size something; "mask": 0 or 1;
    "additive": 0 or a large negative number; "number": any of the interval; "scores": numbers that a softmax reads;
    "unsure": 0 or 1, unless something else reads it as a number; "compared": nothing but compared with ``among``; "category": one
    of ``choices``, whole numbers or texts that are looked up.

    ``columns`` are the lengths that the last axis' entries pick from, ``exact`` numbers that are known to fit, both only where
    the value is read as it is. ``tables``: the columns are parts along this axis that pick from a table each, which are cut out
    one by one; 0 stands for one that nothing is known of. ``symbol`` names the free dimension that bounds an index. ``distinct``:
    an index that is written to more than once has no defined result. ``rising``: sorted along the last axis, as what is
    searched. ``reach``: so far whole numbers have to go that what reads them shows (``x // 3600`` is 0 for all small ones).
    ``rows``: how many rows the table has that an index picks from, 0 where it picks along another axis.
    ``why`` says in words who asks.
    """

    kind: Kind = "number"
    low: float = -math.inf
    high: float = math.inf
    above: bool = False
    below: bool = False
    nonzero: bool = False
    symbol: str | None = None
    columns: tuple[int, ...] | None = None
    tables: int | None = None
    exact: tuple[int, ...] | None = None
    distinct: bool = False
    rising: bool = False
    among: frozenset[float] = frozenset()
    reach: float = 0.0
    rows: int = 0
    choices: tuple[int | str, ...] = ()
    why: str = ""

    @property
    def bounded(self) -> bool:
        """Whether there is a lowest or a highest number."""
        return self.low > -math.inf or self.high < math.inf

    @property
    def plain(self) -> bool:
        """Whether anything is as good as anything else."""
        free = not self.bounded and not self.nonzero and not self.rising
        return self.kind in ("number", "scores", "compared") and free

    def moved(self) -> Role:
        """The role behind an operator that moves values about: what holds for single places only is lost."""
        if self.columns is None and self.exact is None and not self.rising:
            return self
        high = min(self.high, *(n - 1 for n in self.columns if n)) if self.columns else self.high
        return replace(self, columns=None, tables=None, exact=None, rising=False, high=high)

    def column(self, place: int, of: int, axis: int) -> Role:
        """What a value has to hold of which the part ``place``, of so many along an axis from the end, has to hold this."""
        if self.kind != "index" or self.low != 0 or not 0 <= self.high < math.inf or not -of <= place < of:
            return self.moved()
        whole = self.moved()
        columns = [0] * of
        columns[place] = math.floor(whole.high) + 1
        return replace(whole, columns=tuple(columns), tables=axis, distinct=False)

    def affine(self, factor: float, low: float, high: float) -> Role:
        """What x has to hold so that ``factor * x + c`` holds this, for every c from ``low`` to ``high``."""
        of = self.moved()
        # what makes numbers small asks for large ones, so that something is left of them
        wanted = of.reach or float(0 < abs(factor) < 1)
        if wanted and factor:
            of = replace(of, reach=(wanted + max(abs(low), abs(high))) / abs(factor))
        if not of.bounded and not of.nonzero:
            return of
        if not of.bounded or factor == 0:
            return replace(of, nonzero=of.nonzero and low == high == 0)
        # for every c: the interval shrinks by what c may add at either end
        ends = ((of.low - low) / factor, (of.high - high) / factor)
        above, below = (of.above, of.below) if factor > 0 else (of.below, of.above)
        if of.kind == "number" and any(_FAR < abs(end) < math.inf for end in ends):
            return reaching(of.reach)  # nobody feeds numbers so large: the model has no answer worth asking for
        moved = replace(of, low=min(ends), high=max(ends), above=above, below=below)
        return replace(moved, nonzero=of.nonzero and low == high == 0, symbol=of.symbol if factor == 1 else None)


PLAIN = Role()


def reaching(reach: float) -> Role:
    """Any numbers, whole ones up to ``reach`` at least."""
    return Role(reach=reach) if reach > 0 else PLAIN


_FAR = 1e6


def merged(one: Role | None, other: Role) -> Role:
    """What a value has to hold that two read: the stronger reading, within what both allow."""
    if one is None or one is other or one == other:
        return other
    first, second = (one, other) if _WEIGHT[one.kind] >= _WEIGHT[other.kind] else (other, one)
    if first.kind == "category":
        shared = tuple(c for c in first.choices if c in second.choices)
        return replace(first, choices=shared) if second.kind == "category" and shared else first
    among, rising, reach = one.among | other.among, one.rising or other.rising, max(one.reach, other.reach)
    narrows = second.kind == first.kind or second.kind in ("number", "length")
    if not narrows or not (second.bounded or second.nonzero):
        return replace(first, among=among, distinct=one.distinct or other.distinct, rising=rising, reach=reach)
    low, high = max(first.low, second.low), min(first.high, second.high)
    # the two ask for what no number is: the stronger reading stands
    if low > high:
        return replace(first, among=among, rising=rising, reach=reach)
    if first.tables is not None and first.tables == second.tables:
        return replace(first, **_by_table(first, second), among=among, low=low, high=high, reach=reach)
    tighter = second if (second.low, -second.high) > (first.low, -first.high) and second.kind == first.kind else first
    return replace(
        first,
        low=low,
        high=high,
        above=any(r.above for r in (first, second) if r.low == low),
        below=any(r.below for r in (first, second) if r.high == high),
        nonzero=one.nonzero or other.nonzero,
        symbol=first.symbol or (second.symbol if second.kind == first.kind else None),
        columns=first.columns or (second.columns if second.kind == first.kind else None),
        exact=first.exact or (second.exact if second.kind == first.kind else None),
        distinct=one.distinct or other.distinct,
        rising=rising,
        among=among,
        reach=reach,
        rows=tighter.rows,
        why=tighter.why or first.why or second.why,
    )


def _by_table(one: Role, other: Role) -> dict[str, Any]:
    """What two readers of columns that pick from a table each ask for together."""
    pairs = list(zip(one.columns or (), other.columns or (), strict=False))
    columns = tuple(min(a, b) if a and b else max(a, b) for a, b in pairs)
    said = ", ".join(f"{n:,}" if n else "any" for n in columns[:_TOLD]) + (", ..." if len(columns) > _TOLD else "")
    return {"columns": columns, "why": f"indices of {said} rows, a table for each of {len(columns)} columns"}


_TOLD = 5
"""Of so many tables the lengths are told."""
