"""show and predict as a user types them."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import coreproof as cp
from coreproof.conversion.convert import Target
from coreproof.model.onnx.model import OnnxModel
from tests.build import conv_relu_onnx
from tests.cli.conftest import Ran

Run = Callable[..., Ran]


@pytest.fixture
def net(tmp_path: Path) -> Path:
    return OnnxModel(conv_relu_onnx(), name="net").save(tmp_path / "net.onnx")


def test_one_line_a_layer(coreproof: Run, net: Path) -> None:
    ran = coreproof("show", net)
    assert ran.code == 0
    lines = ran.out.splitlines()
    conv = next(line for line in lines if line.startswith("conv"))
    assert conv.split()[:-1] == ["conv", "Conv", "x", "->", "c", "1x4x8x8", "112", "pads=[1,1,1,1]"]
    # four numbers are few enough to be read
    assert conv.split()[-1].startswith("b=[")
    assert "  input   x: float32[1x3x8x8]" in lines


def test_head_tail_and_grep_choose(coreproof: Run, net: Path) -> None:
    assert "relu" not in coreproof("show", net, "--head", 1).out
    assert "conv" not in coreproof("show", net, "--tail", 1).out
    assert "conv" not in coreproof("show", net, "--grep", "Relu").out


def test_one_layer_in_full(coreproof: Run, net: Path) -> None:
    out = coreproof("show", net, "--layer", "relu").out
    assert "reads      c  1x4x8x8  (from conv)" in out
    assert "makes      y  1x4x8x8  (for output)" in out


def test_json(coreproof: Run, net: Path) -> None:
    document = json.loads(coreproof("show", net, "--json").out)
    assert [layer["operator"] for layer in document["layers"]] == ["Conv", "Relu"]
    assert document["layers"][0]["parameters"]["w"] == {"dtype": "float32", "shape": [4, 3, 3, 3]}


def test_shapes_that_the_file_does_not_say_are_found(coreproof: Run, tmp_path: Path) -> None:
    stored = conv_relu_onnx()
    stored.graph.node("conv").outputs[0].shape = None
    net = OnnxModel(stored, name="net").save(tmp_path / "net.onnx")
    conv = next(line for line in coreproof("show", net).out.splitlines() if line.startswith("conv"))
    assert "1x4x8x8" in conv


def test_a_broken_network_is_shown_as_far_as_the_fault_a_line_a_layer(
    coreproof: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from coremltools.proto import Model_pb2

    edge = {"startEdgeSize": 1, "endEdgeSize": 1}
    shape = {"outputChannels": 4, "kernelChannels": 3, "kernelSize": [1, 1], "weights": {"floatValue": [0.5] * 12}}
    spec = Model_pb2.Model(specificationVersion=1)
    spec.description.input.add(name="x").type.multiArrayType.shape.extend([3, 4, 4])
    padded = {**shape, "valid": {"paddingAmounts": {"borderAmounts": [edge, edge]}}}
    spec.neuralNetwork.layers.add(name="conv", input=["x"], output=["c"], convolution=padded)
    baked = {"targetShape": [32, -1, 1, 1]}
    spec.neuralNetwork.layers.add(name="view", input=["c"], output=["v"], reshape=baked)
    wrong = {"inputChannels": 144, "outputChannels": 1, "weights": {"floatValue": [0.5] * 144}}
    spec.neuralNetwork.layers.add(name="head", input=["v"], output=["y"], innerProduct=wrong)
    spec.description.output.add(name="y").type.multiArrayType.SetInParent()
    (tmp_path / "broken.mlmodel").write_bytes(spec.SerializeToString())
    monkeypatch.delenv("COLUMNS")  # into a file, not onto a terminal
    ran = coreproof("show", tmp_path / "broken.mlmodel")
    assert ran.code == 0
    conv, view, head = ran.out.splitlines()[-3:]
    assert "1x1x4x6x6" in conv
    assert "borderAmounts=[{startEdgeSize=1 endEdgeSize=1},{startEdgeSize=1 endEdgeSize=1}]" in conv
    assert view.startswith("view")
    assert head.split()[:6] == ["head", "innerProduct", "v", "->", "y", "?"]


def test_an_unknown_layer_is_bad_input(coreproof: Run, net: Path) -> None:
    ran = coreproof("show", net, "--layer", "rely")
    assert ran.code == 2
    assert "did you mean relu" in ran.err
    assert "Traceback" not in ran.err


def test_a_missing_file_is_bad_input(coreproof: Run, tmp_path: Path) -> None:
    ran = coreproof("show", tmp_path / "none.onnx")
    assert ran.code == 2
    assert "no such model" in ran.err


def classifier(tmp_path: Path) -> Path:
    """Four classes: how much red, green, blue, and a constant."""
    import onnx
    from onnx import TensorProto, helper

    weights = np.zeros((4, 3), np.float32)
    weights[:3] = np.eye(3) * 10
    graph = helper.make_graph(
        [
            helper.make_node("GlobalAveragePool", ["x"], ["p"]),
            helper.make_node("Flatten", ["p"], ["f"]),
            helper.make_node("Gemm", ["f", "w"], ["y"], transB=1),
        ],
        "colours",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 8, 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 4])],
        [helper.make_tensor("w", TensorProto.FLOAT, weights.shape, weights.tobytes(), raw=True)],
    )
    path = tmp_path / "colours.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)
    return path


def test_predict_names_the_top_class(coreproof: Run, tmp_path: Path) -> None:
    Image.new("RGB", (20, 10), (0, 200, 0)).save(tmp_path / "green.png")
    (tmp_path / "labels.txt").write_text("red\ngreen\nblue\nother\n")
    ran = coreproof(
        "predict", classifier(tmp_path), tmp_path / "green.png", "--size", 8, "--scale", "1/255",
        "--labels", tmp_path / "labels.txt", "--top", 1,
    )  # fmt: skip
    assert ran.code == 0
    assert ran.out.split()[-1] == "green"


def test_predict_skips_what_is_no_picture(coreproof: Run, tmp_path: Path) -> None:
    Image.new("RGB", (20, 10), (200, 0, 0)).save(tmp_path / "red.png")
    (tmp_path / "broken.jpg").write_text("no")
    arguments = ("predict", classifier(tmp_path), tmp_path / "broken.jpg", "--size", 8, "--scale", 1)
    assert coreproof(*arguments).code == 2
    ran = coreproof(*arguments, tmp_path / "red.png")
    assert ran.code == 0
    assert "broken.jpg" in ran.err


def test_what_pillow_warns_of_is_not_printed(coreproof: Run, net: Path, tmp_path: Path) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "whole.tif")
    (tmp_path / "cut.tif").write_bytes((tmp_path / "whole.tif").read_bytes()[:20])
    ran = coreproof("predict", net, tmp_path / "cut.tif", "--size", "8", "--scale", "1", "--mean", "0", "--std", "1")
    assert ran.code == 2
    assert "the picture cannot be read" in ran.err
    assert "Warning" not in ran.err


def test_predict_asks_for_the_feeding(coreproof: Run, tmp_path: Path) -> None:
    Image.new("RGB", (20, 10)).save(tmp_path / "black.png")
    ran = coreproof("predict", classifier(tmp_path), tmp_path / "black.png")
    assert ran.code == 2
    assert "--mean" in ran.err


@pytest.mark.sweep(1)
@pytest.mark.parametrize("arguments", [[], ["--help"], ["show", "--help"]])
def test_help_needs_no_heavy_import(arguments: list[str]) -> None:
    program = (
        "import sys; sys.argv = ['coreproof'] + sys.argv[1:]\n"
        "from coreproof.cli.main import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "heavy = {'torch', 'coremltools', 'onnxruntime', 'onnx', 'numpy', 'duckdb', 'pyarrow'} & set(sys.modules)\n"
        "sys.exit(f'imported {heavy}' if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", program, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("columns", ["80", "60"])
@pytest.mark.parametrize("to", ["onnx", "mlprogram", "neuralnetwork"])
def test_the_table_fits_and_says_what_small_constants_hold(
    coreproof: Callable[..., Ran], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, to: Target, columns: str
) -> None:
    given = classifier(tmp_path)
    made = given
    if to != "onnx":
        picture = {"x": cp.ImageInput(scale=1 / 255, mean=(0.5, 0.25, 0.125), std=(0.5, 0.25, 0.125))}
        made = tmp_path / ("net.mlpackage" if to == "mlprogram" else "net.mlmodel")
        cp.convert(given, to, images=picture, check=False).save(made)
    monkeypatch.setenv("COLUMNS", columns)
    ran = coreproof("show", made)
    rows = ran.out[ran.out.index("\nlayer ") :].splitlines()
    assert len(rows) > 4
    assert max(map(len, rows)) <= int(columns)
    if to != "onnx":
        # (pixel / 255 - mean) / std: the offset is -1 on each channel, stored where both formats keep constants
        assert "[-1,-1,-1]" in ran.out
    monkeypatch.delenv("COLUMNS")
    piped = coreproof("show", made).out
    assert len(piped.splitlines()) < len(ran.out.splitlines())
    assert all(name in piped for name in ("attributes", "->"))
