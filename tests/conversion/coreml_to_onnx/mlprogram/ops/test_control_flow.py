"""Loops and branches of ML Programs, against Python's own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from coreproof.runtime.open import session
from tests.build import program
from tests.build.lists import grown_in_a_loop
from tests.conversion.coreml_to_onnx.mlprogram.family import Family

family = Family("control_flow")


def answers(folder: Path, build: Any, *arrays: np.ndarray, half: bool = False) -> list[np.ndarray]:
    model = program(folder, build, [(array.shape, str(array.dtype)) for array in arrays], half=half)
    with session(model) as running:
        given = running.run(dict(zip("abcd", arrays, strict=False)))
        return [given[f.name] for f in running.signature.outputs]


@family.exercises("while_loop")
@pytest.mark.parametrize(("start", "end"), [([1, 3], [64, 192]), ([100, 0], [100, 0]), ([99.5, 1], [199, 2])])
def test_a_loop_turns_until_its_condition_fails_and_maybe_never(
    tmp_path: Path, start: list[float], end: list[float]
) -> None:
    def build(mb: Any, a: Any) -> Any:
        return mb.while_loop(
            _cond=lambda v: mb.less(x=mb.reduce_max(x=v), y=np.float32(100)),
            _body=lambda v: (mb.mul(x=v, y=np.float32(2)),),
            loop_vars=(a,),
        )

    (found,) = answers(tmp_path, build, np.float32(start))
    assert found.tolist() == end


@family.exercises("while_loop")
def test_variables_trade_places_and_what_stands_around_the_loop_is_seen(tmp_path: Path) -> None:
    def build(mb: Any, a: Any, b: Any, c: Any) -> Any:
        return mb.while_loop(
            _cond=lambda i, x, y: mb.less(x=mb.squeeze(x=i), y=5),
            _body=lambda i, x, y: (mb.add(x=i, y=1), mb.add(x=y, y=c), x),
            loop_vars=(a, b, mb.mul(x=b, y=np.float32(2))),
        )

    turn, first, step = np.int32([0]), np.float32([1, -1]), np.float32([10, 20])
    x, y = first, 2 * first
    for _ in range(5):
        x, y = y + step, x
    count, *found = answers(tmp_path, build, turn, first, step)
    assert count.tolist() == [5]
    assert [v.tolist() for v in found] == [x.tolist(), y.tolist()]


@family.exercises("while_loop")
def test_what_a_loop_carries_may_grow(tmp_path: Path) -> None:
    (found,) = answers(tmp_path, grown_in_a_loop, np.float32([1, 3]))
    assert found.tolist() == [[3, 9], [0, 0], [2, 6]]


@family.exercises("while_loop")
def test_each_turn_is_rounded_as_it_is_stored(tmp_path: Path) -> None:
    def build(mb: Any, a: Any) -> Any:
        return mb.while_loop(
            _cond=lambda v: mb.less(x=mb.reduce_max(x=v), y=np.float16(2)),
            _body=lambda v: (mb.mul(x=v, y=np.float16(1.1)),),
            loop_vars=(a,),
        )

    (found,) = answers(tmp_path, build, np.float16([1]), half=True)
    value = np.float16(1)
    while value < 2:
        value = np.float16(value * np.float16(1.1))
    assert found.tolist() == [value]


@family.exercises("cond")
@pytest.mark.parametrize("sign", [1, -1, 0])
def test_a_branch_is_taken_with_all_that_it_makes(tmp_path: Path, sign: int) -> None:
    def build(mb: Any, a: Any) -> Any:
        doubled = mb.mul(x=a, y=np.float32(2))
        return mb.cond(
            pred=mb.greater(x=mb.reduce_sum(x=a), y=np.float32(0)),
            _true_fn=lambda: (mb.add(x=doubled, y=a), mb.cast(x=a, dtype="int32")),
            _false_fn=lambda: (mb.identity(x=doubled), mb.const(val=np.int32([7, 8]))),
        )

    x = np.float32([2, 5]) * sign
    found, whole = answers(tmp_path, build, x)
    assert found.tolist() == ((3 if sign > 0 else 2) * x).tolist()
    assert whole.tolist() == ([2, 5] if sign > 0 else [7, 8])


@family.exercises("cond", "while_loop")
@pytest.mark.parametrize("first", [3.0, -3.0])
def test_branches_and_loops_nest(tmp_path: Path, first: float) -> None:
    def build(mb: Any, a: Any) -> Any:
        def halved() -> Any:
            return mb.while_loop(
                _cond=lambda v: mb.greater(x=mb.squeeze(x=v), y=np.float32(1)),
                _body=lambda v: (mb.mul(x=v, y=np.float32(0.5)),), loop_vars=(a,)
            )  # fmt: skip

        return mb.cond(
            pred=mb.greater(x=mb.squeeze(x=a), y=np.float32(0)), _true_fn=halved, _false_fn=lambda: mb.abs(x=a)
        )

    (found,) = answers(tmp_path, build, np.float32([first]))
    assert found.tolist() == [0.75 if first > 0 else 3.0]
