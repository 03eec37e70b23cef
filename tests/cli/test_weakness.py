"""The command line calls agreement that proves little by its name, and ends with 1 unless that is allowed."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

import coreproof as cp
from tests.build import onnx_proto
from tests.cli.conftest import Ran
from tests.verification.test_weakness import VACUOUS, net


@pytest.mark.sweep(2)
@pytest.mark.parametrize("fault", VACUOUS)
def test_verify_fails_for_an_output_that_proves_nothing(
    fault: str, tmp_path: Path, coreproof: Callable[..., Ran]
) -> None:
    make, kind, words = VACUOUS[fault]
    one, other = tmp_path / "net.onnx", tmp_path / "net.mlpackage"
    onnx.save(make(), one)
    cp.convert(one, "mlprogram", precision="fp32").save(other)
    ran = coreproof("verify", one, other)
    assert ran.code == 1
    assert "but that proves little" in ran.out
    assert words in ran.out
    assert coreproof("verify", one, other, "--allow-weak").code == 0
    told = coreproof("verify", one, other, "--json")
    document = json.loads(told.out)
    assert (told.code, document["agrees"], document["proves"]) == (1, True, False)
    assert document["weaknesses"][0]["kind"] == kind


def test_what_is_allowed_to_be_weak_is_not_allowed_to_diverge(tmp_path: Path, coreproof: Callable[..., Ran]) -> None:
    one, other = tmp_path / "one.onnx", tmp_path / "other.onnx"
    onnx.save(net([helper.make_node("Mul", ["x", "w"], ["y"])], ["y"], w=np.float32(1)), one)
    onnx.save(net([helper.make_node("Mul", ["x", "w"], ["y"])], ["y"], w=np.float32(0)), other)
    assert coreproof("verify", one, other, "--allow-weak").code == 1


@pytest.mark.sweep(2)
@pytest.mark.parametrize("fault", VACUOUS)
def test_the_doctor_calls_no_model_healthy_of_which_nothing_is_proved(
    fault: str, tmp_path: Path, coreproof: Callable[..., Ran]
) -> None:
    make, kind, words = VACUOUS[fault]
    one, other = tmp_path / "net.onnx", tmp_path / "net.mlpackage"
    onnx.save(make(), one)
    cp.convert(one, "mlprogram", precision="fp32").save(other)
    ran = coreproof("doctor", other, "--against", one)
    assert ran.code == 1
    assert ran.out.startswith("not known: all ")
    assert "but that proves little" in ran.out.splitlines()[0]
    assert words in ran.out
    told = coreproof("doctor", other, "--against", one, "--json")
    document = json.loads(told.out)
    assert (told.code, document["healthy"], document["findings"]) == (1, None, [])
    assert document["weaknesses"][0]["kind"] == kind
    assert words in document["reason"]
    assert coreproof("doctor", other, "--against", one, "--allow-weak").code == 0


@pytest.mark.parametrize("fault", [name for name in VACUOUS if name != "rounding"])
def test_the_doctor_alone_calls_no_model_healthy_whose_output_is_one_constant(
    fault: str, tmp_path: Path, coreproof: Callable[..., Ran]
) -> None:
    # what rounding may change shows beside another engine only
    make, kind, words = VACUOUS[fault]
    one = tmp_path / "net.onnx"
    onnx.save(make(), one)
    told = coreproof("doctor", one, "--json")
    document = json.loads(told.out)
    assert told.code == 1
    if kind == "not-finite":
        assert document["findings"][0]["rule"] == "not-finite"
        return
    assert (document["healthy"], document["weaknesses"][0]["kind"]) == (None, kind)
    said = words.removesuffix(" on both sides")
    assert said in document["reason"]
    ran = coreproof("doctor", one)
    assert ran.out.startswith("not known: runs, but that proves little: ")
    assert said in ran.out
    assert "--photos FOLDER or --inputs FILE.npz" in ran.out
    assert coreproof("doctor", one, "--allow-weak").code == 0


QUIET: dict[str, tuple[int, list[onnx.NodeProto], dict[str, np.ndarray], str]] = {
    "a detector that finds nothing": (
        TensorProto.FLOAT,
        [helper.make_node("Slice", ["x", "end", "end"], ["y"])],
        {"end": np.array([1000])},
        "output 'y' has no elements",
    ),
    "a map of one class": (
        TensorProto.BOOL,
        [helper.make_node("Greater", ["x", "high"], ["y"])],
        {"high": np.float32(1e6)},
        "output 'y' is all zero",
    ),
    "one label": (
        TensorProto.INT64,
        [helper.make_node("Add", ["x", "bias"], ["s"]), helper.make_node("ArgMax", ["s"], ["y"], axis=1, keepdims=0)],
        {"bias": np.float32([0, 0, 1e6, 0, 0, 0])},
        "output 'y' is the same in all 3 samples",
    ),
}
"""What noise makes of a healthy model: the dtype of its output, nodes, weights, and what is said of the output."""


@pytest.mark.parametrize("kind", QUIET)
def test_the_doctor_alone_says_what_noise_does_not_move_and_accuses_nobody(
    kind: str, tmp_path: Path, coreproof: Callable[..., Ran]
) -> None:
    dtype, nodes, weights, said = QUIET[kind]
    one = tmp_path / "net.onnx"
    onnx.save(onnx_proto(nodes, {"x": [1, 6]}, {"y": (dtype, None)}, weights), one)
    ran = coreproof("doctor", one)
    assert ran.code == 0
    assert ran.out.startswith(f"healthy: runs ({said})")


def test_the_doctor_alone_knows_a_row_of_numbers_that_nothing_moves(
    tmp_path: Path, coreproof: Callable[..., Ran]
) -> None:
    one = tmp_path / "net.onnx"
    nodes = [helper.make_node("Mul", ["x", "none"], ["still"]), helper.make_node("Add", ["still", "fixed"], ["y"])]
    onnx.save(net(nodes, ["y"], none=np.float32(0), fixed=np.arange(6, dtype=np.float32)), one)
    ran = coreproof("doctor", one)
    assert ran.code == 1
    assert ran.out.startswith("not known: runs, but that proves little: output 'y' is the same in all 3 samples")
