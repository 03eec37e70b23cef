"""Diagonals that are written to, volumes that are sampled, spectra that are padded, masks: exported and held against PyTorch."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest

import coreproof as cp
from tests.conversion.torch_to_onnx.test_forms import Called

torch = pytest.importorskip("torch", reason="needs the torch extra")


def written(operation: Any) -> Any:
    """What is left of x after the operation has written into it."""

    def inner(x: Any) -> Any:
        copy = x.clone()
        operation(copy)
        return copy

    return inner


DIAGONALS: dict[str, Any] = {
    "added to": written(lambda x: x.diagonal(dim1=-2, dim2=-1).add_(0.5)),
    "filled": written(lambda x: x.diagonal(dim1=-2, dim2=-1).fill_(7.0)),
    "of the first axes": written(lambda x: x.diagonal().mul_(2)),
    "above": written(lambda x: x.diagonal(2, 1, 2).mul_(3)),
    "below": written(lambda x: x.diagonal(-2, 1, 2).mul_(3)),
    "of turned axes": written(lambda x: x.diagonal(1, -1, 0).add_(x[:, 0, 0].sum())),
    "beyond the end": written(lambda x: x.diagonal(9, 1, 2).fill_(1.0)),
    "one that differs in each place": lambda x: torch.diagonal_scatter(x, 10 + x[:, 0, :4] * 2, 0, 1, 2),
    "one below that differs": lambda x: torch.diagonal_scatter(x, 10 + x[:, 1, :3] * 2, -1, -2, -1),
    "read beside infinities": lambda x: torch.diagonal(x / torch.eye(4, 5), 0, 1, 2),
    "read below": lambda x: torch.diagonal(x, -1, 2, 0),
    "read and summed": lambda x: torch.trace(x[1]) + torch.diagonal(x, 2, -2, -1),
    "parts of halves": written(lambda x: x.chunk(2, 1)[0].diagonal(0, 1, 2).copy_(x[:, 3, 1:3])),
}


@pytest.mark.thorough
@pytest.mark.parametrize("name", DIAGONALS)
def test_a_diagonal_that_is_written_to(name: str) -> None:
    x = torch.randn(3, 4, 5, generator=torch.Generator().manual_seed(0))
    x[0, 3, 0] = float("nan")  # no part of most diagonals, and kept as it is
    module = Called(DIAGONALS[name]).eval()
    expected = module(x).numpy()
    source = cp.load(cp.Source(module, (torch.ones(3, 4, 5),)))
    exported = cp.convert(source, "onnx")
    for model in (exported, cp.convert(source, "mlprogram", precision="fp32")):
        with cp.session(model) as running:
            (found,) = running.run({model.signature.inputs[0].name: x.numpy()}).values()
        np.testing.assert_allclose(found, expected, rtol=1e-6)
        assert cp.verify(source, model)


@pytest.mark.sweep(1)
@pytest.mark.parametrize(("mode", "border", "aligned"), [*itertools.product((0, 1), (0, 1, 2), (False, True))])
def test_a_volume_that_is_sampled(mode: int, border: int, aligned: bool) -> None:
    draw = torch.Generator().manual_seed(1)
    x, grid = torch.randn(2, 3, 4, 5, 6, generator=draw), torch.rand(2, 3, 4, 2, 3, generator=draw) * 2.6 - 1.3
    module = Called(lambda x, grid: torch.grid_sampler_3d(x, grid, mode, border, aligned)).eval()
    source = cp.load(cp.Source(module, (x, grid)))
    made = cp.convert(source, "mlprogram", precision="fp32", check=False)
    with cp.session(made) as running:
        names = [feature.name for feature in made.signature.inputs]
        (found,) = running.run(dict(zip(names, (x.numpy(), grid.numpy()), strict=True))).values()
    np.testing.assert_allclose(found, module(x, grid).numpy(), rtol=1e-5, atol=1e-5)


@pytest.mark.thorough
@pytest.mark.parametrize("axis", [0, 1, -1])
@pytest.mark.parametrize("place", [0, 1, -1, -2])
def test_a_slice_that_is_written_to(axis: int, place: int) -> None:
    """At other lengths than the example's, too."""

    def write(x: Any) -> Any:
        copy = x.clone()
        copy.select(axis, place).copy_(x.select(axis, 0) * 2 + 1)
        return copy

    x = torch.randn(3, 4, 5, generator=torch.Generator().manual_seed(6))
    module = Called(write).eval()
    source = cp.load(cp.Source(module, (x,)))
    for shape, fed in ((None, x), ([(2, 3), 4, 5], x[:2])):
        made = cp.convert(source, "mlprogram", precision="fp32", shapes=shape and {"input_0": shape})
        with cp.session(made) as running:
            (found,) = running.run({made.signature.inputs[0].name: fed.numpy()}).values()
        np.testing.assert_allclose(found, module(fed).numpy(), rtol=1e-6)


