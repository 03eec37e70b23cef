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


class Every(torch.nn.Module):  # type: ignore[misc,name-defined]
    """All functions side by side, each on tensors of its own, so that one export serves them all."""

    def forward(self, *tensors: Any) -> Any:
        given = iter(tensors)
        return tuple(function(*(next(given) for _ in own)) for function, own in CASES.values())


TENSORS = tuple(tensor for _, own in CASES.values() for tensor in own)


@pytest.fixture(scope="module")
def source() -> Any:
    return cp.load(cp.Source(Every().eval(), TENSORS))


@pytest.fixture(scope="module")
def exported(source: Any) -> Any:
    return cp.convert(source, "onnx")


@pytest.mark.sweep(1)
@pytest.mark.parametrize(
    ("to", "precision", "relative"),
    [("onnx", None, 3e-6), ("mlprogram", "fp32", 3e-6), ("neuralnetwork", None, 3e-6), ("mlprogram", "fp16", 6e-3)],
)
def test_every_number_keeps_its_digits(
    to: Any, precision: str | None, relative: float, source: Any, exported: Any, tmp_path: Path
) -> None:
    # float16 is fed what it can hold, so that the functions alone are judged; near one acosh is told by its last digits
    half = precision == "fp16"
    near_one = [name == "acosh" for name, (_, own) in CASES.items() for _ in own]
    fed = [t.half().float() if half and not near else t for t, near in zip(TENSORS, near_one, strict=True)]
    made = exported if to == "onnx" else cp.convert(exported, to, **({"precision": precision} if precision else {}))
    with session(made) as running:
        answers = running.run({f.name: t.numpy() for f, t in zip(made.signature.inputs, fed, strict=True)})
    exact = Every()(*(t.double() for t in fed))
    for name, found, expected in zip(CASES, answers.values(), (e.numpy() for e in exact), strict=True):
        counted = (
            np.abs(expected) > 1e-4 if half else True
        )  # smaller numbers have few digits in float16, whatever makes them
        if half and name == "acosh":
            counted &= CASES[name][1][0].numpy() > 1.02
        each_is_near(np.where(counted, found, expected), expected, relative, f"{name} as {to} {precision}")
    stored = tmp_path / {"onnx": "a.onnx", "mlprogram": "a.mlpackage", "neuralnetwork": "a.mlmodel"}[to]
    made.save(stored)
    verified = cp.verify(source, stored, {f.name: t.numpy() for f, t in zip(source.signature.inputs, fed, strict=True)})
    assert verified, [f"{r.operator} {r.candidate}: {r.judgement.problem}" for r in verified.rows if not r.agrees]


@pytest.mark.sweep(1)
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
    same = torch.tensor([float("inf"), -float("inf"), 0.0])
    functions = (torch.log1p, torch.expm1, torch.special.erfc, torch.nn.functional.logsigmoid)
    module = Called(lambda x, same: (*(function(x) for function in functions), torch.logaddexp(same, same)))
    exported = torch_to_onnx(TorchModel(module, (x, same), name="net"))
    with session(exported) as running:
        found = running.run({f.name: t.numpy() for f, t in zip(exported.signature.inputs, (x, same), strict=True)})
    for value, expected in zip(found.values(), module(x, same), strict=True):
        np.testing.assert_allclose(value, expected.numpy(), rtol=1e-5)
