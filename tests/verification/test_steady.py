"""A module that answers differently when it is called twice in a row is told, with what changed in between."""

from __future__ import annotations

from typing import Any

import pytest

import coreproof as cp
from coreproof.errors import ConversionError, InputError
from coreproof.model.torch.model import TorchModel
from coreproof.verification.verify import verify

torch = pytest.importorskip("torch", reason="needs the torch extra")


class Attribute(torch.nn.Module):
    """Counts in a Python attribute, which an export freezes."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def forward(self, x: Any) -> Any:
        self.calls += 1
        return x * self.calls


class Buffer(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x: Any) -> Any:
        self.calls += 1
        return x + self.calls


class Careless(torch.nn.Module):
    """Stays in training mode whatever it is told, and so drops values at random."""

    def __init__(self) -> None:
        super().__init__()
        self.drop = torch.nn.Dropout(0.5)

    def train(self, mode: bool = True) -> Any:
        return super().train(True)

    def forward(self, x: Any) -> Any:
        return self.drop(x)


class Late(Attribute):
    """Counts too, and changes its answer only now and then."""

    def forward(self, x: Any) -> Any:
        self.calls += 1
        return x * (1 + self.calls // 3)


class Still(torch.nn.Module):
    def forward(self, x: Any) -> Any:
        return torch.tanh(x)


def source(module: Any) -> TorchModel:
    return TorchModel(module, (torch.ones(1, 8),), name=type(module).__name__)


@pytest.mark.sweep(1)
@pytest.mark.parametrize(
    ("module", "words"),
    [
        (Attribute, "keeps numbers in attributes"),
        (Buffer, "buffer 'calls'"),
        (Careless, "in training mode: the module (Careless), drop (Dropout)"),
    ],
)
def test_what_differed_between_two_calls_is_named(module: Any, words: str) -> None:
    still = cp.convert(source(Still()), "onnx")
    with pytest.raises(InputError, match="called twice in a row") as told:
        verify(source(module()), still)
    assert words in str(told.value)
    assert "call one and call two differ in output 'output' by" in str(told.value)


def test_a_counter_kept_in_an_attribute_is_not_converted_without_a_word() -> None:
    with pytest.raises(ConversionError, match="called twice in a row"):
        cp.convert(source(Attribute()), "onnx")


def test_state_that_was_frozen_as_asked_is_no_error() -> None:
    made = cp.convert(source(Buffer()), "onnx", freeze_state=True)
    assert made.notes[-1].startswith("checked: ran once on drawn input")  # each call with the buffers as they were


def test_a_module_without_state_agrees_with_itself() -> None:
    model = source(Still())
    assert verify(model, cp.convert(model, "mlprogram"))


def test_a_module_that_changes_later_than_its_second_call_is_not_handed_out() -> None:
    with pytest.raises(ConversionError, match="differently"):
        cp.convert(source(Late()), "mlprogram")
    assert cp.convert(source(Late()), "mlprogram", freeze_state=True).graph.nodes


def test_what_is_frozen_already_is_not_told_to_be_frozen() -> None:
    source = (Attribute().eval(), (torch.ones(1, 2),))
    made = cp.convert(source, "mlprogram", freeze_state=True)
    with pytest.raises(InputError, match="put it into evaluation mode") as told:
        verify(TorchModel(source[0], source[1], name="counts"), made, freeze_state=True)
    assert "--freeze-state" not in str(told.value)


class Turned(torch.nn.Module):
    """Every second call, every fourth, at the first alone: what is kept is a number of Python's."""

    def __init__(self, every: int) -> None:
        super().__init__()
        self.calls, self.every = 0, every

    def forward(self, x: Any) -> Any:
        self.calls += 1
        return -x if self.calls % self.every == 0 else x


class Keyframe(torch.nn.Module):
    """Looks at what it is fed at every fifth call alone, and remembers it."""

    def __init__(self) -> None:
        super().__init__()
        self.calls, self.seen = 0, None

    def forward(self, x: Any) -> Any:
        if self.calls % 5 == 0:
            self.seen = x * 2
        self.calls += 1
        return x + self.seen


class Begun(torch.nn.Module):
    """Answers its first call otherwise than all others."""

    def __init__(self) -> None:
        super().__init__()
        self.begun = False

    def forward(self, x: Any) -> Any:
        if self.begun:
            return x / 2
        self.begun = True
        return x


@pytest.mark.sweep(1)
@pytest.mark.parametrize("module", [Turned(2), Turned(4), Keyframe(), Begun()], ids=["2", "4", "keyframe", "begun"])
def test_what_changes_at_some_calls_alone_is_not_converted_without_a_word(module: Any) -> None:
    with pytest.raises(ConversionError, match="called twice in a row"):
        cp.convert(source(module), "onnx")


class Remembers(torch.nn.Module):
    """Keeps what it did for who looks at it, and what it need not make again; its answers hang on what it is fed alone."""

    def __init__(self) -> None:
        super().__init__()
        self.calls, self.weights, self.table = 0, None, None
        self.log: list[int] = []
        self.before = torch.zeros(8)

    def forward(self, x: Any) -> Any:
        self.calls += 1
        self.log.append(self.calls)
        if self.table is None:
            self.table = torch.arange(8.0).cos()
        self.before.copy_(x[0])
        self.weights = torch.softmax(x * self.table, -1)
        return self.weights * 2


def test_what_a_module_keeps_for_others_is_no_state_and_stays_as_it_was() -> None:
    module = Remembers()
    made = cp.convert(source(module), "mlprogram", check=False)
    assert (module.calls, module.weights, module.table, module.log) == (0, None, None, [])
    assert not module.before.any()
    assert verify(source(module), made)
    assert "checked" in cp.convert(source(module), "mlprogram").notes[-1]


def test_what_a_closure_keeps_of_the_trace_is_refused() -> None:
    kept = [torch.zeros(1, 8)]

    class Closed(torch.nn.Module):  # type: ignore[misc,name-defined]
        def forward(self, x: Any) -> Any:
            kept[0] = kept[0] + x
            return kept[0] * 2

    with pytest.raises(ConversionError, match="does not any more"):
        cp.convert(source(Closed()), "onnx")
