"""What follows from a choice among equals: which expert a token goes to, in which order, and how many go to each."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pytest

import coreproof as cp
from coreproof.model.torch.model import TorchModel
from coreproof.verification.verify import verify

torch = pytest.importorskip("torch", reason="needs the torch extra")

EXAMPLE = [[3, 5, 7, 1, 9, 2, 11, 13, 4, 6, 8, 10]]


class Experts(torch.nn.Module):
    """Two of four experts a token, each fed a part as long as the tokens that chose it. Of token 0 all experts think alike."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embedding = torch.nn.Embedding(20, 8, padding_idx=0)
        self.router = torch.nn.Linear(8, 4, bias=False)
        self.weight = torch.nn.Parameter(torch.randn(4, 8, 8) * 0.3)
        self.bias = torch.nn.Parameter(torch.randn(8))

    def gates(self, gates: Any, order: Any) -> Any:
        return gates.flatten()[order][:, None]

    def forward(self, ids: Any) -> Any:
        x = self.embedding(ids)[0]
        best, chosen = self.router(x).topk(2, dim=1)
        _, order = chosen.flatten().sort(0)
        token = order.div(2, rounding_mode="trunc")
        counts = torch.zeros(best.shape[0], 4, dtype=best.dtype).scatter(1, chosen, 1).long().sum(0)
        parts = (x[token] + self.bias).split(counts.tolist(), 0)
        y = torch.cat([part @ self.weight[expert] for expert, part in enumerate(parts)])
        y = y * self.gates(best.softmax(1), order)
        return torch.zeros(x.shape, dtype=x.dtype).index_add(0, token, y)[None]


class Reversed(Experts):
    """The same, with the gates of other tokens."""

    def gates(self, gates: Any, order: Any) -> Any:
        return super().gates(gates, order.flip(0))


@cache
def source() -> TorchModel:
    return TorchModel(Experts().eval(), (torch.tensor(EXAMPLE),), name="experts")


def converted(module: Any) -> Any:
    return cp.convert(module.eval(), "mlprogram", example={"ids": torch.tensor(EXAMPLE)}, precision="fp32", check=False)


ALIKE = (
    pytest.param([[3, 0, 7, 1, 9, 2, 0, 13, 4, 6, 8, 10]], id="two"),
    pytest.param([[0] * 12], id="all", marks=pytest.mark.thorough),
    pytest.param([[0, 0, 0, 0, 1, 0, 3, 4, 5, 0, 0, 0]], id="most"),
)


@cache
def right() -> Any:
    return converted(Experts())


@pytest.mark.parametrize("ids", ALIKE)
def test_tokens_for_which_all_experts_are_alike_may_go_to_any(ids: list[list[int]]) -> None:
    found = verify(source(), right(), inputs={"ids": np.array(ids)})
    assert found, found.summary()
    # it is another number all the same, and the report says so
    assert "computed alike from the same values" in " ".join(found.summary().split())


@pytest.mark.thorough
@pytest.mark.parametrize("ids", ALIKE[:1])
@pytest.mark.parametrize("fault", ["two experts change places", "one expert off by a percent", "gates of others"])
def test_a_fault_behind_such_a_choice_is_found(fault: str, ids: list[list[int]]) -> None:
    wrong = Reversed() if fault == "gates of others" else Experts()
    with torch.no_grad():
        if fault == "two experts change places":
            wrong.weight.copy_(wrong.weight[[0, 2, 1, 3]])
        elif fault == "one expert off by a percent":
            wrong.weight[3] *= 1.01
    assert not verify(source(), converted(wrong), inputs={"ids": np.array(ids)})
