"""Modules that take and return dictionaries, lists and what lies within them."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch

import coreproof as cp


class Nested(torch.nn.Module):
    """Takes a tensor, a dictionary, pairs a layer and a flag; gives a dictionary with pairs, and None among them."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = torch.nn.Linear(4, 3)

    def forward(self, x, extra=None, past=(), scaled=False):  # type: ignore[no-untyped-def]
        y = self.linear(x) + extra["bias"]
        if scaled:
            y = y * 2
        return {"y": y, "past": [(k + y, v * y) for k, v in past], "nothing": None}


def example() -> dict[str, object]:
    past = [(torch.randn(2, 3), torch.randn(2, 3)) for _ in range(2)]
    return {"x": torch.randn(2, 4), "extra": {"bias": torch.randn(3)}, "past": past, "scaled": True}


NAMES = ["x", "extra_bias", "past_0_0", "past_0_1", "past_1_0", "past_1_1"]


@pytest.mark.sweep(1)
@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_each_tensor_within_the_inputs_and_outputs_has_a_name(precision: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    module, given = Nested().eval(), example()
    source = cp.load(cp.Source(module, given))
    assert [f.name for f in source.signature.inputs] == NAMES
    assert [f.name for f in source.signature.outputs] == [
        "y",
        "past_0_0_out",
        "past_0_1_out",
        "past_1_0_out",
        "past_1_1_out",
    ]
    converted = cp.convert(source, "mlprogram", precision=precision)
    assert cp.verify(source, converted).agrees
    fed = {name: tensor.numpy() for name, tensor in zip(NAMES, source.example_inputs, strict=True)}  # type: ignore[attr-defined]
    with cp.session(converted) as running:
        found = running.run(dict(zip((f.name for f in converted.signature.inputs), fed.values(), strict=True)))
    expected = module(**given)
    tolerance = 1e-5 if precision == "fp32" else 2e-2
    np.testing.assert_allclose(next(iter(found.values())), expected["y"].detach(), rtol=tolerance, atol=tolerance)
    np.testing.assert_allclose(
        list(found.values())[-1], expected["past"][1][1].detach(), rtol=tolerance, atol=tolerance
    )


def test_arguments_by_position_may_be_nested_too() -> None:
    class Pair(torch.nn.Module):
        def forward(self, pair, scale):  # type: ignore[no-untyped-def]
            return (pair[0] * scale, (pair[1], [pair[0] + pair[1]]))

    a, b, scale = torch.randn(3), torch.randn(3), torch.tensor([2.0])
    source = cp.load((Pair(), ((a, b), scale)))
    assert [f.name for f in source.signature.inputs] == ["pair_0", "pair_1", "scale"]
    assert [f.name for f in source.signature.outputs] == ["output_0", "output_1_0", "output_1_1_0"]


@pytest.mark.thorough
def test_a_program_keeps_its_arguments_by_name(tmp_path: Path) -> None:
    given = example()
    program = torch.export.export(Nested().eval(), (), given)
    torch.export.save(program, tmp_path / "nested.pt2")
    for source in (cp.load(program), cp.load(tmp_path / "nested.pt2")):
        assert [f.name for f in source.signature.inputs] == NAMES
        assert cp.verify(source, cp.convert(source, "onnx")).agrees


@pytest.mark.parametrize(
    ("given", "found"),
    [
        ({"x": np.zeros(4)}, "input 'x' is"),
        ({"scaled": True}, "none"),
        ((torch.zeros(2, 4), [np.zeros(3)]), "input 1 is"),
        ((None, 3), "none"),
    ],
)
def test_what_holds_no_tensor_is_refused(given: object, found: str) -> None:
    with pytest.raises(cp.CoreproofError, match=r"(?s)are not tensors.*" + found):
        cp.load(cp.Source(Nested(), given))  # type: ignore[arg-type]


@dataclasses.dataclass
class Answer:
    logits: torch.Tensor
    hidden: torch.Tensor | None = None
    more: tuple[torch.Tensor, ...] = ()


class Box(NamedTuple):
    low: torch.Tensor
    high: torch.Tensor


def test_dataclasses_and_named_tuples_go_in_and_come_out_by_their_fields() -> None:
    class Answers(torch.nn.Module):
        def forward(self, given, box):  # type: ignore[no-untyped-def]
            return Answer(given.logits * box.low, None, (given.logits + box.high, given.more[0]))

    class Boxes(torch.nn.Module):
        def forward(self, x):  # type: ignore[no-untyped-def]
            return Box(x - 1, x + 1)

    x = torch.randn(3)
    source = cp.load((Answers(), (Answer(x, None, (x * 2,)), Box(x - 1, x + 1))))
    assert [f.name for f in source.signature.inputs] == ["given_logits", "given_more_0", "box_low", "box_high"]
    assert [f.name for f in source.signature.outputs] == ["logits", "more_0", "more_1"]
    made = cp.convert(source, "mlprogram", precision="fp32")
    with cp.session(made) as running:
        found = running.run({"given_logits": x, "given_more_0": x * 2, "box_low": x - 1, "box_high": x + 1})
    np.testing.assert_allclose(found["logits"], x * (x - 1), rtol=1e-6)
    np.testing.assert_allclose(found["more_0"], x + (x + 1), rtol=1e-6)
    assert [f.name for f in cp.load((Boxes(), (x,))).signature.outputs] == ["low", "high"]


def test_none_flags_and_numbers_by_position_are_as_in_the_example_and_said() -> None:
    class Masked(torch.nn.Module):
        def forward(self, x, mask, times=1, mode="no"):  # type: ignore[no-untyped-def]
            return (x if mask is None else x * mask) * (times if mode == "up" else 1)

    x = torch.randn(2, 3)
    source = cp.load((Masked(), (x, None, 3, "up")))
    assert [f.name for f in source.signature.inputs] == ["x"]
    assert "as in the example at every call: times=3, mode='up'" in source.notes
    with cp.session(cp.convert(source, "mlprogram", precision="fp32")) as running:
        (found,) = running.run({"x": x.numpy()}).values()
    np.testing.assert_allclose(found, x.numpy() * 3, rtol=1e-6)


@pytest.mark.sweep(1)
@pytest.mark.parametrize("dtype", [torch.complex64, torch.complex128])
def test_complex_inputs_are_taken_as_pairs(dtype: torch.dtype) -> None:
    class Turn(torch.nn.Module):
        def forward(self, z, by):  # type: ignore[no-untyped-def]
            return {"turned": z["z"] * by, "size": z["z"].abs()}

    z = torch.randn(2, 3, dtype=dtype)
    source = cp.load((Turn(), ({"z": z}, z[0].conj())))
    assert [(f.name, f.shape) for f in source.signature.inputs] == [("z_z", (2, 3, 2)), ("by", (3, 2))]
    made = cp.convert(source, "mlprogram", precision="fp32")
    assert cp.verify(source, made)
    by = torch.view_as_real(z[0].conj().resolve_conj())
    with cp.session(made) as running:
        found = running.run({"z_z": torch.view_as_real(z).float().numpy(), "by": by.float().numpy()})
    expected = z * z[0].conj()
    np.testing.assert_allclose(
        found["turned"][..., 0] + 1j * found["turned"][..., 1], expected.numpy(), rtol=1e-5, atol=1e-6
    )
    np.testing.assert_allclose(found["size"], z.abs().numpy(), rtol=1e-5)


@pytest.mark.thorough
def test_free_lengths_reach_what_is_nested() -> None:
    class Sum(torch.nn.Module):
        def forward(self, ids=None, mask=None):  # type: ignore[no-untyped-def]
            return {"sum": (ids.float() * mask).cumsum(1)}

    source = cp.load(cp.Source(Sum(), {"ids": torch.arange(8)[None], "mask": torch.ones(1, 8)}))
    made = cp.convert(source, "mlprogram", precision="fp32", shapes={"ids": [1, (1, 16)], "mask": [1, (1, 16)]})
    with cp.session(made) as running:
        ids = np.arange(5, dtype=np.int32)[None]
        (found,) = running.run({"ids": ids, "mask": np.ones((1, 5), np.float32)}).values()
    np.testing.assert_array_equal(found, ids.cumsum(1))


def test_a_cache_of_transformers_goes_in_and_comes_out() -> None:
    transformers = pytest.importorskip("transformers", reason="needs transformers, which coreproof does not")
    config = transformers.LlamaConfig(
        vocab_size=50, hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2
    )
    model = transformers.LlamaForCausalLM(config).eval()
    first = model(torch.tensor([[3, 5, 7]]), use_cache=True).past_key_values
    given = {"input_ids": torch.tensor([[9]]), "past_key_values": first, "use_cache": True}
    source = cp.load(cp.Source(model, given))
    assert "past_key_values_0_key" in [f.name for f in source.signature.inputs]
    assert cp.verify(source, cp.convert(source, "mlprogram", precision="fp32")).agrees
