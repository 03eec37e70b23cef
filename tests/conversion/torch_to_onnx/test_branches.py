"""A module that decides by its data is refused with each of its lines, unless those may stay as the example took them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import coreproof as cp
from coreproof.errors import ConversionError

torch = pytest.importorskip("torch", reason="needs the torch extra")


class If(torch.nn.Module):  # type: ignore[misc,name-defined]
    def forward(self, x: Any) -> Any:
        if x.sum() > 0:
            return x + 1
        return x - 1


class Times(torch.nn.Module):  # type: ignore[misc,name-defined]
    def forward(self, x: Any, n: Any) -> Any:
        for _ in range(int(n)):
            x = x * 2
        return x


class While(torch.nn.Module):  # type: ignore[misc,name-defined]
    def forward(self, x: Any) -> Any:
        while x.max() > 0.3:
            x = x / 2
        return x * x.max().item()


class Array(torch.nn.Module):  # type: ignore[misc,name-defined]
    def forward(self, x: Any) -> Any:
        return x * max(x.detach().numpy().tolist()[0])


class Found(torch.nn.Module):  # type: ignore[misc,name-defined]
    """How many are found hangs on values; the array keeps PyTorch's current exporter from following."""

    def forward(self, x: Any) -> Any:
        count = torch.nonzero(x > 0)
        if count.numel() > 2:
            return x + float(torch.ones(3).numpy().sum())
        return x


ONES = torch.ones(1, 4)
CASES = {
    "if": (If(), (ONES,), ["if x.sum() > 0:", "(True)"]),
    "range": (Times(), (ONES, torch.tensor(3)), ["in range(int(n)):", "(3)"]),
    "while": (While(), (ONES,), ["while x.max() > 0.3:", "True 2 times, then False", "x.max().item()", "(0.25)"]),
    "numpy": (Array(), (ONES,), ["x.detach().numpy().tolist()[0]"]),
    "length": (Found(), (ONES,), ["if count.numel() > 2:"]),
}


@pytest.mark.sweep(2)
@pytest.mark.parametrize("case", CASES)
def test_it_is_refused_with_each_line_and_what_the_example_took(case: str) -> None:
    module, inputs, said = CASES[case]
    with pytest.raises(ConversionError) as raised:
        cp.convert((module, inputs), "onnx")
    told = str(raised.value)
    assert "decides by its data" in told
    assert "--freeze-branches" in told
    assert "test_branches.py:" in told
    for words in said:
        assert words in told


@pytest.mark.sweep(2)
@pytest.mark.parametrize("case", CASES)
def test_it_is_kept_as_the_example_took_it_where_that_is_wanted(case: str) -> None:
    module, inputs, said = CASES[case]
    made = cp.convert((module, inputs), "onnx", freeze_branches=True)
    notes = "\n".join(note for note in made.notes if note.startswith("frozen as the example took it"))
    for words in said:
        assert words in notes
    with torch.no_grad():
        expected = module(*inputs).numpy()
    fed = {f.name: x.numpy() for f, x in zip(made.signature.inputs, inputs, strict=False)}
    [got] = cp.session(made).run(fed).values()
    np.testing.assert_allclose(got, expected, rtol=1e-6)


@pytest.mark.thorough
@pytest.mark.parametrize("of_array", [np.max, lambda a: np.percentile(a, 50)])
def test_numpys_functions_are_computed_anew_where_the_exporter_follows_them(of_array: Any) -> None:
    class Scaled(torch.nn.Module):  # type: ignore[misc,name-defined]
        def forward(self, x: Any) -> Any:
            return x * float(of_array(x.detach().numpy()))

    made = cp.convert((Scaled(), (ONES,)), "onnx")
    fed = np.float32([[1, 2, 3, 4]])
    [got] = cp.session(made).run({made.signature.inputs[0].name: fed}).values()
    np.testing.assert_allclose(got, fed * of_array(fed), rtol=1e-6)


