"""A number that cuts out a part is drawn over all lengths that the part may have, and several of them are fed."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest

from coreproof.conversion.convert import convert
from coreproof.feeding.drawn import several
from coreproof.feeding.roles.find import roles_of
from coreproof.verification.verify import verify
from tests.build import graph_model as model

torch = pytest.importorskip("torch", reason="needs the torch extra")
import coreproof as cp  # noqa: E402 - behind the question whether there is PyTorch


@pytest.mark.parametrize(
    ("body", "low", "high"),
    [
        ("y = Slice(x, zero, k, one)", 1, 12),
        ("y = Slice(x, three, k, one)", 4, 12),
        ("y = Slice(x, back, k, one)", 10, 12),
        ("y = Slice(x, k, end, one)", 0, 11),
        ("y = Slice(x, k, three, one)", 0, 2),
        ("y = Slice(x, k, back, one)", 0, 8),
        ("n = Neg(k)  y = Slice(x, n, end, one)", 1, 12),
        ("n = Neg(k)  y = Slice(x, zero, n, one)", 1, 11),
        ("n = Add(k, one)  y = Slice(x, zero, n, one)", 0, 11),
        ("v, i = TopK<axis=1>(x, k)  y = Identity(v)", 1, 12),
        ("s = Squeeze(k)  r = Range(nought, s, step)  y = Gather<axis=1>(x, r)", 1, 12),
    ],
)
def test_a_part_may_have_any_length_that_is_there(body: str, low: int, high: int) -> None:
    constants: dict[str, Any] = {
        "zero": np.array([0]), "one": np.array([1]), "three": np.array([3]), "back": np.array([-3]),
        "end": np.array([2**62]), "nought": np.int64(0), "step": np.int64(1),
    }  # fmt: skip
    used = {name: value for name, value in constants.items() if re.search(rf"\b{name}\b", body)}
    made = model(f"net (float[2,12] x, int64[1] k) => (float[2,n] y) {{ {body} }}", 17, **used)
    role = roles_of(made)["k"]
    assert (role.kind, role.low, role.high) == ("length", low, high)
    drawn = {int(np.asarray(sample["k"])[0]) for sample, _ in several(made, made).pairs}
    assert {low, high} < drawn
    found = verify(made, convert(made, "mlprogram", precision="fp32"))
    assert found, found.summary()


@pytest.mark.thorough
@pytest.mark.parametrize("axis", [1, 2])
@pytest.mark.parametrize("strided", [False, True])
def test_a_length_that_is_divided_first_counts_along_its_own_axis(axis: int, strided: bool) -> None:
    class Kept(torch.nn.Module):  # type: ignore[misc, name-defined]
        def forward(self, x: Any, length: Any) -> Any:
            steps = (length // 4).clamp(1, 24) if strided else length
            shape = [1, -1, 1] if axis == 1 else [1, 1, -1]
            return x * (torch.arange(24).reshape(shape) < steps.reshape(1, 1, 1))

    width = [1, 24, 3] if axis == 1 else [1, 3, 24]
    source = cp.load(cp.Source(Kept(), (torch.randn(width), torch.tensor([40 if strided else 10]))))
    made = convert(source, "onnx")
    for model_of_it in (source, made):
        role = roles_of(model_of_it)["length"]
        assert (role.kind, role.low // 4 if strided else role.low) == ("length", 1)
        assert role.high in ((96, 99) if strided else (24,))
    found = verify(source, made)
    assert found, found.summary()


class Cut(torch.nn.Module):  # type: ignore[misc, name-defined]
    def __init__(self, form: str) -> None:
        super().__init__()
        self.form = form

    def forward(self, x: Any, k: Any) -> Any:
        n = k.item()
        torch._check(n >= 1)
        torch._check(n <= 11)
        if self.form == "first":
            return x[:, :n]
        if self.form == "last":
            return x[:, -n:]
        if self.form == "narrow":
            return x.narrow(1, 0, n)
        return x[:, n] * 2.0  # the one at that place


@pytest.mark.parametrize("form", ["first", "last", "narrow", "at"])
def test_of_a_module_it_is_the_same(form: str) -> None:
    source = cp.load(cp.Source(Cut(form), (torch.randn(1, 12), torch.tensor(5))))
    made = convert(source, "onnx")
    drawn = [dict(sample) for sample, _ in several(source, made).pairs]
    lengths = {int(np.asarray(sample["k"])) for sample in drawn}
    assert len(lengths) > 1
    assert max(lengths) >= 11
    found = verify(source, made)
    assert found, found.summary()
