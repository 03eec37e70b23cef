"""LSTM, GRU and RNN of PyTorch at every form that the layer has, fixed and of free length, after one another in one process."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

import coreproof as cp

KINDS = {
    "lstm": (torch.nn.LSTM, {}),
    "projected": (torch.nn.LSTM, {"proj_size": 3}),
    "gru": (torch.nn.GRU, {}),
    "tanh": (torch.nn.RNN, {}),
    "relu": (torch.nn.RNN, {"nonlinearity": "relu"}),
}


class Layer(torch.nn.Module):
    def __init__(self, kind: str, **more: bool | int) -> None:
        super().__init__()
        make, own = KINDS[kind]
        self.layer = make(4, 5, **own, **more)

    def forward(self, x, *states):  # type: ignore[no-untyped-def]
        given = (states[0] if len(states) == 1 else states) if states else None
        out, last = self.layer(x, given)
        return (out, *last) if isinstance(last, tuple) else (out, last)


def example(
    kind: str, layers: int, directions: int, batch_first: bool, length: int, stated: bool
) -> list[torch.Tensor]:
    given = [torch.randn((2, length, 4) if batch_first else (length, 2, 4))]
    if stated:
        sizes = {"lstm": (5, 5), "projected": (3, 5)}.get(kind, (5,))
        given += [torch.randn(layers * directions, 2, size) for size in sizes]
    return given


@pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN")
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("both", "batch_first", "stated"), list(itertools.product([False, True], repeat=3)))
def test_a_layer_answers_as_pytorch_does(kind: str, both: bool, batch_first: bool, stated: bool) -> None:
    torch.manual_seed(1)
    layers = 2 if both else 1
    layer = Layer(kind, bidirectional=both, batch_first=batch_first, num_layers=layers, bias=not stated).eval()
    given = example(kind, layers, 2 if both else 1, batch_first, 6, stated)
    source = cp.load((layer, tuple(given)))
    # a first export of a fixed length must not fix the next one
    fixed = cp.convert(source, "mlprogram", precision="fp32")
    assert cp.verify(source, fixed).agrees
    name = source.signature.inputs[0].name
    shape = [2, (1, 9), 4] if batch_first else [(1, 9), 2, 4]
    free = cp.convert(cp.load((layer, tuple(given))), "mlprogram", precision="fp32", shapes={name: shape})
    for length in (1, 4, 6, 9):
        fed = example(kind, layers, 2 if both else 1, batch_first, length, stated)
        with torch.no_grad():
            expected = layer(*fed)
        with cp.session(free) as running:
            names = [f.name for f in free.signature.inputs]
            found = running.run({n: t.numpy() for n, t in zip(names, fed, strict=True)})
        for value, want in zip(found.values(), expected, strict=True):
            np.testing.assert_allclose(value, want.numpy(), rtol=1e-4, atol=1e-5)


def test_the_layer_is_as_it_was_after_an_export() -> None:
    kinds = (torch.ops.aten.lstm.input, torch.ops.aten.rnn_tanh.input)
    before = [dict(kind.py_kernels) for kind in kinds]
    cp.convert((Layer("tanh").eval(), (torch.randn(3, 2, 4),)), "onnx")
    assert [dict(kind.py_kernels) for kind in kinds] == before
