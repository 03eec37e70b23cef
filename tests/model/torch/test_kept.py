"""What a first call hangs on a module's parts is taken off again with the note that it hangs: nothing is hung on twice."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import coreproof as cp

torch = pytest.importorskip("torch", reason="needs the torch extra")


class Watched(torch.nn.Module):  # type: ignore[misc,name-defined]
    """As transformers captures hidden states: hooks on the layers, hung as the model is first called."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = torch.nn.ModuleList(torch.nn.Linear(4, 4) for _ in range(2))
        self.doubled = self.layers[0].register_forward_hook(lambda _, given, made: 2 * made)

    def forward(self, x: Any) -> Any:
        if not getattr(self, "hung", False):
            for layer in self.layers:
                layer.register_forward_hook(lambda _, given, made: self.seen.append(made))
            self.hung = True
        self.seen: list[Any] = []
        for layer in self.layers:
            x = layer(x).tanh()
        return torch.cat(self.seen, -1)


def test_hooks_of_a_first_call_are_not_hung_twice() -> None:
    torch.manual_seed(0)
    module, x = Watched().eval(), torch.linspace(-1, 1, 8).reshape(2, 4)
    source = cp.load((module, (x,)))
    model = cp.convert(source, "mlprogram", precision="fp32")
    assert [f.shape for f in model.signature.outputs] == [(2, 8)]
    with cp.session(model) as running:
        (found,) = running.run({"x": x.numpy()}).values()
    assert cp.verify(source, model)
    with torch.no_grad():
        np.testing.assert_allclose(found, module(x).numpy(), rtol=1e-5, atol=1e-6)
