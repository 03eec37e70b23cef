"""torch.cond, while_loop and scan: branches and loops of ONNX and of an ML Program, which answer as the module does."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import coreproof as cp

torch = pytest.importorskip("torch", reason="needs the torch extra")
X = torch.tensor([[1.0, -2.0, 3.0, 0.5]])


class Cond(torch.nn.Module):  # type: ignore[misc,name-defined]
    def forward(self, x: Any) -> Any:
        return torch.cond(x.sum() > 0, lambda x: x * 2, lambda x: x - 1, (x,))


class Closure(torch.nn.Module):  # type: ignore[misc,name-defined]
    """The branches read a layer, a buffer and a value from outside."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.linear = torch.nn.Linear(4, 4)
        self.register_buffer("shift", torch.arange(4.0))

    def forward(self, x: Any) -> Any:
        y = x * 3

        def true(x: Any) -> Any:
            return self.linear(x) + y

        def false(x: Any) -> Any:
            return x.sin() - y + self.shift

        return torch.cond(x.mean() > 0, true, false, (x,))


class Nested(torch.nn.Module):  # type: ignore[misc,name-defined]
    def forward(self, x: Any) -> Any:
        def true(x: Any) -> Any:
            return torch.cond(x.max() > 5, lambda x: x + 10, lambda x: x + 20, (x,))

        return torch.cond(x.sum() > 0, true, lambda x: x - 1, (x,))


class Several(torch.nn.Module):  # type: ignore[misc,name-defined]
    """More than one result, by a condition that is fed."""

    def forward(self, x: Any, flag: Any) -> Any:
        a, b = torch.cond(flag.any(), lambda x: (x + 1, x.relu()), lambda x: (x - 1, x.tanh()), (x,))
        return a * b, b


class While(torch.nn.Module):  # type: ignore[misc,name-defined]
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.linear = torch.nn.Linear(4, 4)

    def forward(self, x: Any) -> Any:
        from torch._higher_order_ops.while_loop import while_loop

        (y,) = while_loop(lambda y: y.sum() < 100, lambda y: (y.abs() + 1 + self.linear(y).abs(),), (x,))
        return y


class Scan(torch.nn.Module):  # type: ignore[misc,name-defined]
    def __init__(self, reverse: bool = False) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.linear = torch.nn.Linear(4, 4)
        self.reverse = reverse

    def forward(self, x: Any, h: Any) -> Any:
        from torch._higher_order_ops.scan import scan

        def step(carry: Any, row: Any) -> Any:
            carry = torch.tanh(self.linear(carry) + row)
            return carry, (carry * 2).sum(-1)

        return scan(step, h, x, dim=0, reverse=self.reverse)


ROWS = torch.linspace(-1, 1, 40).reshape(5, 2, 4)
H = torch.zeros(2, 4)
CASES: dict[str, tuple[Any, list[tuple[Any, ...]], str, str | None]] = {
    "cond": (Cond(), [(X,), (-X,)], "If", "cond"),
    "closure": (Closure(), [(X,), (-X,)], "If", "cond"),
    "nested": (Nested(), [(X,), (3 * X,), (-X,)], "If", "cond"),
    "several": (Several(), [(X, torch.tensor([True])), (X, torch.tensor([False]))], "If", "cond"),
    "while": (While(), [(X,), (90 * X,)], "Loop", "while_loop"),
    "scan": (Scan(), [(ROWS, H), (-ROWS, H + 1)], "Scan", None),  # written out: its length is known
    "scan back": (Scan(reverse=True), [(ROWS, H), (-ROWS, H + 1)], "Scan", None),
}


@pytest.mark.thorough
@pytest.mark.parametrize("name", CASES)
def test_each_way_is_taken_as_the_module_takes_it(name: str) -> None:
    module, feeds, onnx, mil = CASES[name]
    exported = cp.convert(module, "onnx", example=feeds[0])
    program = cp.convert(exported, "mlprogram", precision="fp32")  # from the module itself: the next test
    assert onnx in {node.operator for node in exported.graph.nodes}
    assert mil is None or mil in {node.operator for node in program.graph.nodes}
    for fed in feeds:
        with torch.no_grad():
            expected = module(*fed)
        expected = expected if isinstance(expected, tuple) else (expected,)
        for model in (exported, program):
            names = [f.name for f in model.signature.inputs]
            with cp.session(model) as running:
                found = running.run({n: t.numpy() for n, t in zip(names, fed, strict=True)})
            for value, known in zip(found.values(), expected, strict=True):
                assert np.allclose(value, known.numpy(), atol=1e-5)


class Settled(torch.nn.Module):  # type: ignore[misc,name-defined]
    """The largest eigenvalue by repeated products, until a norm, which is one number, changes no more."""

    def forward(self, a: Any) -> Any:
        def goes_on(turn: Any, v: Any, size: Any, change: Any) -> Any:
            return (turn < 50) & (change > 1e-3)

        def step(turn: Any, v: Any, size: Any, change: Any) -> tuple[Any, ...]:
            made = a @ v
            norm = made.norm()
            return turn + 1, made / norm, norm, (norm - size).abs()

        start = (torch.zeros((), dtype=torch.long), torch.ones(4) / 2, torch.ones(()), torch.ones(()))
        return torch.while_loop(goes_on, step, start)[1:3]


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_single_numbers_of_a_reduction_are_carried_by_a_loop(precision: Any) -> None:
    root = torch.tensor([[1.0, 0.2, 0.5, 0.1], [0.3, 0.9, 0.4, 0.6], [0.7, 0.1, 0.8, 0.2], [0.2, 0.5, 0.3, 1.1]])
    model = cp.convert(Settled(), "mlprogram", precision=precision, example=(root @ root.T,))
    for given in (root @ root.T, root.flip(1) @ root.flip(1).T + torch.eye(4)):
        with cp.session(model) as running:
            found = list(running.run({"a": given.numpy()}).values())
        near = {"fp32": 1e-4, "fp16": 2e-2}[precision]
        for value, known in zip(found, Settled()(given), strict=True):
            np.testing.assert_allclose(value.reshape(known.shape), known.numpy(), rtol=near, atol=near)


@pytest.mark.thorough
def test_a_branch_within_free_lengths_is_converted() -> None:
    model = cp.convert(Cond(), "mlprogram", precision="fp32", example=(X,), shapes={"x": [(1, 8), 4]})
    for fed in (np.ones((3, 4), np.float32), -np.ones((5, 4), np.float32)):
        with cp.session(model) as running:
            found = next(iter(running.run({"x": fed}).values()))
        assert np.array_equal(found, Cond()(torch.from_numpy(fed)).numpy())
