"""Operators that PyTorch's exporter does not know: in all formats they are what PyTorch computes."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest

import coreproof as cp
from tests.conversion.torch_to_onnx.test_forms import Called

torch = pytest.importorskip("torch", reason="needs the torch extra")
nan = float("nan")


def drawn(*shape: int, seed: int = 0) -> Any:
    return torch.from_numpy(np.random.default_rng(seed).normal(size=shape).astype(np.float32))


X = drawn(2, 5, 6)
TIES = torch.tensor([[3.0, 1.0, 3.0, 2.0, 3.0, 1.0], [0.0, 0.0, -1.0, 2.0, 2.0, 2.0]])
HOLES = torch.tensor([[1.0, nan, 3.0, 2.0], [nan, nan, nan, nan], [4.0, 1.0, 2.0, 3.0]])
WHOLE = torch.tensor([[5, -3, 5, 0, 2], [1, 1, -7, 1, 9]])
SQUARE = drawn(2, 4, 4, seed=3) + 2 * torch.eye(4)
SWAPPED = torch.tensor([[0.0, 2.0, 1.0], [1.0, 0.0, 0.0], [0.0, 1.0, 3.0]])  # its first pivot is another row's
ORDERED = torch.tensor([-1.0, 0.0, 0.0, 1.5])


def turned(x: Any, angles: Any) -> Any:
    """Pairs turned as complex numbers, with axes put in and positions taken out."""
    unit = torch.polar(torch.ones_like(angles), angles)
    pairs = torch.view_as_complex(x.view(*x.shape[:-1], -1, 2))
    moved = pairs * unit.unsqueeze(0).index_select(-2, torch.tensor([4, 0, 1, 2, 3]))
    return torch.view_as_real(moved).flatten(2), torch.view_as_real(moved.unsqueeze(-1).select(-2, 1))


class Projected(torch.nn.Module):  # type: ignore[misc,name-defined]
    def __init__(self, **described: Any) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.lstm = torch.nn.LSTM(6, 7, **{"proj_size": 3, **described})

    def forward(self, x: Any) -> Any:
        y, (h, c) = self.lstm(x)
        return y, h, c


class Bag(torch.nn.Module):  # type: ignore[misc,name-defined]
    def __init__(self, **described: Any) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.bag = torch.nn.EmbeddingBag(9, 4, **described)

    def forward(self, *tensors: Any) -> Any:
        return self.bag(*tensors)


BAGS = torch.tensor([[1, 2, 4], [3, 4, 8], [1, 1, 1]])
CASES: dict[str, tuple[Any, tuple[Any, ...]]] = {
    "cumprod": (lambda x: torch.cumprod(x, 1), (X,)),
    "cummax": (lambda x: torch.cummax(x, 1), (X,)),
    "cummax of equal ones": (lambda x: torch.cummax(x, -1), (TIES,)),
    "cummin of equal ones": (lambda x: torch.cummin(x, -1), (TIES,)),
    "cummin of integers": (lambda x: torch.cummin(x, 1), (WHOLE,)),
    "logcumsumexp": (lambda x: torch.logcumsumexp(x, 2), (X,)),
    "median": (torch.median, (X,)),
    "median along": (lambda x: torch.median(x, 1), (X,)),
    "median that keeps its axis": (lambda x: torch.median(x, -1, keepdim=True), (drawn(3, 4),)),
    "median of integers": (lambda x: torch.median(x, 1)[0], (WHOLE,)),
    "nanmedian of what has no holes": (lambda x: torch.nanmedian(x, 2), (X,)),
    "kthvalue": (lambda x: torch.kthvalue(x, 2, 1), (X,)),
    "mode": (lambda x: torch.mode(x, -1)[0], (TIES,)),
    "mode along the first axis": (lambda x: torch.mode(x, 0, keepdim=True)[0], (TIES,)),
    "searchsorted": (lambda x: torch.searchsorted(ORDERED, x), (X,)),
    "searchsorted from the right": (lambda x: torch.searchsorted(ORDERED, x.round(), right=True), (X,)),
    "searchsorted row by row": (lambda s, v: torch.searchsorted(s.sort(-1)[0], v), (drawn(3, 5), drawn(3, 2, seed=1))),
    "inverse": (torch.linalg.inv, (SQUARE,)),
    "inverse of what begins with a zero": (torch.inverse, (SWAPPED,)),
    "solve": (torch.linalg.solve, (SQUARE, drawn(2, 4, 3))),
    "solve for vectors": (torch.linalg.solve, (SQUARE, drawn(2, 4))),
    "solve from the right": (lambda a, b: torch.linalg.solve(a, b, left=False), (SQUARE, drawn(2, 3, 4))),
    "solve of one for many": (lambda a, b: torch.linalg.solve(a, b), (SQUARE[0], drawn(5, 4, 2))),
    "slogdet": (torch.linalg.slogdet, (SQUARE,)),
    "lstm with projections": (Projected(batch_first=True), (X,)),
    "lstm with projections both ways": (Projected(bidirectional=True, num_layers=2), (X,)),
    "lstm with projections without biases": (Projected(bias=False), (X,)),
    "lstm without projections": (Projected(proj_size=0), (X,)),
    **{f"bags by {mode}": (Bag(mode=mode), (BAGS,)) for mode in ("sum", "mean", "max")},
    "bags with offsets": (Bag(mode="mean"), (BAGS.reshape(-1), torch.tensor([0, 2, 2, 7]))),
    "bags with an end": (Bag(mode="sum", include_last_offset=True), (BAGS.reshape(-1), torch.tensor([0, 2, 2, 9]))),
    "bags without what fills them": (Bag(mode="mean", padding_idx=1), (BAGS,)),
    "pdist": (torch.nn.functional.pdist, (drawn(5, 3),)),
    "pdist by size": (lambda x: torch.nn.functional.pdist(x, 1.0), (drawn(5, 3),)),
    "adaptive maximum": (lambda x: torch.nn.functional.adaptive_max_pool2d(x, (3, 2)), (drawn(1, 2, 7, 5),)),
    "adaptive maximum along a row": (lambda x: torch.nn.functional.adaptive_max_pool1d(x, 4), (X,)),
    "adaptive maxima and their places": (
        lambda x: torch.nn.functional.adaptive_max_pool2d(x, (3, 4), return_indices=True),
        (drawn(2, 3, 8, 7),),
    ),
    "erfinv": (torch.erfinv, (torch.tensor([-0.999, -0.5, -1e-4, 0.0, 1e-4, 0.3, 0.9, 0.99999]),)),
    "lgamma": (torch.lgamma, (torch.tensor([-2.5, -0.3, 0.01, 0.5, 1.0, 2.0, 3.7, 20.0, 300.0]),)),
    "pairs that are turned as complex numbers": (turned, (X, drawn(5, 3, seed=4))),
    "histogram": (lambda x: torch.histc(x, 5, -1.0, 1.5), (X,)),
    "histogram of all": (lambda x: torch.histc(x, 4), (X,)),
    "histogram between equal ends": (lambda x: torch.histc(x, 4, 3, 3), (X,)),
    "histogram of one number": (lambda x: torch.histc(0 * x + 3, 4), (X,)),
    "x >> 1": (lambda x: x >> 1, (WHOLE,)),
    "x << 3": (lambda x: (x & 1023) << 3, (WHOLE,)),  # a NeuralNetwork refuses what may leave 32 bits
}


@pytest.mark.sweep(3)
@pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN")
@pytest.mark.parametrize("name", CASES)
def test_each_format_computes_what_pytorch_computes(name: str) -> None:
    function, tensors = CASES[name]
    module = (function if isinstance(function, torch.nn.Module) else Called(function)).eval()
    with torch.no_grad():
        made = module(*(t.clone() for t in tensors))
    expected = [t.numpy() for t in (made if isinstance(made, tuple | list) else [made])]
    source = cp.convert(cp.Source(module, tensors), "onnx", check=False)
    fed = dict(zip((f.name for f in source.signature.inputs), (t.numpy() for t in tensors), strict=True))
    for to, options in (("onnx", {}), ("mlprogram", {"precision": "fp32"}), ("neuralnetwork", {})):
        converted = source if to == "onnx" else cp.convert(source, to, check=False, **options)  # type: ignore[arg-type]
        with cp.session(converted) as running:
            found = [np.asarray(v) for v in running.run(fed).values()]
        for got, want in zip(found, expected, strict=True):
            np.testing.assert_allclose(got.reshape(want.shape), want, rtol=1e-4, atol=1e-5, err_msg=to)


def test_holes_are_kept_by_a_median_and_left_out_by_a_nanmedian() -> None:
    module = Called(lambda x: (torch.median(x, 1)[0], *torch.nanmedian(x, 1), torch.cummax(x, 1)[0])).eval()
    expected = module(HOLES)
    converted = cp.convert(cp.Source(module, (HOLES,)), "mlprogram", precision="fp32", check=False)
    (name,) = (f.name for f in converted.signature.inputs)
    with cp.session(converted) as running:
        found = [*running.run({name: HOLES.numpy()}).values()]
    for at in (0, 1, 3):
        np.testing.assert_array_equal(found[at], expected[at].numpy())
    assert (found[2][[0, 2]] == expected[2].numpy()[[0, 2]]).all()


def test_an_inverse_of_erf_ends_in_infinities() -> None:
    x = torch.tensor([-1.0, 1.0])
    converted = cp.convert(cp.Source(Called(torch.erfinv).eval(), (x,)), "mlprogram", precision="fp32", check=False)
    (name,) = (f.name for f in converted.signature.inputs)
    with cp.session(converted) as running:
        np.testing.assert_array_equal(next(iter(running.run({name: x.numpy()}).values())), [-np.inf, np.inf])


@pytest.mark.thorough
def test_rows_are_multiplied_with_the_matrix_of_their_expert() -> None:
    """With an operator of transformers, which calls it in its mixtures of experts; here it stands for that."""
    library = torch.library.Library("transformers", "FRAGMENT")
    library.define("grouped_mm_fallback(Tensor input, Tensor weight, Tensor offs) -> Tensor")

    def grouped(x: Any, w: Any, offs: Any) -> Any:
        begins = [0, *offs.tolist()]
        parts = [x[a:b] @ w[i] for i, (a, b) in enumerate(pairwise(begins))]
        return torch.cat([*parts, torch.zeros(x.shape[0] - begins[-1], w.shape[2])])

    library.impl("grouped_mm_fallback", grouped, "CPU")
    torch.library.register_fake(
        "transformers::grouped_mm_fallback", lambda x, w, _: x.new_empty(x.shape[0], w.shape[2]), lib=library
    )
    called = torch.ops.transformers.grouped_mm_fallback
    tensors = (drawn(10, 8), drawn(4, 8, 12), torch.tensor([3, 3, 7, 9], dtype=torch.int32))
    converted = cp.convert(cp.Source(Called(called).eval(), tensors), "mlprogram", precision="fp32", check=False)
    names = [f.name for f in converted.signature.inputs]
    with cp.session(converted) as running:
        found = running.run(dict(zip(names, (t.numpy() for t in tensors), strict=True)))
    np.testing.assert_allclose(next(iter(found.values())), called(*tensors).numpy(), rtol=1e-5, atol=1e-5)


class DividedSum(torch.nn.Module):  # type: ignore[misc,name-defined]
    """A whole number that is taken out of a tensor, and may be negative."""

    def __init__(self, divisor: int) -> None:
        super().__init__()
        self.divisor = divisor

    def forward(self, x: Any) -> Any:
        return x * (int(x.sum()) // self.divisor)


class DividedLength(DividedSum):
    """One that is made of a length: ``-(-length // n)`` is how Python's users round up."""

    def forward(self, x: Any) -> Any:
        return x * (-x.shape[1] // self.divisor)


@pytest.mark.sweep(1)
@pytest.mark.parametrize("divisor", [3, -3])
@pytest.mark.parametrize("kind", [DividedSum, DividedLength])
def test_whole_numbers_of_pythons_are_divided_downwards(kind: type, divisor: int) -> None:
    free: Any = {"x": [2, (3, 9)]} if kind is DividedLength else None
    made = cp.convert(kind(divisor), "mlprogram", precision="fp32", example=(torch.ones(2, 4),), shapes=free)
    with cp.session(made) as running:
        for total, length in ((8, 4), (-8, 4), (-7, 4), *([(7, 3), (-9, 5)] if free else [(-9, 4)])):
            x = torch.zeros(2, length)
            x[0, 0] = total
            (got,) = running.run({"x": x.numpy()}).values()
            np.testing.assert_array_equal(got, kind(divisor)(x).numpy())
