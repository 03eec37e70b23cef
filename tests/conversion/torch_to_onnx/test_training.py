"""A module that trains although it was put into evaluation mode is refused for that, and not for what follows from it."""

from __future__ import annotations

from typing import Any

import pytest

import coreproof as cp
from coreproof.errors import ConversionError

torch = pytest.importorskip("torch", reason="needs the torch extra")


class Base(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = torch.nn.Linear(4, 4)
        self.drop = torch.nn.Dropout(0.5)
        self.norm = torch.nn.BatchNorm1d(4)

    def forward(self, x: Any) -> Any:
        return self.drop(self.first(x))


class Switches(Base):
    def forward(self, x: Any) -> Any:
        self.train()
        return super().forward(x)


class Functional(Base):
    def forward(self, x: Any) -> Any:
        return torch.nn.functional.dropout(self.first(x), 0.5, True)


class Counts(Base):
    def train(self, mode: bool = True) -> Any:
        return super().train(True)

    def forward(self, x: Any) -> Any:
        return self.norm(self.first(x))


@pytest.mark.sweep(1)
@pytest.mark.parametrize(
    ("module", "said"),
    [
        (Switches, "drop (Dropout)"),
        (Functional, "dropout with training=True"),
        (Counts, "norm (BatchNorm1d)"),
    ],
)
def test_a_module_that_is_forced_to_training_is_refused_for_that(module: Any, said: str) -> None:
    with pytest.raises(ConversionError, match="trains although it was put into evaluation mode") as caught:
        cp.convert(cp.Source(module(), (torch.ones(2, 4),)), "mlprogram")
    assert said in str(caught.value)
    assert "dropout(x, p, training=self.training)" in str(caught.value)


def test_the_line_that_drops_is_named() -> None:
    with pytest.raises(ConversionError) as caught:
        cp.convert(cp.Source(Functional(), (torch.ones(2, 4),)), "mlprogram")
    assert "test_training.py" in str(caught.value.where)


def test_a_module_that_was_handed_in_training_mode_is_put_into_evaluation_mode() -> None:
    assert cp.convert(cp.Source(Base().train(), (torch.ones(2, 4),)), "mlprogram").notes[-1].startswith("checked")
