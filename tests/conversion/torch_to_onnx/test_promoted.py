"""A fraction in a tensor's place beside whole numbers, as ``1.0 - mask``: exported, run and verified like any other model."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import coreproof as cp
from tests.conversion.torch_to_onnx.test_forms import Called

torch = pytest.importorskip("torch", reason="needs the torch extra")

CASES: dict[str, Any] = {
    **{
        f"a fraction less {kind}": lambda x, kind=kind: 1.5 - (x > 0).to(getattr(torch, kind))
        for kind in ("int64", "int32", "int16", "float64")
    },
    "by a factor": lambda x: torch.rsub((x > 0).long(), 1.5, alpha=2),
    "divided and rounded down": lambda x: 5.5 // ((x > 0).long() + 1),
    "below zero": lambda x: -5.5 // ((x > 0).long() + 2),
    "beside fractions": lambda x: 1.0 - x,
    "whole numbers alone": lambda x: 3 - (x > 0).long(),
}


@pytest.mark.sweep(1)
@pytest.mark.parametrize("name", CASES)
def test_a_number_in_a_tensors_place_takes_part_in_the_promotion_of_types(name: str) -> None:
    x = torch.tensor([[-1.0, 0.0, 2.0], [np.nan, np.inf, -np.inf]])
    module = Called(CASES[name]).eval()
    expected = module(x).numpy()
    source = cp.load(cp.Source(module, (torch.ones(2, 3),)))
    exported = cp.convert(source, "onnx")
    assert not [note for note in exported.notes if "tracing" in note]
    for model in (exported, cp.convert(source, "mlprogram", precision="fp32")):
        with cp.session(model) as running:
            (found,) = running.run({model.signature.inputs[0].name: x.numpy()}).values()
        np.testing.assert_array_equal(found, expected)
        assert cp.verify(source, model)


ALIASES: dict[str, Any] = {
    "divide": torch.divide,
    "true_divide": torch.true_divide,
    "multiply": torch.multiply,
    "subtract": torch.subtract,
    "greater": torch.greater,
    "greater_equal": torch.greater_equal,
    "less": torch.less,
    "less_equal": torch.less_equal,
    "not_equal": torch.not_equal,
    "arctan2": torch.arctan2,
    "clip": lambda x, k: torch.clip(x, max=k),
    "a quotient that is rounded": lambda x, k: torch.divide(x, k, rounding_mode="floor"),
    "whole numbers divided": lambda x, k: torch.divide(k, (x > 0).long() + 2),
    "whole numbers by a fraction": lambda x, k: torch.multiply(k, 1.5) + x,
}


@pytest.mark.thorough
@pytest.mark.parametrize("name", ALIASES)
def test_an_alias_is_promoted_as_what_it_is(name: str) -> None:
    """The exporter has its rules by first names: the two operands stayed of two types."""
    x, k = torch.tensor([[-1.5, 0.0, 2.0], [3.0, 2.5, -4.0]]), torch.tensor([[2, 3, 2], [3, 5, -4]])
    module = Called(ALIASES[name]).eval()
    expected = module(x, k).numpy()
    source = cp.load(cp.Source(module, (torch.ones(2, 3), torch.ones(2, 3, dtype=torch.int64))))
    exported = cp.convert(source, "onnx", check=False)
    for model in (exported, cp.convert(source, "mlprogram", precision="fp32", check=False)):
        names = [feature.name for feature in model.signature.inputs]
        with cp.session(model) as running:
            (found,) = running.run(dict(zip(names, (x.numpy(), k.numpy()), strict=True))).values()
        np.testing.assert_allclose(np.asarray(found).astype(np.float64), expected.astype(np.float64), rtol=1e-6)


@pytest.mark.sweep(1)
@pytest.mark.parametrize("exported", [False, True])
def test_a_reshape_of_attention_with_a_learned_bias_is_no_view(exported: bool) -> None:
    """T5's: PyTorch takes another kernel, with another layout, where nothing needs a gradient."""

    class Attention(torch.nn.Module):  # type: ignore[misc,name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.bias = torch.nn.Embedding(8, 2)
            self.register_buffer("places", torch.arange(25).view(5, 5) % 8)

        def forward(self, x: Any) -> Any:
            split = x.view(1, 5, 2, 4).transpose(1, 2)
            bias = self.bias(self.places).permute(2, 0, 1)[None]
            made = torch.nn.functional.scaled_dot_product_attention(split, split, split, attn_mask=bias)
            return made.transpose(1, 2).reshape(1, 5, -1)

    module, x = Attention().eval(), torch.randn(1, 5, 8)
    source = cp.load(torch.export.export(module, (x,)) if exported else (module, (x,)))
    made = cp.convert(source, "mlprogram", precision="fp32")
    assert not any("by tracing" in note for note in made.notes)
    with torch.no_grad():
        expected = module(x).numpy()
    with cp.session(made) as session:
        (found,) = session.run({"x": x.numpy()}).values()
    np.testing.assert_allclose(np.asarray(found), expected, rtol=1e-5, atol=1e-6)
    assert cp.verify(source, made, {"x": x.numpy()})
