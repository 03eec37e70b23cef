"""What verify runs: each session is opened once, and each draw runs once on either side."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from coreproof.conversion.convert import convert
from coreproof.model import layer_weights
from coreproof.model.onnx.model import OnnxModel
from coreproof.runtime.onnxruntime import OnnxRuntimeSession
from coreproof.runtime.subgraph_pool import SubgraphPool
from coreproof.verification.verify import verify
from tests.build import graph_model


class Counted:
    """How often a session was opened, and run."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.opened = self.ran = 0
        opening, running = SubgraphPool.open, OnnxRuntimeSession._run

        def open_counted(graph: SubgraphPool, *arguments: Any, **named: Any) -> Any:
            self.opened += 1
            return opening(graph, *arguments, **named)

        def run_counted(session: OnnxRuntimeSession, running_in: Any, names: Sequence[str], arrays: Any) -> Any:
            self.ran += 1
            return running(session, running_in, names, arrays)

        monkeypatch.setattr(SubgraphPool, "open", open_counted)
        monkeypatch.setattr(OnnxRuntimeSession, "_run", run_counted)


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> Counted:
    return Counted(monkeypatch)


def net(body: str, **weights: Any) -> OnnxModel:
    return graph_model(f"net (float[1,8] x) => (float[1,8] y) {{ {body} }}", **weights)


def test_of_each_model_one_session_is_opened_and_each_draw_runs_once(counted: Counted) -> None:
    reference = net("a = Exp(x) b = Tanh(a) y = Add(a, b)")
    candidate = convert(reference, "mlprogram", precision="fp32")
    counted.opened = counted.ran = 0
    found = verify(reference, candidate)
    assert found.proves, found.summary()
    assert found.samples == 4
    assert counted.opened == 2
    assert counted.ran == 2 * 4


def test_a_draw_without_a_finite_answer_is_run_again_without_zeros_and_only_that(counted: Counted) -> None:
    """The quotient has no answer where a zero is drawn: the draws are run once in vain."""
    reference = net("a = Div(one, x) y = Abs(a)", one=np.float32(1))
    found = verify(reference, reference)
    assert found.proves, found.summary()
    assert "left out" not in found.inputs
    assert counted.opened == 2
    assert np.isfinite(found.rows[-1].judgement.high)


def test_where_no_draw_has_a_finite_answer_the_verdict_says_so(counted: Counted) -> None:
    never = net("a = Sub(x, x) y = Div(a, a)")
    found = verify(never, never)
    assert not found.proves
    assert "NaN" in found.summary().splitlines()[0]
    assert found.samples == 1
    assert "left out" not in found.inputs
    assert counted.opened == 2


def test_a_value_of_a_draw_that_was_left_out_counts_nowhere() -> None:
    """Only the zeros alone make NaN of it: the contents of all values are those of the other draws."""
    norm = net("n = ReduceL2(x, axis) y = Div(x, n)", axis=np.array([1]))
    found = verify(norm, norm)
    assert "left out, for want of a finite answer of the reference: zeros alone" in found.inputs
    assert all(row.content is not None and row.content.nan == 0 for row in found.rows)
    assert {row.content.samples for row in found.rows if row.content is not None} == {found.samples}


@pytest.mark.parametrize("layers", [4, 40])
def test_the_layers_are_walked_for_their_weights_once_however_many_there_are(
    layers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each summand that a half program stores is looked up: walking all layers for each made a chain of 5,000 endless."""
    steps = " ".join(f"v{i + 1} = Add(v{i}, w)" for i in range(layers))
    reference = net(f"v0 = Tanh(x) {steps} y = Neg(v{layers})", w=np.linspace(0.1, 0.2, 8, dtype=np.float32)[None])
    candidate = convert(reference, "mlprogram", precision="fp16")
    walked = list[object]()
    walk = layer_weights._layers
    monkeypatch.setattr(layer_weights, "_layers", lambda model: walked.append(model) or walk(model))
    assert verify(reference, candidate)
    assert len(walked) == 1
