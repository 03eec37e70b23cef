"""Loops with breaks and continues, and branches that write for the layers after them."""

from __future__ import annotations

import numpy as np
import pytest

from coreproof.errors import RunError
from coreproof.runtime.open import session
from tests.build import layer, network
from tests.conversion.coreml_to_onnx.lowered import run


def test_a_while_loop_with_a_break() -> None:
    """i counts up while it is below 10, and the loop is left when it reaches 4."""
    model = network(
        [
            layer("copy", "x", "i"),
            layer("loop", "", "", conditionVar="below"),
        ],
        {"x": (1,)},
        {"i": None},
        exact=True,
    )
    loop = model.network.layers[1].loop
    loop.conditionNetwork.layers.append(layer("lessThan", "i", "below", alpha=10.0))
    loop.bodyNetwork.layers.extend(
        [
            layer("add", "i", "next", alpha=1.0),
            layer("copy", "next", "i"),
            layer("equal", "i", "done", alpha=4.0),
            layer("branch", "done", ""),
        ]
    )
    loop.bodyNetwork.layers[3].branch.ifBranch.layers.append(layer("loopBreak", "", ""))
    assert run(model, x=np.asarray([0], np.float32))["i"].tolist() == [4]
    assert run(model, x=np.asarray([5], np.float32))["i"].tolist() == [10]
    assert run(model, x=np.asarray([12], np.float32))["i"].tolist() == [12]


def test_a_branch_writes_for_the_layers_after_it() -> None:
    model = network(
        [layer("greaterThan", "x", "big", alpha=1.0), layer("branch", "big", ""), layer("add", "r", "y", alpha=100.0)],
        {"x": (1,)},
        {"y": None},
        exact=True,
    )
    model.network.layers[1].branch.ifBranch.layers.append(layer("multiply", "x", "r", alpha=2.0))
    model.network.layers[1].branch.elseBranch.layers.append(layer("multiply", "x", "r", alpha=-1.0))
    assert run(model, x=np.asarray([3], np.float32))["y"].tolist() == [106]
    assert run(model, x=np.asarray([1], np.float32))["y"].tolist() == [99]


def test_a_continue_ends_the_iteration() -> None:
    model = network(
        [layer("copy", "x", "i"), layer("loop", "", "", maxLoopIterations=3)], {"x": (1,)}, {"i": None}, exact=True
    )
    body = model.network.layers[1].loop.bodyNetwork.layers
    body.extend([layer("add", "i", "next", alpha=2.0), layer("copy", "next", "i"), layer("branch", "i", "")])
    body[2].branch.ifBranch.layers.append(layer("loopContinue", "", ""))
    assert run(model, x=np.asarray([1], np.float32))["i"].tolist() == [7]


def test_a_condition_of_several_numbers_counts_where_they_say_the_same() -> None:
    """As a test of Apple's has it, whose branch asks both of two numbers."""
    model = network(
        [layer("lessThan", "x", "small", alpha=1.0), layer("branch", "small", "")], {"x": (2,)}, {"y": None}, exact=True
    )
    model.network.layers[1].branch.ifBranch.layers.append(layer("multiply", "x", "y", alpha=2.0))
    model.network.layers[1].branch.elseBranch.layers.append(layer("multiply", "x", "y", alpha=-1.0))
    assert run(model, x=np.asarray([0.25, 0.5], np.float32))["y"].tolist() == [0.5, 1]
    assert run(model, x=np.asarray([3, 4], np.float32))["y"].tolist() == [-3, -4]
    # which of them Core ML would take is not known: no answer is better than one of the two
    with session(model) as running, pytest.raises(RunError):
        running.run({"x": np.asarray([0.5, 4], np.float32)})
