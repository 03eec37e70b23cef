"""Lists of tensors in Core AI, on both engines, against Python's own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import coreproof as cp
from tests.build import program
from tests.build.lists import ROWS, WRITTEN, grown_in_a_loop, written_and_read
from tests.conversion.mil_to_coreai.test_program import both


def answers(folder: Path, build: Any, *rows: np.ndarray) -> list[list[np.ndarray]]:
    """What each engine makes of the rows, by the outputs in their order."""
    model = program(folder, build, [(row.shape, str(row.dtype)) for row in rows])
    found = []
    for opened in both(model):
        with opened as running:
            given = running.run(dict(zip("abcd", rows, strict=False)))
            found.append([np.asarray(given[f.name]) for f in model.signature.outputs])
    return found


def test_what_is_written_is_read_and_a_list_grows_with_zeros(tmp_path: Path) -> None:
    for made in answers(tmp_path, written_and_read, ROWS[2], ROWS[3]):
        for found, wanted in zip(made, WRITTEN, strict=True):
            np.testing.assert_array_equal(found, wanted)


@pytest.mark.parametrize("dtype", ["fp16", "int32", "fp32"])
def test_a_list_holds_numbers_of_its_dtype_at_places_that_are_computed(tmp_path: Path, dtype: str) -> None:
    rows = ROWS[:3].astype({"fp16": "float16", "int32": "int32", "fp32": "float32"}[dtype])

    def build(mb: Any, a: Any, b: Any) -> Any:
        ls = mb.list_scatter(ls=mb.make_list(init_length=1, elem_shape=(2,), dtype=dtype), indices=b, value=a)
        return mb.list_gather(ls=ls, indices=mb.sub(x=3, y=b))

    held = np.zeros((4, 2))
    held[[3, 0, 1]] = rows
    for (found,) in answers(tmp_path, build, rows, np.int32([3, 0, 1])):
        assert found.dtype == rows.dtype
        np.testing.assert_array_equal(found, held[[0, 3, 2]])


def test_what_a_loop_carries_may_grow(tmp_path: Path) -> None:
    for (found,) in answers(tmp_path, grown_in_a_loop, np.float32([1, 3])):
        assert found.tolist() == [[3, 9], [0, 0], [2, 6]]


def test_a_published_recurrent_network_with_lists_is_the_same(shared_data: Path) -> None:
    """DTLN loops over time with a list of what each step makes, whose elements have no known number of rows."""
    source = cp.load(shared_data / "coreml" / "DTLN_AEC_128_Part1.mlpackage")
    rng = np.random.default_rng(4)
    fed = {
        f.name: rng.uniform(size=[n or 1 for n in f.shape or ()]).astype(np.float32) for f in source.signature.inputs
    }
    with cp.session(source) as running:
        wanted = running.run(fed)
    for opened in both(source):
        with opened as running:
            for name, made in running.run(fed).items():
                np.testing.assert_allclose(made, wanted[name], rtol=1e-4, atol=1e-5)
