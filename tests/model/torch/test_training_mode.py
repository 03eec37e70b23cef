"""A caller's module in training mode: converted as after eval(), left as it was given, and said so."""

from __future__ import annotations

import copy
import threading
from typing import Any

import numpy as np
import pytest
import torch

import coreproof as cp
from coreproof.model.torch.training_mode import unlike_evaluation

X = torch.linspace(-2, 2, 24).reshape(2, 3, 4)


def mixed() -> torch.nn.Module:
    """Statistics and chance; one batch norm is frozen, as those who tune a network do."""
    torch.manual_seed(0)
    made = torch.nn.Sequential(
        torch.nn.BatchNorm1d(3), torch.nn.Linear(4, 4), torch.nn.Dropout(0.5), torch.nn.BatchNorm1d(3)
    )
    made[3].eval()
    with torch.no_grad():
        for at in (0, 3):
            made[at].running_mean.copy_(torch.tensor([0.3, -0.2, 0.1]))  # type: ignore[operator]
    return made


def modes(module: torch.nn.Module) -> dict[str, bool]:
    return {name: m.training for name, m in module.named_modules()}


def judged(module: torch.nn.Module) -> np.ndarray[Any, Any]:
    """What PyTorch answers after ``eval()``, of a copy."""
    with torch.no_grad():
        return copy.deepcopy(module).eval()(X).numpy()


@pytest.mark.thorough
@pytest.mark.parametrize("as_given", ["example", "pair", "source"])
@pytest.mark.parametrize("to", ["mlprogram", "neuralnetwork", "onnx"])
def test_a_module_in_training_mode_is_converted_as_after_eval_and_left_as_it_was(to: Any, as_given: str) -> None:
    module = mixed()
    want, before, weights = judged(module), modes(module), copy.deepcopy(module.state_dict())
    given: Any = {"example": module, "pair": (module, (X,)), "source": cp.Source(module, (X,))}[as_given]
    example, precision = (X,) if as_given == "example" else None, "fp32" if to == "mlprogram" else None
    made = cp.convert(given, to, example=example, precision=precision)  # type: ignore[arg-type]
    assert modes(module) == before
    for name, value in module.state_dict().items():
        np.testing.assert_array_equal(value, weights[name])
    assert any(n.startswith("given in training mode") and "0 (BatchNorm1d), 2 (Dropout)" in n for n in made.notes)
    with cp.session(made) as running:
        (got,) = running.run({"input": X.numpy()}).values()
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5)
    assert cp.verify(given if as_given != "example" else (module, (X,)), made).agrees
    assert modes(module) == before


def test_a_loaded_module_and_its_session_answer_as_after_eval_whenever_they_are_asked() -> None:
    module = mixed()
    want, before = judged(module), modes(module)
    model = cp.load((module, (X,)))
    assert modes(module) == before
    with cp.session(model) as running:
        assert modes(module) == before
        got = [running.run({"input": X.numpy()})["output"] for _ in range(2)]
        threads: list[Any] = []
        others = [threading.Thread(target=lambda: threads.append(running.run({"input": X.numpy()}))) for _ in range(4)]
        for each in others:
            each.start()
        for each in others:
            each.join()
    for answer in (*got, *(each["output"] for each in threads)):
        np.testing.assert_allclose(answer, want, rtol=1e-6, atol=1e-6)
    assert len(threads) == 4
    assert modes(module) == before
    module.eval()
    assert cp.convert(model, "mlprogram") is not None
    assert not any(modes(module).values())


def test_a_module_with_a_train_of_its_own_stays_in_evaluation_mode_and_that_is_said() -> None:
    class Merging(torch.nn.Module):
        """Merges a second weight into the first in evaluation mode, as low-rank adapters do."""

        def __init__(self) -> None:
            super().__init__()
            self.weight = torch.nn.Parameter(torch.ones(4))
            self.extra = torch.nn.Parameter(torch.full((4,), 2.0))
            self.drop = torch.nn.Dropout(0.5)
            self.merged = False

        def train(self, mode: bool = True) -> Any:
            if mode == self.merged:
                self.weight.data += self.extra.data * (-1 if mode else 1)
                self.merged = not mode
            return super().train(mode)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.drop(x) * (self.weight if self.merged else self.weight + self.extra)

    module = Merging()
    made = cp.convert(module, "mlprogram", example=(X,), precision="fp32")
    assert any("drop (Dropout); it stays so, as the module (Merging) has its own train()" in n for n in made.notes)
    with cp.session(made) as running:
        np.testing.assert_allclose(running.run({"x": X.numpy()})["output"], 3 * X.numpy(), rtol=1e-6)
    assert not module.training
    assert module.merged
    module.train()
    np.testing.assert_allclose(module.weight.detach().numpy(), 1)


