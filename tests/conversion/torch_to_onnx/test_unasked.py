"""What asks its data in PyTorch's own code, and elements that are picked: in Core ML they are what PyTorch computes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import coreproof as cp
from coreproof.errors import ConversionError
from tests.conversion.torch_to_onnx.test_forms import Called
from tests.conversion.torch_to_onnx.test_free_lengths import check, drawn

torch = pytest.importorskip("torch", reason="needs the torch extra")
F = torch.nn.functional

OFTEN = torch.tensor([1, 2, 3, 1, 1, 2, 4])
RUNS = torch.tensor([1.0, 1.0, 2.5, 2.5, 2.5, -1.0, 1.0])


def into(x: Any) -> Any:
    """A row put into several, along an axis and without one of its own."""
    made = torch.zeros(4, x.shape[-1])
    made[1:] = x
    return made


def spread(x: Any) -> Any:
    made = torch.ones(2, 4, x.shape[1])
    made[:, 1:3] = x[0, :, :1].T
    return made


GIVEN: dict[str, tuple[list[Any], tuple[Any, ...]]] = {
    "covariances": (
        [
            torch.cov,
            lambda x: x.cov(correction=0),
            lambda x: torch.cov(x[0]),
            lambda x: torch.cov(x, fweights=OFTEN),
            torch.corrcoef,
            lambda x: x[0].corrcoef(),
        ],
        (drawn(3, 7),),
    ),
    "weighted covariances": (
        [
            lambda x, w: torch.cov(x, aweights=w.abs()),
            lambda x, w: torch.cov(x, fweights=OFTEN, aweights=w.abs()),
            lambda x, w: torch.cov(x, fweights=w.abs().round().int() + 1, correction=0),
        ],
        (drawn(3, 7), drawn(7)),
    ),
    "powers and combinations": (
        [
            torch.vander,
            lambda x: torch.vander(x, 3),
            lambda x: torch.vander(x, 4, increasing=True),
            lambda x: torch.combinations(x),  # by its name in torch, as networks call it
            lambda x: torch.combinations(x, 3, with_replacement=True),
            lambda x: torch.combinations(x, 1),
        ],
        (drawn(5),),
    ),
    "Gaussian losses": (
        [
            lambda x, y: F.gaussian_nll_loss(x, y, (x * y).abs()),
            lambda x, y: F.gaussian_nll_loss(x, y, x.square() + 0.5, full=True, reduction="none"),
            lambda x, y: torch.nn.GaussianNLLLoss(eps=0.5, reduction="sum")(x, y, y.abs()[:, :1]),
            lambda x, y: F.gaussian_nll_loss(x, y, y.abs()[:, 0]),
            lambda x, y: F.gaussian_nll_loss(x, y, 0.7),
            lambda x, y: torch.distributions.Normal(y, x.abs() + 1).log_prob(x),
        ],
        (drawn(4, 3), drawn(4, 3) + 1),
    ),
    "what differs from the one before": (
        [
            lambda x: torch.unique_consecutive(x, return_inverse=True, return_counts=True),
            lambda x: torch.unique_consecutive(torch.stack([x, x * 0]), dim=1),
            lambda x: torch.unique_consecutive(x.int()),
        ],
        (RUNS,),
    ),
    "places, as many as are asked for": (
        [
            lambda x: torch.nonzero_static(x > 1, size=4),
            lambda x: torch.nonzero_static(x.reshape(1, 7), size=20, fill_value=-7),
            lambda x: torch.nonzero_static(x > 99, size=2),
        ],
        (RUNS,),
    ),
    "rolled and put in": (
        [lambda x: x.roll((3, -2), (0, 1)), lambda x: x.roll(5), lambda x: x.roll(14), lambda x: into(x[0])],
        (drawn(2, 7),),
    ),
}


@pytest.mark.sweep(1)
@pytest.mark.parametrize("name", GIVEN)
def test_each_is_what_pytorch_computes(name: str) -> None:
    functions, tensors = GIVEN[name]

    def listed(made: Any) -> tuple[Any, ...]:
        return tuple(made) if isinstance(made, tuple) else (made,)

    module = Called(lambda *given: tuple(v for f in functions for v in listed(f(*given)))).eval()
    expected = [v.numpy() for v in module(*(t.clone() for t in tensors))]
    source = cp.convert(cp.Source(module, tensors), "onnx", check=False)
    assert not source.notes, "by the current exporter"
    fed = dict(zip((f.name for f in source.signature.inputs), (t.numpy() for t in tensors), strict=True))
    for precision, apart in (("fp32", 1e-5), ("fp16", 1e-2)):
        made = cp.convert(source, "mlprogram", precision=precision, check=False)  # type: ignore[arg-type]
        with cp.session(made) as running:
            found = [np.asarray(v) for v in running.run(fed).values()]
        for number, (got, want) in enumerate(zip(found, expected, strict=True)):
            scale = max(1.0, float(np.abs(want).max()))
            told = f"{name}, result {number}, {precision}"
            np.testing.assert_allclose(got.reshape(want.shape), want, rtol=apart, atol=apart * scale, err_msg=told)


@pytest.mark.thorough
def test_lengths_that_are_free() -> None:
    check(
        [
            lambda x: torch.cov(x[0].T),
            lambda x: torch.corrcoef(x[0].T),
            lambda x: x.roll(x.shape[1] // 2, 1),
            lambda x: torch.fft.fftshift(x, 1),
            lambda x: F.pad(x.transpose(1, 2), (2, 1), mode="circular"),
            lambda x: F.pad((x * 9).int().transpose(1, 2), (2, 1), value=7),
            lambda x: x.new_ones(1, 2, 4).repeat(1, x.shape[1], 1) + x.mean(),
            lambda x: torch.einsum("btd,sd->bts", x, x[0] + 1),
            lambda x: torch.einsum("bthd,phd->bhtp", x.unflatten(2, (2, 2)), x[0].unflatten(1, (2, 2))),
            spread,
        ],
        [1, (2, 16), 4],
        [drawn(1, 6, 4), drawn(1, 2, 4), drawn(1, 11, 4)],
    )


class Codes(torch.nn.Module):  # type: ignore[misc,name-defined]
    """A codebook under a name that PyTorch's own graphs have for something else: it is traced."""

    def __init__(self) -> None:
        super().__init__()
        self.code = torch.nn.Embedding(6, 4)

    def forward(self, x: Any) -> Any:
        nearest = torch.cdist(x, self.code.weight).argmin(-1)
        return F.one_hot(nearest, num_classes=6).float() @ self.code.weight


