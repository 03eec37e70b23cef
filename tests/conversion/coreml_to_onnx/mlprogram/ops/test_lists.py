"""Lists of tensors against Python's own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from coreproof.runtime.open import session
from tests.build import program
from tests.conversion.coreml_to_onnx.mlprogram.family import Family

family = Family("lists")
ROWS = np.arange(1, 9, dtype=np.float32).reshape(4, 2)


def answers(folder: Path, build: Any, *rows: np.ndarray) -> list[np.ndarray]:
    with session(program(folder, build, [(row.shape, str(row.dtype)) for row in rows])) as running:
        given = running.run(dict(zip("abcd", rows, strict=False)))
        return [given[f.name] for f in running.signature.outputs]


@family.exercises("make_list", "list_write", "list_scatter", "list_read", "list_gather", "list_length")
def test_what_is_written_is_read_and_a_list_grows_with_zeros(tmp_path: Path) -> None:
    def build(mb: Any, a: Any, b: Any) -> Any:
        fresh = mb.make_list(init_length=2, elem_shape=(2,))
        first = mb.list_write(ls=fresh, index=0, value=a)
        grown = mb.list_write(ls=first, index=4, value=b)
        spread = mb.list_scatter(ls=grown, indices=[2, 1], value=-ROWS[:2])
        lengths = [mb.expand_dims(x=mb.list_length(ls=ls), axes=[0]) for ls in (fresh, spread)]
        reads = [mb.list_read(ls=fresh, index=1), mb.list_read(ls=spread, index=0), mb.list_read(ls=first, index=1)]
        return (*reads, mb.list_gather(ls=spread, indices=[4, 2, 3, 1, 4]), *lengths)

    a, b = ROWS[2], ROWS[3]
    zeros = np.zeros(2)
    expected = [zeros, a, zeros, [b, -ROWS[0], zeros, -ROWS[1], b], [2], [5]]
    for found, wanted in zip(answers(tmp_path, build, a, b), expected, strict=True):
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