class Frozen(torch.nn.Module):
    """Keeps its batch norm in evaluation mode, and out of training, whatever mode it is given."""

    def __init__(self, form: str) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.form = form
        self.norm, self.drop, self.linear = torch.nn.BatchNorm1d(3), torch.nn.Dropout(0.5), torch.nn.Linear(4, 4)
        self.inner: torch.nn.Module = torch.nn.Identity()

    def train(self, mode: bool = True) -> Any:
        super().train(mode)
        self.norm.eval()
        if self.form == "untrained":
            self.norm.requires_grad_(False)
        return self

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.inner(self.linear(self.drop(self.norm(x))))


@pytest.mark.sweep(2)
@pytest.mark.parametrize("form", ["modes", "untrained", "within"])
@pytest.mark.parametrize("by_hand", [False, True])
def test_a_train_that_only_sets_modes_is_no_reason_to_leave_another_mode(form: str, by_hand: bool) -> None:
    module: torch.nn.Module = Frozen(form)
    if form == "within":
        module = torch.nn.Sequential(module, torch.nn.Dropout(0.5))
    module.train()
    if by_hand:  # a mode that the module's own train() would not give
        module.get_submodule("0.norm" if form == "within" else "norm").training = True
    want, before = judged(module), modes(module)
    trained = [p.requires_grad for p in module.parameters()]
    made = cp.convert(module, "mlprogram", example=(X,), precision="fp32")
    assert modes(module) == before
    assert not any("it stays so" in n for n in made.notes)
    with cp.session(made) as running:
        (got,) = running.run({made.signature.inputs[0].name: X.numpy()}).values()
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5)
    assert cp.verify((module, (X,)), made).agrees
    assert modes(module) == before
    assert [p.requires_grad for p in module.parameters()] == trained


def test_a_train_that_ignores_the_mode_changes_nothing() -> None:
    class Always(torch.nn.Module):
        """Stays in training mode whatever it is told: its answers are those of its own eval()."""

        def __init__(self) -> None:
            super().__init__()
            self.scale = torch.nn.Parameter(torch.ones(4))

        def train(self, mode: bool = True) -> Any:
            return self

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x * self.scale * (2.0 if self.training else 3.0)

    module = Always()
    made = cp.convert(module, "mlprogram", example=(X,), precision="fp32")
    assert modes(module) == {"": True}
    with cp.session(made) as running:
        np.testing.assert_allclose(running.run({"x": X.numpy()})["output"], judged(module), rtol=1e-6)
    assert cp.verify((module, (X,)), made).agrees


def test_a_refused_module_is_left_as_it_was_too() -> None:
    class Branching(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm = torch.nn.BatchNorm1d(3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.norm(x) if x.sum() > 1 else x

    module = Branching()
    with pytest.raises(cp.CoreproofError):
        cp.convert(module, "mlprogram", example=(X,))
    assert modes(module) == {"": True, "norm": True}
    assert int(module.norm.num_batches_tracked or 0) == 0


class ByHand(torch.nn.Module):
    """Asks for the mode in a method that its forward calls."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.dropped(x) * 2

    def dropped(self, x: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.dropout(x, 0.5, self.training)


@pytest.mark.parametrize(
    ("module", "told"),
    [
        (torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.ReLU(), torch.nn.LayerNorm(4)), ""),
        (torch.nn.Dropout(0.0), ""),
        (torch.nn.LSTM(4, 4), ""),
        (torch.nn.Dropout(0.1), "the module (Dropout)"),
        (torch.nn.TransformerEncoderLayer(4, 2, 8, dropout=0.0), ""),
        (torch.nn.Sequential(torch.nn.BatchNorm1d(3)).eval(), ""),
        (torch.nn.utils.spectral_norm(torch.nn.Linear(4, 4)), "the module (Linear)"),
        (ByHand(), "the module (ByHand)"),
    ],
)
def test_only_what_computes_otherwise_in_training_is_told(module: torch.nn.Module, told: str) -> None:
    assert unlike_evaluation(module) == told
