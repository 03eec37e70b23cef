"""Lists of tensors in Core AI, on both engines, against Python's own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import coreproof as cp
from tests.build import program
from tests.conversion.mil_to_coreai.test_program import both

ROWS = np.arange(1, 9, dtype=np.float32).reshape(4, 2)


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
    for made in answers(tmp_path, build, a, b):
        for found, wanted in zip(made, expected, strict=True):
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
    def build(mb: Any, a: Any) -> Any:
        grown = mb.while_loop(
            _cond=lambda ls, i: mb.less(x=i, y=4),
            _body=lambda ls, i: (
                mb.list_write(ls=ls, index=i, value=mb.mul(x=a, y=mb.cast(x=i, dtype="fp32"))),
                mb.add(x=i, y=1),
            ),
            loop_vars=(mb.make_list(init_length=1, elem_shape=(2,)), 0),
        )[0]
        return mb.list_gather(ls=grown, indices=[3, 0, 2])

    for (found,) in answers(tmp_path, build, np.float32([1, 3])):
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
