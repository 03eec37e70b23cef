"""float16 faults in stored programs: found, repaired, proved; against what PyTorch computes in float32."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pytest

import coreproof as cp
from coreproof.difference.settings import set_edit
from coreproof.doctor.case import Case
from coreproof.doctor.diagnose import Diagnosis, diagnose
from coreproof.doctor.rules import rules
from coreproof.doctor.source.source_weights import stored_halves, weights_before
from coreproof.editing.edit import Edit, edit
from coreproof.errors import EditError
from coreproof.model.numbers import FLOAT16_MAX
from coreproof.runtime.open import session
from tests.build import graph_model

torch = pytest.importorskip("torch", reason="needs the torch extra")

(FLOAT16,) = [rule for rule in rules() if rule.id == "float16"]


class Converted:
    """A PyTorch network, its ONNX export, and the float16 program made of it."""

    def __init__(self, net: Any, *inputs: Any, images: Any = None) -> None:
        from coreproof.conversion.convert import convert
        from coreproof.conversion.onnx_to_coreml.convert import onnx_to_coreml
        from coreproof.model.torch.model import TorchModel
        from tests.precision.hostile import careless

        self.net, self.inputs = net, inputs
        self.source: Any = convert(TorchModel(net, inputs, name="net"), "onnx")
        with careless():
            self.program = onnx_to_coreml(self.source, precision="fp16", images=images)

    def error(self, model: Any, *inputs: Any) -> float:
        """How far ``model`` is from PyTorch on these inputs, as a share of the scale; infinite for NaN."""
        given = inputs or self.inputs
        names = [f.name for f in self.source.signature.inputs]
        with session(model) as running:
            (got,) = running.run({n: a.numpy() for n, a in zip(names, given, strict=True)}).values()
        right = self.net(*given).detach().numpy()
        error = float(np.sqrt(np.mean((got - right) ** 2) / np.mean(right**2)))
        return error if np.isfinite(error) else np.inf


def _random(*shape: int, seed: int = 5) -> Any:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@cache
def _converted(kind: str, **arguments: Any) -> Converted:
    from tests.precision import hostile

    net = hostile.make(lambda: getattr(hostile, kind)(**arguments))
    example = _random(4, 16) if kind in ("Variance", "Epsilon") else _random(1, 3, 16, 16)
    return Converted(net, example)


def _repaired(found: Diagnosis) -> Any:
    assert [f.rule for f in found.findings] == ["float16"]
    (finding,) = found.findings
    assert finding.repaired, finding
    assert found.repaired is not None
    return found.repaired


@pytest.mark.thorough
def test_weights_scaled_up_and_down_again_with_the_source() -> None:
    case = _converted("Scaled")
    assert case.error(case.program) == np.inf
    found = diagnose(case.program, case.source)
    repaired = _repaired(found)
    assert found.findings[0].layer == "conv2d_1"
    assert "65504" in found.findings[0].evidence
    assert case.error(repaired) < 1e-3
    assert case.error(repaired, _random(1, 3, 16, 16, seed=9)) < 1e-3
    wide = {n.outputs[0] for n in repaired.graph.nodes if repaired.graph.values[n.outputs[0]].dtype == "float32"}
    assert wide == {"relu_fp32", "conv2d_1_fp32", "relu_1_fp32", "conv2d_2_fp32", "output"}


@pytest.mark.thorough
def test_weights_scaled_up_and_down_again_without_the_source() -> None:
    case = _converted("Scaled")
    repaired = _repaired(diagnose(case.program))
    # the weights that were divided by 1e5 lost digits when they were stored, which nothing here can know
    assert 1e-3 < case.error(repaired) < 2e-2


@pytest.mark.thorough
def test_weights_that_were_clipped_come_from_the_source() -> None:
    case = _converted("Scaled", factor=1e7)
    repaired = _repaired(diagnose(case.program, case.source))
    assert case.error(repaired) < 1e-3
    (hypothesis,) = FLOAT16.suppose(Case(case.program))
    assert hypothesis.needs is not None
    assert "source" in hypothesis.needs
    assert "conv2d_1" in hypothesis.needs


@pytest.mark.sweep(1)
@pytest.mark.parametrize("kind", ["Epsilon", "Variance"])
def test_a_vanished_epsilon_comes_from_the_source(kind: str) -> None:
    case = _converted(kind)
    assert case.error(case.program) > 0.3
    (hypothesis,) = FLOAT16.suppose(Case(case.program, case.source))
    assert hypothesis.needs is None
    (repair,) = hypothesis.repairs
    assert [step.verb for step in repair.edits] == ["widen", "set"]
    assert case.error(edit(case.program, repair.edits).model) < 1e-3


def test_a_vanished_epsilon_is_missed_without_the_source_or_asked_for() -> None:
    assert not FLOAT16.suppose(Case(_converted("Epsilon").program))
    (hypothesis,) = FLOAT16.suppose(Case(_converted("Variance").program))
    assert hypothesis.needs is not None
    assert "source" in hypothesis.needs


@cache
def _masked() -> Converted:
    from tests.precision import hostile

    case = Converted(hostile.make(hostile.LowestMask), _random(1, 8, 16), torch.tensor([[1.0, 1, 1, 1, 1, 1, 0, 0]]))
    # coremltools stores infinity there; what we write ends at float16's lowest number
    lowest = {place: a for place, a in stored_halves(case.program).items() if (a == -FLOAT16_MAX).any()}
    assert lowest
    spoiled = [set_edit(*place, np.where(a == -FLOAT16_MAX, -np.inf, a)) for place, a in lowest.items()]
    case.program = edit(case.program, spoiled).model
    return case


@pytest.mark.thorough
def test_an_infinite_mask_that_was_finite_is_made_finite_again() -> None:
    case = _masked()
    assert case.error(case.program) == np.inf
    found = diagnose(case.program, case.source)
    repaired = _repaired(found)
    assert "infinity times zero" in found.findings[0].cause
    assert case.error(repaired) < 2e-3
    assert case.error(repaired, _random(1, 8, 16, seed=3), torch.tensor([[1.0, 0, 1, 0, 0, 0, 1, 0]])) < 2e-3
    # rows that see nothing at all, which were NaN
    nothing_seen = torch.tensor([[0.0, 0, 0, 0, 0, 0, 0, 1]])
    assert np.isfinite(case.error(repaired, _random(1, 8, 16, seed=3), nothing_seen))


def test_an_infinite_mask_without_the_source_is_named() -> None:
    (finding,) = diagnose(_masked().program).findings
    assert finding.rule == "float16"
    assert not finding.repaired
    assert "--against" in finding.repair


def test_pixels_without_a_scale() -> None:
    from coreproof.conversion.onnx_to_coreml.convert import ImageInput, onnx_to_coreml
    from tests.precision.hostile import careless

    case = _converted("Squares")
    with careless():
        program = onnx_to_coreml(case.source, precision="fp16", images={"x": ImageInput()})
    found = diagnose(program)
    repaired = _repaired(found)
    assert found.findings[0].layer in ("mul", "sum_1")
    pixels = torch.randint(0, 256, (1, 3, 16, 16), generator=torch.Generator().manual_seed(1)).float()
    assert case.error(program, pixels) > 0.5
    assert case.error(repaired, pixels) < 1e-3


@pytest.mark.thorough
def test_healthy_models_are_left_alone() -> None:
    from coreproof.conversion.onnx_to_coreml.convert import onnx_to_coreml

    case = _converted("Healthy")
    for source in (None, case.source):
        assert not FLOAT16.suppose(Case(case.program, source))
    assert not FLOAT16.suppose(Case(onnx_to_coreml(_converted("Scaled").source, precision="fp32")))
    assert not FLOAT16.suppose(Case(case.source))


@pytest.mark.thorough
def test_real_programs_are_left_alone(shared_data: Any) -> None:
    from coreproof.model.load import load
    from coreproof.precision.mixed import computes_in_float16

    seen = 0
    for path in sorted((shared_data / "coreml").glob("*.mlpackage")):
        model = load(path)
        seen += computes_in_float16(model)
        assert not FLOAT16.suppose(Case(model)), path.name
    assert seen >= 2


def test_widen_keeps_what_it_was_not_asked_for() -> None:
    case = _converted("Healthy")
    before = case.program.spec.SerializeToString(deterministic=True)
    changed = edit(case.program, [Edit("widen", {"layers": ["conv2d_1", "hardswish"]})])
    assert case.program.spec.SerializeToString(deterministic=True) == before
    assert case.error(changed.model) == pytest.approx(case.error(case.program), rel=0.5)
    names = {n.outputs[0] for n in case.program.graph.nodes}
    after = {n.outputs[0]: n for n in changed.model.graph.nodes}
    assert names <= set(after)
    untouched = [n for n in case.program.graph.nodes if n.outputs[0] not in ("conv2d_1", "hardswish", "sigmoid_hard_0")]
    assert [after[n.outputs[0]] for n in untouched] == untouched
    assert changed.model.signature == case.program.signature


def test_widen_again_and_wrong_names_are_refused() -> None:
    case = _converted("Healthy")
    with pytest.raises(EditError, match="no layer 'nobody'"):
        edit(case.program, [Edit("widen", {"layers": "nobody"})])
    with pytest.raises(EditError, match="does not compute in float16"):
        edit(case.program, [Edit("widen", {"layers": "output"})])
    with pytest.raises(EditError, match="ML Program"):
        edit(case.source, [Edit("widen", {"layers": "linear"})])


def test_weights_are_recognised_by_what_rounding_makes_of_them() -> None:
    case = _converted("Scaled", factor=1e7)
    weight = next(p.detach().numpy() for n, p in case.net.named_parameters() if n == "large.weight")
    clipped = np.clip(weight, -65504, 65504).astype(np.float16)
    infinite = clipped.copy()
    infinite[np.abs(weight) > 65520] = np.sign(weight[np.abs(weight) > 65520]) * np.inf
    for stored in (clipped, infinite):
        found = weights_before({("conv", "weight"): stored}, case.source)
        assert np.array_equal(found["conv", "weight"], weight)
    other = clipped.copy()
    other.flat[3] = 1.0
    assert not weights_before({("conv", "weight"): other}, case.source)


def test_a_logarithm_of_what_is_negative_is_not_laid_on_float16() -> None:
    model = graph_model("net (float[2, 6] x) => (float[2, 6] y) { a = Abs (x) n = Neg (a) y = Log (n) }")
    for precision in ("fp16", "fp32"):
        diagnosis = diagnose(cp.convert(model, "mlprogram", precision=precision))
        assert [finding.rule for finding in diagnosis] == ["not-finite"], precision
        assert "of log" in diagnosis[0].evidence
        assert "float16" not in diagnosis.before


def test_a_vanished_epsilon_that_only_a_vector_of_zeros_shows_is_found_on_drawn_inputs() -> None:
    from coreproof.conversion.convert import convert
    from tests.feeding.test_drawn import normalised

    source = normalised(1e-12)
    assert not diagnose(convert(source, "mlprogram", precision="fp32"), source).findings
    lost = diagnose(convert(normalised(0.0), "mlprogram"), source)
    assert lost.healthy is False
    assert "diverge from the source" in lost.before
