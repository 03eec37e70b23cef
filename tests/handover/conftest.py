"""A small classifier and some photos; a Swift compiler where there is one, and what stands in for Apple's frameworks."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

import coreproof as cp
from coreproof.conversion.onnx_to_coreml.convert import ImageInput
from coreproof.handover.sources import swift_sources
from coreproof.model.coreml.model import CoreMLModel

HERE = Path(__file__).parent
LABELS = [f"class {i}" for i in range(5)]


def value(name: str, *shape: int) -> Any:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)


def written(path: Path, nodes: list[Any], inputs: list[Any], outputs: list[Any], **weights: Any) -> Path:
    """An ONNX file of these nodes."""
    stored = [numpy_helper.from_array(np.asarray(array), name) for name, array in weights.items()]
    graph = helper.make_graph(nodes, "net", inputs, outputs, stored)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]), path)
    return path


@pytest.fixture(scope="session")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three photos, one of them in a subfolder with a hostile name, and a file that is none."""
    folder = tmp_path_factory.mktemp("photos")
    rng = np.random.default_rng(5)
    (folder / 'a "b" \\(c)').mkdir()
    names = ["photo 0.png", "photo 1.png", 'a "b" \\(c)/züge 🚂.png']
    for name, size in zip(names, [(40, 30), (30, 50), (64, 64)], strict=True):
        Image.fromarray(rng.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)).save(folder / name)
    (folder / "broken.jpg").write_bytes(b"no picture")
    return folder


@pytest.fixture(scope="session")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> CoreMLModel:
    """A 16x16 picture -> conv -> mean -> softmax over five labels, as an ML Program with its own mean and std."""
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"], name="conv"),
        helper.make_node("GlobalAveragePool", ["c"], ["p"], name="pool"),
        helper.make_node("Flatten", ["p"], ["f"], name="flatten"),
        helper.make_node("Softmax", ["f"], ["y"], name="softmax"),
    ]
    weight = np.random.default_rng(1).normal(size=(5, 3, 3, 3)).astype(np.float32)
    path = tmp_path_factory.mktemp("model") / "tiny net.onnx"
    written(path, nodes, [value("x", 1, 3, 16, 16)], [value("y", 1, 5)], w=weight)
    image = ImageInput(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225), scale=1 / 255)
    model = cp.convert(path, "mlprogram", images={"x": image}, labels=LABELS)
    assert isinstance(model, CoreMLModel)
    return model


@pytest.fixture(scope="session")
def swiftc() -> str:
    """A Swift compiler: the one that COREPROOF_SWIFTC names, else the one in the path."""
    found = os.environ.get("COREPROOF_SWIFTC") or shutil.which("swiftc")
    if found is None:
        pytest.skip("there is no Swift compiler")
    return found


def compiled(compiler: str, *arguments: object) -> str:
    """What the compiler says; fails where it refuses."""
    done = subprocess.run([compiler, *map(str, arguments)], capture_output=True, text=True, timeout=400, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def write_sources(folder: Path) -> None:
    """The app's Swift sources."""
    for name, text in swift_sources().items():
        (folder / name).write_text(text, encoding="utf-8")


def stand_ins(folder: Path, frameworks: Iterable[str]) -> list[Path]:
    """What stands in for Apple's frameworks, each behind those that it imports; skips where there are real ones."""
    if sys.platform == "darwin":
        pytest.skip("a Mac has the frameworks themselves")
    drawing = [folder / f"{name}.swift" for name in ("ImageIO", "CoreVideo")]
    for file in drawing:
        file.write_text("@_exported import CoreGraphics\n")
    return [*(HERE / "apple" / f"{name}.swift" for name in frameworks), *drawing]
