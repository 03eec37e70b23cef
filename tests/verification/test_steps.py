"""Models that remember, held against each other token by token, each with its own memory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import coreproof as cp
from coreproof.errors import InputError
from coreproof.verification.steps import STEPS, steps_of
from tests.build import counter, onnx_net, quietly_converted
from tests.decoders import Counter, decoder, growing, torch

X = (torch.ones(1, 4),)
TOKENS = [
    {"ids": np.array([[token]]), "position": np.array([place])} for place, token in enumerate([3, 7, 1, 19, 4, 4])
]


@pytest.fixture(scope="module")
def source() -> Any:
    """The decoder, loaded: what is exported of it once serves all who read it."""
    return cp.load(decoder())


@pytest.fixture(scope="module")
def package(source: Any) -> Any:
    """What it becomes; nobody changes it."""
    return cp.convert(source, "mlprogram")


@pytest.mark.thorough
def test_a_decoder_equals_its_module_token_by_token(source: Any, package: Any) -> None:
    made = package
    assert [f.name for f in made.signature.states] == [f"layers_{i}_{n}_cache" for i in (0, 1) for n in "kv"]
    found = cp.verify(source, made, TOKENS)
    assert found.proves
    assert (found.steps, found.first_step) == (6, None)
    assert "values agree over 6 tokens" in found.summary()
    # what is remembered is compared too, and so are the layers between
    assert {row.candidate for row in found.outputs} == {
        "output",
        *(f"layers_{i}_{n}_cache_after" for i in (0, 1) for n in "kv"),
    }
    assert len(found.rows) > 40


def test_a_decoder_of_other_weights_diverges_at_the_first_token_and_its_layer_is_named(
    source: Any,
) -> None:
    net, example = decoder()
    with torch.no_grad():
        net.layers[1].out.weight += 0.1
    found = cp.verify(source, cp.convert((net, example), "mlprogram"), TOKENS)
    assert found.first_step == 1
    assert found.first_divergence is not None
    assert found.first_divergence.candidate == "linear_3"
    assert "values diverge at token 1 of 6, first 'linear_3' (linear in " in found.summary()


@pytest.mark.thorough
def test_the_first_token_that_diverges_is_named_and_not_the_first_of_all() -> None:
    class Held(Counter):
        def forward(self, x: Any) -> Any:
            self.total.add_(x)
            return torch.clamp(self.total, max=5.0) * 2

    made = cp.convert((Held().eval(), X), "mlprogram", precision="fp32")
    fed = [{"x": np.full((1, 4), 2.0, np.float32)}] * 5
    found = cp.verify((Counter().eval(), X), made, fed)
    # 2, 4, 6: the third sum is cut
    assert (found.first_step, found.steps) == (3, 5)
    assert found.to_json()["first_diverging_token"] == 3
    assert found.first_divergence is not None
    assert found.first_divergence.candidate == "output"


@pytest.mark.thorough
def test_what_is_remembered_in_float16_drifts_and_is_no_divergence() -> None:
    made = cp.convert((Counter().eval(), X), "mlprogram", precision="fp32")
    fed = [{"x": np.random.default_rng(n).normal(size=(1, 4)).astype(np.float32)} for n in range(32)]
    found = cp.verify((Counter().eval(), X), made, fed)
    assert found.agrees, found.summary()
    assert found.steps == 32


@pytest.mark.thorough
def test_drawn_tokens_are_several_and_of_one_seed() -> None:
    made = cp.convert((Counter().eval(), X), "mlprogram")
    found = cp.verify((Counter().eval(), X), made)
    assert found.proves
    assert found.steps == STEPS
    assert "4 steps, each side with what it remembers itself" in found.inputs


@pytest.mark.thorough
def test_lengths_that_grow_from_token_to_token_are_held_against_the_module() -> None:
    made = cp.convert(growing(), "mlprogram", shapes={"mask": "1x1x1..8"}, precision="fp32")
    rng = np.random.default_rng(0)
    fed = [
        {"token": rng.normal(size=(1, 1, 16)).astype(np.float32), "mask": np.zeros((1, 1, n), np.float32)}
        for n in range(1, 9)
    ]
    found = cp.verify(growing(), made, fed)
    assert found.proves, found.summary()
    assert found.steps == 8


def test_packages_and_onnx_files_remember_alike_in_both_directions(tmp_path: Path) -> None:
    package = counter(tmp_path / "counter.mlpackage")
    exported = cp.load(cp.convert(package, "onnx").save(tmp_path / "counter.onnx"))
    assert exported.signature.states == ()
    again = cp.convert(exported, "mlprogram")
    assert [str(f) for f in again.signature.states] == ["total: float16[1x4]"]
    for one, other in ((package, exported), (exported, again), (again, package)):
        found = cp.verify(one, other)
        assert found.proves, found.summary()
        assert found.steps == STEPS


def _past_and_present(grows: bool = False) -> Any:
    nodes = [("Add", "past_sum x", "present_sum", {}), ("Mul", "present_sum two", "y", {})]
    shapes = {"past_sum": [1, 4], "x": [1, 4]}
    if grows:
        nodes = [("Concat", "past_sum x", "present_sum", {"axis": 0}), ("ReduceSum", "present_sum axes", "y", {})]
        shapes["past_sum"] = ["past", 4]
        outputs = {"present_sum": ["present", 4], "y": [1, 4]}
        return onnx_net(nodes, shapes, outputs, axes=np.array([0]))
    return onnx_net(nodes, shapes, {"present_sum": [1, 4], "y": [1, 4]}, two=np.float32([2]))


def test_past_and_present_of_an_onnx_file_become_states_where_it_is_said(tmp_path: Path) -> None:
    made = cp.convert(_past_and_present(), "mlprogram", states={"past_*": "present_*"})
    assert [f.name for f in made.signature.states] == ["past_sum"]
    assert [f.name for f in made.signature.outputs] == ["y"]
    found = cp.verify(_past_and_present(), made, states={"past_*": "present_*"})
    assert found.proves, found.summary()
    with pytest.raises(InputError, match=r"the other is not known to[\s\S]*--state past_\*=present_\*"):
        cp.verify(_past_and_present(), made)


def test_a_memory_that_grows_begins_with_nothing() -> None:
    net = _past_and_present(grows=True)
    found = cp.verify(net, net, states={"past_sum": "present_sum"})
    assert found.agrees
    assert found.steps == STEPS


def test_models_that_do_not_remember_the_same_are_refused(source: Any) -> None:
    one = cp.convert((Counter().eval(), X), "mlprogram")
    with pytest.raises(InputError, match=r"do not remember the same\n  expected: layers_0_k_cache.*\n  found: total"):
        cp.verify(source, one)


@pytest.mark.thorough
def test_steps_beyond_the_memory_budget_are_refused(source: Any, package: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    # four caches of 512 bytes, in float32 and in float16, over six steps
    monkeypatch.setenv("COREPROOF_MEMORY_BUDGET", "15000")
    with pytest.raises(cp.CoreproofError, match=r"what both models remember over 6 steps would take"):
        cp.verify(source, package, TOKENS)


@pytest.mark.thorough
def test_drawn_tokens_differ_and_are_written_one_behind_the_other(source: Any, package: Any) -> None:
    steps = steps_of(source, package)
    assert steps is not None
    with cp.session(steps.reference) as wanted, cp.session(steps.candidate) as judged:
        fed = steps.sequence(wanted, judged, None, None, 1).reference
    assert len({int(np.asarray(sample["ids"])[0, 0]) for sample in fed}) > 2
    assert [int(np.asarray(sample["position"])[0]) for sample in fed] == [0, 1, 2, 3]


@pytest.mark.thorough
def test_a_saved_run_of_a_model_that_remembers_is_the_reference_later(package: Any, tmp_path: Path) -> None:
    saved = cp.record(package, tmp_path / "run.npz", TOKENS)
    assert len(saved.samples) == len(TOKENS)
    # what it remembers before the second token is what the first left
    assert np.abs(saved.samples[0]["layers_0_k_cache"]).max() == 0
    assert np.abs(saved.samples[1]["layers_0_k_cache"]).max() > 0
    assert cp.verify(saved, package).proves
    net, example = decoder()
    with torch.no_grad():
        net.head.weight += 0.1
    assert not cp.verify(saved, cp.convert((net, example), "mlprogram"))


@pytest.mark.thorough
def test_float16_is_forecast_with_what_is_remembered() -> None:
    from coreproof.precision.forecast import forecast

    for model in ((Counter().eval(), X), cp.convert((Counter().eval(), X), "mlprogram", precision="fp32")):
        report = forecast(cp.load(model))
        assert report.agrees
        assert {output.name for output in report.outputs} >= {"output", "total_after"}


@pytest.mark.thorough
def test_the_next_token_is_judged_by_its_margin() -> None:
    class Chooses(torch.nn.Module):  # type: ignore[misc]
        """The token that scores most after what was summed up; of the last two either may, by rounding."""

        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("total", torch.zeros(1, 4))

        def forward(self, x: Any) -> Any:
            self.total.add_(x)
            scores = torch.cat(
                [self.total * 0.1, self.total.sum(-1, keepdim=True), self.total.sum(-1, keepdim=True)], -1
            )
            # apart by less than float16 tells
            scores = scores + torch.tensor([0.0, 0, 0, 0, 0, 1e-5])
            return scores, scores.argmax(-1)

    made = cp.convert((Chooses().eval(), X), "mlprogram")
    fed = [{"x": np.full((1, 4), x, np.float32)} for x in (1.0, 0.3, 2.1)]
    found = cp.verify((Chooses().eval(), X), made, fed)
    assert found.agrees, found.summary()
    (choice,) = [row for row in found.outputs if row.candidate == "output_1"]
    # other indices, each the largest among what its own side has
    assert not choice.judgement.agrees
    assert choice.switched or choice.carried is not None


def adder(path: Path, factor: float) -> Path:
    """total += factor * x, of which y is the softmax."""
    import coremltools as ct
    from coremltools.converters.mil import Builder as mb
    from coremltools.converters.mil.mil import types

    specs = [mb.StateTensorSpec((1, 4), dtype=types.fp16), mb.TensorSpec((1, 4), dtype=types.fp16)]

    @mb.program(input_specs=specs, opset_version=ct.target.iOS18)
    def program(total: Any, x: Any) -> Any:
        scaled = mb.mul(x=x, y=np.float16(factor), name="scaled")
        total = mb.coreml_update_state(state=total, value=mb.add(x=mb.read_state(input=total), y=scaled, name="sum"))
        return mb.softmax(x=total, axis=-1, name="y")

    path.mkdir()
    return quietly_converted(path, program, minimum_deployment_target=ct.target.iOS18)


def test_what_is_read_back_from_a_state_is_no_fault_of_its_own(tmp_path: Path) -> None:
    sides = [adder(tmp_path / name, factor) for name, factor in (("one", 1.0), ("other", 1.25))]
    found = cp.verify(*sides)
    assert not found
    wrong = [row.candidate for row in found.rows if not row.agrees]
    assert "sum" in wrong
    assert len(wrong) > 2
    # the state holds the sum, and what is read back is the sum under another name
    assert [row.candidate for row in found.faults] in (["sum"], ["scaled"])
