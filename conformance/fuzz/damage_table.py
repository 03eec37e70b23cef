"""Damage to Parquet tables: columns dropped, renamed, of other types, with nulls and other lengths; rows dropped and doubled."""

from __future__ import annotations

import io
from random import Random
from typing import Any

from conformance.fuzz.damage_bytes import INTEGERS, damage_bytes
from conformance.fuzz.damage_text import STRINGS


def damage_table(rng: Random, data: bytes) -> tuple[bytes, str]:
    """A damaged table that is a whole Parquet file, four times in five."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    if rng.random() < 0.2:
        return damage_bytes(rng, data)
    try:
        table = pq.ParquetFile(io.BytesIO(data)).read()
    except (pa.ArrowException, OSError):
        return damage_bytes(rng, data)
    try:
        table, done = _damaged(rng, table)
        made = io.BytesIO()
        pq.write_table(table, made, compression="zstd", write_page_checksum=True)
    except (pa.ArrowException, ValueError, TypeError, OverflowError):  # what no table can hold
        return damage_bytes(rng, data)
    return made.getvalue(), f"table: {done}"


def _damaged(rng: Random, table: Any) -> tuple[Any, str]:
    import pyarrow as pa

    if not table.num_columns:
        return table, "nothing"
    index = rng.randrange(table.num_columns)
    name, column = table.column_names[index], table.column(index)
    way = rng.choice(
        ("drop", "rename", "type", "type", "null", "cell", "cell", "rows", "double", "empty", "list", "metadata", "add")
    )
    if way == "drop":
        return table.drop_columns([name]), f"drop {name}"
    if way == "rename":
        new = rng.choice((*table.column_names, *STRINGS[:12]))
        return table.rename_columns([new if n == name else n for n in table.column_names]), f"rename {name}"
    if way == "rows":
        return table.slice(0, rng.randrange(table.num_rows + 1)), "fewer rows"
    if way == "double":
        return pa.concat_tables([table] * rng.choice((2, 3, 50))), "more rows"
    if way == "empty":
        return table.slice(0, 0), "no rows"
    if way == "add":
        return table.append_column(rng.choice(STRINGS[:12]), column), f"add {name} again"
    if way == "metadata":
        return table.replace_schema_metadata({rng.choice(("unread", "x", "pandas")): rng.choice(STRINGS)}), "metadata"
    values = column.to_pylist()
    if way == "null":
        made = pa.array([None] * len(values), column.type)
    elif way == "type":
        kind = rng.choice(
            (pa.string(), pa.int64(), pa.float64(), pa.bool_(), pa.binary(), pa.list_(pa.int64()), pa.null())
        )
        made = pa.array([_as(kind, v) for v in values], kind)
    elif way == "list" and values and isinstance(values[0], list):
        row = rng.randrange(len(values))
        values[row] = rng.choice(([], values[row][:-1], values[row] * 2, None, [float("nan")] * len(values[row] or ())))
        made = pa.array(values, pa.list_(column.type.value_type))
    else:
        if values:
            values[rng.randrange(len(values))] = _cell(rng, values[0])
        made = pa.array(values, column.type)
    return table.set_column(index, name, made), f"{way} {name}"


def _as(kind: Any, value: Any) -> Any:
    import pyarrow as pa

    if pa.types.is_string(kind):
        return str(value)
    if pa.types.is_binary(kind):
        return str(value).encode()
    if pa.types.is_boolean(kind):
        return bool(value)
    if pa.types.is_list(kind):
        return [1]
    if pa.types.is_null(kind):
        return None
    return 7


def _cell(rng: Random, now: Any) -> Any:
    if isinstance(now, str):
        return rng.choice(STRINGS)
    if isinstance(now, bool):
        return not now
    if isinstance(now, int):
        return rng.choice(INTEGERS)
    if isinstance(now, float):
        return rng.choice((float("nan"), float("inf"), -1.0, 1e30))
    if isinstance(now, list):
        return rng.choice(([], [float("nan")] * len(now), [float("inf")] * len(now), [-1] * len(now)))
    return None
