"""Table: every photo's answers as files, to be read whole or asked with SQL."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from coreproof.comparison.part import Agreement, Part, joined
from coreproof.comparison.plan import Plan, quoted
from coreproof.comparison.store import Store
from coreproof.errors import InputError

_VIEW = "SQL over predictions(model, photo, skipped, probabilities)"


class Table:
    """The answers of a comparison."""

    def __init__(self, store: Store, plan: Plan, agreement: Agreement) -> None:
        self.store = store
        self.plan = plan
        self.agreement = agreement

    def parts(self) -> Iterator[Part]:
        """The answers slice by slice."""
        return (self.agreement.part(self.store, piece) for piece in self.plan.slices())

    def read(self) -> Part:
        """All answers, in memory."""
        return joined(list(self.parts()))

    def query(self, sql: str) -> list[dict[str, object]]:
        """Answers SQL (DuckDB) over the view ``predictions(model, photo, skipped, probabilities)``. Raises InputError."""
        import duckdb

        slices = [piece.key for piece in self.plan.slices()]
        # a database in memory: nothing that a question creates is kept
        with duckdb.connect() as connection:
            live = f"SELECT slice, photo FROM read_parquet({sql_file(self.plan.path)}) WHERE live"
            connection.execute(f"CREATE TABLE live AS {live}")
            selects = []
            for name, key in self.agreement.keys.items():
                files = ", ".join(sql_file(self.store.shard_path(key, piece)) for piece in slices)
                selects.append(
                    f"SELECT '{quoted(name)}' AS model, photo, skipped, probabilities::FLOAT[] AS probabilities "
                    f"FROM read_parquet([{files}], hive_partitioning = false) "
                    "SEMI JOIN live USING (slice, photo)"
                )
            try:
                connection.execute(f"CREATE VIEW predictions AS {' UNION ALL '.join(selects)}")
            except duckdb.Error as error:
                raise self.store.unreadable(self.store.folder, error) from None
            try:
                answer = connection.execute(sql)
                columns = [column[0] for column in (answer.description if answer else None) or ()]
                return [dict(zip(columns, row, strict=True)) for row in answer.fetchall()] if columns else []
            except duckdb.Error as error:
                raise InputError(
                    "the question cannot be answered", where=sql, expected=_VIEW, found=str(error)
                ) from None


def sql_file(path: Path) -> str:
    """A path as SQL that stands for that file alone: DuckDB takes signs in it for patterns."""
    plain = re.sub(r"([*?[])", r"[\1]", str(path))
    return f"'{quoted(plain)}'"
