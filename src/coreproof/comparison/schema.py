"""Which columns each kind of file in a store has: what another program wrote under that name is told, not computed with."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Literal

from coreproof.model.budget import afford

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq

Column = Literal["text", "text or null", "whole", "whole or null", "rows of floats", "rows of whole numbers"]

SLICE: Mapping[str, Column] = {
    "slice": "text",
    "row": "whole",
    "photo": "text",
    "size": "whole",
    "version": "text",
    "content": "text or null",
}
SHARD: Mapping[str, Column] = {"photo": "text", "skipped": "text or null", "probabilities": "rows of floats"}
PART: Mapping[str, Column] = {
    "photo": "text",
    "skipped": "text or null",
    "truth": "whole or null",
    "top": "rows of whole numbers",
    "top_values": "rows of floats",
    "ranks": "rows of whole numbers",
}


def affordable(file: pq.ParquetFile, where: object) -> None:
    """Raises TooLargeError for a Parquet file whose rows would not fit the memory budget: a kilobyte may hold a billion."""
    import pyarrow as pa

    types = [field.type for field in file.schema_arrow]
    # 8 bytes a number, whatever its type: text is stored apart, and is at least as long as its file says
    width = sum(8 * (each.list_size if pa.types.is_fixed_size_list(each) else 1) for each in types)
    afford(f"a table of {file.metadata.num_rows:,} rows", size=file.metadata.num_rows * width, where=where)


def checked(table: pa.Table, columns: Mapping[str, Column], refuse: Callable[[str], Exception]) -> pa.Table:
    """The wanted columns of a table. Raises what ``refuse`` makes where one is missing, of another type, or lacks values."""
    wrong = [said for name, column in columns.items() if (said := _wrong(table, name, column)) is not None]
    if wrong:
        raise refuse("; ".join(wrong))
    return table.select(list(columns))


def _wrong(table: pa.Table, name: str, column: Column) -> str | None:
    import pyarrow as pa

    if table.schema.get_field_index(name) < 0:
        return f"it has no column {name!r}"
    held = table.column(name)
    kind = held.type
    if column.startswith("rows"):
        fits = pa.types.is_fixed_size_list(kind) and _is(kind.value_type, "float" if "floats" in column else "whole")
        # a row may be null as a whole, as of a photo that was skipped; a number in it may not
        holed = fits and any(chunk.flatten().null_count for chunk in held.chunks)
    else:
        fits, holed = _is(kind, column.split()[0]), bool(held.null_count) and not column.endswith("null")
    if not fits:
        return f"column {name!r} is {kind}, and not {column}"
    return f"column {name!r} lacks values" if holed else None


def _is(kind: object, word: str) -> bool:
    import pyarrow as pa

    if word == "text":
        return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))
    return bool(pa.types.is_floating(kind) if word == "float" else pa.types.is_integer(kind))
