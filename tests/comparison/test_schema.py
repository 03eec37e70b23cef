"""A store that something else wrote, or that came from elsewhere: told, made again, or refused, and never believed."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from coreproof.comparison.compare import compare
from coreproof.comparison.lineup import lineup_of
from coreproof.comparison.schema import SHARD, SLICE
from coreproof.comparison.source import FolderPhotos
from coreproof.comparison.store import Member, Shard, Store
from coreproof.errors import CoreproofError, PhotoError, StoreError, TooLargeError
from tests.build import FEEDING, classifier

MEMBERS = [Member(f"p{k}.png", k, f"v{k}", f"c{k}") for k in range(3)]


def rewritten(path: Path, **columns: Any) -> None:
    """The table with other columns; None takes one away."""
    table = pq.read_table(path, partitioning=None)
    for name, values in columns.items():
        place = table.schema.get_field_index(name)
        if place >= 0:
            table = table.remove_column(place)
        if values is not None:
            table = table.append_column(name, values)
    pq.write_table(table, path)


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ({"size": pa.array(["x"] * 3)}, "column 'size' is string, and not whole"),
        ({"size": pa.array([1, None, 3], pa.int64())}, "column 'size' lacks values"),
        ({"photo": pa.array([1, 2, 3])}, "column 'photo' is int64, and not text"),
        ({"photo": None, "row": None}, "no column 'row'; it has no column 'photo'"),
        ({"content": pa.array([1.5] * 3)}, "column 'content' is double"),
    ],
)
def test_other_columns_of_a_slice_are_told(tmp_path: Path, columns: dict[str, Any], words: str) -> None:
    store = Store(tmp_path / "store")
    store.write_slice("s", MEMBERS)
    rewritten(store.slice_files()[0], **columns)
    with pytest.raises(StoreError, match=words):
        store.read_slice("s")


@pytest.mark.parametrize(
    ("column", "words"),
    [
        (
            pa.array([[1.0], [2.0, 3.0], []]),
            r"'probabilities' is list<.*> and not rows of floats|'probabilities' is list",
        ),
        (pa.FixedSizeListArray.from_arrays(pa.array([1, 2, 3]), 1), "and not rows of floats"),
        (pa.FixedSizeListArray.from_arrays(pa.array([1.0, None, 3.0]), 1), "lacks values"),
        (pa.array([[1.0], None, [2.0]], pa.list_(pa.float32(), 1)), "lacks values"),
    ],
)
def test_other_columns_of_a_shard_are_told(tmp_path: Path, column: Any, words: str) -> None:
    store = Store(tmp_path / "store")
    store.write_shard("m", "s", Shard(("a", "b", "c"), (None,) * 3, np.ones((3, 2), np.float32)))
    rewritten(store.shard_path("m", "s"), probabilities=column)
    with pytest.raises(StoreError, match=words):
        store.read_shard("m", "s")


def test_a_table_of_a_billion_rows_in_a_kilobyte_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COREPROOF_MEMORY_BUDGET", "1MB")
    store = Store(tmp_path / "store")
    store.write_slice("s", MEMBERS)
    rows = 100_000
    text, number = pa.array(["a"] * rows), pa.array([1] * rows)
    columns = {name: number if kind == "whole" else text for name, kind in SLICE.items()}
    pq.write_table(pa.table(columns), store.slice_files()[0])
    assert store.slice_files()[0].stat().st_size < 10_000
    with pytest.raises(TooLargeError, match="a table of 100,000 rows"):
        store.read_table(store.slice_files()[0], SLICE)


@pytest.mark.parametrize("text", ["[", "[" * 100_000, "[]", '{"classes": 1e400}', "null", '"\\ud800"'])
def test_what_is_kept_of_a_model_is_believed_only_where_it_makes_sense(tmp_path: Path, text: str) -> None:
    store = Store(tmp_path / "store")
    store.write_model("m", {"a": 1})
    (store.folder / "models" / "m.json").write_text(text)
    assert store.read_model("m") in (None, {"classes": float("inf")})


def test_timings_that_make_no_sense_do_not_count(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    store.write_timing("m", 3.0, 2)
    for number, text in enumerate(
        ['{"seconds": NaN, "photos": 1}', '{"seconds": "x"}', "[]", '{"seconds": 1, "photos": -9}']
    ):
        (store.folder / "timings" / "m" / f"{number}.json").write_text(text)
    assert store.seconds_per_photo("m") == 1.5


def test_a_newer_store_asks_for_an_update_and_an_older_one_is_read(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    store.write_slice("s", MEMBERS)
    about = store.folder / "store.json"
    assert json.loads(about.read_text())["version"] == 1
    about.write_text('{"version": 2}')
    with pytest.raises(StoreError, match=r"(?s)version 2.*update coreproof"):
        Store(store.folder)
    about.unlink()
    assert Store(store.folder).read_slice("s") == MEMBERS


@pytest.mark.parametrize("name", ["../secret.png", "/etc/hostname", "a/../../b.png", "a\0.png", ""])
def test_no_photo_is_read_outside_the_folder(photos: Path, name: str) -> None:
    with pytest.raises(PhotoError, match="this name is not followed"):
        FolderPhotos(photos).read(name)


@pytest.fixture
def compared(photos: Path, tmp_path: Path) -> Path:
    """A store after a comparison of two models."""
    run(photos, tmp_path / "store")
    return tmp_path / "store"


def run(photos: Path, store: Path) -> Any:
    return compare(lineup_of({"a": classifier(0), "b": classifier(1)}, FEEDING), photos, store=store)


def test_a_kept_part_names_no_photo_that_is_not_in_the_slice(compared: Path, photos: Path) -> None:
    (part,) = compared.glob("agreement/*/*.parquet")
    table = pq.read_table(part, partitioning=None)
    names = ["../../secret.png", *table.column("photo").to_pylist()[1:]]
    rewritten(part, photo=pa.array(names))
    again = run(photos, compared)
    assert "../../secret.png" not in again.photos
    assert again.count == 12


KINDS = ("slices/*", "agreement/*/*", "[0-9a-f]*/*")


@pytest.mark.thorough
@pytest.mark.parametrize("kind", KINDS)
def test_a_store_with_any_column_damaged_is_told_or_made_again(compared: Path, photos: Path, kind: str) -> None:
    """Each column in turn is left out, holds texts, numbers, NaN, nothing, or one row less than it should."""
    path = sorted(p for p in compared.glob(f"{kind}.parquet") if kind in KINDS[:2] or p.parent.name not in ("slices",))[
        0
    ]
    whole = path.read_bytes()
    table = pq.read_table(path, partitioning=None)
    for name in table.column_names:
        rows = table.num_rows
        for values in (
            None,
            pa.array(["x"] * rows),
            pa.array([10**12] * rows),
            pa.array([float("nan")] * rows),
            pa.nulls(rows),
        ):
            rewritten(path, **{name: values})
            with suppress(CoreproofError):
                assert run(photos, compared).count <= 12
            for left in compared.glob("agreement/*/*.parquet"):
                left.unlink()
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(whole)
    assert set(SHARD) <= {"photo", "skipped", "probabilities"}