class FourierLayer(torch.nn.Module):  # type: ignore[misc,name-defined]
    """Of a Fourier neural operator: the lowest frequencies are mixed by complex weights, the others are zero."""

    def __init__(self) -> None:
        super().__init__()
        draw = torch.Generator().manual_seed(2)
        self.weight = torch.nn.Parameter(torch.randn(3, 2, 4, 3, dtype=torch.cfloat, generator=draw))

    def forward(self, x: Any) -> Any:
        low = torch.fft.rfft2(x)[:, :, :4, :3]
        return torch.fft.irfft2(torch.einsum("bihw,iohw->bohw", low, self.weight), s=(8, 8))


@pytest.mark.thorough
def test_a_padded_spectrum_between_turned_axes_runs() -> None:
    """ONNX Runtime moves transposes past a Pad, and failed on one that names its axes."""
    module, x = FourierLayer().eval(), torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(3))
    source = cp.load(cp.Source(module, (x,)))
    made = cp.convert(source, "mlprogram", precision="fp32")
    with cp.session(made) as running, torch.no_grad():
        (found,) = running.run({made.signature.inputs[0].name: x.numpy()}).values()
        np.testing.assert_allclose(found, module(x).numpy(), rtol=1e-4, atol=1e-5)
    assert cp.verify(source, made)


class WrittenFourierLayer(FourierLayer):
    """As it is mostly written: the mixed frequencies are put into a spectrum of zeros."""

    def forward(self, x: Any) -> Any:
        mixed = torch.zeros(x.shape[0], 2, 8, 5, dtype=torch.cfloat)
        mixed[:, :, :4, :3] = torch.einsum("bihw,iohw->bohw", torch.fft.rfft2(x)[:, :, :4, :3], self.weight)
        mixed[:, :, -1] = mixed[:, :, 0] * torch.full((5,), 0.5 + 0.25j)
        return torch.fft.irfft2(mixed + torch.ones(5, dtype=torch.cfloat), s=(8, 8))


@pytest.mark.thorough
@pytest.mark.parametrize("batch", [None, "1-3"])
def test_a_spectrum_that_is_written_into(batch: str | None) -> None:
    module, x = WrittenFourierLayer().eval(), torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(3))
    source = cp.load(cp.Source(module, (x,)))
    made = cp.convert(source, "mlprogram", precision="fp32", batch=batch)
    for fed in (x,) if batch is None else (x, x[:1], torch.cat([x, x[:1]])):
        with cp.session(made) as running, torch.no_grad():
            (found,) = running.run({made.signature.inputs[0].name: fed.numpy()}).values()
            np.testing.assert_allclose(found, module(fed).numpy(), rtol=1e-4, atol=1e-5)
    if batch is None:
        assert cp.verify(source, made)