@pytest.mark.thorough
def test_classes_are_counted_without_asking_for_them() -> None:
    x = drawn(5, 4)
    module = Codes().eval()
    for precision, apart in (("fp32", 1e-6), ("fp16", 1e-2)):
        made = cp.convert(cp.Source(module, (x,)), "mlprogram", precision=precision)  # type: ignore[arg-type]
        with cp.session(made) as running:
            (found,) = running.run({made.signature.inputs[0].name: x.numpy()}).values()
        np.testing.assert_allclose(found, module(x).detach().numpy(), atol=apart)


def test_as_many_classes_as_there_are_is_a_question_to_the_data() -> None:
    module = Called(lambda x: F.one_hot(x.argmax(-1)).float())
    with pytest.raises(ConversionError, match="one_hot"):
        cp.convert(cp.Source(module, (drawn(5, 4),)), "mlprogram")


def spoken(x: Any) -> Any:
    window = torch.hann_window(8)
    spectra = torch.stft(x.reshape(1, -1), 8, 4, window=window, return_complex=True)
    return torch.istft(spectra * 2, 8, 4, window=window)


def test_operands_that_pytorchs_exporter_does_not_take() -> None:
    places = torch.tensor([[2, 0], [1, 1]], dtype=torch.int32)
    functions = [
        lambda x: x / torch.arange(1, 5.0),
        lambda x: x.new_zeros(3, 4).index_put((places,), x[:2], accumulate=True),
        lambda x: x[:, places],
        lambda x: x[places[0], places[1]],
        spoken,
    ]
    x = drawn(5, 4)
    module = Called(lambda x: tuple(f(x) for f in functions)).eval()
    source = cp.convert(cp.Source(module, (x,)), "onnx")
    with cp.session(source) as running:
        found = running.run({source.signature.inputs[0].name: x.numpy()})
    for got, want in zip(found.values(), module(x), strict=True):
        np.testing.assert_allclose(got, want.numpy(), atol=1e-5)
