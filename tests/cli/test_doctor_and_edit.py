"""The doctor and edits on the command line: exit codes, JSON, what is written and what is not."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import coreproof as cp
from tests.build import layer, network, onnx_proto
from tests.cli.conftest import Ran

RNG = np.random.default_rng(4)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """x [1, 4, 6, 6] -> conv -> relu -> mean -> flatten -> gemm -> y [1, 5]."""
    nodes = [
        helper.make_node("Conv", ["x", "w", "b"], ["c"], name="conv"),
        helper.make_node("Relu", ["c"], ["r"], name="relu"),
        helper.make_node("GlobalAveragePool", ["r"], ["p"], name="pool"),
        helper.make_node("Flatten", ["p"], ["f"], name="flat"),
        helper.make_node("Gemm", ["f", "g", "h"], ["y"], name="gemm"),
    ]
    weights = {"w": (8, 4, 3, 3), "b": (8,), "g": (8, 5), "h": (5,)}
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 4, 6, 6])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 5])],
        [numpy_helper.from_array(RNG.normal(size=s).astype(np.float32), n) for n, s in weights.items()],
    )
    path = tmp_path / "source.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]), path)
    return path


@pytest.fixture
def broken(source: Path, tmp_path: Path) -> Path:
    """The source as a NeuralNetwork whose reshape before the last layer keeps a batch of 4."""
    model = cp.convert(source, "neuralnetwork")
    flat = next(n for n in model.graph.nodes if "targetShape" in n.attributes)
    bake = cp.Edit("set", {"layer": flat.name, "attribute": "targetShape", "value": [4, -1]})
    path = tmp_path / "broken.mlmodel"
    cp.edit(model, [bake], check=False).model.save(path)
    return path


def test_verify_sends_a_model_that_does_not_run_to_the_doctor(
    coreproof: Callable[..., Ran], source: Path, broken: Path
) -> None:
    ran = coreproof("verify", source, broken)
    assert ran.code == 2
    assert f"what to do: coreproof doctor {broken} --against {source}" in ran.err


def test_on_a_terminal_what_is_found_is_wrapped_under_its_first_word(
    coreproof: Callable[..., Ran], source: Path, broken: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = coreproof("doctor", broken, "--against", source).out
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "60")
    ran = coreproof("doctor", broken, "--against", source)
    lines = [re.sub(r"\x1b\[[0-9;]*m", "", line) for line in ran.out.splitlines()]
    assert max(map(len, lines)) <= 60
    assert any(line.startswith(" " * 11) for line in lines)
    assert " ".join(" ".join(lines).split()) == " ".join(whole.split())


def test_a_healthy_model_is_left_alone(coreproof: Callable[..., Ran], source: Path, tmp_path: Path) -> None:
    before = source.read_bytes()
    ran = coreproof("doctor", source, "--against", source, "--fix", tmp_path / "out.onnx")
    assert ran.code == 0
    assert "healthy" in ran.out
    assert source.read_bytes() == before
    assert not (tmp_path / "out.onnx").exists()


def test_a_fault_is_found_repaired_and_written_down(
    coreproof: Callable[..., Ran], source: Path, broken: Path, tmp_path: Path
) -> None:
    before, out = broken.read_bytes(), tmp_path / "repaired.mlmodel"
    ran = coreproof("doctor", broken, "--against", source, "--fix", out, "--json")
    assert ran.code == 1
    found = json.loads(ran.out)
    assert found["healthy"] is False
    assert [set(f) >= {"rule", "layer", "evidence", "repair", "repaired"} for f in found["findings"]] == [True]
    assert (found["findings"][0]["rule"], found["findings"][0]["repaired"]) == ("batch-baked-reshape", True)
    assert broken.read_bytes() == before
    assert cp.verify(cp.load(source), cp.load(out)).agrees
    assert coreproof("doctor", out, "--against", source).code == 0
    script = tmp_path / "repaired.edits.toml"
    assert "batch-baked-reshape" in script.read_text(encoding="utf-8")
    again = tmp_path / "again.mlmodel"
    assert coreproof("edit", broken, script, again).code == 0
    assert again.read_bytes() == out.read_bytes()


def test_without_fix_nothing_is_written(coreproof: Callable[..., Ran], broken: Path, tmp_path: Path) -> None:
    before = sorted(tmp_path.iterdir())
    ran = coreproof("doctor", broken)
    assert ran.code == 1
    assert "tried on a copy" in ran.out
    assert sorted(tmp_path.iterdir()) == before


def custom(path: Path, reads: str) -> Path:
    """A network with a layer of the app's own, which nobody here can run, and a ReLU that reads ``reads``."""
    layers = [layer("custom", "x", "c", className="Own"), layer("activation", reads, "y", ReLU={})]
    return network(layers, {"x": (1, 4, 6, 6)}, {"y": None}, exact=True).save(path)


