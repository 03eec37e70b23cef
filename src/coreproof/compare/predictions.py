"""The store of predictions: Parquet shards, one model x one slice of photos each, whole or not at all.

A shard's place says what it holds: ``<fingerprint of the model and its feeding>/<fingerprint of the photos>.parquet``.
So an interrupted run goes on where it was, machines may write side by side, and nothing stale is ever read.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from coreproof.model.atomic import replacing


@dataclass(frozen=True)
class Shard:
    """What one model says about one slice of photos.

    ``probabilities`` is [photos, classes] float32 in the model's own class order; the row of a photo that could not be
    read is zero, and ``skipped`` says why (None for photos that were read).
    """

    photos: tuple[str, ...]
    skipped: tuple[str | None, ...]
    probabilities: npt.NDArray[np.float32]
    metadata: Mapping[str, str]


class PredictionStore:
    """A folder of shards."""

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)

    def path(self, model_key: str, photos_key: str) -> Path:
        """Where a shard stands, whether it is there or not."""
        return self.folder / model_key / f"{photos_key}.parquet"

    def read(self, model_key: str, photos_key: str) -> Shard | None:
        """A shard, None where it is not there or damaged (it is made again then)."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        path = self.path(model_key, photos_key)
        if not path.is_file():
            return None
        try:
            # read_table would take key=value folders above the store for columns
            table = pq.ParquetFile(path).read()
        except (pa.ArrowInvalid, OSError):
            return None
        column = table.column("probabilities").combine_chunks()
        values = column.flatten().to_numpy(zero_copy_only=False).reshape(len(column), column.type.list_size)
        return Shard(
            tuple(table.column("photo").to_pylist()),
            tuple(table.column("skipped").to_pylist()),
            values,
            {k.decode(): v.decode() for k, v in (table.schema.metadata or {}).items()},
        )

    def write(self, model_key: str, photos_key: str, shard: Shard) -> None:
        """Writes a shard in one step; a reader sees the old one or the new one."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        classes = shard.probabilities.shape[1]
        flat = pa.array(np.ascontiguousarray(shard.probabilities, dtype=np.float32).reshape(-1))
        table = pa.table(
            {
                "photo": pa.array(shard.photos, pa.string()),
                "skipped": pa.array(shard.skipped, pa.string()),
                "probabilities": pa.FixedSizeListArray.from_arrays(flat, classes),
            }
        ).replace_schema_metadata(dict(shard.metadata))
        with replacing(self.path(model_key, photos_key)) as fresh:
            pq.write_table(table, fresh, compression="zstd")

    def query(self, sql: str, models: Mapping[str, str], parameters: Sequence[Any] = ()) -> list[dict[str, Any]]:
        """Answers SQL (DuckDB) over the view ``predictions(model, photo, skipped, probabilities)``.

        ``models``: name -> model key, as in ``Comparison.keys``.
        """
        import duckdb

        parts, arguments = [], []
        for name, key in models.items():
            if any((self.folder / key).glob("*.parquet")):
                parts.append(
                    f"SELECT ?::VARCHAR AS model, * FROM read_parquet('{_quoted(self.folder / key)}/*.parquet')"
                )
                arguments.append(name)
        if not parts:
            return []
        with duckdb.connect() as connection:
            names = iter(arguments)
            union = " UNION ALL ".join(part.replace("?", f"'{_quoted(next(names))}'", 1) for part in parts)
            connection.execute(f"CREATE VIEW predictions AS {union}")
            answer = connection.execute(sql, list(parameters))
            columns = [column[0] for column in answer.description]
            return [dict(zip(columns, row, strict=True)) for row in answer.fetchall()]


def _quoted(value: object) -> str:
    return str(value).replace("'", "''")
