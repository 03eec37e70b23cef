"""The grammar of detectors' outputs."""

from __future__ import annotations

import pytest

from coreproof.conversion.detection_form import GRAMMAR, read_detection
from coreproof.errors import InputError


def test_what_forms_say() -> None:
    raw = read_detection("yolov8:iou=0.6:confidence=0.1")
    assert (raw.raw, raw.columns, raw.pixels, raw.iou, raw.confidence) == ("yolov8", True, True, 0.6, 0.1)
    assert read_detection("yolov11").raw == "yolov8"
    rows = read_detection("yolov5:output=out:0:any-class")
    assert (rows.raw, rows.output, rows.columns, rows.per_class) == ("yolov5", "out:0", False, False)
    named = read_detection("boxes=a/b:0:scores=c:yxyx:pixels:softmax:background=last")
    assert (named.boxes, named.scores, named.order, named.pixels) == ("a/b:0", "c", "yxyx", True)
    assert (named.activation, named.background, named.places) == ("softmax", "last", (1, 0, 3, 2))
    assert (named.iou, named.confidence) == (0.45, 0.25)


@pytest.mark.parametrize(
    "text",
    [
        "", "yolo", "yolov3", "yolov8:xyxy", "yolov8:yolov5", "boxes=a", "boxes=a:scores=b", "boxes=a:scores=b:xyxy:xywh",
        "boxes=a:scores=b:xyxy:sigmoid:softmax", "boxes=a:scores=b:xyxy:background=middle", "yolov8:iou=2", "yolov8:iou=x",
        "yolov8:confidence=-1", "yolov8:confidence=nan", "boxes=a:scores=b:xyxy:output=c",
    ],
)  # fmt: skip
def test_what_is_none_is_refused_with_the_whole_grammar(text: str) -> None:
    with pytest.raises(InputError, match="is not understood") as raised:
        read_detection(text)
    assert raised.value.expected == GRAMMAR