class Own(torch.nn.Module):  # type: ignore[misc,name-defined]
    """Python values of its own weights, constants and shapes, which no input changes; the array keeps the exporter out."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("count", torch.tensor(2))
        self.register_buffer("table", torch.tensor([1.0, 2.0]))

    def forward(self, x: Any) -> Any:
        for _ in range(int(self.count)):
            x = x + torch.zeros_like(x).sum().item() + float(self.table.numpy()[1])
        if x.shape[1] > 3 and bool((torch.arange(3) > 1).any()):
            x = x * 2
        return x


def test_values_of_the_modules_own_are_no_branches_on_data() -> None:
    from coreproof.conversion.torch_to_onnx.branches import branches_of
    from coreproof.model.load import load

    assert branches_of(load((Own().eval(), (ONES,)))).places == {}  # type: ignore[arg-type]
    for frozen in (False, True):
        made = cp.convert((Own(), (ONES,)), "onnx", freeze_branches=frozen)
        assert not [note for note in made.notes if "frozen as" in note]


class Strided(torch.nn.Module):  # type: ignore[misc,name-defined]
    """As audio codecs have it: stride and padding are tensors, and Python asks what follows from them and from lengths."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("stride", torch.tensor(3))
        self.register_buffer("room", torch.tensor(2))

    def forward(self, x: Any) -> Any:
        left = torch.ceil((x.shape[-1] - self.room) / self.stride).long() * self.stride + self.room - x.shape[-1]
        padded = torch.nn.functional.pad(x, (0, int(left)), mode="reflect") if left > 0 else x
        return padded * 2 if padded.shape[-1] > self.room else padded


def test_a_module_that_asks_its_own_tensors_is_converted_unasked() -> None:
    x = torch.linspace(-1, 1, 7)[None]
    source = cp.load((Strided().eval(), (x,)))
    model = cp.convert(source, "mlprogram", precision="fp32")
    with cp.session(model) as running:
        (found,) = running.run({model.signature.inputs[0].name: x.numpy()}).values()
    np.testing.assert_allclose(found, Strided()(x).numpy(), rtol=1e-6)
    assert cp.verify(source, model)
    with pytest.raises(ConversionError):
        # at other lengths a trace would keep what follows from this one
        cp.convert(source, "mlprogram", shapes={"x": [1, "5..9"]})


@pytest.mark.parametrize("checks", [True, False])
def test_an_assert_that_the_exporter_follows_is_named_as_left_out(checks: bool) -> None:
    from tests.conversion.torch_to_onnx.asserting import Asserting

    made = cp.convert(Asserting(checks=checks), "onnx", example=(torch.ones(2, 3),))
    left = [note for note in made.notes if note.startswith("only checks or reports, and is left out: ")]
    assert [("assert (x.abs() < 1e6).all()" in note) for note in left] == [True] * checks
    assert not any("training mode" in note for note in made.notes)


@pytest.mark.sweep(2)
@pytest.mark.parametrize(
    ("name", "lines"),
    [
        ("Counted", ["torch._check_is_size(n)", 'torch._check(most <= 13, lambda: "too many")']),
        ("Sized", ["torch._check_value(n <= 100)"]),
        ("Held", ["torch._assert_async((x.abs() < 100).all())"]),
        ("Sure", ["torch._check_tensor_all(x.abs() < 100)"]),
        ("Plain", []),
    ],
)
@pytest.mark.filterwarnings("ignore:_check_is_size will be removed")
def test_pytorchs_own_checks_on_data_are_named_as_left_out(name: str, lines: list[str]) -> None:
    from tests.conversion.torch_to_onnx import torch_checks

    module = getattr(torch_checks, name)()
    made = cp.convert(module, "onnx", example=(torch.ones(1, 12), torch.tensor(5)))
    left = [note for note in made.notes if note.startswith("only checks or reports, and is left out: ")]
    assert not any("tracing" in note for note in made.notes)  # PyTorch's current exporter has followed it
    assert [note.rsplit(": torch", 1)[-1] for note in left] == [line.removeprefix("torch") for line in lines]
    assert cp.verify((module, (torch.ones(1, 12), torch.tensor(5))), made).agrees
