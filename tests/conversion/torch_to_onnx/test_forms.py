"""Functions that PyTorch's exporter takes apart: as ONNX and in all formats of Core ML they keep their digits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import coreproof as cp
from coreproof.conversion.torch_to_onnx.export import torch_to_onnx
from coreproof.model.torch.model import TorchModel
from coreproof.runtime.open import session

torch = pytest.importorskip("torch", reason="needs the torch extra")


class Called(torch.nn.Module):  # type: ignore[misc,name-defined]
    def __init__(self, function: Any) -> None:
        super().__init__()
        self.function = function

    def forward(self, *tensors: Any) -> Any:
        return self.function(*tensors)


def around(*centres: float, both: bool = True) -> Any:
    """Numbers near the centres, from a millionth away to a half."""
    away = np.geomspace(1e-6, 0.5, 12)
    sides = (1, -1) if both else (1,)
    return torch.tensor(np.concatenate([c + side * away for c in centres for side in sides]), dtype=torch.float32)


WIDE = torch.linspace(-8, 8, 33)
CASES = {
    "log1p": (torch.log1p, (torch.cat([around(0.0), torch.tensor([-0.999, 3.0, 1e4, 0.0])]),)),
    "expm1": (torch.expm1, (torch.cat([around(0.0), WIDE]),)),
    "erfc": (torch.special.erfc, (torch.cat([around(0.0), torch.linspace(-4, 3, 29)]),)),
    "erfcx": (torch.special.erfcx, (torch.linspace(-1.5, 60, 50),)),
    "log_ndtr": (torch.special.log_ndtr, (torch.linspace(-20, 2, 45),)),
    "log_sigmoid": (torch.nn.functional.logsigmoid, (torch.linspace(-200, 9, 45),)),
    "logaddexp": (torch.logaddexp, (torch.tensor([200.0, -200.0, 3.0, 0.0]), torch.tensor([200.0, -190.0, 2.5, 0.0]))),
    "logaddexp2": (
        torch.logaddexp2,
        (torch.tensor([200.0, -200.0, 3.0, 0.0]), torch.tensor([200.0, -190.0, 2.5, 0.0])),
    ),
    "xlog1py": (torch.special.xlog1py, (torch.full((24,), 2.0), around(0.0))),
    "asinh": (torch.asinh, (torch.cat([around(0.0), torch.tensor([300.0, -6e4, 0.0])]),)),
    "acosh": (torch.acosh, (torch.cat([around(1.0, both=False), torch.tensor([1.0, 2.0, 300.0, 6e4])]),)),
    "atanh": (torch.atanh, (torch.cat([around(0.0), torch.tensor([0.99, -0.99, 0.0])]),)),
    "sinh": (torch.sinh, (around(0.0),)),
    "tanh": (torch.tanh, (torch.cat([around(0.0), WIDE]),)),
}


def each_is_near(found: Any, expected: Any, relative: float, what: str) -> None:
    np.testing.assert_allclose(np.asarray(found, np.float64), expected, rtol=relative, atol=0, err_msg=what)


@pytest.mark.parametrize("name", CASES)
def test_every_number_keeps_its_digits(name: str, tmp_path: Path) -> None:
    function, tensors = CASES[name]
    module = Called(function).eval()
    # float16 is fed what it can hold, so that the function alone is judged
    near_one = name == "acosh"
    halves = tuple(t if near_one else t.half().float() for t in tensors)
    exported = None  # once for all formats: shapes and types are the same
    for to, precision, fed, relative in (
        ("onnx", None, tensors, 3e-6),
        ("mlprogram", "fp32", tensors, 3e-6),
        ("neuralnetwork", None, tensors, 3e-6),
        ("mlprogram", "fp16", halves, 6e-3),
    ):
        source = cp.load(cp.Source(module, fed))
        expected = module(*(t.double() for t in fed)).numpy()
        if precision == "fp16":
            large = np.abs(expected) > 1e-4  # smaller numbers have few digits in float16, whatever makes them
            if near_one:
                large &= fed[0].numpy() > 1.02
        else:
            large = np.ones(expected.shape, bool)
        made = cp.convert(
            source if exported is None else exported, to, **({} if precision is None else {"precision": precision})
        )
        exported = exported or made
        with session(made) as running:
            (found,) = running.run(
                {f.name: t.numpy() for f, t in zip(made.signature.inputs, fed, strict=True)}
            ).values()
        each_is_near(np.where(large, found, expected), expected, relative, f"{name} as {to} {precision}")
        stored = tmp_path / {"onnx": "a.onnx", "mlprogram": f"{precision}.mlpackage", "neuralnetwork": "a.mlmodel"}[to]
        made.save(stored)
        feed = {f.name: t.numpy() for f, t in zip(source.signature.inputs, fed, strict=True)}
        verified = cp.verify(source, stored, feed)
        assert verified, [f"{r.operator} {r.candidate}: {r.judgement.problem}" for r in verified.rows if not r.agrees]


@pytest.mark.parametrize("dtype", [torch.float16, torch.float64])
def test_the_forms_are_written_in_the_type_of_what_they_read(dtype: Any) -> None:
    x = torch.linspace(-0.4, 0.4, 7, dtype=dtype)
    module = Called(lambda x: torch.log1p(x) + torch.expm1(x) + torch.logaddexp(x, -x) + torch.log1p(x + 3))
    exported = torch_to_onnx(TorchModel(module, (x,), name="net"))
    with session(exported) as running:
        (found,) = running.run({exported.signature.inputs[0].name: x.numpy()}).values()
    np.testing.assert_allclose(found, module(x).numpy(), rtol=3e-3 if dtype == torch.float16 else 1e-6)


def test_what_is_not_finite_stays_what_it_is() -> None:
    x = torch.tensor([float("inf"), -float("inf"), float("nan"), -1.0, -2.0])
    for function in (torch.log1p, torch.expm1, torch.special.erfc, torch.nn.functional.logsigmoid):
        module = Called(function)
        exported = torch_to_onnx(TorchModel(module, (x,), name="net"))
        with session(exported) as running:
            (found,) = running.run({exported.signature.inputs[0].name: x.numpy()}).values()
        np.testing.assert_allclose(found, module(x).numpy(), rtol=1e-5)
    same = torch.tensor([float("inf"), -float("inf"), 0.0])
    both = Called(lambda x: torch.logaddexp(x, x))
    exported = torch_to_onnx(TorchModel(both, (same,), name="net"))
    with session(exported) as running:
        (found,) = running.run({exported.signature.inputs[0].name: same.numpy()}).values()
    np.testing.assert_allclose(found, both(same).numpy(), rtol=1e-5)
