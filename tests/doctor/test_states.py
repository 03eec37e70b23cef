"""The doctor examines models that remember: what they remember is drawn, and a fault is found and repaired all the same."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import coreproof as cp
from coreproof.errors import InputError
from tests.build import counter
from tests.decoders import Counter, growing, torch

X = (torch.ones(1, 4),)


class Scaled(Counter):
    def __init__(self) -> None:
        super().__init__()
        self.scale = torch.nn.Linear(4, 4)

    def forward(self, x: object) -> object:
        return self.scale(super().forward(x))


def test_a_model_with_states_runs_and_is_healthy(tmp_path: Path) -> None:
    found = cp.diagnose(counter(tmp_path / "counter.mlpackage"))
    assert found.healthy
    assert "total float16[1x4]" in found.inputs


def test_a_wrong_weight_is_repaired_and_the_states_are_kept() -> None:
    torch.manual_seed(0)
    net, other = Scaled().eval(), Scaled().eval()
    other.load_state_dict(net.state_dict())
    with torch.no_grad():
        other.scale.weight[1, 2] += 1.0
    wrong = cp.convert((other, X), "mlprogram", precision="fp32")
    found = cp.diagnose(wrong, (net, X))
    assert {f.layer for f in found.faults} == {"output"}
    assert found.repaired is not None
    assert [f.name for f in found.repaired.signature.states] == ["total"]
    assert cp.verify((net, X), found.repaired).agrees


def test_a_source_that_remembers_and_a_model_that_does_not_are_told_apart() -> None:
    frozen = cp.convert((Counter().eval(), X), "mlprogram", freeze_state=True)
    with pytest.raises(InputError, match="the source remembers, and the model does not"):
        cp.diagnose(frozen, (Counter().eval(), X))


def test_given_inputs_are_handed_in_beside_what_is_remembered(tmp_path: Path) -> None:
    found = cp.diagnose(counter(tmp_path / "counter.mlpackage"), inputs={"x": np.ones((1, 4), np.float16)})
    assert found.healthy


@pytest.mark.thorough
def test_lengths_that_are_declared_free_are_tried_with_what_is_remembered() -> None:
    made = cp.convert(growing(), "mlprogram", shapes={"mask": "1x1x1..8"})
    assert cp.diagnose(made).healthy
