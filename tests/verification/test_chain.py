"""verify costs as many layers as there are: deep chains, few values held at a time, files that declare no inner shapes."""

from __future__ import annotations

from typing import Any

import onnx
import pytest
from onnx import helper

import coreproof as cp
from coreproof.feeding.drawn import random_feeds
from coreproof.runtime.subgraph_pool import SubgraphPool
from coreproof.verification.verify import verify
from tests.build import onnx_proto

NEGATED = 40


def chain(length: int, odd: int | None = None) -> onnx.ModelProto:
    """Tanh after Tanh over 32 numbers, and one Sin in between."""
    return chain_of(["Sin" if i == odd else "Tanh" for i in range(length)])


def chain_of(kinds: list[str]) -> onnx.ModelProto:
    names = ["x", *(f"v{i}" for i in range(len(kinds) - 1)), "y"]
    nodes = [helper.make_node(kind, [names[i]], [names[i + 1]], name=f"n{i}") for i, kind in enumerate(kinds)]
    return onnx_proto(nodes, {"x": [1, 32]}, {"y": [1, 32]})


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many nodes each graph has that ONNX Runtime opens."""
    sizes: list[int] = []
    make = SubgraphPool._session

    def counting(self: SubgraphPool, part: onnx.ModelProto, *, optimised: bool) -> Any:
        sizes.append(len(part.graph.node))
        return make(self, part, optimised=optimised)

    monkeypatch.setattr(SubgraphPool, "_session", counting)
    return sizes


def rows_of(found: Any) -> list[tuple[str, bool, float]]:
    return [(row.candidate, row.agrees, row.judgement.max_error) for row in found.rows]


@pytest.mark.thorough
def test_five_thousand_layers_without_shapes_are_opened_as_a_whole(opened: list[int]) -> None:
    found = verify(cp.load(chain(5000)), cp.load(chain(5000)))
    assert found
    assert len(found.rows) == 5000
    assert sum(opened) <= 4 * 5000 + 5000  # two sides, and once the sizes of the candidate's values, with a Size each


@pytest.mark.sweep(1)
@pytest.mark.parametrize("length", [120, 480])
def test_nodes_run_in_proportion_to_the_layers_whatever_the_memory(opened: list[int], length: int) -> None:
    memory = 10 * 4 * 32
    model = cp.load(chain(length))
    found = verify(model, cp.load(chain(length)), random_feeds(model, model)[0], memory=memory)
    assert found
    assert sum(opened) <= 5 * length
    assert max(opened[1:]) <= 11  # ten values, and the output with the last of them


@pytest.mark.thorough
def test_few_values_at_a_time_give_the_rows_that_all_at_once_give() -> None:
    left, right = cp.load(chain(200)), cp.load(chain(200, odd=NEGATED))
    whole, bit_by_bit = verify(left, right), verify(left, right, memory=7 * 4 * 32)
    assert rows_of(bit_by_bit) == rows_of(whole)
    assert (
        [s.row.candidate for s in bit_by_bit.stretches] == [s.row.candidate for s in whole.stretches] == [f"v{NEGATED}"]
    )


def test_faults_in_every_layer_are_found_in_one_more_pass(opened: list[int]) -> None:
    length = 150
    left, right = chain(length), chain(length)
    for node in right.graph.node:
        node.op_type = "Sin"
    found = verify(cp.load(left), cp.load(right), memory=20 * 4 * 32)
    assert len(found.stretches) > length // 2
    assert sum(opened) <= 10 * length


def test_values_without_a_partner_may_fill_a_batch_of_their_own() -> None:
    found = verify(
        cp.load(chain_of(["Abs", "Relu"])), cp.load(chain_of(["Neg", "Exp", "Log", "Abs", "Relu"])), memory=1
    )
    assert found
    assert found.rows[-1].candidate == "y"
    assert len(found.rows) < 5
