"""Detectors become pipelines with non-maximum suppression, which keep the boxes that numpy keeps of the source's rows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest
from PIL import Image

import coreproof as cp
from coreproof.feeding.detections import detector_of, suppressed
from coreproof.model.onnx.model import OnnxModel
from tests.build import graph_model

SIDE, BOXES, CLASSES = 32, 60, 3
NAMES = ["cat", "dog", "owl"]
RNG = np.random.default_rng(0)


def detector(form: str) -> OnnxModel:
    """A linear layer whose rows are boxes: centres within the picture, sizes of a third of it, scores on both sides of a half."""
    middle, size = RNG.uniform(8, 24, (BOXES, 2)), RNG.uniform(4, 12, (BOXES, 2))
    scores = RNG.uniform(0.05, 0.95, (BOXES, CLASSES))
    if form == "yolov8":
        rows = np.concatenate([middle, size, scores], 1).T
    elif form == "yolov5":
        rows = np.concatenate([middle, size, RNG.uniform(0.6, 1, (BOXES, 1)), scores], 1)
    else:
        rows = np.concatenate([middle - size / 2, middle + size / 2], 1) / SIDE
    shape = ", ".join(map(str, (1, *rows.shape)))
    text = f"""net (float[1, 3, {SIDE}, {SIDE}] image) => (float[{shape}] out, float[1, {BOXES}, 4] k) {{
        m = ReduceMean <keepdims = 0> (image)  t = Mul (m, small)  u = Reshape (t, one)
        o = Add (rows, u)  out = Identity (o)  k2 = Add (logits, u)  k = Identity (k2) }}"""
    logits = np.concatenate([np.full((BOXES, 1), -1.0), np.log(scores / (1 - scores))], 1)
    return graph_model(
        text, 13, rows=rows[None].astype(np.float32), small=np.float32(1e-4), one=np.array([1, 1, 1]),
        logits=logits[None].astype(np.float32),
    )  # fmt: skip


def numpy_answer(form: str, model: OnnxModel, picture: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """[boxes, classes] and [boxes, 4] of the source, computed by ONNX Runtime and written out here."""
    import onnx_ir as ir

    running = ort.InferenceSession(ir.to_proto(model.ir).SerializeToString())
    out, logits = (np.asarray(v, np.float64)[0] for v in running.run(None, {"image": picture}))
    if form == "yolov8":
        return out.T[:, 4:], out.T[:, :4] / SIDE
    if form == "yolov5":
        return out[:, 5:] * out[:, 4:5], out[:, :4] / SIDE
    shares = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    return shares[:, 1:], np.concatenate([(out[:, :2] + out[:, 2:]) / 2, out[:, 2:] - out[:, :2]], 1)


FORMS = {
    "yolov8": "yolov8:output=out",
    "yolov5": "yolov5:output=out",
    "named": "boxes=out:scores=k:xyxy:softmax:background=first",
}


@pytest.mark.sweep(2)
@pytest.mark.parametrize("to", ["mlprogram", "neuralnetwork"])
@pytest.mark.parametrize("form", FORMS)
def test_the_pipeline_keeps_what_numpy_keeps_of_the_sources_rows(form: str, to: Any, tmp_path: Path) -> None:
    model = detector(form)
    precision = "fp32" if to == "mlprogram" else None
    made = cp.convert(
        model,
        to,
        precision=precision,
        detection=FORMS[form],
        labels=NAMES,
        images={"image": cp.ImageInput(scale=1 / 255)},
    )
    assert any("keeps those that the definition keeps" in note for note in made.notes)
    path = tmp_path / ("d.mlpackage" if to == "mlprogram" else "d.mlmodel")
    made.save(path)
    stored = cp.load(path)
    assert {f.name: f.optional for f in stored.signature.inputs} == {
        "image": False, "iouThreshold": True, "confidenceThreshold": True
    }  # fmt: skip
    pixels = RNG.integers(0, 256, (SIDE, SIDE, 3)).astype(np.uint8)
    picture = pixels.astype(np.float32).transpose(2, 0, 1)[None] / 255
    scores, boxes = numpy_answer(form, model, picture)
    with cp.session(stored) as running:
        for iou, least in ((None, None), (0.1, None), (0.3, 0.6), (0.9, 0.0)):
            fed = {"iouThreshold": iou, "confidenceThreshold": least}
            got = running.run({"image": Image.fromarray(pixels), **{k: v for k, v in fed.items() if v is not None}})
            kept = suppressed(
                scores, boxes, iou=0.45 if iou is None else iou, least=0.25 if least is None else least, per_class=True
            )
            assert 0 < len(kept) < BOXES or iou == 0.9
            np.testing.assert_allclose(got["confidence"], scores[kept], atol=1e-5)
            np.testing.assert_allclose(got["coordinates"], boxes[kept], atol=1e-5)
    known = detector_of(stored)
    assert known is not None
    assert {found.label for found in known.detections(got)} <= set(NAMES)


def test_suppression_as_its_definition_says() -> None:
    boxes = np.array([[0.5, 0.5, 0.4, 0.4], [0.5, 0.5, 0.4, 0.2], [0.1, 0.1, 0.1, 0.1], [0.5, 0.5, 0.4, 0.4]])
    scores = np.array([[0.9, 0.1], [0.8, 0.0], [0.7, 0.1], [0.0, 0.6]])
    # half of the first is the second: an overlap of 0.5 is not more than 0.5
    assert suppressed(scores, boxes, iou=0.5, least=0.2, per_class=True).tolist() == [0, 1, 2, 3]
    assert suppressed(scores, boxes, iou=0.49, least=0.2, per_class=True).tolist() == [0, 2, 3]
    assert suppressed(scores, boxes, iou=0.49, least=0.2, per_class=False).tolist() == [0, 2]
    assert suppressed(scores, boxes, iou=0.49, least=0.75, per_class=True).tolist() == [0]


@pytest.mark.parametrize(
    ("detection", "labels", "expected"),
    [
        ("yolov8", None, "which output holds the boxes"),
        ("yolov8:output=nowhere", None, "no output 'nowhere'"),
        ("yolov8:output=out", ["a", "b"], "do not fit the classes"),
        ("yolov8:output=k", None, "does not hold what"),
        ("boxes=k:scores=out:xyxy", ["a"], "do not fit the classes"),
        ("boxes=out:scores=k:xyxy", None, "does not hold what"),
        ("nothing", None, "is not understood"),
    ],
)
def test_what_is_no_detector_is_refused(detection: str, labels: list[str] | None, expected: str) -> None:
    with pytest.raises(cp.CoreproofError, match=expected):
        cp.convert(detector("yolov8"), "mlprogram", detection=detection, labels=labels)