@pytest.mark.parametrize("padding", [(0, 2), (1, 0, 0, 2), (0, 1, 2, 0, 1, 1)])
def test_padding_between_turned_axes(padding: tuple[int, ...]) -> None:
    x = torch.randn(1, 3, 4, 5, generator=torch.Generator().manual_seed(4))
    module = Called(
        lambda x: torch.nn.functional.pad(x.permute(0, 2, 3, 1), padding, value=1.5).permute(0, 3, 1, 2) * 2
    )
    made = cp.convert(cp.load(cp.Source(module.eval(), (x,))), "mlprogram", precision="fp32")
    with cp.session(made) as running:
        (found,) = running.run({made.signature.inputs[0].name: x.numpy()}).values()
    np.testing.assert_array_equal(found, module(x).numpy())


def test_rrelu_takes_the_middle_of_its_slopes() -> None:
    x = torch.linspace(-3, 3, 13)[None]
    module = torch.nn.Sequential(torch.nn.RReLU(0.1, 0.5), torch.nn.RReLU()).eval()
    made = cp.convert(cp.load(cp.Source(module, (x,))), "mlprogram", precision="fp32")
    with cp.session(made) as running:
        (found,) = running.run({made.signature.inputs[0].name: x.numpy()}).values()
    slope = 0.3 * (1 / 8 + 1 / 3) / 2
    np.testing.assert_allclose(found, np.where(x.numpy() >= 0, x.numpy(), slope * x.numpy()), rtol=1e-6)


@pytest.mark.thorough
@pytest.mark.parametrize("kind", ["causal", "another", "fed"])
def test_a_decoder_with_a_mask_is_traced_whatever_the_mask_holds(kind: str) -> None:
    """PyTorch asks whether the mask is causal, for a faster kernel, and the trace would end there."""

    class Decoder(torch.nn.Module):  # type: ignore[misc,name-defined]
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            layer = torch.nn.TransformerDecoderLayer(8, 2, 16, batch_first=True)
            self.layers = torch.nn.TransformerDecoder(layer, 2)

        def forward(self, target: Any, memory: Any, mask: Any = None) -> Any:
            if kind == "causal":
                mask = torch.nn.Transformer.generate_square_subsequent_mask(target.shape[1])
            elif kind == "another":
                mask = torch.triu(torch.full((4, 4), -1.0), 1)
            return self.layers(target, memory, tgt_mask=mask)

    draw = torch.Generator().manual_seed(5)
    target, memory = torch.randn(2, 4, 8, generator=draw), torch.randn(2, 5, 8, generator=draw)
    fed = (target, memory, torch.randn(4, 4, generator=draw)) if kind == "fed" else (target, memory)
    module = Decoder().eval()
    with torch.no_grad():
        expected = module(*fed).numpy()
    source = cp.load(cp.Source(module, fed))
    made = cp.convert(source, "mlprogram", precision="fp32")
    names = [feature.name for feature in made.signature.inputs]
    with cp.session(made) as running:
        (found,) = running.run(dict(zip(names, (t.numpy() for t in fed), strict=True))).values()
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
    assert cp.verify(source, made)


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_a_mask_may_choose_no_row(precision: Any) -> None:
    """A mixture of experts in which each computes the rows that are sent to it: some are sent none."""

    class Mixture(torch.nn.Module):  # type: ignore[misc,name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.gate = torch.nn.Linear(4, 3)
            self.experts = torch.nn.ModuleList(torch.nn.Linear(4, 4) for _ in range(3))

        def forward(self, x: Any) -> Any:
            chosen, made = self.gate(x).argmax(-1), torch.zeros_like(x)
            for number, expert in enumerate(self.experts):
                mask = chosen == number
                made[mask] = expert(x[mask])
            return made

    torch.manual_seed(0)
    module = Mixture().eval()
    rows = torch.randn(6, 4, generator=torch.Generator().manual_seed(5))
    source = cp.load(cp.Source(module, (rows,)))
    model = cp.convert(source, "mlprogram", precision=precision)
    for x in (rows, rows[:1].expand(6, 4).contiguous()):
        with cp.session(model) as running:
            (found,) = running.run({"x": x.numpy()}).values()
        near = 1e-5 if precision == "fp32" else 1e-2
        np.testing.assert_allclose(found, module(x).detach().numpy(), rtol=near, atol=near)
    assert cp.verify(source, model)
