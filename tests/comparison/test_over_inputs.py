"""compare over inputs that are no photos: agreement by output, by class where one tells, and what it is worth."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

import coreproof as cp
from coreproof.errors import InputError
from tests.build import counter, onnx_model


def scorer(bias: float, *, classes: int = 3, wide: bool = False) -> Any:
    """logits = x @ W + bias for one class, and a whole number beside them."""
    weights = np.eye(4, classes, dtype=np.float32)
    shift = np.zeros(classes, np.float32)
    shift[-1] = bias
    graph = onnx.helper.make_graph(
        [
            onnx.helper.make_node("MatMul", ["x", "w"], ["m"]),
            onnx.helper.make_node("Add", ["m", "b"], ["logits"]),
            onnx.helper.make_node("ArgMax", ["logits"], ["index"], axis=1, keepdims=0),
            onnx.helper.make_node("ReduceSum", ["x"], ["total"], keepdims=1),
        ],
        "g",
        [onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1, 4])],
        [
            onnx.helper.make_tensor_value_info("logits", onnx.TensorProto.FLOAT, [1, classes]),
            onnx.helper.make_tensor_value_info("index", onnx.TensorProto.INT64, [1]),
            onnx.helper.make_tensor_value_info("total", onnx.TensorProto.FLOAT, [1, 1]),
        ],
        [onnx.numpy_helper.from_array(weights, "w"), onnx.numpy_helper.from_array(shift, "b")],
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8)
    return cp.load(model)


@pytest.fixture
def inputs(tmp_path: Path) -> Path:
    folder = tmp_path / "inputs"
    folder.mkdir()
    for number, row in enumerate(([3, 0, 0, 0], [0, 3, 0, 0], [0, 0, 3, 0], [1, 0, 0.5, 0])):
        np.save(folder / f"{number}.npy", np.array([row], np.float32))
    return folder


def test_agreement_is_told_by_output_and_by_class(inputs: Path) -> None:
    found = cp.compare_inputs({"a": scorer(0), "b": scorer(1), "c": scorer(0)}, inputs)
    assert found.outputs == ("logits", "index", "total")
    of = {(pair.output, pair.a, pair.b): pair for pair in found.pairs}
    assert (of["logits", "a", "c"].same, of["logits", "a", "c"].places) == (4, 4)
    assert (of["logits", "a", "b"].same, of["logits", "a", "b"].places) == (3, 4)
    assert of["logits", "a", "b"].furthest == 1.0
    assert of["logits", "a", "b"].sample == "3.npy"
    assert of["index", "a", "b"].same == 3
    assert of["total", "a", "b"].places is None
    assert of["total", "a", "b"].furthest == 0
    assert {name: dict(m) for name, m in found.classes["logits"].items()} == {
        "0": {"a": 2, "b": 1, "c": 2}, "1": {"a": 1, "b": 1, "c": 1}, "2": {"a": 1, "b": 2, "c": 1},
    }  # fmt: skip
    assert found.rows[0].name == "3.npy"
    assert found.rows[0].named == {"a": "0", "b": "2", "c": "0"}
    assert "same class at 3 of 4 places" in found.text
    assert [w.kind for w in found.weaknesses] == ["few-samples"]


def test_to_models_with_states_the_inputs_are_the_steps_of_one_sequence(tmp_path: Path) -> None:
    remembers = counter(tmp_path / "counter.mlpackage")
    steps = [{"x": np.full((1, 4), n, np.float16)} for n in (1, 2, 3)]
    # 2 x, without what came before: 2, 4, 6 where the other says 2, 6, 12
    text = '<ir_version: 8, opset_import: ["": 17]> net (float16[1, 4] x) => (float16[1, 4] y) { y = Add(x, x) }'
    found = cp.compare_inputs({"a": remembers, "b": counter(tmp_path / "b.mlpackage"), "c": onnx_model(text)}, steps)
    apart = {(pair.a, pair.b): (pair.furthest, pair.sample) for pair in found.pairs}
    assert apart["a", "b"][0] == 0
    assert apart["a", "c"] == (0.5, "sample 2")
    assert cp.session(remembers).state()["total"].tolist() == [[0.0] * 4]


def test_one_class_throughout_proves_nothing() -> None:
    rows = [{"x": np.full((1, 4), float(n), np.float32)} for n in (1, 2)]
    found = cp.compare_inputs({"a": scorer(9), "b": scorer(9)}, rows)
    assert any(w.fails and w.kind == "one-class" for w in found.weaknesses)


def test_what_one_side_alone_makes_infinite_is_told(tmp_path: Path) -> None:
    rows = [{"x": np.array([[np.inf, 0, 0, 0]], np.float32)}]
    found = cp.compare_inputs({"a": scorer(0), "b": scorer(0)}, rows)
    assert max(pair.furthest for pair in found.pairs) == 0
    rows = [{"x": np.array([[3e38, 3e38, 3e38, 3e38]], np.float32)}]
    narrow = cp.convert(scorer(0), "mlprogram", precision="fp16", check=False)
    found = cp.compare_inputs({"a": scorer(0), "b": narrow}, rows)
    assert max(pair.furthest for pair in found.pairs) == np.inf
    cp.page(found, tmp_path)
    assert "Infinity" not in (tmp_path / "comparison.json").read_text()
    json.dumps(found.to_json(), allow_nan=False)


def test_a_page_and_a_document_are_written(inputs: Path, tmp_path: Path) -> None:
    found = cp.compare_inputs({"a": scorer(0), "b": scorer(1)}, inputs)
    page = cp.page(found, tmp_path / "out")
    text = page.read_text()
    assert "output by output" in text
    assert "3.npy" in text
    assert "float32[1x4]" in text
    document = json.loads((tmp_path / "out" / "comparison.json").read_text())
    assert document["samples"] == 4
    assert document["agreement"][0]["same"] == 3
    cp.page(found, tmp_path / "out")  # its own may be replaced


def test_the_command_line_compares_over_a_folder(
    inputs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from coreproof.cli.main import main

    scorer(0).save(tmp_path / "a.onnx")
    scorer(1).save(tmp_path / "b.onnx")
    (tmp_path / "lineup.toml").write_text('[models.a]\nsource = "a.onnx"\n[models.b]\nsource = "b.onnx"\n')
    line = ["coreproof", "compare", str(tmp_path / "lineup.toml"), "--out", str(tmp_path / "out")]
    monkeypatch.setattr("sys.argv", [*line, "--inputs", str(inputs)])
    with pytest.raises(SystemExit) as ended:
        main()
    assert not ended.value.code
    said = capsys.readouterr().out
    assert "logits  ONNX (a) and ONNX (b): same class at 3 of 4; furthest apart 1 (3.npy)" in said
    monkeypatch.setattr("sys.argv", line)
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    assert "--photos or --inputs" in capsys.readouterr().err


def test_models_that_take_pictures_are_told(tmp_path: Path) -> None:
    with pytest.raises(InputError):
        cp.compare_inputs({"a": scorer(0)}, tmp_path)


def test_prove_compares_over_all_inputs_of_a_folder(inputs: Path, tmp_path: Path) -> None:
    proof = cp.prove(scorer(0), None, tmp_path / "proof", inputs=inputs, samples=2)
    assert proof.agrees
    assert proof.over_inputs is not None
    assert proof.over_inputs.samples == 4
    assert proof.comparison is None
    step = next(step for step in proof.steps if step.name == "Compare over inputs")
    assert "4 inputs" in step.text
    verified = next(step for step in proof.steps if step.kind == "verify")
    assert verified.verification is not None
    assert "2 of 4 of inputs" in verified.verification.inputs
    document = json.loads((tmp_path / "proof" / "proof.json").read_text())
    assert document["over_inputs"]["samples"] == 4
    assert "output by output" in proof.page.read_text()


def test_prove_takes_a_single_file_as_before(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", x=np.arange(4, dtype=np.float32)[None])
    proof = cp.prove(scorer(0), None, tmp_path / "proof", inputs=tmp_path / "x.npz")
    assert proof.over_inputs is None
    assert proof.agrees


def test_verify_takes_a_folder(inputs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from coreproof.cli.main import main

    scorer(0).save(tmp_path / "a.onnx")
    scorer(0).save(tmp_path / "b.onnx")
    monkeypatch.setattr(
        "sys.argv",
        ["coreproof", "verify", str(tmp_path / "a.onnx"), str(tmp_path / "b.onnx"), "--inputs", str(inputs)],
    )
    with pytest.raises(SystemExit) as ended:
        main()
    assert not ended.value.code
