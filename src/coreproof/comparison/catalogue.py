"""Catalogue: the photos of a comparison of any size, filtered, sorted, a page at a time; DuckDB reads the store's files."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import combinations
from typing import Any, Literal, get_args

from coreproof.comparison.comparison import Comparison
from coreproof.comparison.table import sql_file
from coreproof.errors import InputError

Kind = Literal["all", "differ", "same", "wrong", "right", "skipped"]
Order = Literal["order", "name", "apart", "alike", "sure", "unsure"]
KINDS: tuple[Kind, ...] = get_args(Kind)
ORDERS: tuple[Order, ...] = get_args(Order)
PAGE = 24
"""Photos of a page."""
_WORDS = 8
_FURTHEST = 10**7


@dataclass(frozen=True)
class Wish:
    """Which photos, and in which order. ``a``, ``b``: between which models they differ or how far they are apart.

    ``model`` is wrong, right, sure; None: any of those that are compared, of "sure" the first. ``words`` all stand in the
    photo's name or in the name of a class that it shows or is given. ``page`` counts from 0.
    """

    kind: Kind = "all"
    order: Order = "order"
    words: tuple[str, ...] = ()
    model: int | None = None
    a: int | None = None
    b: int | None = None
    page: int = 0


@dataclass(frozen=True)
class Found:
    """One photo: where it stands (slice and row), its true class (None: not known), each model's first classes, why skipped."""

    at: int
    row: int
    photo: str
    truth: int | None
    top: tuple[tuple[tuple[int, float], ...], ...]
    skipped: str | None
    divergence: float | None


