"""Buffers that a module changes, opened into inputs and outputs; the module itself stays as it is."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import coreproof as cp
from coreproof.model.torch.model import TorchModel
from coreproof.model.torch.open_states import changed_buffers, open_buffers
from tests.decoders import Counter, decoder, torch

X = (torch.zeros(1, 4),)


def _model(module: Any, example: tuple[Any, ...] = X) -> TorchModel:
    return TorchModel(module.eval(), example, name="net")


def test_a_buffer_that_is_written_is_found_even_where_its_numbers_stay() -> None:
    # the example adds zeros
    assert changed_buffers(_model(Counter())) == ["total"]
    assert changed_buffers(_model(Counter(counts=True))) == ["total", "turns"]
    assert changed_buffers(_model(torch.nn.BatchNorm1d(4))) == []


def test_an_opened_module_is_one_step_and_leaves_nothing_behind() -> None:
    model = _model(Counter(counts=True))
    step = open_buffers(model)
    assert step.remembers == {"total": "total_after", "turns": "turns_after"}
    with cp.session(step) as running:
        fed = {"x": np.ones((1, 4), np.float32), "total": np.full((1, 4), 3, np.float32), "turns": np.array([7])}
        for _ in range(2):
            made = running.run(fed)
            assert made["output"].tolist() == [[16.0] * 4]
            assert made["total_after"].tolist() == [[4.0] * 4]
            assert made["turns_after"].tolist() == [8]
    assert model.module.total.tolist() == [[0.0] * 4]
    assert model.module.turns.tolist() == [0]


def test_a_module_without_memory_is_itself() -> None:
    model = _model(torch.nn.Linear(4, 4))
    assert open_buffers(model) is model


def test_a_module_that_trains_is_not_opened() -> None:
    class Trains(torch.nn.Module):  # type: ignore[misc,name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.norm = torch.nn.BatchNorm1d(4)

        def forward(self, x: Any) -> Any:
            return self.norm.train()(x)

    model = _model(Trains(), (torch.randn(3, 4),))
    assert open_buffers(model) is model


def test_what_a_buffer_holds_is_where_the_sequence_begins() -> None:
    net, example = decoder()
    net.layers[0].k_cache.fill_(0.5)
    step = open_buffers(_model(net, example))
    assert step.examples["layers_0_k_cache"].max() == 0.5


@pytest.mark.parametrize("name", ["total", "total_after"])
def test_a_name_that_is_taken_is_not_taken_twice(name: str) -> None:
    class Named(Counter):
        def forward(self, total: Any) -> Any:
            return {"total_after": super().forward(total)}

    step = open_buffers(_model(Named()))
    assert step.remembers == {"total_1": "total_1_after"} or name == "total_after"
    assert len({*step.input_names}) == 2
    assert len(step.example_outputs) == 2
