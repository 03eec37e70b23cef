"""The known faults of Core ML: a model with the pattern is found, its near misses are not, and the known-good form is right."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest

import coreproof as cp
from coreproof.known_faults.catalogue import FAULTS
from coreproof.known_faults.found import known_faults
from coreproof.known_faults.found import sighted as sighted_in
from coreproof.known_faults.record import KnownFault, Seen
from coreproof.model.onnx.model import OnnxModel
from tests.build import mil, onnx_net, onnx_proto
from tests.known_faults.damaged import damaged
from tests.known_faults.programs import (
    CASES,
    log_softmax,
    logcumsumexp,
    logsumexp,
    softplus,
    written_out,
)

OF_CORE_ML = {fault.id: fault for fault in FAULTS if fault.framework == "coreml"}
WITH_A_FORM = [fault for fault in OF_CORE_ML.values() if fault.form is not None]


def sighted(model: cp.Model) -> set[str]:
    return {found.fault.id for found in known_faults(model)}


def test_every_fault_of_core_ml_has_its_case() -> None:
    assert set(CASES) == set(OF_CORE_ML)


@pytest.mark.parametrize("fault", list(CASES))
def test_a_model_with_the_pattern_is_found(fault: str, tmp_path: Path) -> None:
    found = {one.fault.id: one for one in known_faults(CASES[fault][0](tmp_path))}
    assert fault in found
    assert all(sighting.place for sighting in found[fault].sightings)
    assert OF_CORE_ML[fault].cited in found[fault].cause


@pytest.mark.sweep(7)
@pytest.mark.parametrize(
    ("fault", "number"), [(fault, i) for fault, (_, near) in CASES.items() for i in range(len(near))]
)
def test_a_near_miss_is_not(fault: str, number: int, tmp_path: Path) -> None:
    assert fault not in sighted(CASES[fault][1][number](tmp_path))


@pytest.mark.parametrize("fault", list(CASES))
def test_a_damaged_layer_is_another_rules_matter(fault: str, tmp_path: Path) -> None:
    """No finder, and no form, reads what a layer of a damaged file lacks."""
    model = CASES[fault][0](tmp_path)
    tried = 0
    for graph in damaged(model.graph):
        broken: Any = SimpleNamespace(graph=graph, is_onnx=False)
        for found in sighted_in([Seen("coreml", graph, model.signature, model)]):
            assert all(sighting.place for sighting in found.sightings)
            found.edits(broken)
        tried += 1
    assert tried > 5


@pytest.mark.sweep(3)
@pytest.mark.parametrize("fault", WITH_A_FORM, ids=lambda fault: str(fault.id))
def test_the_form_that_is_known_to_be_good_is_proved_to_compute_the_same(fault: KnownFault, tmp_path: Path) -> None:
    model = CASES[fault.id][0](tmp_path)
    diagnosis = cp.diagnose(model)
    (finding,) = (f for f in diagnosis if f.evidence.startswith(f"{fault.id}: "))
    assert finding.advice
    assert finding.repaired, finding
    assert finding.proof is not None
    assert diagnosis.healthy
    assert diagnosis.repaired is not None
    # and it has the pattern no more
    assert fault.id not in sighted(diagnosis.repaired)


def answer(model: cp.Model, fed: np.ndarray) -> np.ndarray:
    with cp.session(model) as running:
        return np.asarray(running.run({model.signature.inputs[0].name: fed.astype(np.float16)})["y"], np.float64)


X = np.array([[-30.0, -8.0, 0.0, 1.5, 9.0, 12.0, 30.0, 60.0]])


def _softplus(x: np.ndarray) -> np.ndarray:
    return np.logaddexp(0, x)


def _log_softmax(x: np.ndarray) -> np.ndarray:
    lower = x - x.max(-1, keepdims=True)
    return np.asarray(lower - np.log(np.exp(lower).sum(-1, keepdims=True)))


def _logcumsumexp(x: np.ndarray) -> np.ndarray:
    return np.logaddexp.accumulate(x, axis=1)


@pytest.mark.sweep(2)
@pytest.mark.parametrize(
    ("build", "judge"),
    [
        (softplus, _softplus),
        (written_out(1), _softplus),
        (logsumexp, lambda x: np.logaddexp.reduce(x, axis=1)),
        (log_softmax(0), _log_softmax),
        # what lies far below the maximum is lost: the form has no running maximum
        (logcumsumexp, lambda x: _logcumsumexp(x)),
    ],
    ids=["softplus", "softplus written out", "logsumexp", "log_softmax", "logcumsumexp"],
)
def test_the_form_stays_inside_float16_where_the_pattern_leaves_it(
    build: Callable[..., Any], judge: Callable[[np.ndarray], np.ndarray], tmp_path: Path
) -> None:
    model = mil(tmp_path, build, X.shape, half=True)
    repaired = cp.diagnose(model).repaired
    assert repaired is not None
    fed = X if build is not logcumsumexp else X[:, ::-1] / 8 + 20
    made = answer(repaired, fed)
    wanted = judge(fed.astype(np.float16).astype(np.float64))
    # five roundings at most, each of half a unit in the last place of what is rounded; sums of eight terms
    bound = 2.0**-11 * 8 * (1 + np.abs(fed).max() * (build is logcumsumexp)) + 2.0**-10 * np.abs(wanted)
    assert np.isfinite(made).all()
    assert (np.abs(made.reshape(wanted.shape) - wanted) <= bound).all()


WIDE = np.array([[-65504, -300, -17, -11, -8, -1, -1e-3, 0, 1e-3, 1, 8, 10.4, 11, 12, 300, 65504]], np.float32)


@pytest.mark.parametrize(
    ("nodes", "judge"),
    [
        ([("Softplus", "x", "y", {})], lambda x: np.logaddexp(0, x)),
        ([("Mish", "x", "y", {})], lambda x: x * np.tanh(np.logaddexp(0, x))),
        ([("Sigmoid", "x", "s", {}), ("Log", "s", "y", {})], lambda x: -np.logaddexp(0, -x)),
    ],
    ids=["softplus", "mish", "log of a sigmoid"],
)
def test_what_is_converted_to_float16_has_the_form_at_once(
    nodes: list[tuple[str, str, str, dict[str, Any]]], judge: Callable[[np.ndarray], np.ndarray]
) -> None:
    proto = onnx_proto(nodes, {"x": [1, WIDE.size]}, {"y": [1, WIDE.size]}, opset=18)
    source = OnnxModel(ir.from_proto(proto), name="net")
    converted = cp.convert(source, "mlprogram", precision="fp16", check=False)
    assert "softplus-cliff" not in sighted(converted)
    x = WIDE.astype(np.float16).astype(np.float64)
    wanted, made = judge(x), answer(converted, WIDE).astype(np.float64)
    # five roundings at most, as above; the smallest numbers are off by half a step of theirs, which mish multiplies by x
    smallest = 2.0**-24 * np.maximum(1, np.abs(x)) * (np.abs(wanted) < 1)
    bound = 2.0**-11 * 8 * np.minimum(np.abs(wanted), 1) + 2.0**-10 * np.abs(wanted) + smallest
    assert (np.abs(made - wanted) <= bound).all()
    # below, ONNX Runtime's sigmoid is not exact, and its logarithm infinite at last, where the form has the number
    assert cp.verify(source, converted, inputs={"x": WIDE.clip(-12, None)}).agrees


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_in_float32_softplus_stays_one_operation(precision: str) -> None:
    source = onnx_net([("Softplus", "x", "y", {})], {"x": [1, 4]}, {"y": [1, 4]})
    converted = cp.convert(source, "mlprogram", precision=precision, check=False)
    kinds = [node.operator for node in converted.graph.nodes if node.operator not in ("const", "cast")]
    assert kinds == (["softplus"] if precision == "fp32" else ["relu", "abs", "mul", "softplus", "add"])


def test_the_pattern_written_out_leaves_float16(tmp_path: Path) -> None:
    """What the test above would show of a model that was left as it is."""
    model = mil(tmp_path, written_out(1), X.shape, half=True)
    assert np.isinf(answer(model, X)).any()


def test_a_source_is_asked_too(tmp_path: Path) -> None:
    model = CASES["softplus-cliff"][0](tmp_path)
    source = cp.convert(model, "onnx", check=False)
    diagnosis = cp.diagnose(model, source)
    assert [(f.rule, f.repaired) for f in diagnosis] == [("known-fault", True)]
    assert diagnosis.verification is not None
    assert diagnosis.verification.agrees


def test_a_pattern_inside_a_block_is_told_and_not_touched(tmp_path: Path) -> None:
    def build(mb: Any, x: Any) -> Any:
        positive = mb.greater(x=mb.reduce_sum(x=x, axes=[0, 1], keep_dims=False), y=np.float16(0))
        return mb.cond(
            pred=positive, _true_fn=lambda: mb.softplus(x=x, name="within"), _false_fn=lambda: mb.relu(x=x), name="y"
        )

    (found,) = known_faults(mil(tmp_path, build, (1, 4), half=True))
    assert (found.fault.id, found.sightings[0].place, found.sightings[0].within) == ("softplus-cliff", "within", True)
    assert found.edits(mil(tmp_path, build, (1, 4), half=True)) == ()