class Catalogue:
    """A comparison's photos as they are in its store. It reads files and writes none; several threads may ask one.

    Raises StoreError where a file of the store is not as it was written.
    """

    def __init__(self, comparison: Comparison) -> None:
        import duckdb

        self.comparison = comparison
        table = comparison.table
        files = [table.agreement.kept(table.store, piece) for piece in table.plan.slices()]
        self._connection = duckdb.connect()  # in memory: nothing is written
        self._connection.execute("CREATE TABLE files (file VARCHAR, piece INTEGER)")
        self._connection.executemany("INSERT INTO files VALUES (?, ?)", [(str(f), at) for at, f in enumerate(files)])
        listed = ", ".join(sql_file(file) for file in files)
        try:
            self._connection.execute(
                f"CREATE VIEW seen AS SELECT piece, file_row_number AS line, kept.* EXCLUDE (file_row_number, filename) FROM "
                f"read_parquet([{listed}], filename = true, file_row_number = true, hive_partitioning = false) AS kept "
                "JOIN files ON kept.filename = files.file"
            )
            there = self._one("SELECT count(*) FROM seen", [])
        except duckdb.Error as error:
            raise table.store.unreadable(table.store.folder, error) from None
        if there != comparison.count + comparison.skipped_count:
            raise table.store.unreadable(table.store.folder, f"{there:,} photos, and not those that were compared")
        self._models = len(comparison.names)
        self._main = [comparison.index(name) for name in comparison.tally.main]
        self._pairs = {pair: k for k, pair in enumerate(combinations(range(self._models), 2))}
        self._top = self._one("SELECT max(len(top)) FROM seen WHERE skipped IS NULL", []) // self._models

    def find(self, wish: Wish) -> tuple[int, list[Found]]:
        """How many photos there are of that kind, and those of the page that is wished for. Raises InputError."""
        self._check(wish)
        values: list[object] = []
        where = " AND ".join(f"({part})" for part in self._conditions(wish, values))
        total = self._one(f"SELECT count(*) FROM seen WHERE {where}", values)
        pair = self._pair(wish)
        apart = "NULL" if pair is None else f"divergences[{pair + 1}]"
        rows = self._ask(
            f"SELECT piece, line, photo, truth, top, top_values, skipped, {apart} FROM seen WHERE {where} "
            f"ORDER BY {self._order(wish, apart)} LIMIT {PAGE} OFFSET {PAGE * wish.page}",
            values,
        )
        return total, [self._found(row) for row in rows]

    def photo(self, at: int, row: int) -> str | None:
        """The name of the photo that stands there; None where none does."""
        found = self._ask("SELECT photo FROM seen WHERE piece = ? AND line = ?", [at, row])
        return str(found[0][0]) if found else None

    def close(self) -> None:
        """Lets go of the files."""
        self._connection.close()

    def _check(self, wish: Wish) -> None:
        named = [m for m in (wish.model, wish.a, wish.b) if m is not None]
        wrong = wish.kind not in KINDS or wish.order not in ORDERS or not 0 <= wish.page < _FURTHEST
        if wrong or any(not 0 <= m < self._models for m in named) or len(wish.words) > _WORDS:
            raise InputError("there is no such page of photos", found=str(wish))

    def _pair(self, wish: Wish) -> int | None:
        """Which column of divergences is meant: of the two models, else of the two that agree least."""
        if self._models < 2:
            return None
        if wish.a is None or wish.b is None or wish.a == wish.b:
            least = min(self.comparison.pairs.values(), key=lambda pair: (pair.count, -pair.divergence))
            return self._pairs[self.comparison.index(least.a), self.comparison.index(least.b)]
        return self._pairs[min(wish.a, wish.b), max(wish.a, wish.b)]

    def _first(self, model: int) -> str:
        return f"top[{model * self._top + 1}]"

    def _conditions(self, wish: Wish, values: list[object]) -> Iterator[str]:
        yield "skipped IS NOT NULL" if wish.kind == "skipped" else "skipped IS NULL"
        if wish.kind in ("differ", "same"):
            some = self._main if wish.a is None or wish.b is None else [wish.a, wish.b]
            apart = " OR ".join(f"{self._first(m)} <> {self._first(some[0])}" for m in some[1:]) or "false"
            yield apart if wish.kind == "differ" else f"NOT ({apart})"
        if wish.kind in ("wrong", "right"):
            models = self._main if wish.model is None else [wish.model]
            # a rank of -1 is a truth that is not known
            sign, word = (">", " OR ") if wish.kind == "wrong" else ("=", " AND ")
            yield word.join(f"ranks[{m + 1}] {sign} 0" for m in models)
        for word in wish.words:
            classes = self._called(word)
            values += [word.casefold(), classes, classes]
            firsts = ", ".join(self._first(m) for m in range(self._models))
            yield f"contains(lower(photo), ?) OR list_contains(?::INTEGER[], truth) OR list_has_any(?::INTEGER[], [{firsts}])"

    def _called(self, word: str) -> list[int]:
        names = self.comparison.class_names.items()
        return [index for index, name in names if word.casefold() in name.casefold()]

    def _order(self, wish: Wish, apart: str) -> str:
        certainty = f"top_values[{(wish.model or 0) * self._top + 1}]"
        orders: Mapping[Order, str] = {
            "order": "",
            "name": "photo, ",
            "apart": f"{apart} DESC, ",
            "alike": f"{apart}, ",
            "sure": f"{certainty} DESC, ",
            "unsure": f"{certainty}, ",
        }
        return f"{orders[wish.order]}piece, line"

    def _found(self, row: tuple[Any, ...]) -> Found:
        at, number, photo, truth, top, shares, skipped, divergence = row
        answers: tuple[tuple[tuple[int, float], ...], ...] = ()
        if skipped is None:
            pairs = list(zip(top, shares, strict=True))
            answers = tuple(tuple(pairs[m * self._top : (m + 1) * self._top]) for m in range(self._models))
        return Found(
            at, number, photo, truth if truth is not None and truth >= 0 else None, answers, skipped, divergence
        )

    def _one(self, sql: str, values: list[object]) -> int:
        return int(self._ask(sql, values)[0][0])

    def _ask(self, sql: str, values: list[object]) -> list[tuple[Any, ...]]:
        # a cursor a question: requests come side by side
        with self._connection.cursor() as cursor:
            rows: list[tuple[Any, ...]] = cursor.execute(sql, values).fetchall()
        return rows
