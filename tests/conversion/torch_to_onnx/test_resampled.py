"""Nearest resizing by any factor: which element each result is, and what a model exported with it answers, as PyTorch says."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import coreproof as cp

torch = pytest.importorskip("torch", reason="needs the torch extra")


class Resized(torch.nn.Module):
    """``interpolate`` with what it is given."""

    def __init__(self, **how: Any) -> None:
        super().__init__()
        self.how = how

    def forward(self, x: Any) -> Any:
        return torch.nn.functional.interpolate(x, **self.how) + 0.5


@pytest.mark.parametrize(("mode", "middle"), [("nearest", 0.0), ("nearest-exact", 0.5)])
def test_each_result_is_the_element_that_pytorch_takes(mode: str, middle: float) -> None:
    from coreproof.conversion.torch_to_onnx.resampled import Resizing

    for n in (1, 2, 3, 7, 20, 50, 64, 127):
        x = torch.arange(n, dtype=torch.float32)[None, None]
        factors = [tenth / 10 for tenth in range(3, 60)] + [7.0, 9.0, 49.0, 1 / 3]
        for factor, size in [(f, None) for f in factors] + [(None, m) for m in range(1, 5 * n, max(n // 5, 1))]:
            if factor is not None and int(n * factor) < 1:
                continue
            expected = torch.nn.functional.interpolate(x, size=size, scale_factor=factor, mode=mode).numpy().ravel()
            target = int(n * factor) if size is None else size
            found = Resizing(2, n, target, factor, middle, False).elements
            np.testing.assert_array_equal(found, expected, err_msg=f"{n} by {factor} or to {size}")


FORMS: list[tuple[tuple[int, ...], dict[str, Any]]] = [
    ((50,), {"scale_factor": 4.8}),
    ((50,), {"size": 240}),
    ((5,), {"scale_factor": 2}),
    ((40, 20), {"scale_factor": (1.3, 2.4)}),
    ((40, 20), {"size": [53, 31]}),
    ((4, 5), {"scale_factor": (2.0, 3.0)}),
    ((4, 4), {"scale_factor": (1.2, 1.2)}),
    ((4, 4), {"scale_factor": (3.2, 2.2)}),
    ((4, 9), {"scale_factor": (0.5, 0.7)}),
    ((4, 9), {"size": (4, 27)}),
    ((11, 9), {"scale_factor": 1.7, "recompute_scale_factor": True}),
    ((4, 9, 3), {"scale_factor": (2, 1.7, 1)}),
    ((4, 9, 3), {"size": (2, 9, 3)}),
]


@pytest.mark.sweep(1)
@pytest.mark.parametrize("mode", ["nearest", "nearest-exact"])
@pytest.mark.parametrize(("lengths", "how"), FORMS, ids=str)
def test_a_model_answers_as_its_module(lengths: tuple[int, ...], how: dict[str, Any], mode: str) -> None:
    x = torch.randn(1, 2, *lengths, generator=torch.Generator().manual_seed(0))
    module = Resized(mode=mode, **how).eval()
    for to in ("onnx", "mlprogram"):
        made = cp.convert(module, to, example=x, **({} if to == "onnx" else {"precision": "fp32"}))
        with cp.session(made) as running:
            (found,) = running.run({"x": x.numpy()}).values()
        np.testing.assert_array_equal(found, module(x).numpy())


@pytest.mark.sweep(1)
@pytest.mark.parametrize("mode", ["nearest", "nearest-exact"])
@pytest.mark.parametrize(
    "how",
    [{"scale_factor": (1.7, 2.4)}, {"scale_factor": (2, 1.3)}, {"scale_factor": (3, 2)}, {"size": (30, 30)}],
    ids=str,
)
def test_free_lengths_are_resized_as_the_module_does(how: dict[str, Any], mode: str) -> None:
    module = Resized(mode=mode, **how).eval()
    example, shapes = torch.ones(1, 2, 20, 24), {"x": [1, 2, (10, 40), (10, 40)]}
    made = cp.convert(module, "mlprogram", example=example, precision="fp32", shapes=shapes)
    with cp.session(made) as running:
        for size in ((20, 24), (10, 40), (37, 11), (25, 25)):
            x = torch.randn(1, 2, *size, generator=torch.Generator().manual_seed(0))
            (found,) = running.run({"x": x.numpy()}).values()
            np.testing.assert_array_equal(found, module(x).numpy())
