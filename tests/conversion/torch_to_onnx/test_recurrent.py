"""LSTM, GRU and RNN of PyTorch at every form that the layer has, fixed and of free length, after one another in one process."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
import torch

import coreproof as cp
from coreproof.conversion.torch_to_onnx.export import torch_to_onnx
from coreproof.errors import ConversionError

KINDS = {
    "lstm": (torch.nn.LSTM, {}),
    "projected": (torch.nn.LSTM, {"proj_size": 3}),
    "gru": (torch.nn.GRU, {}),
    "tanh": (torch.nn.RNN, {}),
    "relu": (torch.nn.RNN, {"nonlinearity": "relu"}),
}


FORMS = list(itertools.product([False, True], repeat=3))
"""In both directions and with two layers; the batch first; with states given, and no bias then."""
STATES = {"lstm": (5, 5), "projected": (3, 5)}


class Layers(torch.nn.Module):
    """A kind in all its forms, so that one export serves them all: (y, states...) of each."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        make, own = KINDS[kind]
        self.layers = torch.nn.ModuleList(
            make(4, 5, **own, bidirectional=both, batch_first=first, num_layers=2 if both else 1, bias=not stated)
            for both, first, stated in FORMS
        )

    def forward(self, by_batch, by_time, *states):  # type: ignore[no-untyped-def]
        results, left = [], list(states)
        for layer, (_, first, stated) in zip(self.layers, FORMS, strict=True):
            count = (2 if layer.mode == "LSTM" else 1) if stated else 0
            given, left = left[:count], left[count:]
            y, last = layer(
                by_batch if first else by_time, None if not given else given[0] if count == 1 else tuple(given)
            )
            results += [y, *(last if isinstance(last, tuple) else (last,))]
        return tuple(results)


def example(kind: str, length: int) -> tuple[torch.Tensor, ...]:
    sequences = torch.randn(2, length, 4), torch.randn(length, 2, 4)
    stated = [4 if both else 1 for both, _, stated in FORMS if stated]
    return (*sequences, *(torch.randn(count, 2, size) for count in stated for size in STATES.get(kind, (5,))))


@pytest.mark.sweep(1)
@pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN")
@pytest.mark.parametrize("kind", KINDS)
def test_a_layer_answers_as_pytorch_does(kind: str) -> None:
    torch.manual_seed(1)
    layers = Layers(kind).eval()
    given = example(kind, 6)
    source = cp.load((layers, given))
    # a first export of a fixed length must not fix the next one
    fixed = cp.convert(source, "mlprogram", precision="fp32")
    fed = {f.name: tensor.numpy() for f, tensor in zip(source.signature.inputs, given, strict=True)}
    assert cp.verify(source, fixed, fed).agrees
    by_batch, by_time = (feature.name for feature in source.signature.inputs[:2])
    shapes = {by_batch: [2, (1, 9), 4], by_time: [(1, 9), 2, 4]}
    free = cp.convert(cp.load((layers, given)), "mlprogram", precision="fp32", shapes=shapes)
    names = [f.name for f in free.signature.inputs]
    results = ["y", *["last"] * len(STATES.get(kind, (5,)))]
    with cp.session(free) as running:
        for length in (1, 4, 6, 9):
            drawn = example(kind, length)
            with torch.no_grad():
                expected = layers(*drawn)
            found = running.run({n: t.numpy() for n, t in zip(names, drawn, strict=True)})
            said = [f"{kind} {form} {result}" for form in FORMS for result in results]
            for value, want, what in zip(found.values(), expected, said, strict=True):
                np.testing.assert_allclose(value, want.numpy(), rtol=1e-4, atol=1e-5, err_msg=what)


def test_the_layer_is_as_it_was_after_an_export() -> None:
    kinds = (torch.ops.aten.lstm.input, torch.ops.aten.rnn_tanh.input)
    before = [dict(kind.py_kernels) for kind in kinds]
    apart = dict(torch._decomp.decomposition_table)
    cp.convert((torch.nn.RNN(4, 5).eval(), (torch.randn(3, 2, 4),)), "onnx")
    assert [dict(kind.py_kernels) for kind in kinds] == before
    assert torch._decomp.decomposition_table == apart


