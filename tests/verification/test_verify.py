"""verify: honest twins agree, planted faults are found where they are, memory stays bounded."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

import coreproof as cp
from coreproof.conversion.onnx_to_coreml.convert import onnx_to_coreml
from coreproof.errors import InputError
from coreproof.feeding.drawn import random_feeds
from coreproof.runtime.onnxruntime import OnnxRuntimeSession
from coreproof.verification.tolerance import Tolerance
from coreproof.verification.verify import verify
from tests.build import as_half, graph_model, onnx_model, residual_net

FAULTS = {"swapped channel": "conv2", "no bias": "conv2", "wrong pad": "conv2", "epsilon": "norm2"}


def test_a_model_agrees_with_itself_in_every_value() -> None:
    found = verify(residual_net(), residual_net())
    assert found
    assert found.first_divergence is None
    assert [r.candidate for r in found.rows][:4] == ["conv0", "norm0", "relu0", "sum0"]
    assert found.rows[-1].how == "output"
    assert all(r.judgement.max_error == 0 for r in found.rows)
    assert found.engines == ("ONNX Runtime", "ONNX Runtime")
    json.dumps(found.to_json(), allow_nan=False)


def test_files_are_verified_by_their_paths(tmp_path: Path) -> None:
    path = residual_net().save(tmp_path / "net.onnx")
    found = verify(str(path), path)
    assert found, found.summary()
    assert found.reference == "net"


@pytest.mark.parametrize("to", ["mlprogram", "neuralnetwork"])
def test_what_is_fed_in_float64_may_be_rounded_before_anything_is_computed(to: Any) -> None:
    """Also where it is only moved, which adds no error of its own."""
    model = graph_model(
        "net (double[4] a, double[3] b) => (float[7] y) { c = Concat <axis = 0> (a, b) y = Cast <to = 1> (c) }"
    )
    rng = np.random.default_rng(0)
    fed = {"a": rng.normal(size=4), "b": rng.normal(size=3)}
    found = verify(model, cp.convert(model, to, **({"precision": "fp32"} if to == "mlprogram" else {})), fed)
    assert found, found.summary()
    assert all((row.tolerance.typical or 0) < 1e-6 for row in found.rows)


@pytest.mark.sweep(1)
@pytest.mark.parametrize("blocks", [4, 24])
def test_honest_float16_agrees_at_any_depth_and_not_by_a_mile(blocks: int) -> None:
    exact, half = residual_net(blocks=blocks), as_half(residual_net(half=True, blocks=blocks))
    for found in (verify(exact, half), verify(half, exact)):
        assert found, found.summary()
        assert not found.weak
        used = [r.judgement.rms_relative_error / r.tolerance.typical for r in found.rows if r.tolerance.typical]
        assert max(used) > 0.05, "a tolerance that is never used up by a twentieth proves little"


@pytest.mark.sweep(3)
@pytest.mark.parametrize("half", [False, True], ids=["float32", "float16"])
@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_is_found_at_its_layer_from_both_sides(fault: str, half: bool) -> None:
    right, wrong = residual_net(), residual_net(half=half, fault=fault)
    wrong = as_half(wrong) if half else wrong
    for found in (verify(right, wrong), verify(wrong, right)):
        assert not found
        assert found.first_divergence is not None
        assert found.first_divergence.candidate == FAULTS[fault]
        assert FAULTS[fault] in found.summary().splitlines()[0]


def test_float16_weights_do_not_pass_in_a_float32_model() -> None:
    first = verify(residual_net(), residual_net(fault="float16 weights")).first_divergence
    assert first is not None
    assert first.candidate == "conv2"


def test_taps_come_in_batches_and_each_value_once(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Sequence[str]] = []
    walk = OnnxRuntimeSession.walk

    def counting(self: Any, inputs: Mapping[str, Any], groups: Sequence[Sequence[str]]) -> Iterator[dict[str, Any]]:
        asked.extend(groups)
        return walk(self, inputs, groups)

    monkeypatch.setattr(OnnxRuntimeSession, "walk", counting)
    heard: list[tuple[str, int, int]] = []
    three_values = 3 * 4 * 16 * 12 * 12
    once = random_feeds(residual_net(), residual_net())[0]
    found = verify(residual_net(), residual_net(), once, memory=three_values, progress=lambda *a: heard.append(a))
    assert max(map(len, asked)) == 3
    assert sum(map(len, asked)) == 2 * (len(found.rows) - 1)
    assert heard[-1][1:] == (len(found.rows), len(found.rows))


def test_several_samples_count_with_their_worst() -> None:
    rng = np.random.default_rng(3)
    good, bad = (rng.normal(size=(1, 16, 12, 12)).astype(np.float32) for _ in range(2))
    net = residual_net()
    found = verify(net, net, feeds=([{"x": good}, {"x": bad}], [{"x": good}, {"x": good}]))
    assert not found
    assert found.inputs.startswith("2 samples of x float32[1x16x12x12]")
    assert verify(net, net, [{"x": good}, {"x": bad}])


def test_a_tolerance_of_the_caller_holds_for_every_value() -> None:
    found = verify(residual_net(), residual_net(half=True), tolerance=Tolerance(relative=0.05))
    assert found
    assert {r.tolerance.relative for r in found.rows} == {0.05}


def test_wrong_feeding_is_said() -> None:
    net = residual_net()
    x = np.zeros((1, 16, 12, 12), np.float32)
    with pytest.raises(InputError, match="neither model has"):
        verify(net, net, {"x": x, "z": x})
    with pytest.raises(InputError, match="nothing is given for input 'x'"):
        verify(net, net, {})
    with pytest.raises(InputError, match="another number of samples"):
        verify(net, net, feeds=([{"x": x}], [{"x": x}, {"x": x}]))


def test_nothing_is_excused_by_depth() -> None:
    """A small fault in the last block is found there, although rounding errors of all blocks before it arrive too."""
    from tests.build import residual_net

    deep = residual_net(half=True, blocks=24)
    found = verify(residual_net(blocks=24), deep)
    assert found.agrees
    assert not found.weak
    assert max(row.tolerance.typical for row in found.rows) < 0.05


@pytest.mark.parametrize("precision", ["fp16", "fp32"])
def test_a_model_in_hand_and_its_file_have_the_same_values_compared(precision: Any, tmp_path: Path) -> None:
    """What a converter noted of its result is not in the file, and the verdict rests on the same all the same."""
    source = residual_net()
    made = onnx_to_coreml(source, "mlprogram", precision=precision)
    in_hand, from_file = verify(source, made), verify(source, made.save(tmp_path / "net.mlpackage"))
    compared = [[(r.reference, r.candidate, r.agrees) for r in found.rows] for found in (in_hand, from_file)]
    assert compared[0] == compared[1]
    assert in_hand.unpaired == from_file.unpaired


@pytest.mark.sweep(2)
@pytest.mark.parametrize("colour", ["RGB", "BGR", "GRAYSCALE"])
@pytest.mark.parametrize("to", ["mlprogram", "neuralnetwork"])
def test_a_picture_that_comes_out_is_held_against_the_numbers_it_was_made_of(to: Any, colour: str) -> None:
    """Core ML hands out whole pixels, with a channel of opacity."""
    channels = 1 if colour == "GRAYSCALE" else 3
    source = onnx_model(
        f'<ir_version: 8, opset_import: ["": 17]> net (float[1,{channels},4,6] x) => (float[1,{channels},4,6] y)'
        " { s = Sigmoid(x)  y = Mul(s, k) }",
        k=np.float32(255),
    )
    made: Any = cp.convert(source, to, **({"precision": "fp32"} if to == "mlprogram" else {}))
    kind = made.spec.description.output[0].type
    kind.ClearField("multiArrayType")
    kind.imageType.width, kind.imageType.height = 6, 4
    kind.imageType.colorSpace = type(kind.imageType).ColorSpace.Value(colour)
    drawn = made.with_spec(made.spec)
    found = cp.verify(source, drawn)
    assert found, found.summary()
    assert {row.candidate for row in found.outputs} == {"y"}
    assert not cp.diagnose(drawn, source)


@pytest.mark.parametrize("to", ["INT32", "BOOL"])
def test_what_whole_numbers_are_cast_from_is_not_those_numbers(to: str) -> None:
    element = {"INT32": "int32", "BOOL": "bool"}[to]
    source = onnx_model(
        f'<ir_version: 8, opset_import: ["": 17]> net (float[3,4] x) => ({element}[3,4] y, float[3,4] z)'
        f" {{ y = Cast <to = {getattr(onnx.TensorProto, to)}> (x)  z = Sin(x) }}"
    )
    found = verify(source, cp.convert(source, "mlprogram", precision="fp16"))
    assert found.agrees
    assert not any(row.candidate.endswith("_entered") for row in found.rows)


def test_a_constant_that_is_handed_on_more_than_once_may_be_off_by_its_last_bits() -> None:
    rng = np.random.default_rng(0)
    text = "agraph (float[2] x) => (float[8,8] y, float[2] z) {\n a = PRelu(c, s)\n y = Softmax<axis=0>(a)\n z = Relu(x)\n}"
    source = graph_model(text, c=rng.standard_normal((8, 8)).astype(np.float32), s=np.array([0.25], np.float32))
    found = verify(source, onnx_to_coreml(source, "mlprogram", precision="fp32"))
    row = next(row for row in found.rows if row.candidate == "y")
    assert row.judgement.agrees
    assert row.tolerance.relative < 1e-5
