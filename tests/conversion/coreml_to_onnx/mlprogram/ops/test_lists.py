"""Lists of tensors against Python's own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from coreproof.runtime.open import session
from tests.build import program
from tests.build.lists import ROWS, WRITTEN, written_and_read
from tests.conversion.coreml_to_onnx.mlprogram.family import Family

family = Family("lists")


def answers(folder: Path, build: Any, *rows: np.ndarray) -> list[np.ndarray]:
    with session(program(folder, build, [(row.shape, str(row.dtype)) for row in rows])) as running:
        given = running.run(dict(zip("abcd", rows, strict=False)))
        return [given[f.name] for f in running.signature.outputs]


@family.exercises("make_list", "list_write", "list_scatter", "list_read", "list_gather", "list_length")
def test_what_is_written_is_read_and_a_list_grows_with_zeros(tmp_path: Path) -> None:
    for found, wanted in zip(answers(tmp_path, written_and_read, ROWS[2], ROWS[3]), WRITTEN, strict=True):
        np.testing.assert_array_equal(found, wanted)


@family.exercises("make_list", "list_write", "list_read", "list_length")
@pytest.mark.parametrize("dtype", ["fp16", "int32"])
def test_a_list_holds_numbers_of_its_dtype(tmp_path: Path, dtype: str) -> None:
    row = ROWS[:1].astype({"fp16": "float16", "int32": "int32"}[dtype])

    def build(mb: Any, a: Any) -> Any:
        ls = mb.list_write(ls=mb.make_list(init_length=1, elem_shape=(1, 2), dtype=dtype), index=2, value=a)
        return mb.list_read(ls=ls, index=2), mb.list_read(ls=ls, index=1)

    written, between = answers(tmp_path, build, row)
    assert written.dtype == row.dtype
    assert written.tolist() == row.tolist()
    assert not between.any()


@family.exercises("list_scatter", "list_gather")
def test_positions_may_be_computed(tmp_path: Path) -> None:
    def build(mb: Any, a: Any, b: Any) -> Any:
        ls = mb.list_scatter(ls=mb.make_list(init_length=4, elem_shape=(2,)), indices=b, value=a)
        return mb.list_gather(ls=ls, indices=mb.sub(x=3, y=b))

    (found,) = answers(tmp_path, build, ROWS[:3], np.int32([3, 0, 1]))
    held = np.zeros((4, 2))
    held[[3, 0, 1]] = ROWS[:3]
    np.testing.assert_array_equal(found, held[[0, 3, 2]])
