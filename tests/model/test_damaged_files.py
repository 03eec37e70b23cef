"""Damaged and hostile model files give one clear error each, and nothing else."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

import coreproof as cp
from coreproof.errors import UnreadableModelError, UnsafeModelError
from coreproof.model.coreml.proto import MIL_pb2, Model_pb2
from coreproof.model.onnx.model import OnnxModel
from tests.build import conv_relu_onnx


@pytest.fixture
def onnx_file(tmp_path: Path) -> Path:
    return OnnxModel(conv_relu_onnx(), name="net").save(tmp_path / "net.onnx")


def neural_network() -> bytes:
    spec = Model_pb2.Model(specificationVersion=4)
    feature = spec.description.input.add(name="x")
    feature.type.multiArrayType.shape.extend([1, 4])
    feature.type.multiArrayType.dataType = 65568
    spec.description.output.add(name="y").type.multiArrayType.dataType = 65568
    layer = spec.neuralNetwork.layers.add(name="relu", input=["x"], output=["y"])
    layer.activation.ReLU.SetInParent()
    return spec.SerializeToString()


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A package whose program reads one blob from its weight file."""
    folder = tmp_path / "net.mlpackage"
    data = folder / "Data" / "com.apple.CoreML"
    (data / "weights").mkdir(parents=True)
    spec = Model_pb2.Model(specificationVersion=7)
    spec.description.output.add(name="y").type.multiArrayType.dataType = 65568
    function = spec.mlProgram.functions["main"]
    function.opset = "CoreML6"
    block = function.block_specializations["CoreML6"]
    block.outputs.append("y")
    operation = block.operations.add(type="const")
    output = operation.outputs.add(name="y")
    value = operation.attributes["val"]
    for kind in (output.type, value.type):
        kind.tensorType.dataType = MIL_pb2.FLOAT32
        kind.tensorType.rank = 1
        kind.tensorType.dimensions.add().constant.size = 16
    value.blobFileValue.fileName = "@model_path/weights/weight.bin"
    value.blobFileValue.offset = 64
    (data / "model.mlmodel").write_bytes(spec.SerializeToString())
    header = np.zeros(16, np.uint32)
    header[:2] = 1, 2
    record = np.zeros(8, np.uint64)
    record[0] = 0xDEADBEEF | 2 << 32
    record[1], record[2] = 64, 128
    payload = np.arange(16, dtype=np.float32)
    (data / "weights" / "weight.bin").write_bytes(header.tobytes() + record.tobytes() + payload.tobytes())
    manifest = {
        "fileFormatVersion": "1.0.0",
        "itemInfoEntries": {"A": {"path": "com.apple.CoreML/model.mlmodel"}},
        "rootModelIdentifier": "A",
    }
    (folder / "Manifest.json").write_text(json.dumps(manifest))
    return folder


def test_the_whole_package_loads(package: Path) -> None:
    model = cp.load(package)
    weights = model.weight_file("@model_path/weights/weight.bin")
    np.testing.assert_array_equal(weights.read(64), np.arange(16, dtype=np.float32))


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(UnreadableModelError, match="no such model"):
        cp.load(tmp_path / "nothing.onnx")


@pytest.mark.parametrize("part", [0.1, 0.5, 0.95])
def test_truncated_onnx(onnx_file: Path, part: float) -> None:
    content = onnx_file.read_bytes()
    onnx_file.write_bytes(content[: int(len(content) * part)])
    with pytest.raises(UnreadableModelError, match=r"net\.onnx"):
        cp.load(onnx_file)


def test_empty_onnx(tmp_path: Path) -> None:
    path = tmp_path / "empty.onnx"
    path.write_bytes(b"")
    with pytest.raises(UnreadableModelError, match="not an ONNX model"):
        cp.load(path)


@pytest.mark.parametrize("suffix", [".onnx", ".mlmodel"])
def test_text_under_a_models_name(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"text{suffix}"
    path.write_text("This is a shopping list: milk, bread, a model.\n" * 20)
    with pytest.raises(UnreadableModelError, match="not a"):
        cp.load(path)


def with_external_weights(tmp_path: Path) -> Path:
    path = tmp_path / "net.onnx"
    ir.save(conv_relu_onnx(), path, external_data="net.data", size_threshold_bytes=0)
    return path


def test_external_data_beside_the_model(tmp_path: Path) -> None:
    model = cp.load(with_external_weights(tmp_path))
    with cp.session(model) as running:
        assert running.run({"x": np.ones((1, 3, 8, 8), np.float32)})["y"].shape == (1, 4, 8, 8)


def test_external_data_missing(tmp_path: Path) -> None:
    path = with_external_weights(tmp_path)
    (tmp_path / "net.data").unlink()
    with pytest.raises(UnreadableModelError, match="missing or cut short"):
        cp.load(path)


def test_external_data_cut_short(tmp_path: Path) -> None:
    path = with_external_weights(tmp_path)
    os.truncate(tmp_path / "net.data", 10)
    with pytest.raises(UnreadableModelError, match="10 bytes"):
        cp.load(path)


def test_external_data_outside_the_folder(tmp_path: Path) -> None:
    inside = tmp_path / "inside"
    inside.mkdir()
    path = with_external_weights(inside)
    (inside / "net.data").rename(tmp_path / "secret")
    path.write_bytes(path.read_bytes().replace(b"net.data", b"../secret"[:8].ljust(8)))
    os.rename(tmp_path / "secret", tmp_path / "secre")
    with pytest.raises(UnsafeModelError, match=r"net.onnx[\s\S]*stays below the file's folder[\s\S]*'\.\.'"):
        cp.load(path)


def test_truncated_mlmodel(tmp_path: Path) -> None:
    path = tmp_path / "net.mlmodel"
    content = neural_network()
    path.write_bytes(content)
    assert cp.load(path).format == "neuralnetwork"
    path.write_bytes(content[:-7])
    with pytest.raises(UnreadableModelError, match="damaged"):
        cp.load(path)


def test_package_without_weights(package: Path) -> None:
    shutil.rmtree(package / "Data" / "com.apple.CoreML" / "weights")
    with pytest.raises(UnreadableModelError, match="weight file is missing"):
        cp.load(package)


def test_weights_cut_short(package: Path) -> None:
    weights = package / "Data" / "com.apple.CoreML" / "weights" / "weight.bin"
    os.truncate(weights, 150)
    with pytest.raises(UnreadableModelError, match="ends at byte 150"):
        cp.load(package)


def test_weights_outside_the_package(package: Path) -> None:
    spec_file = package / "Data" / "com.apple.CoreML" / "model.mlmodel"
    spec_file.write_bytes(spec_file.read_bytes().replace(b"weights/weight.bin", b"../../../weight.bi"))
    with pytest.raises(UnsafeModelError, match="weight file: this name is not followed"):
        cp.load(package)


def test_package_without_manifest(package: Path) -> None:
    (package / "Manifest.json").unlink()
    with pytest.raises(UnreadableModelError, match="not a Core ML package"):
        cp.load(package)


def test_pickles_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "net.pt"
    path.write_bytes(b"\x80\x04K\x01.")
    with pytest.raises(UnsafeModelError, match="execute code"):
        cp.load(path)
