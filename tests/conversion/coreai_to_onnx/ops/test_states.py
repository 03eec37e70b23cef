"""Core AI's states: what a run leaves in them, and what the next one finds."""

import numpy as np
import pytest

import coreproof as cp
from coreproof.errors import ConversionError
from tests.conversion.coreai_to_onnx.functions import block, function, model, op

F = "tensor<2xf32>"
BODY = [
    op("create_token", [], ["t0"]),
    op("read_handle", ["s", "t0"], ["old", "t1"]),
    op("add", ["old", "x"], ["new"]),
    op("write_handle", ["s", "new", "t1"], ["t2"]),
    op("create_token", [], ["t3"]),
    op("join_token", ["t2", "t3"], ["t4"]),
    op("read_handle", ["s", "t4"], ["y", "t5"]),
    op("output", ["y"], []),
]
TYPES = {"s": f"!coreai.handle<{F}>", **dict.fromkeys(("x", "old", "new", "y"), F)}


def test_a_state_is_carried_from_run_to_run() -> None:
    made = model(function("main", ["s", "x"], BODY, TYPES))
    assert [f.name for f in made.signature.states] == ["s"]
    x = np.array([1, 2], np.float32)
    with cp.session(made) as session:
        state = session.state()
        for turn in (1, 2, 3):
            found = session.run({"x": x}, state=state)
            np.testing.assert_array_equal(found["y"], x * turn)
            np.testing.assert_array_equal(state["s"], x * turn)


@pytest.mark.parametrize("made", [["y"], []])
def test_a_state_that_is_written_in_a_branch_is_refused(made: list[str]) -> None:
    """Also where the branch makes nothing else."""
    handed = ["x"] if made else []
    write = block([], op("write_handle", ["s", "x", "t0"], ["t1"]), op("yield", handed, []))
    body = [
        op("create_token", [], ["t0"]),
        op("if", ["go"], made, write, block([], op("yield", handed, []))),
        op("output", made or ["x"], []),
    ]
    with pytest.raises(ConversionError, match="a state is written within it"):
        cp.session(model(function("main", ["s", "go", "x"], body, {**TYPES, "go": "tensor<i1>"})))
