"""diff as a user types it and reads it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import onnx_ir as ir
import pytest

from coreproof.model.onnx.model import OnnxModel
from tests.build import conv_relu_onnx
from tests.cli.conftest import Ran

Run = Callable[..., Ran]


@pytest.fixture
def versions(tmp_path: Path) -> tuple[Path, Path]:
    before = OnnxModel(conv_relu_onnx(), name="net").save(tmp_path / "before.onnx")
    changed = conv_relu_onnx(seed=0)
    weight = changed.graph.initializers["w"]
    assert weight.const_value is not None
    weight.const_value = ir.Tensor(-weight.const_value.numpy(), name="w")
    changed.graph.node("conv").attributes["group"] = ir.AttrInt64("group", 1)
    return before, OnnxModel(changed, name="net").save(tmp_path / "after.onnx")


def test_the_same_model(coreproof: Run, versions: tuple[Path, Path]) -> None:
    ran = coreproof("diff", versions[0], versions[0])
    assert ran.code == 0
    assert "the same: layers, weights, features, labels and metadata" in ran.out


def test_what_changed_is_said_in_words(coreproof: Run, versions: tuple[Path, Path]) -> None:
    ran = coreproof("diff", *versions)
    assert ran.code == 1
    lines = [" ".join(line.split()) for line in ran.out.splitlines()]
    assert "before -> after (onnx)" in lines
    assert "layers: 1 changed; 1 the same" in lines
    assert "group none -> 1" in lines
    assert any(line.startswith("conv w 4x3x3x3 sign flipped; rms 200%, largest ") for line in lines)


def test_json(coreproof: Run, versions: tuple[Path, Path]) -> None:
    ran = coreproof("diff", *versions, "--json")
    assert ran.code == 1
    document = json.loads(ran.out)
    assert document["changed"][0]["weights"][0]["words"] == "sign flipped"


def test_a_file_that_is_no_model(coreproof: Run, versions: tuple[Path, Path], tmp_path: Path) -> None:
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"nothing of the kind")
    ran = coreproof("diff", versions[0], broken)
    assert ran.code == 2
    assert "not an ONNX model" in ran.err


def test_many_alike_changes_are_one_line(coreproof: Run, tmp_path: Path) -> None:
    """Twenty layers renamed alike are told at once; --all lists each."""
    paths = []
    for ending in ("", "_new"):
        x = ir.Value(name="x", type=ir.TensorType(ir.DataType.FLOAT), shape=ir.Shape([1, 4]))
        nodes, value = [], x
        for index in range(20):
            node = ir.Node("", "Relu", [value], name=f"relu{index}{ending}")
            value = node.outputs[0]
            value.name = f"v{index}"
            value.type, value.shape = x.type, x.shape
            nodes.append(node)
        graph = ir.Graph([x], [value], nodes=nodes, opset_imports={"": 17}, name="g")
        paths.append(OnnxModel(ir.Model(graph, ir_version=9), name="net").save(tmp_path / f"net{ending}.onnx"))
    short = coreproof("diff", *paths).out
    assert "20 layers renamed: with '_new' at the end (relu0 -> relu0_new, ...)" in short
    assert len(short.splitlines()) < 8
    assert coreproof("diff", *paths, "--all").out.count("~ renamed") == 20


def test_the_difference_as_a_script(coreproof: Run, versions: tuple[Path, Path], tmp_path: Path) -> None:
    before, after = map(str, versions)
    script, again = str(tmp_path / "change.toml"), str(tmp_path / "again.onnx")
    ran = coreproof("diff", before, after, "--edits", script)
    assert ran.code == 1
    assert "edits that make the one version the other" in " ".join(ran.out.split())
    assert coreproof("edit", before, script, again).code == 0
    assert coreproof("diff", again, after).code == 0
    document = json.loads(coreproof("diff", before, after, "--edits", script, "--json").out)
    assert document["unsaid"] == []
    assert [step.split()[0] for step in document["edits"]] == ["set", "set"]
    Path(script).write_text("notes of mine", encoding="utf-8")
    assert coreproof("diff", before, after, "--edits", script).code == 2, (
        "what is no script is not written over unasked"
    )
    assert Path(script).read_text(encoding="utf-8") == "notes of mine"


def test_no_script_is_written_where_there_is_nothing_to_edit(
    coreproof: Run, versions: tuple[Path, Path], tmp_path: Path
) -> None:
    ran = coreproof("diff", versions[0], versions[0], "--edits", tmp_path / "change.toml")
    assert ran.code == 0
    assert "nothing to edit, so nothing was written" in ran.out
    assert not (tmp_path / "change.toml").exists()