def test_a_model_that_was_inspected_only_is_not_called_healthy(coreproof: Callable[..., Ran], tmp_path: Path) -> None:
    model = custom(tmp_path / "custom.mlmodel", "c")
    ran = coreproof("doctor", model)
    assert ran.code == 2
    assert "nothing found, but the model was only inspected, not run" in ran.out
    assert "custom" in ran.out
    ran = coreproof("doctor", model, "--json")
    assert ran.code == 2
    found = json.loads(ran.out)
    assert (found["healthy"], found["findings"]) == (None, [])
    assert "custom" in found["reason"]
    assert cp.diagnose(model).healthy is None


FOREIGN: dict[str, dict[str, Any]] = {
    "an operator of the user's own": {"domain": "my.ops"},
    "an operator of another runtime": {"domain": "com.microsoft"},
    "a version of the format that is not out yet": {"ir_version": 99},
    "an opset that is not out yet": {"opset": 60},
}


@pytest.mark.parametrize("kind", FOREIGN)
def test_what_the_engine_lacks_is_no_finding(kind: str, coreproof: Callable[..., Ran], tmp_path: Path) -> None:
    about, file = FOREIGN[kind], tmp_path / "foreign.onnx"
    domain = about.get("domain", "")
    node = helper.make_node("Strange" if domain else "Relu", ["x"], ["y"], domain=domain)
    proto = onnx_proto([node], {"x": [1, 4]}, {"y": [1, 4]}, opset=about.get("opset", 17))
    proto.ir_version = about.get("ir_version", proto.ir_version)
    if domain:
        proto.opset_import.append(helper.make_opsetid(domain, 1))
    file.write_bytes(proto.SerializeToString())
    ran = coreproof("doctor", file, "--json")
    assert ran.code == 2
    if not ran.out:  # what cannot be read has no diagnosis
        assert "foreign" in ran.err
        return
    found = json.loads(ran.out)
    assert (found["healthy"], found["findings"]) == (None, [])
    assert found["reason"]


def test_a_finding_is_exit_1_in_a_model_that_cannot_be_run_too(coreproof: Callable[..., Ran], tmp_path: Path) -> None:
    ran = coreproof("doctor", custom(tmp_path / "custom.mlmodel", "nothing"), "--json")
    assert ran.code == 1
    assert json.loads(ran.out)["healthy"] is False


def test_what_cannot_be_read_is_said(coreproof: Callable[..., Ran], broken: Path, tmp_path: Path) -> None:
    cut = tmp_path / "cut.mlmodel"
    cut.write_bytes(broken.read_bytes()[:200])
    for path in (cut, tmp_path / "nothing.onnx"):
        ran = coreproof("doctor", path)
        assert ran.code == 2
        assert str(path.name) in ran.err


def test_an_edit_shows_before_and_after(coreproof: Callable[..., Ran], source: Path, tmp_path: Path) -> None:
    out, script = tmp_path / "out.onnx", tmp_path / "kept.toml"
    ran = coreproof("edit", source, out, "--do", "delete relu", "--do", "rename x image", "--keep", script)
    assert ran.code == 0
    assert "- Relu relu: c -> r" in ran.out
    assert "+ input image" in ran.out
    replayed = tmp_path / "replayed.onnx"
    assert coreproof("edit", source, script, replayed).code == 0
    assert replayed.read_bytes() == out.read_bytes()


def test_a_model_that_would_not_run_is_not_written(coreproof: Callable[..., Ran], source: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.onnx"
    ran = coreproof("edit", source, out, "--do", "delete relu reconnect=false")
    assert ran.code == 2
    assert "would not run" in ran.err
    assert not out.exists()
    assert coreproof("edit", source, out, "--do", "delete relu reconnect=false", "--force").code == 0
    assert out.exists()


def test_the_verbs_are_listed(coreproof: Callable[..., Ran]) -> None:
    ran = coreproof("edit", "--verbs")
    assert ran.code == 0
    assert "connect SOURCE TO [input=None]" in ran.out


def test_neither_script_nor_edit_is_a_mistake(coreproof: Callable[..., Ran], source: Path, tmp_path: Path) -> None:
    ran = coreproof("edit", source, tmp_path / "out.onnx")
    assert ran.code == 2
    assert "EDITS.toml" in ran.err
