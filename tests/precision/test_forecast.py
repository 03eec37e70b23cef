"""What float16 does to small hostile networks, against what PyTorch says and what the converted program then does."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from functools import cache
from typing import Any

import numpy as np
import pytest

from coreproof.errors import ConversionError, RunError
from coreproof.precision.float16_report import Float16Report
from coreproof.precision.forecast import forecast
from coreproof.precision.minimal_set import Trials, minimal_set
from coreproof.runtime.open import session

torch = pytest.importorskip("torch", reason="needs the torch extra")

Feed = Mapping[str, Any]


def _picture(factor: float = 1.0) -> Any:
    return torch.randn(1, 3, 16, 16, generator=torch.Generator().manual_seed(1)) * factor


def _vectors() -> Any:
    return torch.randn(4, 16, generator=torch.Generator().manual_seed(2))


def _sequences(padded: bool) -> tuple[Any, Any]:
    seen = torch.ones(2, 6)
    seen[0, 3:] = 0
    if padded:
        seen[1] = 0
    return torch.randn(2, 6, 16, generator=torch.Generator().manual_seed(3)), seen


class Case:
    """A PyTorch network, its export, and what PyTorch computes in float32.

    ``guarded``: converted as coreproof does it, which keeps what it knows of from harm.
    """

    def __init__(self, kind: Any, *inputs: Any, guarded: bool = True) -> None:
        from coreproof.conversion.convert import convert
        from coreproof.model.torch.model import TorchModel
        from tests.precision import hostile

        net = hostile.make(getattr(hostile, kind))
        self.exported: Any = convert(TorchModel(net, inputs, name=kind.lower()), "onnx")
        self.feed: Feed = {f.name: a.numpy() for f, a in zip(self.exported.signature.inputs, inputs, strict=True)}
        self.right = net(*inputs).detach().numpy()
        self._converting = nullcontext if guarded else hostile.careless

    def program(self, precision: Any = "fp16", keep: tuple[str, ...] = ()) -> Any:
        """The converted program."""
        from coreproof.conversion.onnx_to_coreml.convert import onnx_to_coreml

        with self._converting():
            return onnx_to_coreml(self.exported, precision=precision, keep_fp32=keep)

    def error(self, keep: tuple[str, ...]) -> float:
        """How far the converted float16 program is from PyTorch, as a share of the scale; infinite for NaN."""
        with session(self.program(keep=keep)) as running:
            (got,) = running.run(self.feed).values()
        error = float(np.sqrt(np.mean((got - self.right) ** 2) / np.mean(self.right**2)))
        return error if np.isfinite(error) else np.inf


@cache
def _scaled() -> Case:
    return Case("Scaled", _picture(), guarded=False)


@cache
def _padded() -> Case:
    return Case("Masked", *_sequences(padded=True), guarded=False)


def _check_repair(case: Case, report: Float16Report) -> None:
    """The set mends the real conversion, and no smaller one, by one, does."""
    assert report.must_stay_fp32
    assert report.minimal
    assert case.error(()) > 0.05
    mended = case.error(report.must_stay_fp32)
    assert mended < 5e-3
    assert mended == pytest.approx(max(o.error for o in report.mended), rel=0.5)
    for unit in report.must_stay_fp32:
        fewer = tuple(u for u in report.must_stay_fp32 if u != unit)
        assert case.error(fewer) > 0.05, f"{unit} need not stay"


@pytest.mark.thorough
def test_weights_scaled_up_and_down_again() -> None:
    case = _scaled()
    report = forecast(case.exported, case.feed)
    assert not report
    assert not report.agrees
    assert report.predicted_output_error == np.inf
    first = report.first
    assert first is not None
    assert (first.operator, first.source, first.status) == ("conv", "large", "overflow")
    assert first.largest > 65504
    assert [r.source for r in report.rows if r.must_stay and r.operator == "conv"] == ["large", "small"]
    assert len(report.must_stay_fp32) == 3
    _check_repair(case, report)


@pytest.mark.thorough
def test_squares_and_an_epsilon_that_become_zero() -> None:
    case = Case("Variance", _vectors(), guarded=False)
    report = forecast(case.exported, case.feed)
    statuses = {r.operator: r.status for r in report.rows if r.must_stay}
    assert "underflow" in statuses.values() or "constant" in statuses.values()
    _check_repair(case, report)


def test_the_epsilon_of_a_normalisation() -> None:
    case = Case("Epsilon", _vectors(), guarded=False)
    report = forecast(case.exported, case.feed)
    assert [(r.operator, r.source, r.status) for r in report.suspects] == [("layer_norm", "norm", "constant")]
    assert "1e-12" in report.suspects[0].problem
    assert not report.overflows
    _check_repair(case, report)


@pytest.mark.thorough
def test_a_mask_that_becomes_infinite_is_harmless_until_a_row_sees_nothing() -> None:
    harmless = Case("Masked", *_sequences(padded=False))
    report = forecast(harmless.exported, harmless.feed)
    assert report.agrees
    assert report.overflows
    assert not report, "something overflows, which a user should know"
    assert not report.must_stay_fp32
    assert harmless.error(()) == pytest.approx(report.predicted_output_error, rel=0.2)

    padded = _padded()
    broken = forecast(padded.exported, padded.feed)
    assert "nan" in {r.status for r in broken.rows if r.operator == "softmax"}
    _check_repair(padded, broken)


@pytest.mark.thorough
@pytest.mark.parametrize("factor", [80.0, 1e6])
def test_pictures_fed_without_scale(factor: float) -> None:
    case = Case("Squares", _picture(factor), guarded=False)
    report = forecast(case.exported, case.feed)
    first = report.first
    assert first is not None
    assert (first.operator, first.status) == ("mul", "overflow")
    _check_repair(case, report)
    assert forecast(case.exported, {"x": case.feed["x"] / factor / 10})


@pytest.mark.thorough
def test_an_ordinary_network_raises_no_alarm() -> None:
    case = Case("Healthy", _picture())
    report = forecast(case.exported, case.feed)
    assert report
    assert not report.suspects
    assert report.first is None
    assert not report.must_stay_fp32
    assert case.error(()) == pytest.approx(report.predicted_output_error, rel=0.5)
    assert {r.source for r in report.rows} >= {"net.0", "net.3", "net.7", "net.8"}
    assert all(r.error_added < 1e-3 for r in report.rows)
    assert any((r.error_at_output or 0) > 1e-5 for r in report.rows)
    assert "safe" in report.summary()


@pytest.mark.thorough
def test_a_stored_program_is_judged_as_it_is() -> None:
    case = _padded()
    report = forecast(case.program(), case.feed)
    assert report.stored == "float16"
    assert not report.agrees
    assert [r.operator for r in report.rows if r.must_stay] == ["mul", "add", "softmax"]
    wide = forecast(case.program("fp32"), case.feed)
    assert wide.stored == "float32"
    assert [r.operator for r in wide.rows if r.must_stay] == ["mul", "add", "softmax"]
    assert forecast(case.program(keep=wide.must_stay_fp32), case.feed)


def test_the_report_as_json_holds_no_infinity() -> None:
    import json

    case = _scaled()
    found = forecast(case.exported, case.feed).to_json()
    assert json.loads(json.dumps(found, allow_nan=False))["rows"][2]["status"] == "overflow"
    assert found["predicted_output_error"] == "infinity"


def test_nan_without_float16_is_not_blamed_on_it() -> None:
    case = _padded()
    with pytest.raises(RunError, match="float32 already"):
        forecast(case.exported, {**case.feed, "x": np.full((2, 6, 16), np.nan, np.float32)})


def test_a_pipeline_is_refused() -> None:
    from coreproof.model.coreml.model import CoreMLModel
    from coreproof.model.coreml.proto import Model_pb2

    spec = Model_pb2.Model(specificationVersion=4)
    spec.pipeline.models.add()
    with pytest.raises(ConversionError, match="pipeline"):
        forecast(CoreMLModel(spec, name="two stages"))


@pytest.mark.parametrize("seed", range(4))
def test_the_smallest_set_is_found_where_harm_is_alone_and_where_it_adds_up(seed: int) -> None:
    rng = np.random.default_rng(seed)
    units = [f"u{i}" for i in range(40)]
    harm = dict(zip(units, rng.uniform(0, 0.02, 40), strict=True))
    guilty = set(rng.choice(units, 3, replace=False))
    harm.update(dict.fromkeys(guilty, 10.0))

    def agrees(kept: frozenset[str]) -> bool:
        return sum(h for u, h in harm.items() if u not in kept) < 0.3

    trials = Trials(units, agrees)
    kept, minimal = minimal_set(trials, lambda: sorted(units, key=lambda u: -harm[u]))
    assert minimal
    assert guilty < kept
    assert agrees(kept)
    assert not any(agrees(kept - {u}) for u in kept)
    ordered = sorted(units, key=lambda u: -harm[u])
    fewest = next(n for n in range(41) if agrees(frozenset(ordered[:n])))
    assert len(kept) == fewest
