"""A reference is held against a compressed candidate with the numbers that are stored; what compressing costs is said apart."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import coreproof as cp
from coreproof.conversion.convert import convert as translate
from coreproof.editing.edit import Edit, edit
from coreproof.model.base import Model
from coreproof.model.layer_weights import all_weights
from coreproof.model.onnx.model import OnnxModel
from coreproof.model.other_weights import with_weights
from coreproof.model.torch.model import TorchModel
from coreproof.verification.compressed_weights import _GATES, _Order
from coreproof.verification.verify import verify
from coreproof.verification.weaknesses import weaknesses_of
from tests.build import graph_model


class Folded(nn.Module):
    """Normalisations that a converter folds into weights, along the first axis and along the second."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 16, 3, padding=1), nn.BatchNorm2d(16)
        self.up, self.fc = nn.ConvTranspose2d(16, 8, 2, stride=2), nn.Linear(8, 10)
        with torch.no_grad():
            self.norm.running_var.uniform_(0.2, 3)
            self.norm.running_mean.normal_()
            self.norm.weight.uniform_(-2, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.fc(self.up(torch.relu(self.norm(self.conv(x)))).mean((2, 3)))
        return out


class Tied(nn.Module):
    """A table of words that is the classifier too, around an LSTM, whose gates stand in another order in each format."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.lstm = nn.Embedding(200, 32), nn.LSTM(32, 48, batch_first=True)
        self.narrow, self.scores = nn.Linear(48, 32), nn.Linear(32, 200, bias=False)
        self.scores.weight = self.words.weight

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.scores(self.narrow(self.lstm(self.words(x))[0]))
        return out


class Square(nn.Module):
    """Weights of one size, as [64, 32] and as [32, 64]."""

    def __init__(self) -> None:
        super().__init__()
        self.wide, self.narrow = nn.Linear(32, 64), nn.Linear(64, 32)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.narrow(torch.tanh(self.wide(x)))
        return out


NETS: dict[str, tuple[Callable[[], nn.Module], Callable[[], torch.Tensor]]] = {
    "folded": (Folded, lambda: torch.randn(1, 3, 16, 16)),
    "tied": (Tied, lambda: torch.randint(0, 200, (1, 12))),
    "square": (Square, lambda: torch.randn(5, 32)),
}


def source(name: str) -> TorchModel:
    torch.manual_seed(0)
    module, example = NETS[name]
    return TorchModel(module().eval(), (example(),), name=name)


@pytest.fixture(scope="module", params=[(n, s) for n in NETS for s in ("prune:0.5", "palettize:4")], ids="-".join)
def compressed(request: pytest.FixtureRequest) -> tuple[TorchModel, Model]:
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    name, scheme = request.param
    module = source(name)
    return module, cp.convert(module, "mlprogram", compress=scheme, check=False)


@pytest.mark.sweep(2)
@pytest.mark.parametrize("reference", ["torch", "onnx", "mlprogram"])
def test_every_format_of_the_source_is_judged_by_rounding_alone(
    reference: Any, compressed: tuple[TorchModel, Model]
) -> None:
    module, made = compressed
    held = module if reference == "torch" else translate(module, reference)
    found = verify(held, made)
    assert found, found.summary()
    # float16's rounding over a few layers, where compression alone moves an output by far more
    assert max(row.tolerance.typical or 0.0 for row in found.rows) < 0.02
    assert found.loss is not None
    assert found.loss.share > 0.03
    assert found.proves == (found.loss.share < 0.5)
    assert "compressed weights change output" in found.summary().splitlines()[0]
    # the source itself is as it was
    assert verify(held, translate(module, "mlprogram")).loss is None


@pytest.mark.thorough
def test_the_doctor_comes_to_the_same_conclusion(compressed: tuple[TorchModel, Model]) -> None:
    module, made = compressed
    found, diagnosis = verify(translate(module, "onnx"), made), cp.diagnose(made, module)
    assert (diagnosis.healthy is True) == found.proves
    assert diagnosis.healthy is not False
    assert diagnosis.verification is not None
    assert diagnosis.verification.loss is not None
    assert found.loss is not None
    assert diagnosis.verification.loss.share == pytest.approx(found.loss.share, rel=1e-3)


@pytest.mark.thorough
@pytest.mark.parametrize("scheme", ["prune:0.5", "palettize:4"])
def test_what_is_wrong_besides_is_not_hidden_by_the_compression(scheme: str) -> None:
    module = source("square")
    made = cp.convert(module, "mlprogram", compress=scheme, check=False)
    layer = next(node.name for node in made.graph.nodes if node.operator == "linear")
    bias = next(w for name, w in all_weights(made)[layer].items() if name == "bias").read()
    # a third of the size of what compression alone does to the value
    wrong = edit(made, [Edit("set", {"layer": layer, "attribute": "bias", "value": bias + np.float16(0.03)})]).model
    assert not verify(module, wrong)
    diagnosis = cp.diagnose(wrong, module)
    assert [(f.layer, f.repaired) for f in diagnosis.faults] == [(layer, True)]


@pytest.mark.thorough
@pytest.mark.parametrize("target", ["onnx", "mlprogram", "neuralnetwork"])
def test_other_numbers_are_what_a_model_runs_with_and_the_given_one_keeps_its_own(target: Any) -> None:
    module = source("square")
    model: Model = translate(module, target, precision="float32")
    x = module.examples
    names = [w.constant for ws in all_weights(model).values() for w in ws.values() if w.constant and w.size == 2048]
    assert len(names) == 2
    before = cp.session(model).run(dict(zip([f.name for f in model.signature.inputs], x.values(), strict=True)))
    name = names[0]
    assert name is not None
    shape = next(w.shape for ws in all_weights(model).values() for w in ws.values() if w.constant == name)
    other, done = with_weights(model, {name: np.zeros(shape), "nobody": np.zeros(3)})
    assert done == {name}
    fed = dict(zip([f.name for f in model.signature.inputs], x.values(), strict=True))
    (own,), (moved,) = before.values(), cp.session(other).run(fed).values()
    np.testing.assert_array_equal(own, next(iter(cp.session(model).run(fed).values())))
    # without the first weight every row is the same
    assert np.ptp(np.asarray(moved), axis=0).max() < 1e-6 < np.ptp(np.asarray(own), axis=0).max()


@pytest.mark.parametrize(
    "order", [_Order(), _Order((0, 1)), _Order((-1, -2)), *(_Order(None, gates) for gates in _GATES)], ids=str
)
def test_an_order_is_undone(order: _Order) -> None:
    weight = np.random.default_rng(0).normal(size=(12, 5, 3))
    shape = order.of(weight, weight.shape).shape
    np.testing.assert_array_equal(order.back(order.of(weight, shape), weight.shape), weight)


def _recurrent(operator: str, gates: tuple[int, ...]) -> OnnxModel:
    """One recurrent layer as ONNX has it, x float32[6, 1, 16] to [6, 1, 1, 64], with these of its gates' recurrent weights."""
    rng = np.random.default_rng(3)
    w, r = (rng.uniform(-0.3, 0.3, (len(gates), 64, n)).astype(np.float32) for n in (16, 64))
    stored = {"w": w.reshape(1, -1, 16), "r": r[list(gates)].reshape(1, -1, 64)}
    reset = ", linear_before_reset = 1" if operator == "GRU" else ""
    text = f"net (float[6,1,16] x) => (float[6,1,1,64] y) {{ y = {operator} <hidden_size = 64{reset}> (x, w, r) }}"
    return graph_model(text, **stored)


@pytest.mark.thorough
@pytest.mark.parametrize("scheme", ["palettize:4+linear:8", "prune:0.5+linear:8"])
@pytest.mark.parametrize(("operator", "gates"), [("LSTM", (0, 1, 2, 3)), ("GRU", (0, 1, 2))])
def test_recurrent_weights_are_exchanged_in_whatever_order_their_gates_stand(
    operator: str, gates: tuple[int, ...], scheme: str
) -> None:
    source = _recurrent(operator, gates)
    made = cp.convert(source, "mlprogram", precision="fp32", compress=scheme)
    verification = verify(source, made)
    assert verification.agrees, str(verification)
    # with the stored numbers on both sides nothing but float32's rounding is left
    assert all(row.judgement.rms_relative_error < 1e-5 for row in verification.rows)
    # a gate in another's place is no matter of bits
    swapped = _recurrent(operator, (1, 0, *gates[2:]))
    assert not verify(source, cp.convert(swapped, "mlprogram", precision="fp32", compress=scheme)).agrees


@pytest.mark.thorough
@pytest.mark.parametrize("scheme", ["linear:8", "palettize:4"])
@pytest.mark.parametrize("gates", [(0, 1, 2), (2, 0, 1)])
def test_gates_that_are_written_out_step_by_step_are_exchanged_too(gates: tuple[int, ...], scheme: Any) -> None:
    """Before iOS 17 a GRU is written out: each gate's numbers stand by themselves, once for every step that reads them."""
    source = _recurrent("GRU", gates)
    made = cp.convert(source, "mlprogram", precision="fp32", compress=scheme, target="iOS16")
    assert "gru" not in {node.operator for node in made.graph.nodes}
    found = verify(source, made)
    assert found.agrees, found.summary()
    assert not found.compressed.unexplained
    assert found.compressed.exchanged == found.compressed.explained.keys()
    assert all(row.judgement.rms_relative_error < 1e-5 for row in found.rows)
    swapped = _recurrent("GRU", (gates[1], gates[0], gates[2]))
    assert not verify(
        source, cp.convert(swapped, "mlprogram", precision="fp32", compress=scheme, target="iOS16")
    ).agrees


def test_a_weight_that_its_bits_do_not_explain_is_in_the_first_sentence_where_values_agree() -> None:
    rows = ()
    said = weaknesses_of(rows, 3, untrained=False, unexplained={"linear_1": "", "linear_2": "row 0 holds zeros"})
    assert [(w.kind, w.fails) for w in said] == [("compression", True)]
    assert said[0].text == (
        "2 compressed weights differ from the other side's by more than bits explain: 'linear_1', 'linear_2' "
        "(in 'linear_2' row 0 holds zeros)"
    )


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_a_row_of_a_pruned_weight_that_is_another_is_no_factor_of_all_rows(precision: Any) -> None:
    """Numbers that pruning keeps are known to float16: what they are off by is a factor of one row, and not of most."""
    weight = (0.2 * np.random.default_rng(0).normal(size=(32, 24))).astype(np.float32)
    text = "net (float[6,32] x) => (float[6,24] y) { y = MatMul(x, w) }"
    source = graph_model(text, w=weight)
    good = cp.convert(source, "mlprogram", precision=precision, compress="prune:0.5")
    assert verify(source, good).agrees
    other = weight.copy()
    other[:, 3] *= 1.05
    bad = cp.convert(graph_model(text, w=other), "mlprogram", precision=precision, compress="prune:0.5")
    assert not verify(source, bad).agrees
    # a normalisation that a converter folded into all rows is still found
    folded = weight * np.random.default_rng(1).uniform(0.5, 2.0, 24).astype(np.float32)
    normed = "net (float[6,32] x) => (float[6,24] y) { a = MatMul(x, w) y = Mul(a, k) }"
    made = cp.convert(graph_model(text, w=folded), "mlprogram", precision=precision, compress="prune:0.5")
    known = graph_model(normed, w=weight, k=(folded / weight).mean(0))
    assert verify(known, made).compressed.pruned