@pytest.mark.sweep(1)
@pytest.mark.parametrize("free", [None, {"input": {1: "length"}}], ids=["fixed", "free"])
@pytest.mark.parametrize("kind", [torch.nn.LSTM, torch.nn.GRU, torch.nn.RNN])
def test_no_step_of_the_example_is_walked_through(
    kind: type[torch.nn.RNNBase], free: dict[str, dict[int, str]] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A sequence of a thousand steps is exported as quickly as one of three."""
    monkeypatch.setattr(torch._decomp.decompositions, "_rnn_helper", lambda *_: pytest.fail("step by step"))
    source = cp.load((kind(4, 5, batch_first=True).eval(), (torch.randn(2, 3, 4),)))
    exported = torch_to_onnx(source, free=free)
    assert not exported.notes, "by the current exporter"
    assert sum(node.op_type == kind.__name__ for node in exported.ir.graph) == 1


class Packed(torch.nn.Module):
    """Sequences of several lengths in one batch, as recurrent networks of PyTorch are commonly fed."""

    def __init__(self, kind: type[torch.nn.RNNBase], both: bool, total: int | None) -> None:
        super().__init__()
        self.layer = kind(4, 5, batch_first=True, bidirectional=both)
        self.total = total

    def forward(self, x: torch.Tensor, lengths: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        packed = torch.nn.utils.rnn.pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
        steps, last = self.layer(packed)
        if self.total is None:
            return torch.nn.utils.rnn.pad_packed_sequence(steps, batch_first=True)[0], last
        padded, _ = torch.nn.utils.rnn.pad_packed_sequence(steps, batch_first=True, total_length=self.total)
        return padded, last[0] if isinstance(last, tuple) else last


@pytest.mark.thorough
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("both", [False, True])
@pytest.mark.parametrize("kind", [torch.nn.LSTM, torch.nn.GRU, torch.nn.RNN])
def test_packed_sequences_have_the_lengths_that_are_fed(kind: type[torch.nn.RNNBase], both: bool) -> None:
    torch.manual_seed(1)
    model, x = Packed(kind, both, 6).eval(), torch.randn(3, 6, 4)
    source = cp.load(cp.Source(model, (x, torch.tensor([6, 4, 2]))))
    converted = cp.convert(source, "mlprogram", precision="fp32")
    assert "checked: ran once on its example inputs" in converted.notes[-1]
    assert cp.verify(source, converted).agrees
    with cp.session(converted) as running:
        for lengths in ([6, 4, 2], [1, 6, 3], [2, 2, 1]):
            found = running.run({"x": x.numpy(), "lengths": np.array(lengths, np.int32)})
            with torch.no_grad():
                expected = model(x, torch.tensor(lengths))
            for value, want in zip(found.values(), expected, strict=True):
                np.testing.assert_allclose(value, want.numpy(), rtol=1e-4, atol=1e-5, err_msg=str(lengths))


class LastStates(torch.nn.Module):
    """A classifier of texts as most write it: the last states of both directions, and nothing of the steps."""

    def __init__(self, kind: type[torch.nn.RNNBase]) -> None:
        super().__init__()
        self.words = torch.nn.Embedding(30, 5)
        self.layer = kind(5, 7, num_layers=2, batch_first=True, bidirectional=True)
        self.head = torch.nn.Linear(14, 3)

    def forward(self, ids: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        packed = torch.nn.utils.rnn.pack_padded_sequence(
            self.words(ids), lengths, batch_first=True, enforce_sorted=False
        )
        _, last = self.layer(packed)
        hidden = last[0] if isinstance(last, tuple) else last
        scores: torch.Tensor = self.head(torch.cat([hidden[-2], hidden[-1]], dim=1))
        return scores


@pytest.mark.thorough
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", [torch.nn.LSTM, torch.nn.GRU, torch.nn.RNN])
@pytest.mark.parametrize(("to", "precision"), [("mlprogram", "fp32"), ("mlprogram", "fp16"), ("neuralnetwork", None)])
def test_the_last_states_of_a_packed_sequence_alone(kind: type[torch.nn.RNNBase], to: Any, precision: Any) -> None:
    torch.manual_seed(2)
    model, ids = LastStates(kind).eval(), torch.randint(0, 30, (4, 6))
    source = cp.load(cp.Source(model, (ids, torch.tensor([6, 4, 2, 1]))))
    converted = cp.convert(source, to, **({} if precision is None else {"precision": precision}))
    assert [f.name for f in converted.signature.outputs] == [f.name for f in source.signature.outputs]
    assert cp.verify(source, converted).agrees
    with cp.session(converted) as running:
        for lengths in ([6, 4, 2, 1], [1, 6, 3, 6], [2, 2, 1, 5]):
            (found,) = running.run(
                {"ids": ids.numpy().astype(np.int32), "lengths": np.array(lengths, np.int32)}
            ).values()
            with torch.no_grad():
                expected = model(ids, torch.tensor(lengths)).numpy()
            np.testing.assert_allclose(
                found, expected, atol=2e-3 if precision == "fp16" else 1e-5, err_msg=str(lengths)
            )


def test_sequences_that_are_padded_to_the_longest_are_named() -> None:
    """How long the result is, is data: an exported program has one length."""
    given = (torch.randn(3, 6, 4), torch.tensor([6, 4, 2]))
    with pytest.raises(ConversionError, match=r"6 steps, the longest sequence[\s\S]*total_length=x.shape"):
        cp.convert(Packed(torch.nn.GRU, False, None).eval(), "mlprogram", example=given)
