"""Special functions, factors of matrices and places that PyTorch's exporter does not know: as ONNX and as an ML Program."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import coreproof as cp
from tests.conversion.torch_to_onnx.test_forms import Called
from tests.conversion.torch_to_onnx.test_written_out import drawn

torch = pytest.importorskip("torch", reason="needs the torch extra")
nan, inf = float("nan"), float("inf")

WIDE = torch.tensor([-45.0, -20.1, -19.9, -7.0, -1.5, -0.3, -1e-3, 0.0, 1e-3, 0.4, 2.5, 12.3, 21.0, 60.0])
GAMMA = torch.tensor([-7.3, -2.5, -0.3, -1e-3, 1e-3, 0.3, 0.5, 1.0, 2.0, 3.7, 20.0, 300.0])
DRAWN = drawn(2, 4, 4, seed=3)
POSITIVE = DRAWN @ DRAWN.mT + torch.eye(4)
FACTOR = torch.linalg.cholesky(POSITIVE)


def _parts(made: Any) -> tuple[Any, ...]:
    return tuple(made) if isinstance(made, tuple | list) else (made,)


def _stack(name: str) -> Callable[..., Any]:
    return lambda *given: getattr(torch, name)(given)


def agrees(functions: dict[str, Callable[..., Any]], *tensors: Any) -> None:
    """Exports all of the functions at once, and compares each format with PyTorch, function by function."""

    def each(*given: Any) -> tuple[Any, ...]:
        return tuple(part for function in functions.values() for part in _parts(function(*given)))

    names = [name for name, function in functions.items() for _ in _parts(function(*tensors))]
    expected = [part.numpy() for part in each(*tensors)]
    source = cp.convert(cp.Source(Called(each).eval(), tensors), "onnx", check=False)
    fed = dict(zip((f.name for f in source.signature.inputs), (t.numpy() for t in tensors), strict=True))
    for model in (source, cp.convert(source, "mlprogram", precision="fp32", check=False)):
        with cp.session(model) as running:
            found = [np.asarray(v) for v in running.run(fed).values()]
        for name, got, want in zip(names, found, expected, strict=True):
            np.testing.assert_allclose(
                got.reshape(want.shape), want, rtol=1e-4, atol=1e-5, err_msg=f"{name} as {model.format}"
            )


@pytest.mark.thorough
def test_functions_of_bessel_near_zero_and_far_from_it() -> None:
    special = torch.special
    functions = {
        name: getattr(special, name)
        for name in ("i0", "i0e", "i1", "i1e", "modified_bessel_i0", "modified_bessel_i1", "bessel_j0", "bessel_j1")
    }
    agrees({**functions, "spherical_bessel_j0": special.spherical_bessel_j0}, WIDE)


@pytest.mark.thorough
def test_derivatives_of_log_gamma_on_both_sides_and_at_their_poles() -> None:
    agrees({"digamma": torch.digamma, **{f"polygamma {n}": _polygamma(n) for n in (1, 2, 3)}}, GAMMA)
    agrees({"digamma": torch.digamma}, torch.tensor([0.0, -0.0, -1.0, -3.0]))


def _polygamma(n: int) -> Callable[[Any], Any]:
    return lambda x: torch.polygamma(n, x)


def test_the_normal_quantile_keeps_its_digits_in_its_tail() -> None:
    agrees({"ndtri": torch.special.ndtri}, torch.tensor([0.0, 1e-6, 1e-3, 0.1, 0.5, 0.7, 0.99, 0.9999, 1.0]))


@pytest.mark.thorough
def test_factors_of_matrices_are_those_of_pytorch() -> None:
    agrees(
        {
            "cholesky": torch.linalg.cholesky,
            "its transpose": lambda a: torch.linalg.cholesky(a, upper=True),
            "qr": torch.linalg.qr,
            "qr of a tall one": lambda a: torch.linalg.qr(a[..., :2], mode="complete"),
            "qr of a wide one": lambda a: torch.linalg.qr(a[..., :2, :]),
            "r alone": lambda a: torch.linalg.qr(a[..., :2], mode="r")[1],
        },
        POSITIVE,
    )


@pytest.mark.thorough
def test_systems_of_equations_whose_factor_is_known() -> None:
    solve = torch.linalg.solve_triangular
    agrees(
        {
            "lower": lambda a, b: solve(a, b, upper=False),
            "upper, from the right, with ones": lambda a, b: solve(
                a.mT, b.mT, upper=True, left=False, unitriangular=True
            ),
            "cholesky_solve": lambda a, b: torch.cholesky_solve(b, a),
            "of the upper factor": lambda a, b: torch.cholesky_solve(b, a.mT, True),
            "cholesky_inverse": lambda a, b: torch.cholesky_inverse(a),
        },
        FACTOR,
        drawn(2, 4, 3),
    )


@pytest.mark.thorough
def test_stacks_are_no_sequences() -> None:
    names = ("hstack", "vstack", "dstack", "column_stack")
    agrees({name: _stack(name) for name in names}, drawn(3), drawn(3, seed=1))
    agrees({name: _stack(name) for name in names}, X, X + 1)


X = drawn(3, 4)


def test_comparisons_that_know_holes_signs_and_powers_of_two() -> None:
    x = torch.tensor([3.0, nan, -0.5, 1.0, 8.0, 1e-20, 1e20, 0.1])
    y = torch.tensor([-4.0, 2.0, nan, -0.0, 0.0, 1e-20, 1e20, -inf])
    agrees({"fmax": torch.fmax, "fmin": torch.fmin, "hypot": torch.hypot, "copysign": torch.copysign}, x, y)
    finite = torch.tensor([3.0, 0.0, -0.5, 1.0, 8.0, 1e-20, 1e20, 0.1])
    agrees({"frexp": torch.frexp, "of one number": lambda x: torch.copysign(x, -2.0)}, finite)


@pytest.mark.sweep(1)
@pytest.mark.filterwarnings("ignore:index_reduce")
@pytest.mark.parametrize("with_own", [True, False])
def test_numbers_are_put_and_reduced_in_their_places(with_own: bool) -> None:
    places = torch.tensor([0, 2, 0])

    def reduced(reduce: str) -> Callable[[Any, Any], Any]:
        return lambda x, s: x.index_reduce(1, places, s, reduce, include_self=with_own)

    agrees(
        {
            **{reduce: reduced(reduce) for reduce in ("mean", "prod", "amax", "amin")},
            "put": lambda x, s: x.put(torch.tensor([1, -2, 5]), s[0], accumulate=with_own),
            "by strides": lambda x, s: torch.as_strided_scatter(x, s[:2, :2], (2, 2), (3, 1), 1),
            "what is no axis": lambda x, s: torch.squeeze(x, (0, 1)),
        },
        X,
        drawn(3, 3, seed=1),
    )
