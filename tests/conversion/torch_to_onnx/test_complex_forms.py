"""Complex numbers within a PyTorch model: written as pairs, computed as PyTorch does, and compared value by value."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import coreproof as cp
from tests.conversion.torch_to_onnx.test_forms import Called

torch = pytest.importorskip("torch", reason="needs the torch extra")

RNG = np.random.default_rng(3)
NUMBERS = torch.from_numpy(RNG.normal(size=(2, 3, 4)).astype(np.float32))
CASES: dict[str, Any] = {
    "exponential": lambda z: z.exp(),
    "logarithm": lambda z: z.log(),
    "root": lambda z: z.sqrt(),
    "square": lambda z: z**2,
    "cube": lambda z: z**3,
    "power of a fraction": lambda z: z**-0.7,
    "complex power": lambda z: z ** (0.7 - 0.3j),
    "direction": lambda z: z.sgn(),
    "repeated along a new axis": lambda z: z.expand(2, -1, -1),
    "side by side": lambda z: z.repeat(2, 1, 3),
    "an axis less": lambda z: z[None].squeeze((0, 1)),
    "chosen": lambda z: torch.where(z.real > 0, z, z.conj()),
    "running sum": lambda z: z.cumsum(-1),
    "quotient": lambda z: z / (z + 3),
    "quotient by real numbers": lambda z: z / (z.abs() + 1e-8) + z.abs() / z - 1 / z + z / 2.5,
    "product with its conjugate": lambda z: z @ z.mT.conj(),
    "spectrum": lambda z: torch.fft.ifft(torch.fft.fft(z) * 2),
    "power of a number": lambda z: 2**z,
    "power of a complex number": lambda z: (0.3 + 1j) ** z,
    "powers of each": lambda z: z ** z.flip(0),
    "real powers of each": lambda z: z**z.real,
    "complex powers of real numbers": lambda z: z.abs() ** z,
    "numbers of Python's": lambda z: (z * 2j + (1 - 3j)) / (0.5 + 2j) - 1j + 2,
    "turned real numbers": lambda z: z.real.cos() + 1j * z.imag.sin() - 3j * z.real,
    "from a number": lambda z: (1 - 2j) - z,
    "waves": lambda z: torch.stack([z.sin(), z.cos(), z.tan()]),
    "hyperbolic waves": lambda z: torch.stack([z.sinh(), z.cosh(), z.tanh(), (20 * z).tanh()]),
    "angles": lambda z: torch.stack([z.asin(), z.acos(), z.atan()]),
    "hyperbolic angles": lambda z: torch.stack([z.asinh(), z.acosh(), z.atanh()]),
    "gates": lambda z: torch.stack([z.sigmoid(), torch.nn.functional.silu(z), (20 * z).sigmoid()]),
    "other logarithms": lambda z: torch.stack([z.log2(), z.log10(), z.log1p(), (z * 1e-4).log1p() * 1e4]),
    "other exponentials": lambda z: torch.stack([z.exp2(), z.expm1(), (z * 1e-4).expm1() * 1e4]),
    "inverse root": lambda z: z.rsqrt(),
    "product of an axis": lambda z: z.prod(1),
    "running product": lambda z: z.cumprod(-1),
    "gathered": lambda z: z.gather(1, torch.tensor([[0, 3], [1, 1], [2, 0]])),
    "indexed": lambda z: z[[2, 0]][..., torch.tensor([1, 3])],
    "put": lambda z: z.index_put((torch.tensor([0, 2]),), z[:2] * 2),
    "scattered": lambda z: z.scatter(1, torch.tensor([[1], [0], [3]]), z[:, :1] * 2),
    "padded": lambda z: torch.nn.functional.pad(z, (1, 2)),
    "triangles": lambda z: z.tril() + z.triu(1) * 2,
    "diagonal": lambda z: z.diagonal(1),
    "pieces": lambda z: z.split([1, 3], 1)[1] + z.chunk(2, -1)[0][..., :1] + z.unbind(1)[1][..., None],
    "tiles": lambda z: z.tile(2, 1),
    "windows": lambda z: z.unfold(1, 2, 1),
    "filled": lambda z: z.masked_fill(z.abs() > 1, 2),
    "batches of matrices": lambda z: torch.bmm(z[None], z.T[None]),
    "layer": lambda z: torch.nn.functional.linear(z, z, z[:, 0]),
    "einsum": lambda z: torch.einsum("ij,kj->ik", z, z),
    "einsum of three": lambda z: torch.einsum("ij,kj,kl->il", z, z, z),
    "einsum of four": lambda z: torch.einsum("ij,kj,kl,ml->im", z, z, z, z),
    "trace by einsum": lambda z: torch.einsum("ij->j", z),
    "between by a complex share": lambda z: torch.lerp(z, z.flip(0), torch.tensor(0.25 - 0.5j)),
    "product of nothing": lambda z: z[:, :0].prod(1) * z[:, 0],
    "between": lambda z: torch.lerp(z, z.flip(0), 0.25) + torch.addcmul(z, z, z, value=0.5),
    "scalar product": lambda z: torch.dot(z[0], z[1]) + torch.vdot(z[0], z[2]),
    "deviation": lambda z: z / z.std(1, keepdim=True) + z.norm(dim=1, keepdim=True),
    "equal": lambda z: torch.complex((z == z.conj()).float(), (z != z.flip(0)).float()),
    "finite": lambda z: z * z.isfinite() * ~z.isnan() * ~z.isinf(),
    "ones": lambda z: torch.ones_like(z) * z + torch.zeros_like(z),
    "the imaginary part of a conjugate": lambda z: torch.complex(z.conj().imag, z.real),
}


@pytest.mark.thorough
@pytest.mark.parametrize("name", CASES)
def test_complex_numbers_are_what_pytorch_computes_and_are_compared_inside(name: str) -> None:
    function = CASES[name]
    module = Called(lambda x: torch.view_as_real((function(torch.complex(x[0], x[1])) * 1).resolve_conj())).eval()
    source = cp.load(cp.Source(module, (NUMBERS,)))
    model = cp.convert(source, "mlprogram", precision="fp32")
    with cp.session(model) as running:
        (found,) = running.run({model.signature.inputs[0].name: NUMBERS.numpy()}).values()
    np.testing.assert_allclose(found, module(NUMBERS).numpy(), rtol=2e-5, atol=2e-5)
    assert cp.verify(source, model)


REAL: dict[str, Any] = {
    "direction": torch.sgn,
    "angle": torch.angle,
    "an axis less": lambda x: x[None].squeeze((0, 1)),
    "repeated along a new axis": lambda x: x.expand(2, -1, -1),
    "side by side": lambda x: x.repeat(2, 1, 3),
    "chosen": lambda x: torch.where(x > 0, x, -x),
    "running sum": lambda x: x.cumsum(-1),
    "exponential": torch.exp,
    "root": lambda x: x.abs().sqrt(),
    "power of a fraction": lambda x: x.abs() ** 1.5,
}


@pytest.mark.sweep(2)
@pytest.mark.parametrize("name", REAL)
def test_what_is_written_for_complex_numbers_leaves_real_ones_alone(name: str) -> None:
    """An operator that is registered for the one is decomposed for neither any more."""
    module, x = Called(REAL[name]).eval(), NUMBERS[:1]
    model = cp.convert(cp.Source(module, (x,)), "mlprogram", precision="fp32")
    with cp.session(model) as running:
        (found,) = running.run({"input_0": x.numpy()}).values()
    np.testing.assert_allclose(found, module(x).numpy(), rtol=2e-6, atol=1e-6)


def test_a_complex_output_is_given_as_pairs() -> None:
    module = Called(lambda x: torch.fft.fft(x)).eval()
    source = cp.load(cp.Source(module, (NUMBERS,)))
    model = cp.convert(source, "mlprogram", precision="fp32")
    with cp.session(source) as theirs, cp.session(model) as ours:
        (expected,) = theirs.run({"input_0": NUMBERS.numpy()}).values()
        (found,) = ours.run({"input_0": NUMBERS.numpy()}).values()
    np.testing.assert_allclose(expected, torch.view_as_real(torch.fft.fft(NUMBERS)).numpy())
    np.testing.assert_allclose(found, expected, rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_quotients_of_loud_of_faint_and_of_silent_spectra(precision: str) -> None:
    """Squares of what is divided by are beyond float16 from 256 on, and nothing below 0.0002."""

    def directions(x: torch.Tensor) -> torch.Tensor:
        z = torch.complex(x[0], x[1])
        return torch.view_as_real(
            torch.stack([z / (z.abs() + 1e-8), z / (z.flip(0) * 2 + 0.5j), z / (1e-4 * z.abs() + 1)])
        )

    x = torch.tensor([[900.0, -3.0, 0.0, 6e-4, -2e-3, 5.0], [700.0, 4.0, 0.0, 8e-4, 1e-3, -600.0]])
    source = cp.load(cp.Source(Called(directions).eval(), (x,)))
    model = cp.convert(source, "mlprogram", precision=precision)
    with cp.session(model) as running:
        (found,) = running.run({source.signature.inputs[0].name: x.numpy()}).values()
    near = {"fp32": 1e-5, "fp16": 4e-3}[precision]
    np.testing.assert_allclose(found, directions(x).numpy(), rtol=near, atol=near)
    assert cp.verify(source, model)


def test_the_square_and_the_direction_of_zero() -> None:
    module = Called(lambda x: torch.view_as_real(torch.complex(x, x).sgn() + torch.complex(x, x) ** 2)).eval()
    x = torch.tensor([[0.0, -0.0, 1e-20, 3.0]])
    model = cp.convert(cp.Source(module, (torch.ones(1, 4),)), "mlprogram", precision="fp32")
    with cp.session(model) as running:
        (found,) = running.run({"input_0": x.numpy()}).values()
    np.testing.assert_allclose(found[0, [0, 1, 3]], module(x).numpy()[0, [0, 1, 3]], rtol=1e-6)


@pytest.mark.sweep(1)
@pytest.mark.parametrize("scale", [0.0, 1e-3, 0.4, 1.0, 5.0, 20.0])
def test_the_exponential_of_a_matrix(scale: float) -> None:
    """Against PyTorch in float64: each squaring doubles what rounding did, so the norm says how many digits are left."""
    module = Called(torch.linalg.matrix_exp).eval()
    x = scale * NUMBERS[:, :, :3] / 3
    model = cp.convert(cp.Source(module, (NUMBERS[:, :, :3],)), "mlprogram", precision="fp32", check=False)
    with cp.session(model) as running:
        (found,) = running.run({"input_0": x.numpy()}).values()
    expected = module(x.double()).numpy()
    norm = float(x.abs().sum(-1).max())
    bound = 2.0**-24 * 16 * max(1.0, 2 * norm) * np.abs(expected).max(axis=(1, 2), keepdims=True)
    assert (np.abs(found - expected) <= bound).all()


EDGES = [0.0, -0.0, 1.0, -1.0, 1e-20, -1e-20, np.inf, -np.inf, np.nan]


@pytest.mark.thorough
def test_angles_of_every_quarter_with_zeros_that_have_a_sign_and_infinities() -> None:
    """The spectrum of real numbers is real at both ends: a negative number there has the angle pi, where -pi was written."""
    y, x = (torch.from_numpy(v.astype(np.float32).reshape(-1)) for v in np.meshgrid(EDGES, EDGES))
    ones = torch.ones_like(x)
    for module in (Called(torch.atan2), Called(lambda y, x: torch.complex(x, y).angle())):
        model = cp.convert(cp.Source(module.eval(), (ones, ones)), "mlprogram", precision="fp32", check=False)
        with cp.session(model) as running:
            (found,) = running.run({"input_0": y.numpy(), "input_1": x.numpy()}).values()
        np.testing.assert_allclose(found, np.arctan2(y.numpy(), x.numpy()), rtol=2e-6)


def test_an_operator_that_complex_numbers_lack_is_refused_with_the_users_line() -> None:
    class Solves(torch.nn.Module):
        def forward(self, z: Any) -> Any:
            return torch.linalg.det(z).abs()

    with pytest.raises(cp.CoreproofError, match=r"test_complex_forms\.py:\d+: return torch\.linalg\.det\(z\)"):
        cp.convert(cp.Source(Solves(), (torch.randn(2, 2, dtype=torch.complex64),)), "mlprogram")


def test_powers_of_zero() -> None:
    class Powers(torch.nn.Module):
        def forward(self, z: Any, w: Any) -> Any:
            return torch.view_as_real(z**w)

    zeros, exponents = torch.zeros(3, dtype=torch.complex64), torch.tensor([1 + 1j, 0.5 + 0j, 2 - 1j])
    source = cp.load((Powers(), (zeros + 1, exponents)))
    with cp.session(cp.convert(source, "mlprogram", precision="fp32", check=False)) as running:
        (found,) = running.run({"z": np.zeros((3, 2), np.float32), "w": torch.view_as_real(exponents).numpy()}).values()
    np.testing.assert_array_equal(found, 0)
