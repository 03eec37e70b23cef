"""A tiny world: classifiers of 8x8 pictures made of one matrix, and pictures of every kind."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest
from PIL import Image

from coreproof.model.feeding import Feeding
from coreproof.model.onnx.model import OnnxModel

FEEDING = Feeding(size=(8, 8), resize="squash", scale=1 / 255)


def classifier(seed: int, noise: float = 0.0, labels: tuple[str, ...] | None = None, classes: int = 6) -> OnnxModel:
    """x [1, 3, 8, 8] -> Flatten -> MatMul -> y [1, classes] (logits)."""
    rng = np.random.default_rng(seed)
    weights = rng.normal(size=(192, classes)).astype(np.float32)
    weights += noise * np.random.default_rng(99).normal(size=weights.shape).astype(np.float32)
    kind = ir.TensorType(ir.DataType.FLOAT)
    x = ir.Value(name="x", type=kind, shape=ir.Shape([1, 3, 8, 8]))
    w = ir.Value(name="w", type=kind, shape=ir.Shape(weights.shape), const_value=ir.Tensor(weights, name="w"))
    flat = ir.Value(name="flat", type=kind, shape=ir.Shape([1, 192]))
    y = ir.Value(name="y", type=kind, shape=ir.Shape([1, classes]))
    nodes = [ir.Node("", "Flatten", [x], outputs=[flat]), ir.Node("", "MatMul", [flat, w], outputs=[y])]
    graph = ir.Graph([x], [y], nodes=nodes, initializers=[w], opset_imports={"": 17}, name="net")
    return OnnxModel(ir.Model(graph, ir_version=9), name=f"net{seed}", feeding=FEEDING, labels=labels)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Twelve photos of noise; two files that are no pictures, one of them named like one; labels for six."""
    folder = tmp_path / "photos"
    folder.mkdir()
    rng = np.random.default_rng(3)
    for k in range(12):
        Image.fromarray(rng.integers(0, 255, (20, 30, 3), dtype=np.uint8)).save(folder / f"p{k:02}.png")
    (folder / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 not really")
    (folder / "notes.txt").write_text("not a picture")
    lines = ["file,class_index,synset,name"] + [f"p{k:02}.png,{k % 6},n0000000{k},class_{k % 6}" for k in range(6)]
    (folder / "labels.csv").write_text("\n".join(lines))
    return folder
